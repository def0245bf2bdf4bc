//! Starting a program inside a sandbox from this very terminal: `exec`, and `run` in the foreground. The daemon holds nothing of
//! it: standard input and output are the caller's own.

use std::ffi::OsString;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{Child, Command};

use clap::Args;
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::unistd::Pid;
use swarmnet_agent::workload::user;
use swarmnet_kernel::Netns;
use swarmnet_kernel::workload::{FileOverride, Workload};
use swarmnet_proto::v1;
use tokio::signal::unix::{SignalKind, signal};

use crate::client::Daemon;
use crate::cmd::sandbox;
use crate::error::CliError;

#[derive(Debug, Args)]
pub(crate) struct ExecArgs {
    sandbox: String,
    #[command(flatten)]
    program: ProgramArgs,
    /// Accepted for Docker's sake: standard input is passed on always
    #[arg(short, long)]
    interactive: bool,
    /// Accepted for Docker's sake: the terminal is passed on as it is
    #[arg(short, long)]
    tty: bool,
    #[arg(
        required = true,
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "COMMAND"
    )]
    argv: Vec<OsString>,
}

/// How a program runs.
#[derive(Debug, Args)]
pub(crate) struct ProgramArgs {
    /// KEY=VALUE, or KEY to pass on the caller's
    #[arg(short, long, value_name = "KEY[=VALUE]")]
    pub(super) env: Vec<String>,
    /// NAME or UID, with :GID if wanted
    #[arg(short, long)]
    pub(super) user: Option<String>,
    /// Working folder
    #[arg(short, long)]
    pub(super) workdir: Option<PathBuf>,
}

/// Exit statuses of a program that could not be started, as a shell and Docker give them.
const NOT_EXECUTABLE: u8 = 126;
const NOT_FOUND: u8 = 127;

pub(crate) async fn exec(args: ExecArgs, mut daemon: Daemon) -> Result<(), CliError> {
    let found = sandbox::find(&mut daemon, &args.sandbox).await?;
    let child = spawn(&found, &args.program, &args.argv)?;
    wait(child).await
}

/// Starts the program in the sandbox's namespaces, with its resolv.conf, hosts and host name.
pub(super) fn spawn(
    found: &v1::Sandbox,
    program: &ProgramArgs,
    argv: &[OsString],
) -> Result<Child, CliError> {
    let spec = found.spec.clone().unwrap_or_default();
    let netns = Netns::open(&found.netns_path)?;
    let files: Vec<FileOverride> =
        [(&found.resolv_conf, "/etc/resolv.conf"), (&found.hosts, "/etc/hosts")]
            .into_iter()
            .filter(|(source, _)| !source.is_empty())
            .map(|(source, target)| FileOverride { source: source.into(), target: target.into() })
            .collect();
    if !spec.hostname.is_empty() {
        unshare(CloneFlags::CLONE_NEWUTS).map_err(CliError::failure)?;
        nix::unistd::sethostname(&spec.hostname).map_err(CliError::failure)?;
    }
    let mut command = Command::new(&argv[0]);
    command.args(&argv[1..]).env("SWARMNET_SANDBOX", &spec.name);
    apply(program, &mut command)?;
    keyboard_is_the_childs()?;
    let user = program.user.as_deref().map(user::find).transpose().map_err(CliError::failure)?;
    Workload { netns: &netns, files: &files, user: user.as_ref() }.spawn(&mut command).map_err(
        |err| match err {
            swarmnet_kernel::KernelError::WorkloadFolder { path, err } => {
                eprintln!("swarmnet: cannot work in {}: {err}", path.display());
                CliError::Status(NOT_EXECUTABLE)
            }
            swarmnet_kernel::KernelError::WorkloadSpawn { program, err } => {
                eprintln!("swarmnet: cannot run {}: {err}", program.display());
                CliError::Status(match err.kind() {
                    std::io::ErrorKind::NotFound => NOT_FOUND,
                    _ => NOT_EXECUTABLE,
                })
            }
            other => other.into(),
        },
    )
}

fn apply(program: &ProgramArgs, command: &mut Command) -> Result<(), CliError> {
    for word in &program.env {
        match word.split_once('=') {
            Some(("", _)) => {
                return Err(CliError::usage(format!("invalid environment variable: {word}")));
            }
            Some((key, value)) => drop(command.env(key, value)),
            // The caller's own value is inherited anyway.
            None => {}
        }
    }
    if let Some(dir) = &program.workdir {
        command.current_dir(dir);
    }
    Ok(())
}

/// Ctrl-C and Ctrl-\ go to the program, which has the same terminal; we wait for it. A child starts with no signal blocked.
fn keyboard_is_the_childs() -> Result<(), CliError> {
    let mut keyboard = SigSet::empty();
    keyboard.add(Signal::SIGINT);
    keyboard.add(Signal::SIGQUIT);
    keyboard.thread_block().map_err(CliError::failure)
}

/// Waits for the program; a SIGTERM to us becomes one to it.
pub(super) async fn wait(mut child: Child) -> Result<(), CliError> {
    let pid = Pid::from_raw(child.id().cast_signed());
    let mut terminate = signal(SignalKind::terminate()).map_err(CliError::failure)?;
    let mut ended = tokio::task::spawn_blocking(move || child.wait());
    loop {
        tokio::select! { // cancel-safe: a join handle and a signal stream lose nothing
            _ = terminate.recv() => drop(kill(pid, Signal::SIGTERM)),
            status = &mut ended => {
                let status = status.expect("wait does not panic").map_err(CliError::failure)?;
                let code = status.code().or(status.signal().map(|s| 128 + s)).unwrap_or(1);
                return match u8::try_from(code).unwrap_or(1) {
                    0 => Ok(()),
                    code => Err(CliError::Status(code)),
                };
            }
        }
    }
}
