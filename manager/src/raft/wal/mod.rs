//! The write-ahead log: segments in one folder, one writer thread, group commit.
//!
//! Inputs: [`Op`]s through [`Wal::submit`], in the order they must hold. Outputs: [`Recovered`] at the opening, one answer per op.
//! The log knows indexes and opaque bytes; what an entry or a vote is, the store above decides.
//!
//! Files in the folder: `lock`, `<16 hex digits>.wal` (consecutive), `newest` (see `newest.rs`), `spare.tmp` (the next segment being made; may vanish).
//!
//! Invariants: what was answered `Ok` is there after any crash; a damaged or newer file refuses the start and changes nothing;
//! only whole segments are removed, oldest first. It never repairs anything but an unfinished last write.

pub(super) mod error;
mod format;
mod housekeeper;
mod newest;
mod recover;
mod seal;
mod writer;

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::fs::{self, File, TryLockError};
use std::path::Path;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::thread::JoinHandle;

pub(super) use error::WalError;
pub(super) use recover::Recovered;
pub(super) use writer::{Done, Op};

use super::disk::AtRest;
use writer::{Request, Writer};

/// Raft awaits each append and each vote before the next, so the queue holds a handful. When it is full, `submit` waits for the
/// disk: nothing is dropped.
const QUEUE_DEPTH: usize = 1024;
/// Offsets in a segment are `u32`.
const SEGMENT_BYTES_MAX: u64 = 1 << 31;
/// Below this a segment is mostly head.
const SEGMENT_BYTES_MIN: u64 = 1 << 12;

/// A handle to the writer thread. Dropping the last one closes the log.
#[derive(Debug)]
pub(super) struct Wal {
    /// `None` once closed.
    inner: Mutex<Option<Inner>>,
    /// Numbers of the data keys of the segments there were at the opening.
    keys: BTreeSet<u32>,
}

#[derive(Debug)]
struct Inner {
    queue: SyncSender<Request>,
    thread: JoinHandle<()>,
    /// Held, not read: the lock goes with it.
    _lock: File,
}

// === impl Wal ===

impl Wal {
    /// Opens the log of a folder, which is made if it does not exist. `segment_bytes` is the length of a full-grown segment.
    ///
    /// # Errors
    /// See [`WalError`]; the folder is unchanged then. Blocks on the disk.
    pub(super) fn open(
        dir: &Path,
        segment_bytes: u64,
        at_rest: &AtRest,
    ) -> Result<(Self, Recovered), WalError> {
        let io = |action, path: &Path| {
            let path = path.to_owned();
            move |source| WalError::Io { action, path, source }
        };
        fs::create_dir_all(dir).map_err(io("create", dir))?;
        if let Some(parent) = dir.parent() {
            at_rest.disk.sync_dir(parent).map_err(io("flush", parent))?;
        }
        let lock = lock(dir)?;
        let mut scan = recover::scan(dir, at_rest)?;
        match at_rest.disk.remove(&dir.join("spare.tmp")) {
            Err(err) if err.kind() != std::io::ErrorKind::NotFound => {
                return Err(io("remove the spare segment of", dir)(err));
            }
            _ => {}
        }
        let segment_bytes = segment_bytes.clamp(SEGMENT_BYTES_MIN, SEGMENT_BYTES_MAX);
        let entries = std::mem::take(&mut scan.recovered.entries);
        let recovered = Recovered { marks: scan.recovered.marks.clone(), entries };
        let keys = scan.segments.iter().map(|segment| segment.key).collect();
        let writer = Writer::open(dir, segment_bytes, at_rest, scan)?;
        let (queue, requests) = sync_channel(QUEUE_DEPTH);
        let thread = std::thread::Builder::new()
            .name("wal-writer".into())
            .spawn(move || writer.run(&requests))
            .map_err(io("start the writer of", dir))?;
        let inner = Mutex::new(Some(Inner { queue, thread, _lock: lock }));
        Ok((Self { inner, keys }, recovered))
    }

    /// Numbers of the data keys that the log was sealed with when it was opened.
    pub(super) fn keys(&self) -> &BTreeSet<u32> {
        &self.keys
    }

    /// Queues one op; `done` is called from the writer's thread when it is on disk.
    pub(super) fn submit(&self, op: Op, done: Done) {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(inner) = inner.as_ref() else { return done(Err(WalError::Closed)) };
        if let Err(unsent) = inner.queue.send(Request { op, done }) {
            (unsent.0.done)(Err(WalError::Closed));
        }
    }

    /// Writes what is queued, ends the thread and releases the folder. Blocks on the disk.
    pub(super) fn close(&self) {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(Inner { queue, thread, _lock }) = inner {
            drop(queue);
            if thread.join().is_err() {
                tracing::error!("the writer of the Raft log panicked");
            }
        }
    }
}

impl Drop for Wal {
    fn drop(&mut self) {
        self.close();
    }
}

fn lock(dir: &Path) -> Result<File, WalError> {
    let path = dir.join("lock");
    let io = |source| WalError::Io { action: "lock", path: path.clone(), source };
    let file = File::options().create(true).append(true).open(&path).map_err(io)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(WalError::Locked { dir: dir.to_owned() }),
        Err(TryLockError::Error(source)) => Err(io(source)),
    }
}
