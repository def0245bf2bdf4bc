//! B8: memory and processor time of daemons with nothing to do: an agent's, and for comparison the one manager's.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::lab::Lab;
use crate::process::{cpu_seconds, memory_mib};
use crate::report::{Goal, Measurement};

/// What a fresh cluster still settles in.
const SETTLE: Duration = Duration::from_secs(5);

pub(crate) fn run(seconds: u32) -> Result<()> {
    let lab = Lab::up(1, 1)?;
    lab.overlay()?;
    thread::sleep(SETTLE);
    let daemons = [("agent", lab.daemon("a1")?), ("manager", lab.daemon("m1")?)];
    let begun = Instant::now();
    let before = daemons.map(|(_, pid)| cpu_seconds(pid));
    thread::sleep(Duration::from_secs(seconds.into()));
    let elapsed = begun.elapsed().as_secs_f64();
    for ((role, pid), before) in daemons.into_iter().zip(before) {
        let share = (cpu_seconds(pid)? - before?) / elapsed * 100.0;
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
