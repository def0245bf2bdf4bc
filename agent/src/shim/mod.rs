//! The process between the daemon and a workload (`swarmnet shim DIR`, internal): it starts the program in its sandbox, keeps its log
//! and its exit code, and starts it again by policy, whether a daemon runs or not.
//!
//! Inputs: `shim.json` in the sandbox's folder; SIGTERM, which asks the program to stop for good, and SIGQUIT, which kills it.
//! Outputs: `status.json` (replaced as a whole), `log.json`. No async runtime: threads that wait for pipes and signals.
//!
//! Invariant: when a program has ended, nothing that it started lives on, as in a container. The shim adopts what loses its parent
//! and kills it, so that a sandbox is never held by a process that nobody knows.

mod log;
pub mod status;
mod tree;

use std::collections::BTreeMap;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{SigSet, Signal, kill, killpg};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};
use swarmnet_kernel::workload::{FileOverride, Workload};
use swarmnet_kernel::{KernelError, Netns};

use crate::local::error::{LocalError, chain};
use crate::local::files::{self, Format};
use crate::local::objects::ProcessSpec;
use crate::local::sandboxes::now_ms;
use crate::open_files;
use crate::paths::SandboxPaths;
use crate::workload::restart::{self, STABLE_AFTER};
use crate::workload::user::{self, UserError};
use status::{State, Status};

/// Docker's, for programs whose user gave none.
const PATH_DEFAULT: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// How long the last output of a program is waited for when something else holds its pipes.
const LAST_OUTPUT: Duration = Duration::from_millis(500);
/// Exit codes of a program that could not be started, as a shell and Docker give them.
const NOT_STARTED: i32 = 125;
const NOT_EXECUTABLE: i32 = 126;
const NOT_FOUND: i32 = 127;

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
    /// How many files the program may open; `None`: as many as the daemon.
    pub open_files: Option<u64>,
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
    #[error(transparent)]
    User(#[from] UserError),
    #[error("cannot write the log: {err}")]
    Log { err: std::io::Error },
}

/// What the signals asked for, and the program they go to.
#[derive(Debug, Default)]
struct Asked {
    state: Mutex<AskedState>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct AskedState {
    stop: bool,
    kill: bool,
    /// The running program, head of a process group of its own.
    program: Option<Pid>,
}

impl Asked {
    fn lock(&self) -> MutexGuard<'_, AskedState> {
        // The values are consistent whatever panics.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Names the program that signals go to; one that should have ended meanwhile gets its signal now.
    fn set_program(&self, program: Option<Pid>, stop_signal: Signal) {
        let mut state = self.lock();
        state.program = program;
        if let Some(program) = program.filter(|_| state.stop) {
            send(program, if state.kill { Signal::SIGKILL } else { stop_signal });
        }
    }

    fn stop(&self, stop_signal: Signal, kill_all: bool) {
        let mut state = self.lock();
        state.stop = true;
        state.kill |= kill_all;
        match state.program {
            // The whole group: the rest of what it started goes when the program has ended.
            Some(program) if kill_all => drop(killpg(program, Signal::SIGKILL)),
            Some(program) => send(program, stop_signal),
            None => {}
        }
        self.changed.notify_all();
    }

    /// Waits for this long, or until a stop is asked for; says whether it is.
    fn wait_stop(&self, patience: Duration) -> bool {
        let waited = self.changed.wait_timeout_while(self.lock(), patience, |s| !s.stop);
        waited.map_or(true, |(state, _)| state.stop)
    }
}

/// A program that ended meanwhile needs no signal.
fn send(program: Pid, signal: Signal) {
    let _ = kill(program, signal);
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
        status.exit_code = exit_code(err);
        status.reason = chain(err);
        status.finished_ms = now_ms();
        status.write(&paths)?;
    }
    result
}

fn exit_code(err: &ShimError) -> i32 {
    match err {
        ShimError::Kernel(KernelError::WorkloadSpawn { err, .. }) => match err.kind() {
            std::io::ErrorKind::NotFound => NOT_FOUND,
            std::io::ErrorKind::PermissionDenied => NOT_EXECUTABLE,
            _ => NOT_STARTED,
        },
        ShimError::Kernel(KernelError::WorkloadFolder { .. }) => NOT_EXECUTABLE,
        _ => NOT_STARTED,
    }
}

fn supervise(paths: &SandboxPaths) -> Result<(), ShimError> {
    let spec: ShimSpec = files::read(&paths.shim(), SHIM)?
        .ok_or_else(|| ShimError::NoSpec { dir: paths.dir().to_owned() })?;
    let system = |what| move |err| ShimError::System { what, err };
    nix::unistd::setsid().map_err(system("leave the daemon's session"))?;
    nix::sys::prctl::set_child_subreaper(true).map_err(system("adopt orphans"))?;
    if let Some(files) = spec.open_files {
        open_files::lower_to(files);
    }
    unshare(CloneFlags::CLONE_NEWUTS).map_err(system("make a host name of its own"))?;
    nix::unistd::sethostname(&spec.hostname).map_err(system("set the host name"))?;
    let stop_signal = Signal::try_from(spec.process.stop_signal).unwrap_or(Signal::SIGTERM);
    let asked = Arc::new(Asked::default());
    take_signals(&asked, stop_signal)?;
    let log = log::Log::open(&paths.log()).map_err(|err| ShimError::Log { err })?;
    let mut status = Status::begun();
    let mut in_a_row = 0;
    loop {
        let begun = Instant::now();
        let mut child = start(&spec)?;
        asked.set_program(Some(Pid::from_raw(child.id().cast_signed())), stop_signal);
        status.running(&child);
        status.write(paths)?;
        let exit = follow(&mut child, &log, || asked.set_program(None, stop_signal));
        status.ended(exit);
        if begun.elapsed() >= STABLE_AFTER {
            in_a_row = 0;
        }
        status.state = State::Restarting;
        let again = spec.process.restart.restarts(exit, status.restarts) && !asked.lock().stop;
        if again {
            status.write(paths)?;
        }
        if !again || asked.wait_stop(restart::delay(in_a_row)) {
            status.state = State::Exited;
            return Ok(status.write(paths)?);
        }
        in_a_row += 1;
        status.restarts += 1;
    }
}

/// SIGTERM becomes the program's own stop signal and SIGQUIT its death; either ends the restarts. Blocked in every thread made after
/// this; programs start with none blocked.
fn take_signals(asked: &Arc<Asked>, stop_signal: Signal) -> Result<(), ShimError> {
    let mut set = SigSet::empty();
    set.add(Signal::SIGTERM);
    set.add(Signal::SIGQUIT);
    set.thread_block().map_err(|err| ShimError::System { what: "block signals", err })?;
    let asked = Arc::clone(asked);
    thread::spawn(move || {
        while let Ok(signal) = set.wait() {
            asked.stop(stop_signal, signal == Signal::SIGQUIT);
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
    command.env("PATH", PATH_DEFAULT).env("HOME", "/root").env("HOSTNAME", &spec.hostname);
    command.env("SWARMNET_SANDBOX", &spec.sandbox).envs(variables);
    command.current_dir(if process.workdir.is_empty() { "/" } else { &process.workdir });
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.process_group(0);
    let user = match process.user.as_str() {
        "" => None,
        text => Some(user::find(text)?),
    };
    Ok(Workload { netns: &netns, files: &files, user: user.as_ref() }.spawn(&mut command)?)
}

/// Waits for the program's end, ends what it left behind, and waits for the last of the output. Answers the exit code.
fn follow(child: &mut Child, log: &log::Log, ended: impl FnOnce()) -> i32 {
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
    let exit = tree::wait(Pid::from_raw(child.id().cast_signed()), ended);
    tree::end_orphans();
    while finished.recv_timeout(LAST_OUTPUT).is_ok() {}
    exit
}
