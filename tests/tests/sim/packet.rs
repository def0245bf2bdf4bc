//! What travels between the processes of the simulation, and where to.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use swarmnet_manager_core::{Command, Outcome, Proposal, Pushed, Rejection};
use swarmnet_types::{Network, NodeId, Revision, SandboxId};

use crate::raft;

/// A process, by the machine it runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Place {
    Manager(usize),
    Agent(usize),
    /// A user with the command line, on the machine; it outlives the daemons.
    Operator(usize),
}

impl Place {
    pub(crate) fn machine(self) -> usize {
        let (Self::Manager(at) | Self::Agent(at) | Self::Operator(at)) = self;
        at
    }
}

pub(crate) type CallId = u64;
/// One stream between an agent and a manager.
pub(crate) type StreamId = u64;

/// A verdict of the state.
pub(crate) type Verdict = Result<(Revision, Outcome), Rejection>;

#[derive(Debug, Clone)]
pub(crate) enum Reply {
    Done {
        revision: Revision,
        outcome: Outcome,
        networks: Vec<Network>,
    },
    Refused(Rejection),
    /// No leader, or none in time.
    Unavailable,
}

#[derive(Debug, Clone)]
pub(crate) enum Packet {
    Raft(raft::Message),
    /// From a client to any manager; `attempt` comes back in the reply.
    Call {
        call: CallId,
        attempt: u32,
        command: Command,
        request: [u8; 16],
    },
    Answer {
        call: CallId,
        attempt: u32,
        reply: Reply,
    },
    /// From a manager to the leader.
    Forward {
        write: u64,
        proposal: Arc<Proposal>,
    },
    Forwarded {
        write: u64,
        verdict: Option<Verdict>,
    },
    Stream {
        id: StreamId,
        word: Word,
    },
    Gossip {
        sender: NodeId,
        data: Bytes,
    },
}

/// On a stream between an agent and its manager.
#[derive(Debug, Clone)]
pub(crate) enum Word {
    /// The list is of an earlier protocol: only one of the bugs looks at it.
    Hello {
        have: Revision,
        sandboxes: BTreeSet<SandboxId>,
    },
    Ack {
        revision: Revision,
    },
    AgentBeat,
    Push(Box<Pushed>),
    ManagerBeat,
    /// The manager ends the session.
    End,
}

#[derive(Debug, Clone)]
pub(crate) struct Envelope {
    pub(crate) from: Place,
    pub(crate) to: Place,
    pub(crate) packet: Packet,
}
