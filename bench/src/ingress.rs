//! B3: a published port whose task sees the client's own address, against a lean masquerading mesh made by hand.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, bail};

use crate::handmade::HandMade;
use crate::lab::{Lab, output};
use crate::load::{Route, connections, seen_as};
use crate::report::{Arms, Goal, Measurement, in_turns};

const PORT: u16 = 7_000;
const SERVICE: &str = "web";
const TIME: Duration = Duration::from_secs(2);
/// Clients at once: enough to keep both processors of a small machine busy.
const CLIENTS: u32 = 8;

/// The same shape as the lab's: a client, an entry node and the task's node on one wire, the task behind a bridge. What enters at
/// the port gets the task's address as its destination and the entry node's as its source, so that the answer comes back there. No
/// balancing, no filter, no other rule; the VXLAN has one remote, no bridge on the entry's side, and learns nothing.
const MESH: &str = "wire
on_wire client 198.51.100.1/24
on_wire entry 198.51.100.2/24
on_wire node 198.51.100.3/24
vxlan entry 198.51.100.2 198.51.100.3
ip -n snb-entry addr add 10.98.0.1/24 dev vx0
ip -n snb-entry link set vx0 up
ip netns exec snb-entry sh -c 'echo 1 >/proc/sys/net/ipv4/ip_forward'
ip netns exec snb-entry nft 'table ip snb {
  chain pre { type nat hook prerouting priority dstnat; ip daddr 198.51.100.2 tcp dport 7000 dnat to 10.98.0.2:7000; }
  chain post { type nat hook postrouting priority srcnat; oifname \"vx0\" masquerade; }
}'
vxlan node 198.51.100.3 198.51.100.2
boxed node box 10.98.0.2/24";

const NAMESPACES: [&str; 5] = ["snb-box", "snb-client", "snb-entry", "snb-node", "snb-wire"];

pub(crate) fn run(rounds: u32) -> Result<()> {
    let mesh = HandMade::make(MESH, &NAMESPACES)?;
    let (client, server) = (mesh.netns("snb-client"), mesh.netns("snb-box"));
    let base = Route { client: &client, server: &server, to: ([198, 51, 100, 2], PORT).into() };
    let lab = Lab::up(2, 0)?;
    lab.overlay()?;
    let (_, server) = lab.sandbox("m2", "server", Some(SERVICE))?;
    let port = format!("published={PORT},target={PORT}");
    output(lab.client("m1")?.args(["service", "publish", SERVICE, &port]))?;
    let client: PathBuf = lab.netns("c1")?;
    let to: SocketAddr = format!("{}:{PORT}", lab.address("m1")?).parse()?;
    let ours = Route { client: &client, server: &server, to };
    check(&ours, lab.address("c1")?.parse()?, "the client's own")?;
    check(&base, [10, 98, 0, 1].into(), "the entry node's")?;

    let (mut opened, mut late) = (Arms::default(), Arms::default());
    for _ in 0..rounds {
        let [a, b] = in_turns(&mut [&mut || connections(&ours, CLIENTS, TIME), &mut || {
            connections(&base, CLIENTS, TIME)
        }])?;
        opened.put(a.per_s, b.per_s);
        late.put(a.p99_us, b.p99_us);
    }
    let what = |what| format!("ingress, {CLIENTS} clients: {what} against a masquerading mesh");
    Measurement::ratio("B3", &what("new connections"), "connections/s", &opened)
        .goal("ratio", Goal::AtLeast(1.0))
        .print();
    Measurement::ratio("B3", &what("p99 of a connection and one byte"), "us", &late)
        .goal("ratio", Goal::AtMost(1.0))
        .print();
    Ok(())
}

/// What is compared is what it says it is.
fn check(path: &Route<'_>, expected: IpAddr, whose: &str) -> Result<()> {
    let seen = seen_as(path)?;
    if seen != expected {
        bail!("the task sees {seen} and not {whose} address {expected}");
    }
    Ok(())
}
