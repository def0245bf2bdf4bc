//! End-to-end tests: the real program, whole clusters on a real kernel, real clients, and packets where the claim is about packets.
//!
//! Each test has a lab of its own, so that none depends on another; they run one at a time. Nothing is skipped: no root, no tool, no
//! kernel feature is a failure.
#![forbid(unsafe_code)]

mod certificates;
mod drain;
mod drift;
mod events;
mod faults;
mod formats;
mod ingress;
mod input;
mod members;
mod names;
mod operate;
mod overlay;
mod readme;
mod recovery;
mod restart;
mod teardown;
mod trace;

use swarmnet_tests::Lab;

/// Underlay addresses, by the plan of `lab up` (L1).
const UNDERLAY_V6: &str = "fd5a:c000:200::";

/// A dual-stack lab with the overlay `overnet` and a task of `web` on each of `nodes`: `w1`, `w2`, ….
fn web(name: &str, args: &str, nodes: &[&str]) -> Lab {
    let lab = Lab::up(name, &format!("--ipv6 {args}"));
    lab.ok("m1", "network create -d overlay --ipv6 --attachable overnet");
    for (at, node) in nodes.iter().enumerate() {
        let task = format!("w{}", at + 1);
        lab.ok(
            node,
            &format!(
                "run -d --name {task} --network overnet --service web -- swarmnet whoami --udp"
            ),
        );
    }
    lab
}

/// The address of a sandbox on `overnet`, IPv4 and IPv6.
fn addresses(lab: &Lab, node: &str, sandbox: &str) -> [String; 2] {
    let text = lab.ok(node, &format!("sandbox inspect {sandbox}"));
    let all: serde_json::Value = serde_json::from_str(&text).expect("inspect writes JSON");
    let on = &all[0]["NetworkSettings"]["Networks"]["overnet"];
    ["IPAddress", "GlobalIPv6Address"]
        .map(|key| on[key].as_str().expect("it has both families").to_owned())
}

/// The value of `Key: value` or `key=value` in an answer of `swarmnet whoami`.
fn field(answer: &str, key: &str) -> String {
    let key = key.to_lowercase();
    answer
        .lines()
        .flat_map(|line| if line.contains(": ") { vec![line] } else { line.split(' ').collect() })
        .filter_map(|part| part.split_once(": ").or_else(|| part.split_once('=')))
        .find_map(|(name, value)| (name.to_lowercase() == key).then(|| value.to_owned()))
        .unwrap_or_default()
}

/// `1.2.3.4:5` without its port, `[::1]:5` without port and brackets.
fn host(addr: &str) -> &str {
    let host = addr.rsplit_once(':').map_or(addr, |(host, _)| host);
    host.trim_start_matches('[').trim_end_matches(']')
}
