//! The worker on real sockets of the loopback, with sealed datagrams; echoes are answered by a set of addresses.

use std::collections::BTreeSet;
use std::sync::Mutex;

use swarmnet_runtime::ShutdownReport;

use super::*;
use crate::members::{Condition, Member};
use crate::seal::Key;
use crate::stats::Refusals;

/// Which kernels answer.
#[derive(Debug, Clone, Default)]
struct Kernels(Arc<Mutex<BTreeSet<IpAddr>>>);

impl Echo for Kernels {
    async fn echo(&self, addr: IpAddr, timeout: Duration) -> bool {
        let answers = self.0.lock().unwrap().contains(&addr);
        if !answers {
            tokio::time::sleep(timeout).await;
        }
        answers
    }
}

struct Node {
    id: NodeId,
    addr: SocketAddr,
    supervisor: Supervisor,
    handle: GossipHandle,
}

struct Lab {
    nodes: Vec<Node>,
    kernels: Kernels,
    keys: watch::Sender<Keys>,
    /// Kept open.
    _members: watch::Sender<Arc<Members>>,
}

fn id(n: u8) -> NodeId {
    NodeId::from_bytes([n; 16])
}

fn key(n: u8) -> Key {
    Key::new(n, [n; 32])
}

impl Lab {
    /// `count` nodes on addresses of their own of `net`: 127.0.`net`.1 and so on.
    async fn start(net: u8, count: u8) -> Self {
        let mut sockets = Vec::new();
        for n in 1..=count {
            sockets
                .push((n, UdpSocket::bind(SocketAddr::from(([127, 0, net, n], 0))).await.unwrap()));
        }
        let member = |(n, socket): &(u8, UdpSocket)| {
            let gossip = socket.local_addr().unwrap();
            (id(*n), Member { gossip, vtep: gossip.ip(), dead_since_ms: None })
        };
        let all: Members = sockets.iter().map(member).collect();
        let kernels = Kernels::default();
        kernels.0.lock().unwrap().extend(all.values().map(|member| member.vtep));
        let (members, members_rx) = watch::channel(Arc::new(all));
        let (keys, keys_rx) = watch::channel(Keys { primary: key(1), other: None });
        let start = |(n, socket): (u8, UdpSocket)| {
            let addr = socket.local_addr().unwrap();
            let supervisor = Supervisor::new("test");
            let config = GossipConfig {
                me: Local { node: id(n), gossip: addr, vtep: addr.ip() },
                socket,
                members: members_rx.clone(),
                keys: keys_rx.clone(),
                echo: kernels.clone(),
                witness: None,
            };
            let handle = Gossip::start(config, &supervisor);
            Node { id: id(n), addr, supervisor, handle }
        };
        let nodes = sockets.into_iter().map(start).collect();
        Self { nodes, kernels, keys, _members: members }
    }

    /// Waits until `who` holds `of` for `want`, at most 10 s.
    async fn sees(&self, who: usize, of: usize, want: Condition) -> Duration {
        let begun = Instant::now();
        let of = self.nodes[of].id;
        let mut liveness = self.nodes[who].handle.liveness();
        let seen = liveness.wait_for(|l| l.get(&of).is_some_and(|s| s.condition == want));
        let limit = Duration::from_secs(10);
        let seen = tokio::time::timeout(limit, seen).await.map(|seen| seen.is_ok());
        assert_eq!(seen, Ok(true), "node {who} does not see {of:?} {want:?}");
        begun.elapsed()
    }

    async fn formed(&self) {
        for who in 0..self.nodes.len() {
            for of in 0..self.nodes.len() {
                self.sees(who, of, Condition::Alive).await;
            }
        }
    }

    /// Stops the daemon's part on a node; the kernel goes on answering.
    async fn stop(&self, n: usize) {
        let report = self.nodes[n].supervisor.shutdown(Duration::from_secs(1)).await;
        assert_eq!(report, ShutdownReport::default());
    }
}

#[tokio::test]
async fn a_stopped_daemon_is_lost_a_silent_node_is_dead() {
    let lab = Lab::start(71, 4).await;
    lab.formed().await;
    lab.stop(3).await;
    lab.sees(0, 3, Condition::AgentLost).await;
    lab.kernels.0.lock().unwrap().remove(&lab.nodes[2].addr.ip());
    lab.stop(2).await;
    let took = lab.sees(0, 2, Condition::Dead).await;
    assert!(took < Duration::from_secs(5), "{took:?}");
    let last = lab.nodes[0].handle.liveness().borrow().clone();
    assert_eq!(last[&id(2)].condition, Condition::Alive);
    assert_eq!(last[&id(4)].condition, Condition::AgentLost);
    assert!(!lab.nodes[0].handle.stats().cut_off);
}

#[tokio::test]
async fn leaving_is_dead_at_once() {
    let lab = Lab::start(72, 3).await;
    lab.formed().await;
    lab.nodes[1].handle.leave().await;
    let took = lab.sees(0, 1, Condition::Dead).await;
    assert!(took < Duration::from_secs(2), "{took:?}");
}

#[tokio::test]
async fn keys_rotate_without_losing_a_datagram() {
    let lab = Lab::start(73, 3).await;
    lab.formed().await;
    for (primary, other) in [(1, Some(2)), (2, Some(1)), (2, None)] {
        lab.keys.send_replace(Keys { primary: key(primary), other: other.map(key) });
        tokio::time::sleep(Duration::from_millis(1_500)).await;
    }
    for node in &lab.nodes {
        let stats = node.handle.stats();
        assert!(stats.received > 0 && stats.sent > 0);
        assert_eq!(stats.refused, Refusals::default());
        assert!(node.handle.liveness().borrow().values().all(|s| s.condition == Condition::Alive));
    }
}

#[tokio::test]
async fn garbage_forgeries_and_replays_are_counted_and_do_nothing() {
    let lab = Lab::start(74, 2).await;
    lab.formed().await;
    let to = lab.nodes[0].addr;
    let before = lab.nodes[0].handle.stats().refused;
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let stamp = |n, sequence| Stamp { sender: id(n), session: u64::MAX, sequence };
    let sealer = |k| Sealer::new(&Keys { primary: key(k), other: None });
    let mut forged = sealer(1).seal([1; 12], &stamp(2, 1), b"x");
    forged[20] ^= 1;
    let nonsense = sealer(1).seal([2; 12], &stamp(2, 1), b"not gossip");
    for datagram in [
        &b"garbage"[..],
        &[0xff; DATAGRAM_BYTES_MAX + 500],
        &sealer(9).seal([3; 12], &stamp(2, 1), b"x"),
        &forged,
        &sealer(1).seal([4; 12], &stamp(7, 1), b"x"),
        &nonsense,
        &nonsense,
    ] {
        socket.send_to(datagram, to).await.unwrap();
    }
    let want = Refusals {
        garbage: before.garbage + 2,
        unknown_key: before.unknown_key + 1,
        forged: before.forged + 1,
        unknown_node: before.unknown_node + 1,
        malformed: before.malformed + 1,
        replayed: before.replayed + 1,
    };
    let counted = async {
        // The forged session outdates the real one, so its datagrams are refused as replays from now on.
        let mut seen = lab.nodes[0].handle.stats().refused;
        while (Refusals { replayed: want.replayed, ..seen }) != want
            || seen.replayed < want.replayed
        {
            tokio::time::sleep(Duration::from_millis(10)).await;
            seen = lab.nodes[0].handle.stats().refused;
        }
    };
    let counted = tokio::time::timeout(Duration::from_secs(5), counted).await;
    assert!(counted.is_ok(), "{:?}, want {want:?}", lab.nodes[0].handle.stats().refused);
}

#[tokio::test]
async fn losing_the_members_stops_the_daemon() {
    let lab = Lab::start(75, 1).await;
    let Lab { nodes, _members: members, .. } = lab;
    drop(members);
    let end = nodes[0].supervisor.wait().await;
    assert_eq!(end.map(|end| end.worker), Some("test/gossip".to_owned()));
}

#[tokio::test]
async fn who_is_heard_where_the_state_does_not_have_it_is_told() {
    let lab = Lab::start(76, 2).await;
    let (to, known) = (lab.nodes[0].addr, lab.nodes[1].id);
    let mut sightings = lab.nodes[0].handle.sightings();
    let socket = UdpSocket::bind(SocketAddr::from(([127, 0, 76, 9], 0))).await.unwrap();
    let from = socket.local_addr().unwrap();
    let sealer = |n| Sealer::new(&Keys { primary: key(n), other: None });
    let stamp = |sender| Stamp { sender, session: u64::MAX, sequence: 1 };
    // Without the cluster's key one can say what one likes.
    socket.send_to(&sealer(9).seal([1; 12], &stamp(id(8)), b"x"), to).await.unwrap();
    // A node that is not known, and one that has moved.
    socket.send_to(&sealer(1).seal([2; 12], &stamp(id(7)), b"x"), to).await.unwrap();
    socket.send_to(&sealer(1).seal([3; 12], &stamp(known), b"x"), to).await.unwrap();
    let want = Sightings::from([(id(7), from), (known, from)]);
    let seen = sightings.wait_for(|seen| **seen == want);
    let seen = tokio::time::timeout(Duration::from_secs(5), seen).await;
    assert!(seen.is_ok(), "{:?}", lab.nodes[0].handle.sightings().borrow());
}
