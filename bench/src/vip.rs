//! B2: a service's virtual address against its one task's own address, from a sandbox on another node; with that service alone
//! (`vip`), and among others that the sandbox knows as well (`scale`).

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use bytes::Bytes;
use swarmnet_proto::v1;

use crate::api::Api;
use crate::lab::{Lab, NETWORK, json, output};
use crate::load::{Route, connections, gbit_per_s};
use crate::report::{Arms, Goal, Measurement};
use crate::stats::median;
use crate::tasks;

const PORT: u16 = 7_000;
const SERVICE: &str = "web";
const STREAM: Duration = Duration::from_secs(2);
/// Services of the network, the one that is called included.
const SIZES: [u32; 3] = [10, 1_000, 10_000];
/// Changes of one task at each size.
const CHANGES: usize = 20;

/// A service on the network, with its task on `m2` and a client on `m1`.
struct Called {
    client: PathBuf,
    server: PathBuf,
    task: String,
    vip: String,
}

impl Called {
    fn make(lab: &Lab) -> Result<Self> {
        let create = ["service", "create", "--network", NETWORK, SERVICE];
        output(lab.client("m1")?.args(create))?;
        let (task, server) = lab.sandbox("m2", "server", Some(SERVICE))?;
        let (_, client) = lab.sandbox("m1", "client", None)?;
        let told = json(lab.client("m1")?.args(["service", "inspect", SERVICE]))?;
        let vip = told[0]["Endpoint"]["VirtualIPs"][0]["Addr"].as_str();
        let vip = vip.context("no virtual address")?;
        let (vip, _) = vip.split_once('/').context("a virtual address has a length")?;
        Ok(Self { client, server, task, vip: vip.to_owned() })
    }

    fn route(&self, to: &str) -> Result<Route<'_>> {
        let to = format!("{to}:{PORT}").parse()?;
        Ok(Route { client: &self.client, server: &self.server, to })
    }
}

/// Rounds of both arms.
#[derive(Default)]
struct Both {
    stream: Arms,
    opened: Arms,
}

impl Both {
    fn measure(called: &Called, rounds: u32) -> Result<Self> {
        let (ours, base) = (called.route(&called.vip)?, called.route(&called.task)?);
        let mut both = Self::default();
        for _ in 0..rounds {
            both.stream.round(|| gbit_per_s(&ours, STREAM), || gbit_per_s(&base, STREAM))?;
            let connect = |path| Ok(connections(path, 1, STREAM)?.per_s);
            both.opened.round(|| connect(&ours), || connect(&base))?;
        }
        Ok(both)
    }

    fn print(&self, among: &str) {
        let what = format!("VIP{among}: one TCP stream against direct");
        Measurement::ratio("B2", &what, "Gbit/s", &self.stream)
            .goal("ratio", Goal::AtLeast(0.98))
            .print();
        let what = format!("VIP{among}: new connections against direct");
        Measurement::ratio("B2", &what, "connections/s", &self.opened)
            .goal("ratio", Goal::AtLeast(0.93))
            .print();
    }
}

pub(crate) fn run(rounds: u32) -> Result<()> {
    let lab = Lab::up(2, 0)?;
    lab.overlay()?;
    Both::measure(&Called::make(&lab)?, rounds)?.print("");
    Ok(())
}

/// The same at each size. The others' tasks are on an agent of their own.
pub(crate) fn scale(rounds: u32) -> Result<()> {
    let lab = Lab::up(2, 1)?;
    lab.wide_overlay()?;
    let called = Called::make(&lab)?;
    let others = Api::new(&lab, "a1", "m1")?;
    let mut have = 1;
    let mut ratios = Vec::new();
    for size in SIZES {
        let made = tasks::make(&others, have..size, size)?;
        let calls = f64::from(size - have) / made.calls.as_secs_f64();
        let known = made.known.as_secs_f64();
        let what = format!("{have} to {size} services: tasks attached, then on every node");
        let figures = [("tasks_per_s", calls), ("then_known_s", known)];
        Measurement::of("B2", &what, "1/s, s", figures.into()).print();
        have = size;
        let both = Both::measure(&called, rounds)?;
        tasks::check(&others, size - 1)?;
        both.print(&format!(" among {size} services"));
        ratios.push([&both.stream, &both.opened].map(|arms| median(&arms.ratios())));
        let what = format!("one task's change among {size} services: call to acknowledged by all");
        Measurement::spread("B4", &what, "ms", &changes(&others, &made.endpoints[..1])?).print();
    }
    if let [first, .., last] = &ratios[..] {
        let flat = |at: usize| last[at] / first[at];
        let figures = [("stream", flat(0)), ("connections", flat(1))];
        let what = "VIP: ratio among 10,000 services by that among 10";
        Measurement::of("B2", what, "ratio", figures.into()).print();
    }
    Ok(())
}

/// Milliseconds of each change of a task's condition: it leaves balancing, or comes back.
fn changes(api: &Api, endpoint: &[Bytes]) -> Result<Vec<f64>> {
    api.run(|| async {
        let channel = api.channel();
        let mut all = Vec::new();
        let both = [v1::Condition::Draining, v1::Condition::Ready];
        for condition in both.into_iter().cycle().take(CHANGES) {
            let begun = Instant::now();
            let revision = tasks::report(channel.clone(), endpoint, condition).await?;
            tasks::known(channel.clone(), revision).await?;
            all.push(begun.elapsed().as_secs_f64() * 1e3);
        }
        Ok(all)
    })
}
