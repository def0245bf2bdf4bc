//! Keeps this manager's keys under the lock that the cluster has.
//!
//! Input: the applied state. Outputs: the key file and `node.key`, under the present lock; a fresh data key for log and snapshots with
//! each change; the version of the lock that they are under. A manager that was away finds a newer lock in the state when it has
//! caught up, and follows.
//!
//! The key file goes first: when a crash comes between the two, it opens whatever form `node.key` has, and the next start goes on here.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use swarmnet_manager_core::{ManagerLock, State};
use swarmnet_pki::{PkiError, TlsStore, UnlockKey};
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::raft::{Keyring, KeyringError, Lock, RaftError, RaftNode};

/// A full disk may have room again.
const RETRY: Duration = Duration::from_secs(1);

/// The lock was not followed yet.
#[derive(Debug, thiserror::Error)]
enum LockError {
    #[error(transparent)]
    Keyring(#[from] KeyringError),
    #[error(transparent)]
    NodeKey(#[from] PkiError),
    #[error(transparent)]
    Raft(#[from] RaftError),
    #[error("the unlock key in the state has another length than 32 bytes")]
    Length,
}

/// What is still to be done after the key file.
struct Due {
    node_key: bool,
    reseal: bool,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct LockKeeper {
    raft: Arc<RaftNode>,
    keyring: Keyring,
    tls: TlsStore,
    certs: PathBuf,
    followed: watch::Sender<u64>,
}

/// The unlock key that the state holds.
pub(crate) fn unlock_key(lock: &ManagerLock) -> Option<UnlockKey> {
    let bytes = lock.key.as_ref()?.expose().try_into().ok()?;
    Some(UnlockKey::from_bytes(bytes))
}

fn version(state: &State) -> u64 {
    state.cluster().map_or(0, |cluster| cluster.lock.version)
}

impl LockKeeper {
    /// With the version of the lock that the keys are under.
    pub(crate) fn new(
        raft: Arc<RaftNode>,
        keyring: Keyring,
        tls: TlsStore,
        certs: PathBuf,
    ) -> (Self, watch::Receiver<u64>) {
        let (followed, receiver) = watch::channel(keyring.lock().version);
        (Self { raft, keyring, tls, certs, followed }, receiver)
    }

    pub(crate) async fn run(self, stop: CancellationToken) {
        // cancel-safe: files are replaced whole, and the next start looks again.
        stop.run_until_cancelled(self.keep()).await;
    }

    async fn keep(&self) {
        let mut applied = self.raft.state().applied();
        // A crash may have come between the two files.
        let mut due = Due { node_key: true, reseal: false };
        loop {
            applied.mark_unchanged();
            if let Err(err) = self.follow(&mut due).await {
                tracing::error!(%err, "the keys of this manager are not under the cluster's lock yet");
                sleep(RETRY).await;
                continue;
            }
            if applied.changed().await.is_err() {
                // Raft has stopped, and with it the process will.
                return;
            }
        }
    }

    async fn follow(&self, due: &mut Due) -> Result<(), LockError> {
        if self.raft.state().read(version) > self.keyring.lock().version {
            self.set_lock().await?;
            *due = Due { node_key: true, reseal: true };
        }
        if due.node_key {
            self.protect_node_key().await?;
            due.node_key = false;
        }
        if due.reseal {
            self.raft.reseal().await?;
            due.reseal = false;
            let version = self.keyring.lock().version;
            self.followed.send_replace(version);
            tracing::info!(
                version,
                "the keys of this manager are under the cluster's present lock"
            );
        }
        Ok(())
    }

    async fn set_lock(&self) -> Result<(), LockError> {
        let lock = self.raft.state().read(|s| s.cluster().map(|c| c.lock.clone()));
        let lock = lock.unwrap_or_default();
        let key = unlock_key(&lock);
        if lock.key.is_some() != key.is_some() {
            return Err(LockError::Length);
        }
        let (keyring, version) = (self.keyring.clone(), lock.version);
        blocking(move || keyring.set_lock(Lock { version, key })).await
    }

    async fn protect_node_key(&self) -> Result<(), LockError> {
        let (keyring, certs) = (self.keyring.clone(), self.certs.clone());
        let identity = self.tls.identity();
        blocking(move || {
            let seal = keyring.lock().key.map(|_| keyring.node_key());
            identity.key().protect(&certs, seal.as_ref())
        })
        .await
    }
}

/// Work on the disk, off the workers of the runtime.
async fn blocking<E: Send + 'static>(
    work: impl FnOnce() -> Result<(), E> + Send + 'static,
) -> Result<(), LockError>
where
    LockError: From<E>,
{
    match spawn_blocking(work).await {
        Ok(done) => Ok(done?),
        Err(err) => Err(RaftError::Stopped { reason: err.to_string() }.into()),
    }
}
