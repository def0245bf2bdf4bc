//! The replicated state, openraft's way into it, and everybody else's way to look at it.
//!
//! Inputs: committed entries in order, snapshots of the leader. Outputs: a verdict per proposal, [`StateHandle`] for readers, one
//! call of the [`ApplyHook`] after each change, snapshots on disk.
//!
//! Invariants: the state changes here and nowhere else, under one write lock per entry, so a reader never sees half a batch; the hook
//! has returned before the new revision is announced; an entry is applied only when this node's disk has it. The state machine has no file of its own: it is the last snapshot plus the log.

use std::fmt;
use std::io::{self, Cursor};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use openraft::storage::RaftStateMachine;
use openraft::{EntryPayload, OptionalSend, RaftSnapshotBuilder, RaftTypeConfig};
use swarmnet_types::Revision;
use tokio::sync::watch;
use tokio::task::spawn_blocking;

use super::snapshot::{self, Newest, SnapshotDir};
use super::types::{
    BatchReply, Entry, LogId, SnapshotMeta, State, StorageError, StorageIoError, StoredMembership,
    TypeConfig,
};
use super::unflushed::Unflushed;

type Snapshot = openraft::Snapshot<TypeConfig>;

/// How the state came to its revision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Applied {
    /// By the commands of one log entry: only what they touched is new.
    Entry { revision: Revision },
    /// By a whole snapshot of the leader: anything may be new.
    Snapshot { revision: Revision },
}

/// Called after each change, before the next one and before the revision is announced: it must be short. Readers go on meanwhile.
pub type ApplyHook = Box<dyn Fn(&State, Applied) + Send + Sync>;

/// A cheap view of the applied state; clones share it.
#[derive(Debug, Clone)]
pub struct StateHandle {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    machine: RwLock<Machine>,
    applied: watch::Sender<Revision>,
    /// One more than the cluster's generation; 0 while there is no cluster. Beside the lock: each message asks for it.
    generation: AtomicU64,
}

#[derive(Debug, Default)]
struct Machine {
    state: State,
    last_applied: Option<LogId>,
    membership: StoredMembership,
}

/// openraft's end.
pub(super) struct StateMachine {
    handle: StateHandle,
    snapshots: Arc<SnapshotDir>,
    unflushed: Unflushed,
    hook: ApplyHook,
}

/// Makes snapshots while the state machine goes on.
#[derive(Debug)]
pub(super) struct SnapshotBuilder {
    handle: StateHandle,
    snapshots: Arc<SnapshotDir>,
}

// === impl StateHandle ===

impl StateHandle {
    /// Looks at the state. Changes wait meanwhile: keep it short, and take out what is needed.
    pub fn read<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        look(&self.machine().state)
    }

    /// The state with its place in the log, as it travels and is backed up. Changes wait meanwhile.
    ///
    /// # Errors
    /// Only if a type of the state cannot be encoded, which is a fault of ours.
    pub fn encoded(&self) -> Result<Vec<u8>, postcard::Error> {
        self.snapshot().map(|(_, bytes)| bytes)
    }

    fn snapshot(&self) -> Result<(SnapshotMeta, Vec<u8>), postcard::Error> {
        let machine = self.machine();
        let meta = machine.snapshot_meta();
        let bytes = snapshot::encode(&meta, &machine.state)?;
        Ok((meta, bytes))
    }

    /// The revision of the state; changes after the state has.
    pub fn applied(&self) -> watch::Receiver<Revision> {
        self.inner.applied.subscribe()
    }

    /// How often the cluster was made anew; `None` before this manager knows of a cluster.
    pub(crate) fn generation(&self) -> Option<u64> {
        self.inner.generation.load(Ordering::Acquire).checked_sub(1)
    }

    fn machine(&self) -> RwLockReadGuard<'_, Machine> {
        self.inner.machine.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn machine_mut(&self) -> RwLockWriteGuard<'_, Machine> {
        self.inner.machine.write().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl StateMachine ===

impl fmt::Debug for StateMachine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StateMachine").field("snapshots", &self.snapshots).finish_non_exhaustive()
    }
}

impl StateMachine {
    /// A machine in the state of the newest snapshot.
    pub(super) fn new(
        snapshots: SnapshotDir,
        newest: Option<Newest>,
        unflushed: Unflushed,
        hook: ApplyHook,
    ) -> Self {
        let machine = newest.map_or_else(Machine::default, |newest| Machine {
            state: newest.state,
            last_applied: newest.meta.last_log_id,
            membership: newest.meta.last_membership,
        });
        let revision = Revision(machine.last_applied.map_or(0, |id| id.index));
        let applied = watch::Sender::new(revision);
        let generation = AtomicU64::new(generation(&machine.state));
        let inner = Inner { machine: RwLock::new(machine), applied, generation };
        let handle = StateHandle { inner: Arc::new(inner) };
        Self { handle, snapshots: Arc::new(snapshots), unflushed, hook }
    }

    pub(super) fn handle(&self) -> StateHandle {
        self.handle.clone()
    }

    fn apply_entry(&self, entry: Entry) -> BatchReply {
        let revision = Revision(entry.log_id.index);
        let mut machine = self.handle.machine_mut();
        machine.last_applied = Some(entry.log_id);
        let mut reply = BatchReply::default();
        match entry.payload {
            EntryPayload::Blank => {}
            EntryPayload::Membership(membership) => {
                machine.membership = StoredMembership::new(Some(entry.log_id), membership);
            }
            EntryPayload::Normal(batch) => {
                reply.0.reserve(batch.0.len());
                for proposal in batch.0.iter() {
                    let outcome = machine.state.apply(revision, proposal);
                    reply.0.push(outcome.map(|outcome| (revision, outcome)));
                }
            }
        }
        self.handle.inner.generation.store(generation(&machine.state), Ordering::Release);
        let machine = RwLockWriteGuard::downgrade(machine);
        if !reply.0.is_empty() {
            (self.hook)(&machine.state, Applied::Entry { revision });
        }
        drop(machine);
        self.handle.inner.applied.send_replace(revision);
        reply
    }
}

impl RaftStateMachine<TypeConfig> for StateMachine {
    type SnapshotBuilder = SnapshotBuilder;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), StorageError> {
        let machine = self.handle.machine();
        Ok((machine.last_applied, machine.membership.clone()))
    }

    async fn apply<I>(&mut self, entries: I) -> Result<Vec<BatchReply>, StorageError>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut replies = Vec::new();
        for entry in entries {
            let flushed = self.unflushed.on_disk(entry.log_id.index).await;
            flushed.map_err(|err| StorageIoError::write_logs(&err))?;
            replies.push(self.apply_entry(entry));
        }
        Ok(replies)
    }

    async fn get_snapshot_builder(&mut self) -> SnapshotBuilder {
        SnapshotBuilder { handle: self.handle.clone(), snapshots: Arc::clone(&self.snapshots) }
    }

    async fn begin_receiving_snapshot(
        &mut self,
    ) -> Result<Box<<TypeConfig as RaftTypeConfig>::SnapshotData>, StorageError> {
        Ok(Box::new(Cursor::new(Vec::new())))
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        snapshot: Box<Cursor<Vec<u8>>>,
    ) -> Result<(), StorageError> {
        let (snapshots, expected) = (Arc::clone(&self.snapshots), meta.clone());
        let decoded = blocking(move || {
            let bytes = snapshot.into_inner();
            let (meta, state) = snapshot::decode(&bytes).map_err(io::Error::other)?;
            if meta != expected {
                return Err(io::Error::other("the snapshot is not the one that was announced"));
            }
            snapshots.save(&meta, &bytes)?;
            Ok(state)
        });
        let state = decoded
            .await
            .map_err(|err| StorageIoError::write_snapshot(Some(meta.signature()), &err))?;
        let revision = Revision(meta.last_log_id.map_or(0, |id| id.index));
        let mut machine = self.handle.machine_mut();
        machine.state = state;
        machine.last_applied = meta.last_log_id;
        machine.membership = meta.last_membership.clone();
        self.handle.inner.generation.store(generation(&machine.state), Ordering::Release);
        let machine = RwLockWriteGuard::downgrade(machine);
        (self.hook)(&machine.state, Applied::Snapshot { revision });
        drop(machine);
        self.handle.inner.applied.send_replace(revision);
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot>, StorageError> {
        let snapshots = Arc::clone(&self.snapshots);
        let loaded = blocking(move || snapshots.load()).await;
        let loaded = loaded.map_err(|err| StorageIoError::read_snapshot(None, &err))?;
        Ok(loaded.map(|(meta, bytes)| Snapshot { meta, snapshot: Box::new(Cursor::new(bytes)) }))
    }
}

impl RaftSnapshotBuilder<TypeConfig> for SnapshotBuilder {
    async fn build_snapshot(&mut self) -> Result<Snapshot, StorageError> {
        let (handle, snapshots) = (self.handle.clone(), Arc::clone(&self.snapshots));
        let built = blocking(move || {
            // Readers go on during the encoding, changes wait; writing the file holds nobody up.
            let (meta, bytes) = handle.snapshot().map_err(io::Error::other)?;
            snapshots.save(&meta, &bytes)?;
            Ok((meta, bytes))
        });
        let built = built.await.map_err(|err| StorageIoError::write_snapshot(None, &err))?;
        let (meta, bytes) = built;
        Ok(Snapshot { meta, snapshot: Box::new(Cursor::new(bytes)) })
    }
}

// === impl Machine ===

impl Machine {
    fn snapshot_meta(&self) -> SnapshotMeta {
        // Two snapshots of one index may differ in bytes, so each needs a name of its own within this process.
        static SERIAL: AtomicU64 = AtomicU64::new(0);
        let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
        let snapshot_id = match self.last_applied {
            Some(id) => format!("{id}-{serial}"),
            None => format!("empty-{serial}"),
        };
        SnapshotMeta {
            last_log_id: self.last_applied,
            last_membership: self.membership.clone(),
            snapshot_id,
        }
    }
}

fn generation(state: &State) -> u64 {
    state.cluster().map_or(0, |cluster| cluster.generation + 1)
}

/// Work on the disk, off the workers of the runtime.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    spawn_blocking(work).await.unwrap_or_else(|err| Err(io::Error::other(err)))
}
