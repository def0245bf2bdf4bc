//! What a session with one node sends next, from what it sent last and the state as this manager has it.
//!
//! A manager may be behind what a node has from another one: it was away, or it is cut off. Such a node is sent nothing: what this
//! manager would call its view is the past, and the node would take down what exists.

use swarmnet_types::{NodeId, NodeView, Revision, ViewDelta};

use crate::rejection::Rejection;
use crate::state::State;

/// How far a session may lag behind without a word because nothing concerned its node: well within the change log of the state.
const LAG_MAX: u64 = 1_000;

/// One session's place in the history.
#[derive(Debug, Clone)]
pub struct Push {
    node: NodeId,
    /// What the node has, or will have when it has read all that was sent. 0: nothing.
    sent: Revision,
    /// Nothing between `sent` and here concerned the node: it need not be looked at again.
    looked: Revision,
}

/// The next message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pushed {
    Snapshot(NodeView),
    Delta(ViewDelta),
}

/// The session cannot go on here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoPush {
    /// For good.
    #[error("this node was removed from the cluster")]
    Removed,
    /// Another manager, or this one later: a node that joined a moment ago.
    #[error("this manager does not know this node yet")]
    Unknown,
    /// Another manager, or this one later.
    #[error(
        "this manager is at revision {revision} and has to catch up with revision {have}, which the node has"
    )]
    Behind { have: Revision, revision: Revision },
    #[error(transparent)]
    State(#[from] Rejection),
}

impl Push {
    /// A session with a node that has this revision; 0 when it has no view, or one that does not fit any more.
    pub fn resume(node: NodeId, have: Revision) -> Self {
        Self { node, sent: have, looked: have }
    }

    /// What is new for the node, if anything is: the difference where it is known, else the whole view.
    ///
    /// # Errors
    /// [`NoPush`]; nothing is to be sent then.
    pub fn next(&mut self, state: &State) -> Result<Option<Pushed>, NoPush> {
        let (have, revision) = (self.sent, state.revision());
        if have > revision {
            return Err(NoPush::Behind { have, revision });
        }
        if state.node(self.node).is_none() {
            state.initialised()?;
            let removed = state.is_revoked(self.node);
            return Err(if removed { NoPush::Removed } else { NoPush::Unknown });
        }
        let delta = if have.0 == 0 { None } else { state.delta(self.node, self.looked) };
        self.looked = revision;
        let pushed = match delta {
            None => Pushed::Snapshot(state.node_view(self.node)?),
            Some(delta) if delta.changes.is_empty() && revision.0 - have.0 < LAG_MAX => {
                return Ok(None);
            }
            Some(delta) => Pushed::Delta(ViewDelta { applies_to: have, ..delta }),
        };
        self.sent = revision;
        Ok(Some(pushed))
    }
}
