//! B2: a service's virtual address against its one task's own address, from a sandbox on another node.

use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::lab::{Lab, json, output};
use crate::load::{Route, connections_per_s, gbit_per_s};
use crate::report::{Arms, Goal, Measurement};

const PORT: u16 = 7_000;
const SERVICE: &str = "web";
const STREAM: Duration = Duration::from_secs(2);

pub(crate) fn run(rounds: u32) -> Result<()> {
    let lab = Lab::up(2, 0)?;
    lab.overlay()?;
    let create = ["service", "create", "--network", crate::lab::NETWORK, SERVICE];
    output(lab.client("m1")?.args(create))?;
    let (address, server) = lab.sandbox("m2", "server", Some(SERVICE))?;
    let (_, client) = lab.sandbox("m1", "client", None)?;
    let told = json(lab.client("m1")?.args(["service", "inspect", SERVICE]))?;
    let vip =
        told[0]["Endpoint"]["VirtualIPs"][0]["Addr"].as_str().context("no virtual address")?;
    let (vip, _) = vip.split_once('/').context("a virtual address has a length")?;
    let path = |to: &str| {
        let to = format!("{to}:{PORT}").parse()?;
        Ok::<_, anyhow::Error>(Route { client: &client, server: &server, to })
    };
    let (ours, base) = (path(vip)?, path(&address)?);

    let (mut stream, mut connections) = (Arms::default(), Arms::default());
    for round in 0..rounds {
        stream.round(round, || gbit_per_s(&ours, STREAM), || gbit_per_s(&base, STREAM))?;
        let connect = |path| connections_per_s(path, STREAM);
        connections.round(round, || connect(&ours), || connect(&base))?;
    }
    Measurement::ratio("B2", "VIP: one TCP stream against direct", "Gbit/s", &stream)
        .goal("ratio", Goal::AtLeast(0.98))
        .print();
    let what = "VIP: new connections against direct";
    Measurement::ratio("B2", what, "connections/s", &connections)
        .goal("ratio", Goal::AtLeast(0.93))
        .print();
    Ok(())
}
