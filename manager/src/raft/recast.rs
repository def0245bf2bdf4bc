//! A Raft group of one, made from what an old one left: from this manager's own folder, or from a backup.
//!
//! [`Remains`] is the state with its place in the log. The new group goes on far behind that place, in a higher term: nodes may have
//! seen revisions that were lost with the old managers, and never go back.
//!
//! Making the group is one snapshot, written as all are: after a crash the folder holds the old group or the new one. openraft drops
//! the log that the snapshot has overtaken when it starts.

use std::collections::{BTreeMap, BTreeSet};

use openraft::storage::RaftLogStorage;
use openraft::{BasicNode, CommittedLeaderId, EntryPayload, Membership};
use swarmnet_manager_core::State;
use swarmnet_types::Revision;

use super::config::RaftConfig;
use super::error::RaftError;
use super::folder::Folder;
use super::keyring::Keyring;
use super::snapshot;
use super::types::{LogId, SnapshotMeta, StoredMembership, Vote};

/// More than an old group can have written since a backup was made: 2^32 entries are years at full speed.
const REVISION_GAP: u64 = 1 << 32;

/// What is left of a group.
#[derive(Debug, Clone)]
pub struct Remains {
    pub state: State,
    pub(super) index: u64,
    pub(super) term: u64,
}

// === impl Remains ===

impl Remains {
    pub(super) fn of(meta: &SnapshotMeta, state: State) -> Self {
        let (index, term) = meta.last_log_id.map_or((0, 0), |id| (id.index, id.leader_id.term));
        Self { state, index, term }
    }

    /// Everything in this manager's folder, entries included of which it did not hear that they are committed: each may have been
    /// acknowledged. Blocks on the disk.
    ///
    /// # Errors
    /// Of a damaged, newer or locked folder: nothing was changed.
    pub async fn read(config: &RaftConfig, keyring: &Keyring) -> Result<Self, RaftError> {
        let Folder { mut log, newest, .. } = Folder::open(config, keyring.clone())?;
        let vote = log.read_vote().await.map_err(|err| stopped(&err))?;
        let mut remains = newest
            .map_or(Self { state: State::default(), index: 0, term: 0 }, |newest| {
                Self::of(&newest.meta, newest.state)
            });
        let entries = log.entries_since(remains.index + 1);
        log.close();
        for entry in entries {
            if entry.log_id.index != remains.index + 1 {
                let reason = format!("the log has no entry {}", remains.index + 1);
                return Err(RaftError::Stopped { reason });
            }
            remains.index = entry.log_id.index;
            remains.term = entry.log_id.leader_id.term;
            if let EntryPayload::Normal(batch) = entry.payload {
                for proposal in batch.0.iter() {
                    // A refusal has its place in the log, too.
                    drop(remains.state.apply(Revision(remains.index), proposal));
                }
            }
        }
        remains.term = remains.term.max(vote.map_or(0, |vote| vote.leader_id().term));
        Ok(remains)
    }

    /// The revision at which the new group begins: what is applied to `state` before [`Self::found`] is to have it.
    pub fn revision(&self) -> Revision {
        Revision(self.index + REVISION_GAP)
    }

    /// Makes the folder that of a group with this one manager, at `addr`. Blocks on the disk.
    ///
    /// # Errors
    /// As [`Self::read`]; and of a disk that cannot be written: the folder is as before then.
    pub async fn found(
        self,
        config: &RaftConfig,
        keyring: &Keyring,
        addr: String,
    ) -> Result<(), RaftError> {
        let Folder { mut log, snapshots, .. } = Folder::open(config, keyring.clone())?;
        let (me, term, index) = (config.me, self.term + 1, self.revision().0);
        log.save_vote(&Vote::new(term, me)).await.map_err(|err| stopped(&err))?;
        let last = LogId::new(CommittedLeaderId::new(term, me), index);
        let nodes = BTreeMap::from([(me, BasicNode { addr })]);
        let membership = Membership::new(vec![BTreeSet::from([me])], nodes);
        let meta = SnapshotMeta {
            last_log_id: Some(last),
            last_membership: StoredMembership::new(Some(last), membership),
            snapshot_id: format!("{last}-recast"),
        };
        let saved = snapshot::encode(&meta, &self.state)
            .map_err(std::io::Error::other)
            .and_then(|bytes| snapshots.save(&meta, &bytes));
        log.close();
        saved.map_err(|source| RaftError::Io {
            action: "write a snapshot in",
            path: config.dir.clone(),
            source,
        })
    }
}

fn stopped(err: &dyn std::error::Error) -> RaftError {
    RaftError::Stopped { reason: err.to_string() }
}
