//! Processes of this machine that we did not start: whether one still lives, its end, signals to it.
//!
//! A process is known by number and start time, so a later one with the same number is never taken for it: a pidfd is opened first,
//! then the start time is compared, and everything after goes through the pidfd.

use std::fs;
use std::io;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::io::unix::AsyncFd;

use super::error::LocalError;
use super::objects::Owner;

/// When a process started, in clock ticks since boot: field 22 of `/proc/PID/stat` (proc(5)). `None`: there is none, or it has
/// ended and awaits its parent.
pub fn start_ticks(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    parse_stat(&stat)
}

fn parse_stat(stat: &str) -> Option<u64> {
    // The name in parentheses may hold spaces and parentheses of its own; the state is field 3.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    if matches!(fields.next()?, "Z" | "X") {
        return None;
    }
    fields.nth(22 - 4)?.parse().ok()
}

/// A process by its number, as it is now.
///
/// # Errors
/// [`LocalError::NoOwner`].
pub fn owner(pid: u32) -> Result<Owner, LocalError> {
    let start_ticks = start_ticks(pid).ok_or(LocalError::NoOwner { pid })?;
    Ok(Owner { pid, start_ticks })
}

fn open(process: Owner) -> Option<std::os::fd::OwnedFd> {
    let pid = Pid::from_raw(i32::try_from(process.pid).ok()?)?;
    let fd = pidfd_open(pid, PidfdFlags::NONBLOCK).ok()?;
    (start_ticks(process.pid) == Some(process.start_ticks)).then_some(fd)
}

pub fn is_alive(process: Owner) -> bool {
    open(process).is_some()
}

/// Resolves when the process has ended; at once when it has already. Cancel-safe.
pub async fn ended(process: Owner) {
    let Some(fd) = open(process) else { return };
    #[expect(
        deprecated,
        reason = "its safe successor does not exist; an OwnedFd stays open as long as it is registered"
    )]
    let watched = AsyncFd::new(fd);
    match watched {
        // Readable means ended (pidfd_open(2)).
        Ok(fd) => drop(fd.readable().await),
        Err(err) => {
            tracing::warn!(pid = process.pid, %err, "cannot wait for a process by event");
            while is_alive(process) {
                tokio::time::sleep(std::time::Duration::from_millis(200)).await;
            }
        }
    }
}

/// Sends a signal; `false` when the process has ended.
///
/// # Errors
/// Not permitted, or no such signal.
pub fn signal(process: Owner, number: i32) -> io::Result<bool> {
    let Some(fd) = open(process) else { return Ok(false) };
    let signal = Signal::from_named_raw(number).ok_or(io::ErrorKind::InvalidInput)?;
    match pidfd_send_signal(&fd, signal) {
        Ok(()) => Ok(true),
        Err(rustix::io::Errno::SRCH) => Ok(false),
        Err(err) => Err(err.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_may_hold_anything() {
        let tail = "S 1 1 1 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 4711 9 9";
        assert_eq!(parse_stat(&format!("12 (a) R (b) {tail}")), Some(4711));
        assert_eq!(parse_stat(&format!("12 (x) {}", tail.replacen('S', "Z", 1))), None);
        assert_eq!(parse_stat("12 x"), None);
    }

    #[tokio::test]
    async fn an_end_is_seen_and_a_number_is_not_enough() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().expect("sleep");
        let process = owner(child.id()).expect("it lives");
        let later = Owner { start_ticks: process.start_ticks + 1, ..process };
        assert!(is_alive(process) && !is_alive(later));
        assert!(!signal(later, 15).expect("no error"));
        ended(later).await;
        assert!(signal(process, 15).expect("sent"));
        ended(process).await;
        child.wait().expect("reaped");
        assert!(!is_alive(process));
    }
}
