//! The shim's descendants: its program, and what lost its parent and came to the shim.

use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid};
use nix::unistd::Pid;

/// How long killed processes may take to end; what does not end in this is stuck in the kernel.
const KILL_MAX: Duration = Duration::from_secs(5);
const KILL_POLL: Duration = Duration::from_millis(5);
/// When the program's end is not known: it was not our child.
const UNKNOWN: i32 = 1;

/// Waits until the program has ended; orphans that end meanwhile are reaped. `ended` runs while the program's number is still
/// its own, so that no later signal can reach another process. Answers its exit code, 128 and more for a signal.
pub(super) fn wait(program: Pid, ended: impl FnOnce()) -> i32 {
    loop {
        match waitid(Id::All, WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT) {
            Ok(status) if status.pid() == Some(program) => {
                ended();
                return reap(program);
            }
            Ok(status) => drop(status.pid().map(reap)),
            Err(Errno::EINTR) => {}
            Err(_) => {
                ended();
                return UNKNOWN;
            }
        }
    }
}

fn reap(pid: Pid) -> i32 {
    match waitpid(pid, None) {
        Ok(WaitStatus::Exited(_, code)) => code,
        Ok(WaitStatus::Signaled(_, signal, _)) => 128 + signal as i32,
        _ => UNKNOWN,
    }
}

/// Kills and reaps everything that the program left behind, generation by generation: whoever loses its parent comes to us.
pub(super) fn end_orphans() {
    let deadline = Instant::now() + KILL_MAX;
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Err(Errno::ECHILD) => return,
            Ok(WaitStatus::StillAlive) => {
                for pid in children() {
                    // Gone meanwhile is as good.
                    let _ = kill(pid, Signal::SIGKILL);
                }
                if Instant::now() > deadline {
                    return;
                }
                thread::sleep(KILL_POLL);
            }
            Ok(_) | Err(_) => {}
        }
    }
}

/// Processes whose parent we are, from `/proc`: `/proc/PID/task/TID/children` is not in every kernel.
fn children() -> Vec<Pid> {
    let me = std::process::id().cast_signed();
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok())
        .filter(|pid| parent(*pid) == Some(me))
        .map(Pid::from_raw)
        .collect()
}

/// Field 4 of `/proc/PID/stat` (proc(5)).
fn parent(pid: i32) -> Option<i32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}
