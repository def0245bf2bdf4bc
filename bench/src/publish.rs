//! B4: from the start of `service publish -d` to the first answer of each node, seen by an outsider.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, bail};

use crate::lab::{Lab, NETWORK, NODES, output};
use crate::load::within;
use crate::report::{Goal, Measurement};

const SERVICE: &str = "web";
const FIRST_PORT: u32 = 20_000;
/// Between an attempt's refusal and the next: the resolution of the measurement.
const PAUSE: Duration = Duration::from_micros(300);
/// An attempt without an answer is given up then; a healthy answer takes less than a hundredth of it.
const ATTEMPT_MAX: Duration = Duration::from_millis(50);
const PUBLISH_MAX: Duration = Duration::from_secs(10);

/// Milliseconds of one change.
struct Change {
    command: f64,
    nodes: Vec<f64>,
}

pub(crate) fn run(count: u32) -> Result<()> {
    let lab = Lab::up(3, 0)?;
    lab.overlay()?;
    // The task is on one node: the other two answer by way of it.
    let whoami = ["run", "-d", "--network", NETWORK, "--service", SERVICE, "--", "swarmnet"];
    output(lab.swarmnet("m2").args(whoami).arg("whoami"))?;
    // The first change also makes the ingress place of the task; it is not counted.
    change(&lab, FIRST_PORT)?;
    let changes: Vec<Change> =
        (1..=count).map(|n| change(&lab, FIRST_PORT + n)).collect::<Result<_>>()?;
    let command: Vec<f64> = changes.iter().map(|change| change.command).collect();
    Measurement::spread("B4", "publish -d: start to end of the command", "ms", &command).print();
    for (at, node) in NODES.iter().enumerate() {
        let times: Vec<f64> = changes.iter().map(|change| change.nodes[at]).collect();
        let what = format!("publish -d: start of the command to the first answer of {node}");
        Measurement::spread("B4", &what, "ms", &times).print();
    }
    let last = |change: &Change| change.nodes.iter().copied().fold(0.0, f64::max);
    let all: Vec<f64> = changes.iter().map(last).collect();
    Measurement::spread("B4", "publish -d: start of the command to all nodes' answer", "ms", &all)
        .goal("p99", Goal::Below(50.0))
        .print();
    Ok(())
}

/// Publishes a port, waits until every node answers, and takes it back.
fn change(lab: &Lab, port: u32) -> Result<Change> {
    let addresses: Vec<SocketAddr> = NODES
        .iter()
        .map(|node| Ok(format!("{}:{port}", lab.address(node)?).parse()?))
        .collect::<Result<_>>()?;
    let netns = lab.netns("c1")?;
    let mut publish = lab.client("m1")?;
    publish.args(["service", "publish", "-d", SERVICE, &format!("published={port},target=80")]);
    let begun = Instant::now();
    let change = thread::scope(|scope| {
        let netns: &Path = &netns;
        let probes: Vec<_> = addresses
            .iter()
            .map(|&to| scope.spawn(move || within(netns, || first_answer(to, begun))))
            .collect();
        output(&mut publish)?;
        let command = begun.elapsed().as_secs_f64() * 1e3;
        let nodes = probes
            .into_iter()
            .map(|probe| probe.join().map_err(|_| anyhow!("a probe failed"))?)
            .collect::<Result<_>>()?;
        Ok::<_, anyhow::Error>(Change { command, nodes })
    })?;
    output(lab.client("m1")?.args(["service", "unpublish", SERVICE, &port.to_string()]))?;
    Ok(change)
}

/// Milliseconds from `begun` to the first answer, body begun.
fn first_answer(to: SocketAddr, begun: Instant) -> Result<f64> {
    while begun.elapsed() < PUBLISH_MAX {
        if answers(to) {
            return Ok(begun.elapsed().as_secs_f64() * 1e3);
        }
        thread::sleep(PAUSE);
    }
    bail!("{to} does not answer within {PUBLISH_MAX:?}")
}

/// Whether an HTTP request is answered.
fn answers(to: SocketAddr) -> bool {
    let ask = || {
        let mut stream = TcpStream::connect_timeout(&to, ATTEMPT_MAX)?;
        stream.set_read_timeout(Some(ATTEMPT_MAX))?;
        stream.write_all(b"GET / HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n")?;
        let mut head = [0; 12];
        stream.read_exact(&mut head).map(|()| head)
    };
    ask().is_ok_and(|head: [u8; 12]| head == *b"HTTP/1.1 200")
}
