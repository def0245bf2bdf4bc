//! B5: `swarmnet run … true` on an overlay, against the same steps by hand: a namespace, a veth pair into a bridge, an address, a
//! route, `true`, and all of it removed, each as one call of `ip`.

use std::process::Command;
use std::time::Instant;

use anyhow::Result;

use crate::lab::{Lab, NETWORK, output};
use crate::report::Measurement;

/// The link is removed by name: the kernel takes that of a deleted namespace away later, and the next round would meet it.
const BY_HAND: &str = "set -e
ip netns add snb-attach
trap 'ip link del snb-attach; ip netns del snb-attach' EXIT
ip link add snb-attach type veth peer name eth0 netns snb-attach
ip link set snb-attach master snb-bridge up
ip -n snb-attach link set lo up
ip -n snb-attach addr add 10.99.0.2/24 dev eth0
ip -n snb-attach link set eth0 up
ip -n snb-attach route add default via 10.99.0.1
ip netns exec snb-attach true";

pub(crate) fn run(count: u32) -> Result<()> {
    let lab = Lab::up(1, 0)?;
    lab.overlay()?;
    output(lab.exec("m1").args(["ip", "link", "add", "snb-bridge", "up", "type", "bridge"]))?;
    let arms: [(&str, &dyn Fn() -> Command); 3] = [
        ("run … true on an overlay", &|| {
            let mut command = lab.swarmnet("m1");
            command.args(["run", "--network", NETWORK, "true"]);
            command
        }),
        ("the same steps with `ip`, on a bridge", &|| {
            let mut command = lab.exec("m1");
            command.args(["sh", "-c", BY_HAND]);
            command
        }),
        ("lab exec … true: a part of both", &|| {
            let mut command = lab.exec("m1");
            command.arg("true");
            command
        }),
    ];
    let mut times = arms.map(|_| Vec::new());
    for round in 0..=count {
        for ((_, command), times) in arms.iter().zip(&mut times) {
            let mut command = command();
            let begun = Instant::now();
            output(&mut command)?;
            // The first of each fills caches, and makes the network on the node.
            if round > 0 {
                times.push(begun.elapsed().as_secs_f64() * 1e3);
            }
        }
    }
    for ((what, _), times) in arms.iter().zip(&times) {
        Measurement::spread("B5", what, "ms", times).print();
    }
    Ok(())
}
