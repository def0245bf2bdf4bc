//! The one writer of [`LocalObjects`]: a change is decided under the lock, written to the disk, then published.
//!
//! Inputs: closures that change a copy. Outputs: a `watch` of snapshots, one file for each network and sandbox. Invariants: what
//! is published is on the disk; a closure that fails, or a disk that does, changes nothing that anybody sees; host and none
//! always exist.

use std::sync::Arc;

use swarmnet_types::{Network, SandboxId};
use tokio::sync::{Mutex, watch};

use super::addresses::AddrCursors;
use super::error::LocalError;
use super::files::{self, Format};
use super::objects::{LocalObjects, SandboxRecord};
use crate::paths::Paths;

const NETWORK: Format = Format { name: "swarmnet-network", version: 1 };
const SANDBOX: Format = Format { name: "swarmnet-sandbox", version: 1 };

/// Where allocation goes on. Not persisted: after a restart the lowest free value comes first.
#[derive(Debug, Clone, Default)]
pub struct Cursors {
    pub addrs: AddrCursors,
    /// Host port chosen last.
    pub port: u16,
}

/// What a change may look at and write: the next state of the objects, and the cursors.
#[derive(Debug)]
pub struct Draft {
    pub objects: LocalObjects,
    pub cursors: Cursors,
}

/// See the module.
#[derive(Debug)]
pub struct LocalStore {
    paths: Paths,
    /// The writer's own; held over the disk.
    writer: Arc<Mutex<Cursors>>,
    published: Arc<watch::Sender<Arc<LocalObjects>>>,
}

impl LocalStore {
    /// Reads what the disk holds. Blocks.
    ///
    /// # Errors
    /// A file that is damaged or newer, with its name; nothing is changed then.
    pub fn open(paths: &Paths) -> Result<Self, LocalError> {
        let mut objects = LocalObjects::default();
        for path in files::list(&paths.networks())? {
            if path.extension().is_some_and(|e| e == "json")
                && let Some(network) = files::read::<Network>(&path, NETWORK)?
            {
                objects.networks.insert(network.id, Arc::new(network));
            }
        }
        for dir in files::list(&paths.sandboxes())? {
            let path = crate::paths::SandboxPaths::at(dir).record();
            if let Some(record) = files::read::<SandboxRecord>(&path, SANDBOX)? {
                objects.sandboxes.insert(record.id, Arc::new(record));
            }
        }
        Ok(Self {
            paths: paths.clone(),
            writer: Arc::new(Mutex::new(Cursors::default())),
            published: Arc::new(watch::Sender::new(Arc::new(objects))),
        })
    }

    pub fn subscribe(&self) -> watch::Receiver<Arc<LocalObjects>> {
        self.published.subscribe()
    }

    pub fn current(&self) -> Arc<LocalObjects> {
        Arc::clone(&self.published.borrow())
    }

    /// # Errors
    /// [`LocalError::NoSandbox`].
    pub fn sandbox(&self, id: SandboxId) -> Result<Arc<SandboxRecord>, LocalError> {
        let found = self.published.borrow().sandboxes.get(&id).cloned();
        found.ok_or_else(|| LocalError::NoSandbox { text: id.short() })
    }

    /// Makes one change and returns what the closure returned, with the generation that holds it.
    ///
    /// # Errors
    /// The closure's own, or the disk's; nothing is published then.
    pub async fn change<T>(
        &self,
        decide: impl FnOnce(&mut Draft) -> Result<T, LocalError>,
    ) -> Result<(T, u64), LocalError> {
        let mut writer = Arc::clone(&self.writer).lock_owned().await;
        let old = self.current();
        let mut draft = Draft { objects: (*old).clone(), cursors: writer.clone() };
        let answer = decide(&mut draft)?;
        draft.objects.generation = old.generation + 1;
        let generation = draft.objects.generation;
        let (paths, published) = (self.paths.clone(), Arc::clone(&self.published));
        // The disk's calls block, so they run on a thread for such; and there they run to their end, with what follows from them,
        // also when the caller goes away meanwhile.
        let commit = move || {
            let new = Arc::new(draft.objects);
            write_changes(&paths, &old, &new)?;
            *writer = draft.cursors;
            published.send_replace(new);
            Ok(())
        };
        tokio::task::spawn_blocking(commit).await.unwrap_or(Err(LocalError::Stopping))?;
        Ok((answer, generation))
    }

    /// Changes one sandbox.
    ///
    /// # Errors
    /// [`LocalError::NoSandbox`], the closure's, or the disk's.
    pub async fn change_sandbox<T>(
        &self,
        id: SandboxId,
        decide: impl FnOnce(&mut SandboxRecord) -> Result<T, LocalError>,
    ) -> Result<(T, u64), LocalError> {
        self.change(|draft| {
            let record = draft.objects.sandboxes.get_mut(&id);
            let record = record.ok_or_else(|| LocalError::NoSandbox { text: id.short() })?;
            decide(Arc::make_mut(record))
        })
        .await
    }
}

fn write_changes(paths: &Paths, old: &LocalObjects, new: &LocalObjects) -> Result<(), LocalError> {
    for (id, network) in &new.networks {
        if old.networks.get(id).is_none_or(|o| !Arc::ptr_eq(o, network)) {
            files::write(&paths.network(*id), NETWORK, network)?;
        }
    }
    for (id, record) in &new.sandboxes {
        if old.sandboxes.get(id).is_none_or(|o| !Arc::ptr_eq(o, record)) {
            files::write(&paths.sandbox(*id).record(), SANDBOX, record)?;
        }
    }
    for id in old.networks.keys().filter(|id| !new.networks.contains_key(id)) {
        files::remove(&paths.network(*id))?;
    }
    for id in old.sandboxes.keys().filter(|id| !new.sandboxes.contains_key(id)) {
        files::remove_dir(paths.sandbox(*id).dir())?;
    }
    Ok(())
}
