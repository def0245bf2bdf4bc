//! One operation at a time on each sandbox.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use swarmnet_types::SandboxId;
use tokio::sync::OwnedMutexGuard;

type Lock = Arc<tokio::sync::Mutex<()>>;

/// Sandbox → its lock, while somebody holds or awaits it.
#[derive(Debug, Default)]
pub(super) struct Locks(Mutex<BTreeMap<SandboxId, Lock>>);

impl Locks {
    /// Waits for its turn.
    pub(super) async fn take(&self, id: SandboxId) -> OwnedMutexGuard<()> {
        let lock = {
            let mut locks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            // Those that nobody holds any more go here, so the map is as small as what is under way.
            locks.retain(|_, lock| Arc::strong_count(lock) > 1);
            Arc::clone(locks.entry(id).or_default())
        };
        lock.lock_owned().await
    }

    /// The sandboxes that something is done to at this moment.
    pub(super) fn held(&self) -> BTreeSet<SandboxId> {
        let locks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let held = locks.iter().filter(|(_, lock)| Arc::strong_count(lock) > 1);
        held.map(|(id, _)| *id).collect()
    }
}
