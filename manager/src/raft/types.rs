//! openraft's types, pinned once, and what goes into the log.
//!
//! Nothing outside `raft` sees a type of openraft: a change of that crate must not reach the control API or the dispatcher.

use std::io::Cursor;
use std::sync::Arc;

use openraft::BasicNode;
use serde::{Deserialize, Serialize};

pub(super) use swarmnet_manager_core::{Outcome, Proposal, Rejection, State};
use swarmnet_types::Revision;

openraft::declare_raft_types!(
    /// The one instance of openraft. A snapshot travels as the bytes of its file.
    pub(super) TypeConfig:
        D = Batch,
        R = BatchReply,
        NodeId = u64,
        Node = BasicNode,
        Entry = openraft::Entry<TypeConfig>,
        SnapshotData = Cursor<Vec<u8>>,
);

pub(super) type Entry = openraft::Entry<TypeConfig>;
pub(super) type LogId = openraft::LogId<u64>;
pub(super) type Vote = openraft::Vote<u64>;
pub(super) type StorageError = openraft::StorageError<u64>;
pub(super) type StorageIoError = openraft::StorageIOError<u64>;
pub(super) type SnapshotMeta = openraft::SnapshotMeta<u64, BasicNode>;
pub(super) type StoredMembership = openraft::StoredMembership<u64, BasicNode>;
pub(super) type Raft = openraft::Raft<TypeConfig>;
pub(super) type RaftMetrics = openraft::RaftMetrics<u64, BasicNode>;
pub(super) type RaftServerMetrics = openraft::metrics::RaftServerMetrics<u64, BasicNode>;

/// One log entry: proposals that came while the disk was busy with the entry before. Shared, because openraft clones entries for
/// each follower and for `apply`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Batch(pub(super) Arc<Vec<Proposal>>);

/// One verdict per proposal of the batch, in order; empty for entries of Raft itself.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct BatchReply(pub(super) Vec<Verdict>);

/// What became of one proposal: the revision it was applied at, and its outcome; or why the state refused it.
pub(super) type Verdict = Result<(Revision, Outcome), Rejection>;
