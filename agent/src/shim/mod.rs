//! The process between the daemon and a workload (`swarmnet shim DIR`, internal): it starts the program in its sandbox, keeps its log
//! and its exit code, and starts it again by policy, whether a daemon runs or not.
//!
//! Inputs: `shim.json` in the sandbox's folder; SIGTERM, which asks the program to stop for good. Outputs: `status.json` (replaced
//! as a whole), `log.json`. No async runtime: threads that wait for pipes and for the child.

mod log;
pub mod status;

use std::collections::BTreeMap;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Instant;

use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};
use swarmnet_kernel::Netns;
use swarmnet_kernel::workload::{FileOverride, Workload};

use crate::local::error::{LocalError, chain};
use crate::local::files::{self, Format};
use crate::local::objects::ProcessSpec;
use crate::local::sandboxes::now_ms;
use crate::paths::SandboxPaths;
use crate::workload::restart::{self, STABLE_AFTER};
use status::{State, Status};

/// Format of `shim.json`.
pub const SHIM: Format = Format { name: "swarmnet-shim", version: 1 };

/// What a shim is to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShimSpec {
    pub process: ProcessSpec,
    pub sandbox: String,
    pub hostname: String,
    pub netns: PathBuf,
    /// Files laid over those of the host: target → source.
    pub files: BTreeMap<PathBuf, PathBuf>,
}

/// What went wrong before the program could run.
#[derive(Debug, thiserror::Error)]
pub enum ShimError {
    #[error(transparent)]
    Files(#[from] LocalError),
    #[error("there is no shim.json in {}", dir.display())]
    NoSpec { dir: PathBuf },
    #[error("cannot {what}: {err}")]
    System { what: &'static str, err: nix::Error },
    #[error(transparent)]
    Kernel(#[from] swarmnet_kernel::KernelError),
    #[error("unable to find user {user}: no matching entries in passwd file")]
    User { user: String },
    #[error("cannot write the log: {err}")]
    Log { err: std::io::Error },
}

/// Set by SIGTERM; the number of the child it goes to.
#[derive(Debug, Default)]
struct Stopping {
    asked: AtomicBool,
    child: AtomicI32,
}

/// Runs the shim of the sandbox in `dir` until its program has ended for good.
///
/// # Errors
/// See [`ShimError`]; it is in `status.json` too.
pub fn run(dir: &Path) -> Result<(), ShimError> {
    let paths = SandboxPaths::at(dir);
    let result = supervise(&paths);
    if let Err(err) = &result {
        let mut status = Status::begun();
        status.state = State::Failed;
        status.reason = chain(err);
        status.finished_ms = now_ms();
        status.write(&paths)?;
    }
    result
}

fn supervise(paths: &SandboxPaths) -> Result<(), ShimError> {
    let spec: ShimSpec = files::read(&paths.shim(), SHIM)?
        .ok_or_else(|| ShimError::NoSpec { dir: paths.dir().to_owned() })?;
    let system = |what| move |err| ShimError::System { what, err };
    unshare(CloneFlags::CLONE_NEWUTS).map_err(system("make a host name of its own"))?;
    nix::unistd::sethostname(&spec.hostname).map_err(system("set the host name"))?;
    let stopping = Arc::new(Stopping::default());
    forward_stop(&stopping, spec.process.stop_signal)?;
    let log = log::Log::open(&paths.log()).map_err(|err| ShimError::Log { err })?;
    let mut status = Status::begun();
    let mut in_a_row = 0;
    loop {
        let begun = Instant::now();
        let mut child = start(&spec)?;
        stopping.child.store(child.id().cast_signed(), Ordering::SeqCst);
        status.running(&child);
        status.write(paths)?;
        let exit = wait(&mut child, &log);
        stopping.child.store(0, Ordering::SeqCst);
        status.ended(exit);
        if begun.elapsed() >= STABLE_AFTER {
            in_a_row = 0;
        }
        let asked = stopping.asked.load(Ordering::SeqCst);
        if asked || !spec.process.restart.restarts(exit, status.restarts) {
            status.state = State::Exited;
            return Ok(status.write(paths)?);
        }
        status.state = State::Restarting;
        status.write(paths)?;
        thread::sleep(restart::delay(in_a_row));
        in_a_row += 1;
        status.restarts += 1;
        if stopping.asked.load(Ordering::SeqCst) {
            status.state = State::Exited;
            return Ok(status.write(paths)?);
        }
    }
}

/// SIGTERM becomes the program's own stop signal, and ends the restarts.
fn forward_stop(stopping: &Arc<Stopping>, signal: i32) -> Result<(), ShimError> {
    let mut set = SigSet::empty();
    set.add(Signal::SIGTERM);
    set.thread_block().map_err(|err| ShimError::System { what: "block signals", err })?;
    let stopping = Arc::clone(stopping);
    let signal = Signal::try_from(signal).unwrap_or(Signal::SIGTERM);
    thread::spawn(move || {
        while set.wait().is_ok() {
            stopping.asked.store(true, Ordering::SeqCst);
            let child = stopping.child.load(Ordering::SeqCst);
            if child > 0 {
                // Gone meanwhile is as good.
                let _ = kill(Pid::from_raw(child), signal);
            }
        }
    });
    Ok(())
}

fn start(spec: &ShimSpec) -> Result<Child, ShimError> {
    let netns = Netns::open(&spec.netns)?;
    let files: Vec<_> = spec
        .files
        .iter()
        .map(|(target, source)| FileOverride { source: source.clone(), target: target.clone() })
        .collect();
    let process = &spec.process;
    let mut command = Command::new(&process.argv[0]);
    command.args(&process.argv[1..]).env_clear();
    let variables = process.env.iter().filter_map(|e| e.split_once('='));
    command.env("HOME", "/root").envs(variables).env("SWARMNET_SANDBOX", &spec.sandbox);
    command.env("HOSTNAME", &spec.hostname);
    command.current_dir(if process.workdir.is_empty() { "/" } else { &process.workdir });
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    if !process.user.is_empty() {
        let (uid, gid) = ids(&process.user)?;
        command.uid(uid).gid(gid);
    }
    Ok(Workload { netns: &netns, files: &files }.spawn(&mut command)?)
}

/// `user[:group]`, names or numbers.
fn ids(text: &str) -> Result<(u32, u32), ShimError> {
    let unknown = || ShimError::User { user: text.to_owned() };
    let (user, group) = text.split_once(':').map_or((text, None), |(u, g)| (u, Some(g)));
    let (uid, own) = if let Ok(uid) = user.parse() {
        (uid, uid)
    } else {
        let found = nix::unistd::User::from_name(user).ok().flatten().ok_or_else(unknown)?;
        (found.uid.as_raw(), found.gid.as_raw())
    };
    let Some(group) = group else { return Ok((uid, own)) };
    let gid = if let Ok(gid) = group.parse() {
        gid
    } else {
        let found = nix::unistd::Group::from_name(group).ok().flatten().ok_or_else(unknown)?;
        found.gid.as_raw()
    };
    Ok((uid, gid))
}

/// Waits for the program and for the end of what it writes. A grandchild may hold the pipes longer than the program lives: what it
/// writes later is lost, the exit is not delayed.
fn wait(child: &mut Child, log: &log::Log) -> i32 {
    // As many messages as there are pipes.
    let (done, finished) = mpsc::channel();
    let pipes: [(Option<Box<dyn std::io::Read + Send>>, _); 2] = [
        (child.stdout.take().map(|p| Box::new(p) as _), "stdout"),
        (child.stderr.take().map(|p| Box::new(p) as _), "stderr"),
    ];
    for (pipe, stream) in pipes {
        if let Some(pipe) = pipe {
            let (log, done) = (log.clone(), done.clone());
            thread::spawn(move || {
                log.copy(pipe, stream);
                let _ = done.send(());
            });
        }
    }
    drop(done);
    let exit = child.wait();
    for _ in 0..2 {
        let _ = finished.recv_timeout(std::time::Duration::from_millis(500));
    }
    match exit {
        Ok(exit) => exit.code().or(exit.signal().map(|s| 128 + s)).unwrap_or(1),
        Err(_) => 1,
    }
}
