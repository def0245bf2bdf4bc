//! The folder of Raft as a whole: keys, log and snapshots, opened together.

use super::config::RaftConfig;
use super::disk::AtRest;
use super::error::RaftError;
use super::keyring::Keyring;
use super::snapshot::{Newest, SnapshotDir};
use super::store::LogStore;

/// An open folder.
#[derive(Debug)]
pub(super) struct Folder {
    pub(super) log: LogStore,
    pub(super) snapshots: SnapshotDir,
    pub(super) newest: Option<Newest>,
}

impl Folder {
    /// Opens what is there, and drops the data keys that nothing is sealed with any more. Blocks on the disk.
    ///
    /// # Errors
    /// Of a damaged, newer or locked folder: nothing was changed.
    pub(super) fn open(config: &RaftConfig, keyring: Keyring) -> Result<Self, RaftError> {
        let (dir, at_rest) = (&config.dir, AtRest::new(keyring));
        let log = LogStore::open(&dir.join("log"), config.segment_bytes, config.me, &at_rest)?;
        let (snapshots, newest) = SnapshotDir::open(&dir.join("snapshots"), &at_rest)?;
        let newest_index = newest.as_ref().and_then(|n| n.meta.last_log_id).map(|id| id.index);
        if let Some(purged) = log.purged()
            && newest_index.is_none_or(|newest| newest < purged)
        {
            return Err(RaftError::SnapshotMissing { dir: dir.join("snapshots"), purged });
        }
        let mut used = log.keys().clone();
        used.extend(newest.as_ref().map(|newest| newest.key));
        at_rest.keyring.retain(&used)?;
        Ok(Self { log, snapshots, newest })
    }
}
