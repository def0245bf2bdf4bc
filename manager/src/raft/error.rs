//! What can go wrong with consensus, as its callers see it.

use std::io;
use std::path::PathBuf;

use super::keyring::KeyringError;
use super::snapshot::SnapshotDamage;
use super::types::Rejection;
pub use super::wal::error::{Damage, WalError};

/// Swarm's own sentence (sw:M14): scripts and people know it.
pub const QUORUM_LOST: &str = "The swarm does not have a leader. It's possible that too few managers are online. \
     Make sure more than half of the managers are online.";

/// Starting, changing or stopping a Raft node failed.
#[derive(Debug, thiserror::Error)]
pub enum RaftError {
    /// The log cannot be used; nothing on disk was changed.
    #[error(transparent)]
    Wal(#[from] WalError),
    /// The keys of log and snapshots cannot be used; nothing was changed.
    #[error(transparent)]
    Keyring(#[from] KeyringError),
    /// A record is intact but does not decode: it was written by a version with other types. Nothing was changed.
    #[error("the log in {} holds an entry this version cannot read: {source}", dir.display())]
    LogEntry {
        dir: PathBuf,
        #[source]
        source: postcard::Error,
    },
    /// A snapshot cannot be used; nothing on disk was changed.
    #[error("{}: {damage}", file.display())]
    Snapshot { file: PathBuf, damage: SnapshotDamage },
    /// The log begins after entries that only a snapshot held. Nothing was changed.
    #[error("no snapshot in {} reaches entry {purged}, after which the log begins", dir.display())]
    SnapshotMissing { dir: PathBuf, purged: u64 },
    /// The operating system refused.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        action: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// The configuration contradicts itself.
    #[error("raft settings: {source}")]
    Config {
        #[source]
        source: Box<openraft::ConfigError>,
    },
    /// [`bootstrap`](super::RaftNode::bootstrap) of a node that is in a cluster already. Nothing was changed.
    #[error("this manager is part of a cluster already")]
    AlreadyBootstrapped,
    /// Another change of the members is under way. Retry.
    #[error("another change of the managers is under way")]
    ChangeInProgress,
    /// The change would leave a voter that was never a learner, or nobody. Nothing was changed.
    #[error("not a possible set of managers: {reason}")]
    Membership { reason: String },
    /// The leader must be asked instead.
    #[error("{}", not_leader(leader.as_ref()))]
    NotLeader { leader: Option<Leader> },
    /// No majority answers. The change may still happen later.
    #[error("{QUORUM_LOST}")]
    QuorumLost,
    /// The node has stopped, and with it the process should.
    #[error("raft stopped: {reason}")]
    Stopped { reason: String },
}

/// What became of a proposal that has no outcome.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ProposeError {
    /// The state refused it, for good; the text is for the user.
    #[error("{0}")]
    Rejected(Rejection),
    /// Not tried: the leader must be asked instead.
    #[error("{}", not_leader(leader.as_ref()))]
    NotLeader { leader: Option<Leader> },
    /// No majority answered in time. It may still be applied later: a retry must carry the same request id.
    #[error("{QUORUM_LOST}")]
    QuorumLost,
    /// The node has stopped. As with [`Self::QuorumLost`], it may have been applied.
    #[error("raft stopped: {reason}")]
    Stopped { reason: String },
}

/// Who leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leader {
    /// The node's index.
    pub node: u64,
    /// Where its managers' API listens: `host:port`.
    pub addr: String,
}

fn not_leader(leader: Option<&Leader>) -> String {
    match leader {
        Some(Leader { node, addr }) => format!("manager {node} at {addr} leads"),
        None => QUORUM_LOST.to_owned(),
    }
}
