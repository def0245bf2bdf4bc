//! The first process of a lab node: it holds the node's namespaces (network, mount, host name, IPC, processes), so that the node
//! ends with it, and reaps what its node's processes leave behind.
//!
//! Two stages, since a process never enters its own new process namespace: [`spawn`] starts `swarmnet lab hold`, which makes the
//! namespaces and starts `swarmnet lab hold --init` as the first process inside; that one prepares the mounts, says `ready` on
//! its standard output, and waits. No `fork` of our own is needed.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use clap::Args;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};

use super::record::Process;
use crate::error::CliError;

#[derive(Debug, Args)]
pub(crate) struct HoldArgs {
    /// Host name of the node
    hostname: String,
    /// Folder for what the node must not share
    dir: PathBuf,
    /// The second stage
    #[arg(long)]
    init: bool,
}

/// Starts a holder and returns when its namespaces are ready.
pub(crate) fn spawn(hostname: &str, dir: &Path) -> Result<Process, CliError> {
    let exe = std::env::current_exe().map_err(CliError::failure)?;
    let mut first = Command::new(exe)
        .args(["lab", "hold", hostname])
        .arg(dir)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|err| CliError::failure(format!("cannot start node {hostname}: {err}")))?;
    let out = first.stdout.take().expect("piped above");
    let pid = BufReader::new(out)
        .lines()
        .map_while(Result::ok)
        .find_map(|line| line.strip_prefix("ready ").and_then(|pid| pid.parse().ok()));
    let ended = first.wait().map_err(CliError::failure)?;
    pid.and_then(Process::of).ok_or_else(|| {
        CliError::failure(format!(
            "node {hostname} did not start ({ended}): a lab needs root and namespaces"
        ))
    })
}

pub(crate) fn run(args: &HoldArgs) -> Result<(), CliError> {
    if args.init { init(args) } else { make_namespaces(args) }
}

/// First stage: prints `ready PID` with the pid that others see, and ends.
fn make_namespaces(args: &HoldArgs) -> Result<(), CliError> {
    let all = CloneFlags::CLONE_NEWNET
        | CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWUTS
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWPID;
    unshare(all).map_err(|err| fail("make namespaces", err))?;
    let exe = std::env::current_exe().map_err(CliError::failure)?;
    let mut child = Command::new(exe)
        .args(["lab", "hold", "--init", &args.hostname])
        .arg(&args.dir)
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|err| fail("start its first process", err))?;
    let mut line = String::new();
    let out = child.stdout.take().expect("piped above");
    drop(BufReader::new(out).read_line(&mut line));
    if line.trim() != "ready" {
        drop(child.kill());
        drop(child.wait());
        return Err(CliError::Reported);
    }
    crate::format::print_line(&format!("ready {}", child.id()));
    Ok(())
}

/// Second stage: the node's process 1.
fn init(args: &HoldArgs) -> Result<(), CliError> {
    // Blocked before anything can end, and taken by sigwait below: process 1 has no default actions.
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGCHLD);
    signals.add(Signal::SIGTERM);
    signals.thread_block().map_err(|err| fail("block signals", err))?;
    nix::unistd::setsid().map_err(|err| fail("leave the session", err))?;
    prepare(args)?;
    println!("ready");
    std::io::stdout().flush().map_err(CliError::failure)?;
    silence()?;
    loop {
        match signals.wait() {
            Ok(Signal::SIGTERM) => return Ok(()),
            _ => {
                while let Ok(status) = waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                    if status == WaitStatus::StillAlive {
                        break;
                    }
                }
            }
        }
    }
}

/// Lets go of the starter's terminal and pipes.
fn silence() -> Result<(), CliError> {
    let null =
        fs::File::options().read(true).write(true).open("/dev/null").map_err(CliError::failure)?;
    nix::unistd::dup2_stdout(&null).map_err(CliError::failure)?;
    nix::unistd::dup2_stderr(&null).map_err(CliError::failure)
}

/// Mounts and names that are the node's own: `/proc`, `/sys`, `/run`, a boot id, the host name.
fn prepare(args: &HoldArgs) -> Result<(), CliError> {
    const NONE: Option<&str> = None;
    nix::unistd::sethostname(&args.hostname).map_err(|err| fail("set the host name", err))?;
    mount(NONE, "/", NONE, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NONE)
        .map_err(|err| fail("make mounts private", err))?;
    for (kind, at) in [("proc", "/proc"), ("sysfs", "/sys"), ("tmpfs", "/run")] {
        mount(Some(kind), at, Some(kind), MsFlags::MS_NOSUID, NONE)
            .map_err(|err| fail(&format!("mount {at}"), err))?;
    }
    // Each start of a node is a boot of its own.
    let id = boot_id();
    let file = args.dir.join("boot_id");
    fs::write(&file, id + "\n").map_err(|err| fail("write its boot id", err))?;
    mount(Some(&file), "/proc/sys/kernel/random/boot_id", NONE, MsFlags::MS_BIND, NONE)
        .map_err(|err| fail("mount its boot id", err))
}

/// 128 random bits in the form of a UUID.
fn boot_id() -> String {
    let hex = format!("{:032x}", rand::random::<u128>());
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

fn fail(what: &str, err: impl std::fmt::Display) -> CliError {
    CliError::failure(format!("lab node: cannot {what}: {err}"))
}
