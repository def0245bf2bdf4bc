//! What a Raft node tells of itself, in our own types.

use std::collections::BTreeMap;
use std::fmt;

use openraft::{LogIdOptionExt, ServerState};
use swarmnet_types::Revision;

use super::error::Leader;
use super::types::{RaftMetrics, RaftServerMetrics};

/// Who leads, as far as this node knows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Leadership {
    /// Raft's term: grows with every election.
    pub term: u64,
    /// `None` during an election, and without a majority.
    pub leader: Option<Leader>,
    /// This node leads. Only a commit or [`barrier`](super::RaftNode::barrier) proves it.
    pub is_me: bool,
}

/// What a node does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    Learner,
    Follower,
    Candidate,
    Leader,
    /// Raft has stopped.
    Stopped,
}

/// One manager, as the log knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    pub addr: String,
    /// It counts for majorities.
    pub voter: bool,
    /// On the leader: the last log index known to be on that node.
    pub matched: Option<u64>,
    /// On the leader: it answers.
    pub answers: bool,
}

/// A node at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RaftStatus {
    pub me: u64,
    pub term: u64,
    pub role: Role,
    pub leader: Option<u64>,
    pub last_log: u64,
    pub applied: Revision,
    /// Last entry in the newest snapshot.
    pub snapshot: Option<u64>,
    /// Last entry no longer in the log.
    pub purged: Option<u64>,
    /// On the leader: milliseconds since a majority last answered.
    pub quorum_ack_ms: Option<u64>,
    /// Entry of the log that set the members; they are for good once it is applied.
    pub membership: u64,
    /// By Raft id.
    pub members: BTreeMap<u64, Member>,
    /// Why Raft stopped.
    pub fault: Option<String>,
}

// === impl Role ===

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Learner => "learner",
            Self::Follower => "follower",
            Self::Candidate => "candidate",
            Self::Leader => "leader",
            Self::Stopped => "stopped",
        })
    }
}

// === impl RaftStatus ===

impl RaftStatus {
    /// How many members count for majorities.
    pub fn voters(&self) -> usize {
        self.members.values().filter(|member| member.voter).count()
    }

    /// `hears`: who answers this node's messages.
    pub(super) fn new(metrics: &RaftMetrics, hears: impl Fn(u64) -> bool) -> Self {
        let voters: Vec<u64> = metrics.membership_config.voter_ids().collect();
        let matched = |id| {
            let all = metrics.replication.as_ref()?;
            all.get(id)?.as_ref().map(|matched| matched.index)
        };
        let members = metrics.membership_config.nodes().map(|(id, node)| {
            let voter = voters.contains(id);
            let answers = *id == metrics.id || hears(*id);
            (*id, Member { addr: node.addr.clone(), voter, matched: matched(id), answers })
        });
        Self {
            me: metrics.id,
            term: metrics.current_term,
            role: Role::from(metrics.state),
            leader: metrics.current_leader,
            last_log: metrics.last_log_index.unwrap_or(0),
            applied: Revision(metrics.last_applied.index().unwrap_or(0)),
            snapshot: metrics.snapshot.index(),
            purged: metrics.purged.index(),
            quorum_ack_ms: metrics.millis_since_quorum_ack,
            membership: metrics.membership_config.log_id().index().unwrap_or(0),
            members: members.collect(),
            fault: metrics.running_state.as_ref().err().map(ToString::to_string),
        }
    }
}

// === impl Leadership ===

impl Leadership {
    pub(super) fn new(metrics: &RaftServerMetrics) -> Self {
        // openraft goes on naming a leader that has taken itself out of the members.
        let is_me = metrics.state == ServerState::Leader;
        let known = metrics.current_leader.filter(|node| *node != metrics.id || is_me);
        let leader = known.map(|node| Leader {
            node,
            addr: metrics
                .membership_config
                .membership()
                .get_node(&node)
                .map_or_else(String::new, |at| at.addr.clone()),
        });
        Self { term: metrics.vote.leader_id().term, is_me, leader }
    }
}

impl From<ServerState> for Role {
    fn from(state: ServerState) -> Self {
        match state {
            ServerState::Learner => Self::Learner,
            ServerState::Follower => Self::Follower,
            ServerState::Candidate => Self::Candidate,
            ServerState::Leader => Self::Leader,
            ServerState::Shutdown => Self::Stopped,
        }
    }
}
