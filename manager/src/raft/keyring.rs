//! The keys that this manager's disk is sealed with: one file, plain or locked with the operator's key.
//!
//! File: `keys` in the folder of Raft (mode 0600; `swarmnet_pki::sealed`). Content (postcard): the data keys by number, which of them
//! seals now, the key that seals the node's TLS key while the cluster is locked, and which of the cluster's locks this is. Log
//! segments and snapshots carry the number of their key, so that old ones stay readable after a change; a key that nothing carries any
//! more is dropped at the next start.
//!
//! Each manager draws its own keys: they never travel. Invariants: a key is on disk before anything is sealed with it; the file is
//! replaced whole; beside a log no new keys are made, for they could not read it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use swarmnet_pki::sealed::{self, Kind, SealedError, UnlockError};
use swarmnet_pki::{InvalidUnlockKey, PkiError, SecretKey, UnlockKey};

const KIND: Kind = Kind { magic: b"SNETKEY\n", name: "key file", version: 1 };
const FILE: &str = "keys";
const MODE: u32 = 0o600;

/// The keys cannot be used. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum KeyringError {
    /// The operator's key is needed.
    #[error("{} is locked", file.display())]
    Locked { file: PathBuf },
    #[error(transparent)]
    WrongKey(#[from] InvalidUnlockKey),
    /// There is a log that the lost keys sealed: restore a backup, or leave and join again.
    #[error("{} is missing: without it nothing beside it can be read", file.display())]
    Missing { file: PathBuf },
    #[error("{}: {source}", file.display())]
    Damaged {
        file: PathBuf,
        #[source]
        source: SealedError,
    },
    #[error("{} does not decode: {source}", file.display())]
    Decode {
        file: PathBuf,
        #[source]
        source: postcard::Error,
    },
    #[error("cannot {action} {}: {source}", file.display())]
    Io {
        action: &'static str,
        file: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error(transparent)]
    Random(#[from] PkiError),
}

/// Which lock of the cluster a manager's keys are under.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Lock {
    /// Counts the changes of the cluster's lock; a greater one replaces a smaller one.
    pub version: u64,
    /// `None`: the keys lie open on the disk.
    pub key: Option<UnlockKey>,
}

#[derive(Clone, Serialize, Deserialize)]
struct Keys {
    /// Number → key. Never empty.
    data: BTreeMap<u32, [u8; 32]>,
    /// What is new is sealed with this one.
    current: u32,
    node: [u8; 32],
    lock_version: u64,
}

struct Held {
    keys: Keys,
    unlock: Option<UnlockKey>,
}

/// See the module. Clones share it.
#[derive(Clone)]
pub struct Keyring(Arc<Inner>);

struct Inner {
    file: PathBuf,
    held: Mutex<Held>,
}

// === impl Keyring ===

impl Keyring {
    /// The keys of the folder of Raft; made when the folder holds nothing yet. Blocks on the disk.
    ///
    /// # Errors
    /// See [`KeyringError`]: [`KeyringError::Locked`] without the operator's key, where it is needed.
    pub fn open(dir: &Path, unlock: Option<&UnlockKey>) -> Result<Self, KeyringError> {
        let file = dir.join(FILE);
        let bytes = match fs::read(&file) {
            Ok(bytes) => bytes,
            Err(err) if err.kind() == io::ErrorKind::NotFound => return Self::create(dir, file),
            Err(source) => return Err(KeyringError::Io { action: "read", file, source }),
        };
        let (content, unlock) = match sealed::unlock(KIND, unlock, &bytes) {
            Ok(opened) => opened,
            Err(UnlockError::NoKey) => return Err(KeyringError::Locked { file }),
            Err(UnlockError::WrongKey(wrong)) => return Err(wrong.into()),
            Err(UnlockError::Damaged(source)) => {
                return Err(KeyringError::Damaged { file, source });
            }
        };
        let keys: Keys = postcard::from_bytes(&content)
            .map_err(|source| KeyringError::Decode { file: file.clone(), source })?;
        if !keys.data.contains_key(&keys.current) {
            let source = postcard::Error::DeserializeBadEncoding;
            return Err(KeyringError::Decode { file, source });
        }
        Ok(Self::of(file, Held { keys, unlock: unlock.cloned() }))
    }

    fn create(dir: &Path, file: PathBuf) -> Result<Self, KeyringError> {
        let holds = |name: &str| {
            fs::read_dir(dir.join(name)).is_ok_and(|mut entries| entries.next().is_some())
        };
        if holds("log") || holds("snapshots") {
            return Err(KeyringError::Missing { file });
        }
        let first = *SecretKey::generate()?.expose();
        let node = *SecretKey::generate()?.expose();
        let keys = Keys { data: [(1, first)].into(), current: 1, node, lock_version: 0 };
        let held = Held { keys, unlock: None };
        write(&file, &held)?;
        Ok(Self::of(file, held))
    }

    fn of(file: PathBuf, held: Held) -> Self {
        Self(Arc::new(Inner { file, held: Mutex::new(held) }))
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.0.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn file(&self) -> &Path {
        &self.0.file
    }

    /// Number and key for what is written from now on.
    pub(super) fn current(&self) -> (u32, SecretKey) {
        let keys = &self.held().keys;
        (keys.current, SecretKey::from_bytes(keys.data[&keys.current]))
    }

    pub(super) fn get(&self, number: u32) -> Option<SecretKey> {
        self.held().keys.data.get(&number).copied().map(SecretKey::from_bytes)
    }

    /// Seals the node's TLS key while the cluster is locked.
    pub fn node_key(&self) -> SecretKey {
        SecretKey::from_bytes(self.held().keys.node)
    }

    /// The lock these keys are under.
    pub fn lock(&self) -> Lock {
        let held = self.held();
        Lock { version: held.keys.lock_version, key: held.unlock.clone() }
    }

    /// Puts the keys under another lock, and draws a new data key: what the old lock's holder can read ends here. Blocks on the disk.
    ///
    /// # Errors
    /// The old lock and the old keys stay in use then.
    pub fn set_lock(&self, lock: Lock) -> Result<(), KeyringError> {
        let fresh = *SecretKey::generate()?.expose();
        let mut held = self.held();
        let mut keys = held.keys.clone();
        keys.current = keys.data.keys().max().map_or(1, |last| last + 1);
        keys.data.insert(keys.current, fresh);
        keys.lock_version = lock.version;
        let next = Held { keys, unlock: lock.key };
        write(&self.0.file, &next)?;
        *held = next;
        Ok(())
    }

    /// Drops the keys that nothing is sealed with any more. Blocks on the disk.
    pub(super) fn retain(&self, used: &BTreeSet<u32>) -> Result<(), KeyringError> {
        let mut held = self.held();
        let mut keys = held.keys.clone();
        keys.data.retain(|number, _| *number == keys.current || used.contains(number));
        if keys.data.len() == held.keys.data.len() {
            return Ok(());
        }
        let next = Held { keys, unlock: held.unlock.clone() };
        write(&self.0.file, &next)?;
        *held = next;
        Ok(())
    }
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keyring").field("file", &self.0.file).finish_non_exhaustive()
    }
}

fn write(file: &Path, held: &Held) -> Result<(), KeyringError> {
    let content = postcard::to_stdvec(&held.keys)
        .map_err(|source| KeyringError::Decode { file: file.to_owned(), source })?;
    let bytes = sealed::lock(KIND, held.unlock.as_ref(), &content)?;
    let dir = file.parent().expect("it is a name in a folder");
    let made = fs::create_dir_all(dir);
    made.and_then(|()| swarmnet_pki::replace(file, &bytes, MODE))
        .map_err(|source| KeyringError::Io { action: "write", file: file.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use tempfile::TempDir;

    use super::*;

    fn lock(version: u64, key: &UnlockKey) -> Lock {
        Lock { version, key: Some(key.clone()) }
    }

    #[test]
    fn keys_are_the_same_after_reopening_and_private() {
        let dir = TempDir::new().unwrap();
        let first = Keyring::open(dir.path(), None).unwrap();
        let again = Keyring::open(dir.path(), None).unwrap();
        assert_eq!(first.current(), again.current());
        assert_eq!(first.node_key(), again.node_key());
        let mode = fs::metadata(first.file()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_locked_ring_opens_with_the_last_key_only_as_often_as_one_tries() {
        let dir = TempDir::new().unwrap();
        let ring = Keyring::open(dir.path(), None).unwrap();
        let plain = fs::read(ring.file()).unwrap();
        let (old, new) = (UnlockKey::generate().unwrap(), UnlockKey::generate().unwrap());
        let before = ring.current();
        ring.set_lock(lock(1, &old)).unwrap();
        assert_ne!(ring.current(), before, "what is new is not sealed with a key that lay open");
        assert_eq!(ring.get(before.0), Some(before.1.clone()), "what is old stays readable");
        ring.set_lock(lock(2, &new)).unwrap();
        let file = fs::read(ring.file()).unwrap();
        let secret = before.1.expose();
        assert!(plain.windows(32).any(|w| w == secret) && !file.windows(32).any(|w| w == secret));
        assert!(matches!(Keyring::open(dir.path(), None), Err(KeyringError::Locked { .. })));
        for _ in 0..20 {
            let err = Keyring::open(dir.path(), Some(&old)).unwrap_err();
            assert_eq!(err.to_string(), "swarm could not be unlocked: invalid key provided");
        }
        let opened = Keyring::open(dir.path(), Some(&new)).unwrap();
        assert_eq!(opened.current(), ring.current());
        assert_eq!(opened.lock(), lock(2, &new));
        opened.set_lock(Lock { version: 3, key: None }).unwrap();
        Keyring::open(dir.path(), None).unwrap();
    }

    #[test]
    fn keys_that_are_not_used_go() {
        let dir = TempDir::new().unwrap();
        let ring = Keyring::open(dir.path(), None).unwrap();
        for version in 1..=3 {
            ring.set_lock(Lock { version, key: None }).unwrap();
        }
        ring.retain(&[2].into()).unwrap();
        let again = Keyring::open(dir.path(), None).unwrap();
        let there: Vec<_> = (1..=4).filter(|number| again.get(*number).is_some()).collect();
        assert_eq!(there, [2, 4], "what is used, and what seals now");
    }

    #[test]
    fn damage_is_named_and_no_key_is_made_beside_a_log() {
        let dir = TempDir::new().unwrap();
        let ring = Keyring::open(dir.path(), None).unwrap();
        let whole = fs::read(ring.file()).unwrap();
        for at in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[at] ^= 0x10;
            fs::write(ring.file(), &damaged).unwrap();
            let err = Keyring::open(dir.path(), None).unwrap_err();
            assert!(matches!(&err, KeyringError::Damaged { file, .. } if file == ring.file()));
            assert_eq!(fs::read(ring.file()).unwrap(), damaged);
        }
        fs::create_dir(dir.path().join("log")).unwrap();
        fs::write(dir.path().join("log/0000000000000001.wal"), b"log").unwrap();
        fs::remove_file(ring.file()).unwrap();
        let err = Keyring::open(dir.path(), None).unwrap_err();
        assert!(matches!(err, KeyringError::Missing { .. }), "{err}");
        assert!(!ring.file().exists());
    }
}
