//! A backup: the whole state in one file, for a cluster that has to be made anew.
//!
//! File: an envelope (`swarmnet_pki::sealed`, "SNETBAK\n") around what travels to followers as a snapshot (`snapshot.rs`), with its own
//! version and checksum. It holds the keys of the CA. A cluster that locks its managers locks its backups with the same key: a
//! backup is then worth nothing without it; else whoever can read the file can be a manager.

use swarmnet_pki::sealed::{self, Kind, Sealed, UnlockError};
use swarmnet_pki::{InvalidUnlockKey, PkiError, UnlockKey};

use super::recast::Remains;
use super::snapshot::{self, SnapshotDamage};

const KIND: Kind = Kind { magic: b"SNETBAK\n", name: "backup", version: 1 };

/// Why a backup is refused.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    #[error(transparent)]
    Damaged(#[from] SnapshotDamage),
    /// Another try may follow at once.
    #[error("the backup is locked: the unlock key that the cluster had then is needed")]
    Locked,
    #[error(transparent)]
    WrongKey(#[from] InvalidUnlockKey),
}

/// The bytes of a backup file; `state` as [`StateHandle::encoded`](super::StateHandle::encoded) gives it.
///
/// # Errors
/// [`PkiError::Random`].
pub fn write(state: &[u8], lock: Option<&UnlockKey>) -> Result<Vec<u8>, PkiError> {
    sealed::lock(KIND, lock, state)
}

/// Whether it takes the operator's key to read the file.
///
/// # Errors
/// [`BackupError::Damaged`].
pub fn is_locked(file: &[u8]) -> Result<bool, BackupError> {
    let sealed = Sealed::parse(KIND, file).map_err(SnapshotDamage::from)?;
    Ok(sealed.key().is_some())
}

/// The state in a backup file.
///
/// # Errors
/// See [`BackupError`].
pub fn read(file: &[u8], key: Option<&UnlockKey>) -> Result<Remains, BackupError> {
    let content = match sealed::unlock(KIND, key, file) {
        Ok((content, _)) => content,
        Err(UnlockError::NoKey) => return Err(BackupError::Locked),
        Err(UnlockError::WrongKey(wrong)) => return Err(wrong.into()),
        Err(UnlockError::Damaged(damage)) => return Err(SnapshotDamage::from(damage).into()),
    };
    let (meta, state) = snapshot::decode(&content)?;
    Ok(Remains::of(&meta, state))
}
