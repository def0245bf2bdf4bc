//! A running manager as it is looked at from outside, for status and metrics: from memory, without a question to other managers.

use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime};

use swarmnet_manager_core::State;
use swarmnet_types::{NodeId, NodeIndex};

use crate::acks::{Ack, Acks};
use crate::ca;
use crate::raft::{self, RaftNode, RaftStatus};

/// Looks at one manager and does not keep it. Clones look at the same one.
#[derive(Debug, Clone)]
pub struct Observer {
    raft: Weak<RaftNode>,
    acks: Acks,
}

/// A manager at one moment.
#[derive(Debug, Clone)]
pub struct Observed {
    pub raft: RaftStatus,
    /// The leader's name; `None` during an election, and without a majority.
    pub leader: Option<String>,
    pub objects: Objects,
    /// Node → the end of its certificate, as it said.
    pub certificates: Vec<(String, SystemTime)>,
    /// `None`: there is no cluster yet.
    pub ca_ends: Option<SystemTime>,
    /// Of agents, that are open here.
    pub streams: u32,
    /// Those that have one.
    pub agents: Vec<ServedAgent>,
}

/// How many there are in the state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Objects {
    pub nodes: usize,
    pub networks: usize,
    pub services: usize,
    pub endpoints: usize,
}

/// How far behind an agent is that this manager serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServedAgent {
    /// Its name.
    pub node: String,
    /// Revisions between what it was sent last and what it has acknowledged.
    pub lag: u64,
    /// How long an acknowledgement has been waited for.
    pub waiting: Duration,
}

impl Observer {
    pub(crate) fn new(raft: &Arc<RaftNode>, acks: &Acks) -> Self {
        Self { raft: Arc::downgrade(raft), acks: acks.clone() }
    }

    /// `None` once the manager has stopped.
    pub fn look(&self) -> Option<Observed> {
        let node = self.raft.upgrade()?;
        let raft = node.status();
        if raft.role == raft::Role::Stopped {
            return None;
        }
        let rows = self.acks.rows();
        Some(node.state().read(|state| Observed {
            leader: raft.leader.and_then(|leader| name(state, leader)),
            raft,
            objects: Objects {
                nodes: state.nodes().count(),
                networks: state.networks().count(),
                services: state.services().count(),
                endpoints: state.endpoints().count(),
            },
            certificates: certificates(state),
            ca_ends: state.cluster().and_then(ca::ends),
            streams: self.acks.streams(),
            agents: rows.iter().filter_map(|(id, row)| served(state, *id, row)).collect(),
        }))
    }
}

/// Of the manager with this Raft id.
fn name(state: &State, manager: u64) -> Option<String> {
    let index = NodeIndex::new(u32::try_from(manager).ok()?)?;
    state.node_by_index(index).map(|node| node.name.clone())
}

fn certificates(state: &State) -> Vec<(String, SystemTime)> {
    let end = |until_ms| SystemTime::UNIX_EPOCH + Duration::from_millis(until_ms);
    let known = state.nodes().filter_map(|node| Some((node, state.record(node.id)?)));
    known.map(|(node, record)| (node.name.clone(), end(record.tls.until_ms))).collect()
}

fn served(state: &State, id: NodeId, row: &Ack) -> Option<ServedAgent> {
    let node = state.node(id).filter(|_| row.sessions > 0)?;
    Some(ServedAgent {
        node: node.name.clone(),
        lag: row.lag(),
        waiting: row.waiting.map_or(Duration::ZERO, |(_, since)| since.elapsed()),
    })
}
