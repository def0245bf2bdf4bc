//! B8: memory and idle processor time of an agent that knows thousands of endpoints of others.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::api::Api;
use crate::lab::Lab;
use crate::process::{cpu_seconds, memory_mib};
use crate::report::{Goal, Measurement};
use crate::tasks;

/// Tasks elsewhere. Each is two endpoints: on the network, and on the ingress fabric.
const SIZES: [u32; 3] = [0, 5_000, 10_000];
const SERVICES: u32 = 1_000;
/// What the last change leaves to do.
const SETTLE: Duration = Duration::from_secs(5);

pub(crate) fn run(seconds: u32) -> Result<()> {
    let lab = Lab::up(1, 2)?;
    lab.wide_overlay()?;
    // It is on the network, so it has to know all that is there, in names and in the kernel.
    lab.sandbox("a2", "client", None)?;
    let others = Api::new(&lab, "a1", "m1")?;
    let agent = lab.daemon("a2")?;
    let (mut have, mut endpoints) = (0, 0);
    for size in SIZES {
        endpoints += tasks::make(&others, have..size, SERVICES)?.endpoints.len();
        have = size;
        thread::sleep(SETTLE);
        let (begun, before) = (Instant::now(), cpu_seconds(agent)?);
        thread::sleep(Duration::from_secs(seconds.into()));
        let share = (cpu_seconds(agent)? - before) / begun.elapsed().as_secs_f64() * 100.0;
        tasks::check(&others, size)?;
        let what = format!("agent that knows {size} tasks of others, {endpoints} endpoints");
        let rss = [("rss", memory_mib(agent, "VmRSS")?), ("rss_max", memory_mib(agent, "VmHWM")?)];
        Measurement::of("B8", &format!("{what}: memory"), "MiB", rss.into())
            .goal("rss", Goal::Below(40.0))
            .print();
        let what = format!("{what}: processor time over {seconds} s");
        Measurement::of("B8", &what, "% of a core", [("share", share)].into())
            .goal("share", Goal::Below(0.5))
            .print();
    }
    Ok(())
}
