//! The verbs that give a node its place in a cluster. They start the daemon when none runs, through systemd when its unit is
//! installed, else detached with its log in the state folder; and they return when the node is ready, or say why it is not.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use clap::Args;
use swarmnet_proto::v1;
use swarmnet_types::{Availability, Role};
use tokio::net::UnixStream;
use tokio::time::{Instant, sleep};

use super::ca::OwnCaArgs;
use super::hex;
use super::manager::join_hint;
use super::vault;
use crate::client::{DEFAULT_SOCKET, Daemon};
use crate::daemon::{self, Flags, FolderArgs, LogArgs};
use crate::error::CliError;
use crate::format::print_line;
use crate::shape::duration;

/// How glibc keeps what the daemon has freed, where the user does not say. An agent replaces large values (a view, a wish, a zone) as a
/// whole, so that for a moment two of each are there; by default their room stays with it, in eight arenas for each processor. One
/// that knew 10,000 endpoints held 63 MiB so (`swarmnet-bench known`). One arena, a trim threshold that stays where it starts, and
/// blocks from 32 KiB on given back at once keep it below 40. Workloads get an environment of their own. The unit file says the same.
const HEAP: [(&str, &str); 3] = [
    ("MALLOC_ARENA_MAX", "1"),
    ("MALLOC_TRIM_THRESHOLD_", "131072"),
    ("MALLOC_MMAP_THRESHOLD_", "32768"),
];
const START_MAX: Duration = Duration::from_secs(15);
const START_POLL: Duration = Duration::from_millis(5);

#[derive(Debug, Args)]
pub(crate) struct DaemonArgs {
    #[command(flatten)]
    flags: Flags,
    /// Only say whether the configuration file is right
    #[arg(long, conflicts_with = "detach")]
    check: bool,
    /// Go to the background and return when the daemon answers
    #[arg(long)]
    detach: bool,
    #[arg(long, hide = true)]
    detached: bool,
}

#[derive(Debug, Args)]
pub(crate) struct PlaceArgs {
    #[command(flatten)]
    folders: FolderArgs,
    /// IP|INTERFACE[:PORT] where others reach this node
    #[arg(long, default_value = "")]
    advertise_addr: String,
    /// IP|INTERFACE[:PORT] to listen on
    #[arg(long, default_value = "")]
    listen_addr: String,
    /// IP|INTERFACE for overlay traffic
    #[arg(long, default_value = "")]
    data_path_addr: String,
    /// active, pause or drain
    #[arg(long, default_value_t = Availability::Active)]
    availability: Availability,
    /// Name of this node; the host name by default
    #[arg(long, default_value = "")]
    name: String,
    /// Keep the daemon attached to this terminal
    #[arg(long)]
    foreground: bool,
}

#[derive(Debug, Args)]
pub(crate) struct InitArgs {
    #[command(flatten)]
    place: PlaceArgs,
    /// UDP port of overlay traffic
    #[arg(long, default_value_t = 0)]
    data_path_port: u32,
    /// Pool that new networks are cut from; repeatable
    #[arg(long = "default-addr-pool", value_name = "CIDR")]
    default_addr_pools: Vec<String>,
    /// Prefix length of networks cut from pools
    #[arg(long, default_value_t = 24)]
    default_addr_pool_mask_length: u32,
    /// Life of node certificates, such as 90d or 2160h
    #[arg(long, default_value = "90d")]
    cert_expiry: String,
    #[command(flatten)]
    own_ca: OwnCaArgs,
    /// Managers must be unlocked with a key after each start
    #[arg(long)]
    autolock: bool,
    /// Make a cluster of this manager alone from the state it has, after the others were lost for good
    #[arg(long, conflicts_with_all = ["autolock", "data_path_port", "default_addr_pools", "default_addr_pool_mask_length", "cert_expiry", "ca_cert", "ca_key"])]
    force_new_cluster: bool,
}

#[derive(Debug, Args)]
pub(crate) struct JoinArgs {
    /// The token that `manager init` or `manager token` printed
    token: String,
    #[command(flatten)]
    place: PlaceArgs,
    /// A further manager to try
    #[arg(long = "manager", value_name = "IP[:PORT]")]
    managers: Vec<String>,
}

/// A daemon, and whether this command started it.
pub(super) struct Running {
    pub(super) daemon: Daemon,
    started: Option<Child>,
}

/// Runs the daemon itself; or starts one in the background.
pub(crate) fn daemon(args: &DaemonArgs) -> Result<(), CliError> {
    if args.check {
        return daemon::check(&args.flags);
    }
    if !args.detach {
        return daemon::run(&args.flags, args.detached);
    }
    super::runtime()?.block_on(async {
        let Flags { folders, log } = &args.flags;
        start(&socket(None, folders), folders, log).await.map(drop)
    })
}

fn socket(given: Option<&Path>, folders: &FolderArgs) -> PathBuf {
    match (&folders.run_dir, given) {
        (Some(run), _) => run.join("swarmnet.sock"),
        (None, Some(socket)) => socket.to_owned(),
        (None, None) => DEFAULT_SOCKET.into(),
    }
}

/// The daemon that runs, or one that is started now.
pub(super) async fn ensure(
    given: Option<&Path>,
    folders: &FolderArgs,
) -> Result<Running, CliError> {
    let socket = socket(given, folders);
    let mut started = None;
    if UnixStream::connect(&socket).await.is_err() {
        started = start(&socket, folders, &LogArgs::default()).await?;
    }
    let daemon = Daemon::connect(Some(&socket)).await?;
    Ok(Running { daemon, started })
}

/// Does systemd manage this node?
fn has_unit() -> bool {
    Path::new("/run/systemd/system").is_dir()
        && Command::new("systemctl")
            .args(["cat", "swarmnet.service"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|s| s.success())
}

/// Starts a daemon and waits until it answers; the child when it is ours.
async fn start(
    socket: &Path,
    folders: &FolderArgs,
    log_args: &LogArgs,
) -> Result<Option<Child>, CliError> {
    if !folders.are_moved() && !log_args.are_given() && has_unit() {
        let status = Command::new("systemctl").args(["start", "swarmnet.service"]).status();
        if !status.is_ok_and(|s| s.success()) {
            return Err(CliError::failure(
                "systemd did not start swarmnet.service: see `journalctl -u swarmnet`",
            ));
        }
        wait_for(socket, None).await?;
        return Ok(None);
    }
    let state = folders.state_dir.clone().unwrap_or_else(|| "/var/lib/swarmnet".into());
    let log = state.join("daemon.log");
    let fail = |err| CliError::failure(format!("cannot write {}: {err}", log.display()));
    fs::create_dir_all(&state).map_err(fail)?;
    let out = File::options().create(true).append(true).open(&log).map_err(fail)?;
    let mut child = Command::new(std::env::current_exe().map_err(CliError::failure)?)
        .args(["daemon", "--detached"])
        .args(folders.words())
        .args(log_args.words())
        .envs(HEAP.into_iter().filter(|(name, _)| std::env::var_os(name).is_none()))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(out)
        .current_dir("/")
        .spawn()
        .map_err(|err| CliError::failure(format!("cannot start the daemon: {err}")))?;
    wait_for(socket, Some((&mut child, &log))).await?;
    Ok(Some(child))
}

async fn wait_for(socket: &Path, mut child: Option<(&mut Child, &Path)>) -> Result<(), CliError> {
    let deadline = Instant::now() + START_MAX;
    while !answers(socket).await {
        if let Some((child, log)) = &mut child
            && let Ok(Some(_)) = child.try_wait()
        {
            return Err(CliError::failure(last_line(log)));
        }
        if Instant::now() > deadline {
            return Err(CliError::failure(format!(
                "the daemon does not answer on {}",
                socket.display()
            )));
        }
        sleep(START_POLL).await;
    }
    Ok(())
}

/// Does a daemon answer a call? That its socket takes connections says less: it does while the daemon still reads its state.
async fn answers(socket: &Path) -> bool {
    let Ok(mut daemon) = Daemon::connect(Some(socket)).await else { return false };
    daemon.node.status(v1::StatusRequest {}).await.is_ok()
}

/// The daemon's own last words.
fn last_line(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let line = text.lines().next_back().unwrap_or("the daemon ended at once");
    line.strip_prefix("swarmnet: ").unwrap_or(line).to_owned()
}

impl Running {
    /// Ends a daemon that was started for nothing.
    pub(super) fn give_up(self, err: impl Into<CliError>) -> CliError {
        if let Some(mut child) = self.started {
            let pid = nix::unistd::Pid::from_raw(child.id().cast_signed());
            // Gone already is as good.
            let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
            drop(child.wait());
        }
        err.into()
    }

    /// With `--foreground`: until the daemon ends.
    pub(super) fn stay(self, foreground: bool) -> Result<(), CliError> {
        match self.started {
            Some(mut child) if foreground => child.wait().map(drop).map_err(CliError::failure),
            _ => Ok(()),
        }
    }
}

impl PlaceArgs {
    pub(super) fn folders(&self) -> &FolderArgs {
        &self.folders
    }

    pub(super) fn is_foreground(&self) -> bool {
        self.foreground
    }

    pub(super) fn request(&self) -> v1::PlaceRequest {
        v1::PlaceRequest {
            advertise_addr: self.advertise_addr.clone(),
            listen_addr: self.listen_addr.clone(),
            data_path_addr: self.data_path_addr.clone(),
            name: self.name.clone(),
            availability: availability(self.availability),
        }
    }
}

fn availability(availability: Availability) -> i32 {
    v1::Availability::from(availability).into()
}

pub(crate) async fn init(args: InitArgs, given: Option<&Path>) -> Result<(), CliError> {
    if args.force_new_cluster {
        return vault::force_new_cluster(args.place, given).await;
    }
    let cert_expiry_s = duration::seconds(&args.cert_expiry)?;
    let (ca_cert_pem, ca_key_pem) = args.own_ca.read()?;
    let place = args.place;
    let mut running = ensure(given, &place.folders).await?;
    let request = v1::InitRequest {
        advertise_addr: place.advertise_addr,
        listen_addr: place.listen_addr,
        data_path_addr: place.data_path_addr,
        data_path_port: args.data_path_port,
        default_pools: args.default_addr_pools,
        default_pool_mask_len: args.default_addr_pool_mask_length,
        availability: availability(place.availability),
        cert_expiry_s,
        name: place.name,
        ca_cert_pem,
        ca_key_pem,
        autolock: args.autolock,
    };
    let made = match running.daemon.membership.init(request).await {
        Ok(answer) => answer.into_inner(),
        Err(status) => return Err(running.give_up(status)),
    };
    print_line(&format!(
        "Swarm initialized: current node ({}) is now a manager.\n",
        hex(&made.node)
    ));
    print_line(&join_hint(Role::Worker, &made.worker_token));
    print_line(&join_hint(Role::Manager, &made.manager_token));
    if !made.unlock_key.is_empty() {
        print_line(&vault::key_hint(&made.unlock_key));
    }
    running.stay(place.foreground)
}

pub(crate) async fn join(args: JoinArgs, role: Role, given: Option<&Path>) -> Result<(), CliError> {
    let place = args.place;
    // Said before anything is started.
    if let Err(err) = args.token.parse::<swarmnet_pki::JoinToken>() {
        return Err(CliError::failure(err));
    }
    let mut running = ensure(given, &place.folders).await?;
    let request = v1::JoinClusterRequest {
        token: args.token,
        role: v1::Role::from(role).into(),
        managers: args.managers,
        advertise_addr: place.advertise_addr,
        listen_addr: place.listen_addr,
        data_path_addr: place.data_path_addr,
        availability: availability(place.availability),
        name: place.name,
    };
    if let Err(status) = running.daemon.membership.join_cluster(request).await {
        return Err(running.give_up(status));
    }
    print_line(&format!("This node joined a swarm as a {role}."));
    running.stay(place.foreground)
}
