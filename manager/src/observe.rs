//! A running manager as it is looked at from outside, for status and metrics: from memory, without a question to other managers.

use std::sync::{Arc, Weak};

use swarmnet_types::NodeIndex;

use crate::raft::{self, RaftNode, RaftStatus};

/// Looks at one manager and does not keep it. Clones look at the same one.
#[derive(Debug, Clone)]
pub struct Observer {
    raft: Weak<RaftNode>,
}

/// A manager at one moment.
#[derive(Debug, Clone)]
pub struct Observed {
    pub raft: RaftStatus,
    /// The leader's name; `None` during an election, and without a majority.
    pub leader: Option<String>,
}

impl Observer {
    pub(crate) fn new(raft: &Arc<RaftNode>) -> Self {
        Self { raft: Arc::downgrade(raft) }
    }

    /// `None` once the manager has stopped.
    pub fn look(&self) -> Option<Observed> {
        let node = self.raft.upgrade()?;
        let raft = node.status();
        if raft.role == raft::Role::Stopped {
            return None;
        }
        let index = raft.leader.and_then(|leader| NodeIndex::new(u32::try_from(leader).ok()?));
        let name = |index| node.state().read(|s| s.node_by_index(index).map(|n| n.name.clone()));
        let leader = index.and_then(name);
        Some(Observed { raft, leader })
    }
}
