//! B8: memory and processor time of daemons with nothing to do: an agent's, and for comparison the one manager's.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use crate::lab::Lab;
use crate::report::{Goal, Measurement};

/// Unit of times in /proc/PID/stat: USER_HZ, 100 on every architecture that this program is built for (proc(5)).
const TICKS_PER_S: f64 = 100.0;
/// What a fresh cluster still settles in.
const SETTLE: Duration = Duration::from_secs(5);

pub(crate) fn run(seconds: u32) -> Result<()> {
    let lab = Lab::up(1, 1)?;
    lab.overlay()?;
    thread::sleep(SETTLE);
    let daemons = [("agent", lab.daemon("a1")?), ("manager", lab.daemon("m1")?)];
    let begun = Instant::now();
    let before = daemons.map(|(_, pid)| ticks(pid));
    thread::sleep(Duration::from_secs(seconds.into()));
    let elapsed = begun.elapsed().as_secs_f64();
    for ((role, pid), before) in daemons.into_iter().zip(before) {
        let share = (ticks(pid)? - before?) / TICKS_PER_S / elapsed * 100.0;
        let cpu = format!("idle {role}: processor time over {seconds} s");
        let cpu = Measurement::of("B8", &cpu, "% of a core", [("share", share)].into());
        let rss = [("rss", memory_mib(pid, "VmRSS")?), ("rss_max", memory_mib(pid, "VmHWM")?)];
        let memory = Measurement::of("B8", &format!("idle {role}: memory"), "MiB", rss.into());
        if role == "agent" {
            cpu.goal("share", Goal::Below(0.5)).print();
            memory.goal("rss", Goal::Below(40.0)).print();
        } else {
            cpu.print();
            memory.print();
        }
    }
    Ok(())
}

/// Processor time of a process and its ended threads, user and system.
fn ticks(pid: u32) -> Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // Fields 14 and 15; the second may hold blanks and ends with the last bracket.
    let (_, rest) = stat.rsplit_once(')').context("stat without a name")?;
    let fields: Vec<f64> =
        rest.split_whitespace().skip(11).take(2).map(str::parse).collect::<Result<_, _>>()?;
    Ok(fields.iter().sum())
}

fn memory_mib(pid: u32, field: &str) -> Result<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    let kib = line.and_then(|line| line.split_whitespace().next()).context("no such field")?;
    Ok(kib.parse::<f64>()? / 1024.0)
}
