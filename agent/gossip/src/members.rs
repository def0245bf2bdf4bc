//! The nouns at the border of this crate: who may be a member, and what is known of each.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use swarmnet_types::NodeId;

/// How this node presents itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Local {
    pub node: NodeId,
    /// Where peers reach the socket.
    pub gossip: SocketAddr,
    /// Where peers reach this node's VXLAN, and its kernel by echo.
    pub vtep: IpAddr,
}

/// A node the cluster state knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Where its gossip listens, by the state; an address it gossips itself wins over this one.
    pub gossip: SocketAddr,
    /// Its VTEP address, by the state; likewise.
    pub vtep: IpAddr,
    /// An earlier run of this node's daemon held it for dead, since then (unix ms). Counts only until there is a verdict of this
    /// run: after a restart a node that has long been dead must not come back into the names until it is heard.
    pub dead_since_ms: Option<u64>,
}

/// All nodes of the cluster, this one included or not (it is skipped).
pub type Members = BTreeMap<NodeId, Member>;

/// Where nodes are heard from that are not where the state has them, or that it does not have: holders of the cluster's key, but no more
/// than that is proven. A manager at a new address is found by it.
pub type Sightings = BTreeMap<NodeId, SocketAddr>;

/// What is known of each node. A member that is absent has no verdict yet: treat it as alive.
pub type Liveness = BTreeMap<NodeId, NodeState>;

/// Nodes whose agent is not heard at this moment and that are not dead: suspects, which may yet refute it, and those whose agent is
/// lost.
pub type Doubts = BTreeSet<NodeId>;

/// The verdict on one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeState {
    pub condition: Condition,
    /// Unix time in ms at which the node came into this condition, on this node's clock.
    pub since_ms: u64,
    /// The generation of the agent last heard; 0 when it was never heard. Grows with each start of the agent, and when an
    /// agent must contradict its own death.
    pub incarnation: u64,
    /// The VTEP address: the gossiped one, or the state's when the agent was never heard.
    pub addr: IpAddr,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Condition {
    /// Its agent is heard.
    Alive,
    /// Its agent is silent, its kernel answers: what runs there runs on. Nothing may be evicted.
    AgentLost,
    /// Agent and kernel are silent, or the agent said that it leaves the cluster. Lasts until the agent is heard again: a
    /// kernel that answers after a death may be a reboot, and then nothing of what ran there is left.
    Dead,
}
