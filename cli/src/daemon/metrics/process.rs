//! This process in numbers, from `/proc/self`. What cannot be read is 0.

use std::fs;
use std::time::Duration;

/// Unit of the times in `/proc/PID/stat`: `USER_HZ` is 100 on every architecture that Linux runs us on.
const TICKS_PER_S: u32 = 100;

#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Process {
    /// User and system.
    pub(super) cpu: Duration,
    pub(super) resident_bytes: u64,
    pub(super) virtual_bytes: u64,
    pub(super) threads: u64,
    pub(super) open_fds: u64,
    /// The soft limit.
    pub(super) max_fds: u64,
}

impl Process {
    pub(super) fn now() -> Self {
        let read = |name: &str| fs::read_to_string(format!("/proc/self/{name}"));
        let fds = fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
        Self {
            // One of them is the folder that is being read.
            open_fds: u64::try_from(fds).unwrap_or_default().saturating_sub(1),
            ..Self::parse(
                &read("stat").unwrap_or_default(),
                &read("status").unwrap_or_default(),
                &read("limits").unwrap_or_default(),
            )
        }
    }

    /// proc_pid_stat(5), proc_pid_status(5), proc_pid_limits(5).
    fn parse(stat: &str, status: &str, limits: &str) -> Self {
        // The name before it is in brackets and may hold anything; utime and stime are fields 14 and 15, the state is field 3.
        let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
        let ticks = after_name.split_whitespace().skip(11).take(2);
        let ticks: u32 = ticks.filter_map(|field| field.parse::<u32>().ok()).sum();
        let number = |text: &str, name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name))?;
            line.split_whitespace().find_map(|word| word.parse::<u64>().ok())
        };
        let status = |name: &str| number(status, name).unwrap_or_default();
        Self {
            cpu: Duration::from_secs(ticks.into()) / TICKS_PER_S,
            resident_bytes: status("VmRSS:") * 1024,
            virtual_bytes: status("VmSize:") * 1024,
            threads: status("Threads:"),
            open_fds: 0,
            max_fds: number(limits, "Max open files").unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_of_proc_are_read() {
        let stat = "7 (a) b c) S 1 7 7 0 -1 4194560 100 0 0 0 150 50 0 0 20 0 4 0 99 1000 10";
        let status = "Name:\ta\nVmSize:\t    2048 kB\nVmRSS:\t    1024 kB\nThreads:\t4\n";
        let limits = "Limit  Soft Limit  Hard Limit  Units\nMax open files            1024                 524288               files\n";
        let wanted = Process {
            cpu: Duration::from_secs(2),
            resident_bytes: 1 << 20,
            virtual_bytes: 2 << 20,
            threads: 4,
            open_fds: 0,
            max_fds: 1024,
        };
        assert_eq!(Process::parse(stat, status, limits), wanted);
        assert_eq!(Process::parse("", "", ""), Process::default());
    }

    #[test]
    fn this_process_has_memory_and_files() {
        let now = Process::now();
        assert!(now.resident_bytes > 0 && now.threads > 0, "{now:?}");
        assert!(now.open_fds > 0 && now.max_fds >= now.open_fds, "{now:?}");
    }
}
