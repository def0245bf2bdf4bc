//! Overlays: both families cross nodes, and what is on the wire is VXLAN between the nodes that take part, nothing else (N6, N7, X1).

use std::collections::BTreeSet;
use std::time::Duration;

use swarmnet_tests::{Lab, Session, eventually, stdout};

use crate::{addresses, web};

/// A capture ends by itself after so many seconds.
const CAPTURE_SECONDS: &str = "4";
/// For what a node tells its manager.
const SOON: Duration = Duration::from_secs(5);

#[test]
fn sandboxes_on_two_nodes_reach_each_other_by_both_families() {
    let lab = web("ovl", "--managers 1 --agents 2", &["a1"]);
    for address in addresses(&lab, "a1", "w1") {
        let ping = format!("run --network overnet -- ping -c 2 -i 0.2 -W 2 {address}");
        lab.ok("a2", &ping);
    }
    // The largest packet that the overlay says it takes, not to be cut: 1450 - 20 (IPv4) - 8 (ICMP).
    let [v4, v6] = addresses(&lab, "a1", "w1");
    lab.ok("a2", &format!("run --network overnet -- ping -M do -s 1422 -c 1 -W 2 {v4}"));
    lab.ok("a2", &format!("run --network overnet -- ping -M do -s 1402 -c 1 -W 2 {v6}"));
}

#[test]
fn inspect_shows_the_mtu_that_each_node_found() {
    let lab = web("mtu", "--managers 1 --agents 1", &["a1", "m1"]);
    lab.ok("m1", "network create -d overlay --attachable -o mtu=1300 small");
    lab.ok("a1", "run -d --name w3 --network small -- swarmnet whoami");
    let found = |network: &str| {
        let text = lab.ok("m1", &format!("network inspect {network}"));
        let all: serde_json::Value = serde_json::from_str(&text).expect("inspect writes JSON");
        let nodes = all[0]["Nodes"].as_array().expect("a list").iter();
        let mut nodes: Vec<_> = nodes
            .map(|n| (n["Name"].as_str().expect("a name").to_owned(), n["MTU"].as_u64()))
            .collect();
        nodes.sort();
        nodes
    };
    // 1500 of the underlay less 50 of VXLAN over IPv4, unless the user set one.
    let both = ["a1", "m1"].map(|name| (name.to_owned(), Some(1450)));
    assert!(eventually(SOON, || found("overnet") == both).is_some(), "{:?}", found("overnet"));
    assert_eq!(found("small"), [("a1".to_owned(), Some(1300))]);
    let inside = lab.ok("a1", "exec w1 cat /sys/class/net/eth0/mtu");
    assert_eq!(inside, "1450", "as it is in the sandbox");
}

#[test]
fn an_overlay_is_vxlan_between_its_nodes_on_the_wire() {
    let lab = web("wire", "--managers 1 --agents 3", &["a1"]);
    let [v4, v6] = addresses(&lab, "a1", "w1");
    let subnet = format!("{}.0/24", v4.rsplit_once('.').expect("an address").0);
    let vxlan = capture(&lab, "a1", "", "eth0", "udp port 4789");
    // The node that takes no part, and the same packets without their wrapping.
    let elsewhere = capture(&lab, "a3", "", "eth0", "udp port 4789");
    let naked = capture(&lab, "a1", "", "eth0", &format!("net {subnet} or host {v6}"));
    for address in [&v4, &v6] {
        lab.ok("a2", &format!("run --network overnet -- ping -c 3 -i 0.2 -W 2 {address}"));
    }
    let seen = packets(vxlan);
    let ends: BTreeSet<(&str, &str)> = seen.lines().filter_map(ends).collect();
    assert!(seen.contains("vni "), "VXLAN was captured: {seen}");
    let nodes = ["192.0.2.51", "192.0.2.52"];
    assert!(
        ends.iter().all(|(from, to)| nodes.contains(from) && nodes.contains(to)),
        "only the two nodes speak: {ends:?}"
    );
    assert_eq!(ends.len(), 2, "in both directions: {ends:?}");
    assert_eq!(packets(elsewhere), "", "nothing goes to a node without an endpoint");
    assert_eq!(packets(naked), "", "nothing of the overlay is on the wire unwrapped");
}

/// A capture that has begun when this returns; `within` are words that lead into a sandbox.
fn capture(lab: &Lab, node: &str, within: &str, link: &str, filter: &str) -> Session {
    let script = format!(
        "exec {within} timeout {CAPTURE_SECONDS} tcpdump -nn -l --immediate-mode -i {link} '{filter}' 2>&1"
    );
    let mut session = lab.session(node, &["sh", "-c", &script]);
    loop {
        let line = session.line();
        assert!(!line.is_empty(), "tcpdump begins on {node}");
        if line.starts_with("listening on") {
            return session;
        }
    }
}

/// The packets that a capture has seen, when its time is over: its lines that begin with a time of day.
fn packets(capture: Session) -> String {
    let text = capture.close();
    let of_packet = |line: &&str| line.split(' ').next().is_some_and(|at| at.contains(':'));
    text.lines().filter(of_packet).collect::<Vec<_>>().join("\n")
}

/// Source and destination of a line of tcpdump, without ports; of the outer packet alone.
fn ends(line: &str) -> Option<(&str, &str)> {
    let (_, rest) = line.split_once(" IP ")?;
    let (from, rest) = rest.split_once(" > ")?;
    let to = rest.split(':').next()?;
    to.contains(".4789").then_some((from.rsplit_once('.')?.0, to.rsplit_once('.')?.0))
}

#[test]
fn vxlan_of_a_stranger_is_not_let_in() {
    let lab = web("spoof", "--managers 1 --agents 1 --clients 1", &["a1"]);
    is_not_let_in(&lab, "c1", "192.0.2.101");
}

#[test]
fn vxlan_of_a_node_without_an_endpoint_is_not_let_in() {
    let lab = web("member", "--managers 1 --agents 2", &["a1"]);
    is_not_let_in(&lab, "a2", "192.0.2.52");
    // With one it is, although no daemon was told to let it in.
    lab.exec("a2", &["ip", "link", "del", "vx"]);
    let [v4, _] = addresses(&lab, "a1", "w1");
    lab.ok("a2", &format!("run --network overnet -- ping -c 1 -W 2 {v4}"));
}

/// `node` knows everything that a node of `overnet` knows: VNI, addresses, MAC; its packets come as far as node a1.
fn is_not_let_in(lab: &Lab, node: &str, underlay: &str) {
    let [v4, _] = addresses(lab, "a1", "w1");
    let network = lab.ok("m1", "network inspect overnet");
    let network: serde_json::Value = serde_json::from_str(&network).expect("inspect writes JSON");
    let options = &network[0]["Options"];
    let vni = options["com.docker.network.driver.overlay.vxlanid_list"].as_str();
    let vni = vni.unwrap_or_else(|| panic!("inspect shows the VNI: {options}"));
    let mac = lab.ok("a1", "exec w1 cat /sys/class/net/eth0/address");
    // Checksums as the node's own tunnel has them: on a node of the cluster both share one socket.
    let script = format!(
        "ip link add vx type vxlan id {vni} dstport 4789 remote 192.0.2.51 local {underlay} nolearning udp6zerocsumrx
         ip addr add {own} dev vx && ip link set vx up && ip neigh add {v4} lladdr {mac} dev vx",
        own = format_args!("{}.250/24", v4.rsplit_once('.').expect("an address").0),
    );
    assert!(lab.exec(node, &["sh", "-ec", &script]).status.success(), "the tunnel of {node}");
    let filter = format!("src {underlay} and udp port 4789");
    let arrived = capture(lab, "a1", "", "eth0", &filter);
    let inside = capture(lab, "a1", "swarmnet exec w1", "eth0", "icmp");
    let ping = lab.exec(node, &["ping", "-c", "3", "-i", "0.2", "-W", "1", &v4]);
    assert!(!ping.status.success(), "no answer: {}", stdout(&ping));
    assert!(packets(arrived).contains("vni "), "it came as far as the node");
    assert_eq!(packets(inside), "", "the sandbox sees nothing of it");
}
