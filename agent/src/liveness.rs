//! The gossip of this node: which nodes the cluster has and with which keys, from the view; what became of them, for the merge.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use swarmnet_gossip::{
    Condition, Doubts, Gossip, GossipConfig, GossipHandle, IcmpEcho, IcmpError, Key, Keys,
    Liveness, Local, Member, Members, NodeState,
};
use swarmnet_runtime::Supervisor;
use swarmnet_types::{ClusterView, NodeId, NodeView};
use tokio::net::UdpSocket;
use tokio::sync::watch;

use crate::local::{GossipStatus, Peer};

/// The gossip could not be started.
#[derive(Debug, thiserror::Error)]
pub enum LivenessError {
    #[error("cannot open UDP {addr} for the gossip: {err}")]
    Socket {
        addr: SocketAddr,
        #[source]
        err: std::io::Error,
    },
    #[error(transparent)]
    Echo(#[from] IcmpError),
}

/// The nodes the gossip is to know. `known`: verdicts from before the gossip started.
pub fn members(view: &NodeView, known: &Liveness) -> Members {
    let dead_since_ms = |node| {
        let state: Option<&NodeState> = known.get(&node);
        state.filter(|s| s.condition == Condition::Dead).map(|s| s.since_ms)
    };
    view.nodes
        .values()
        .map(|n| {
            (n.id, Member { gossip: n.addr, vtep: n.data_path, dead_since_ms: dead_since_ms(n.id) })
        })
        .collect()
}

/// The newest key seals; the one before is still accepted.
fn keys(cluster: &ClusterView) -> Option<Keys> {
    let mut newest = cluster.gossip_keys.iter().rev();
    // One byte on the wire tells the key: the low one of a number that rises by one.
    let key = |k: &swarmnet_types::GossipKey| Key::new((k.id & 0xff) as u8, k.secret);
    Some(Keys { primary: key(newest.next()?), other: newest.next().map(key) })
}

/// Starts the gossip once there is a view, and keeps its inputs up to date. Nodes that are dead by what was `known` before stay
/// so until they are heard.
///
/// # Errors
/// See [`LivenessError`].
pub async fn start(
    (me, witness): (Local, Option<IpAddr>),
    known: &Liveness,
    mut views: watch::Receiver<Option<Arc<NodeView>>>,
    supervisor: &Supervisor,
) -> Result<Option<GossipHandle>, LivenessError> {
    let (first, first_keys) = loop {
        let found = views
            .borrow_and_update()
            .as_ref()
            .and_then(|view| Some((members(view, known), keys(&view.cluster)?)));
        if let Some(found) = found {
            break found;
        }
        if views.changed().await.is_err() {
            return Ok(None);
        }
    };
    let every = match me.gossip {
        SocketAddr::V4(addr) => SocketAddr::from(([0, 0, 0, 0], addr.port())),
        SocketAddr::V6(addr) => SocketAddr::from(([0u16; 8], addr.port())),
    };
    let socket =
        UdpSocket::bind(every).await.map_err(|err| LivenessError::Socket { addr: every, err })?;
    let (members_tx, members_rx) = watch::channel(Arc::new(first));
    let (keys_tx, keys_rx) = watch::channel(first_keys);
    let echo = IcmpEcho::start(supervisor)?;
    let config = GossipConfig { me, socket, members: members_rx, keys: keys_rx, echo, witness };
    let handle = Gossip::start(config, supervisor);
    let stop = supervisor.token().clone();
    let feed = feed(views, known.clone(), members_tx, keys_tx);
    supervisor.spawn_transient("gossip members", async move {
        // cancel-safe: both outputs are replaced as a whole.
        stop.run_until_cancelled(feed).await;
    });
    Ok(Some(handle))
}

/// Members and keys as the view has them. A view that goes changes nothing: the gossip ends with the cluster.
async fn feed(
    mut views: watch::Receiver<Option<Arc<NodeView>>>,
    known: Liveness,
    members_tx: watch::Sender<Arc<Members>>,
    keys_tx: watch::Sender<Keys>,
) {
    while views.changed().await.is_ok() {
        let Some(view) = views.borrow_and_update().clone() else { continue };
        members_tx.send_if_modified(|now| {
            let next = members(&view, &known);
            let changed = **now != next;
            if changed {
                *now = Arc::new(next);
            }
            changed
        });
        if let Some(next) = keys(&view.cluster) {
            keys_tx.send_replace(next);
        }
    }
}

/// In words, for `agent status`.
pub fn words(liveness: &Liveness, view: Option<&NodeView>) -> Vec<Peer> {
    use swarmnet_gossip::Condition::{AgentLost, Alive, Dead};
    let states: BTreeMap<_, _> = liveness.iter().map(|(n, s)| (*n, s.condition)).collect();
    let Some(view) = view else { return Vec::new() };
    let others = view.nodes.values().filter(|n| n.id != view.me);
    others
        .map(|node| Peer {
            node: node.id,
            name: node.name.clone(),
            state: match states.get(&node.id) {
                None => "unknown",
                Some(Alive) => "alive",
                Some(AgentLost) => "agent-lost",
                Some(Dead) => "dead",
            }
            .to_owned(),
        })
        .collect()
}

/// The others than `me` in numbers, for `agent status` and metrics.
pub fn count(
    me: Option<NodeId>,
    liveness: &Liveness,
    doubts: &Doubts,
    is_cut_off: bool,
) -> GossipStatus {
    let others = || liveness.iter().filter(|(node, _)| Some(**node) != me);
    let of = |wanted| others().filter(|(_, state)| state.condition == wanted).count();
    let is_lost =
        |node| liveness.get(node).is_some_and(|state| state.condition == Condition::AgentLost);
    GossipStatus {
        alive: of(Condition::Alive),
        agent_lost: of(Condition::AgentLost),
        dead: of(Condition::Dead),
        suspected: doubts.iter().filter(|node| !is_lost(node)).count(),
        cut_off: is_cut_off,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_does_not_count_itself_and_the_lost_are_not_suspected() {
        let nodes = [1, 2, 3, 4].map(|n| NodeId::from_bytes([n; 16]));
        let conditions =
            [Condition::Alive, Condition::Alive, Condition::AgentLost, Condition::Dead];
        let addr = IpAddr::from([192, 0, 2, 1]);
        let state = |condition| NodeState { condition, since_ms: 0, incarnation: 0, addr };
        let liveness = nodes.into_iter().zip(conditions.map(state)).collect();
        let doubts = Doubts::from([nodes[1], nodes[2]]);
        let wanted =
            GossipStatus { alive: 1, agent_lost: 1, dead: 1, suspected: 1, cut_off: false };
        assert_eq!(count(Some(nodes[0]), &liveness, &doubts, false), wanted);
    }
}
