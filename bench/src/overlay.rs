//! B1: one TCP stream and one-byte exchanges between sandboxes on two nodes, against a minimal VXLAN made with `ip`.

use std::time::Duration;

use anyhow::Result;

use crate::handmade::HandMade;
use crate::lab::Lab;
use crate::load::{Route, exchanges_us, gbit_per_s};
use crate::report::{Arms, Goal, Measurement};
use crate::stats::median;

const PORT: u16 = 7_000;
const STREAM: Duration = Duration::from_secs(2);
const EXCHANGES: u32 = 3_000;

/// A bridge as underlay, two nodes with one VXLAN device in one bridge each, one box behind each: the same shape as a lab's
/// overlay and nothing more. No filter, no learning, the other node as the one remote.
const MINIMAL: &str = "wire
for i in 1 2; do
  on_wire node$i 198.51.100.$i/24
  vxlan node$i 198.51.100.$i 198.51.100.$((3 - i))
  boxed node$i box$i 10.98.0.$i/24
done";

const NAMESPACES: [&str; 5] = ["snb-box1", "snb-box2", "snb-node1", "snb-node2", "snb-wire"];

pub(crate) fn run(rounds: u32) -> Result<()> {
    let minimal = HandMade::make(MINIMAL, &NAMESPACES)?;
    let (box1, box2) = (minimal.netns("snb-box1"), minimal.netns("snb-box2"));
    let base = Route { client: &box1, server: &box2, to: ([10, 98, 0, 2], PORT).into() };
    let lab = Lab::up(2, 0)?;
    lab.overlay()?;
    let (_, client) = lab.sandbox("m1", "client", None)?;
    let (address, server) = lab.sandbox("m2", "server", None)?;
    let to = format!("{address}:{PORT}").parse()?;
    let ours = Route { client: &client, server: &server, to };

    let (mut stream, mut latency) = (Arms::default(), Arms::default());
    for _ in 0..rounds {
        stream.round(|| gbit_per_s(&ours, STREAM), || gbit_per_s(&base, STREAM))?;
        let exchanges = |path| Ok(median(&exchanges_us(path, EXCHANGES)?));
        latency.round(|| exchanges(&ours), || exchanges(&base))?;
    }
    Measurement::ratio("B1", "overlay: one TCP stream against a minimal VXLAN", "Gbit/s", &stream)
        .goal("ratio", Goal::AtLeast(0.98))
        .print();
    let what = "overlay: p50 of one-byte exchanges against a minimal VXLAN";
    Measurement::ratio("B1", what, "us", &latency).goal("ratio", Goal::Below(1.0 / 0.98)).print();
    Ok(())
}
