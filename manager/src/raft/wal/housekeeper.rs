//! The helper thread of the log: makes the next segment file before it is needed, and removes purged ones.
//!
//! Input: jobs of the writer. Outputs: `spare.tmp`, a zero-filled file that is already on disk, and fewer segment files. A write
//! into a file whose blocks exist flushes data only; a growing file would flush the file system's journal as well.
//!
//! It never touches a file that still belongs to the log.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use crate::raft::disk::Disk;

const CHUNK_BYTES: usize = 1 << 20;

#[derive(Debug)]
enum Job {
    Prepare { bytes: u64 },
    Remove { files: Vec<PathBuf> },
}

/// A zero-filled file that has no segment's name yet.
#[derive(Debug)]
pub(super) struct Spare {
    pub(super) file: File,
    pub(super) path: PathBuf,
    pub(super) bytes: u64,
}

/// The writer's end.
#[derive(Debug)]
pub(super) struct Housekeeper {
    dir: PathBuf,
    disk: Arc<dyn Disk>,
    /// Unbounded, but at most one preparation is under way and removals are as rare as snapshots.
    jobs: Option<Sender<Job>>,
    spares: Receiver<io::Result<Spare>>,
    preparing: bool,
    thread: Option<JoinHandle<()>>,
}

// === impl Housekeeper ===

impl Housekeeper {
    pub(super) fn start(dir: &Path, disk: &Arc<dyn Disk>) -> io::Result<Self> {
        let (jobs, queue) = channel();
        let (done, spares) = channel();
        let (spare_dir, own) = (dir.to_owned(), Arc::clone(disk));
        let thread = std::thread::Builder::new().name("wal-spare".into()).spawn(move || {
            // Oldest first; what cannot be removed is tried again with the next purge.
            let mut purged = VecDeque::new();
            for job in queue {
                match job {
                    // The writer may be gone; the next start removes the file.
                    Job::Prepare { bytes } => {
                        drop(done.send(create_spare(&*own, &spare_dir, bytes)));
                    }
                    Job::Remove { files } => {
                        purged.extend(files);
                        remove(&*own, &spare_dir, &mut purged);
                    }
                }
            }
        })?;
        let (jobs, thread) = (Some(jobs), Some(thread));
        let (dir, disk) = (dir.to_owned(), Arc::clone(disk));
        Ok(Self { dir, disk, jobs, spares, preparing: false, thread })
    }

    /// Starts making a spare of `bytes`, unless one is made already. Does not wait.
    pub(super) fn prepare(&mut self, bytes: u64) {
        if !self.preparing {
            self.preparing = self.send(Job::Prepare { bytes });
        }
    }

    /// The spare, of `bytes` at least; waits until it is made.
    pub(super) fn take(&mut self, bytes: u64) -> io::Result<Spare> {
        self.prepare(bytes);
        let spare = self.spares.recv().map_err(io::Error::other)?;
        self.preparing = false;
        match spare {
            Ok(spare) if spare.bytes >= bytes => Ok(spare),
            Ok(_) => create_spare(&*self.disk, &self.dir, bytes),
            // It may have been tried long ago, on a disk that was full then. A spare holds nothing, so trying again is safe.
            Err(err) => {
                tracing::warn!(dir = %self.dir.display(), %err, "no segment made ahead, trying again");
                create_spare(&*self.disk, &self.dir, bytes)
            }
        }
    }

    /// Removes segments that hold nothing any more.
    pub(super) fn remove(&mut self, files: Vec<PathBuf>) {
        self.send(Job::Remove { files });
    }

    fn send(&self, job: Job) -> bool {
        self.jobs.as_ref().is_some_and(|jobs| jobs.send(job).is_ok())
    }
}

impl Drop for Housekeeper {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the log's helper thread panicked");
        }
    }
}

/// Makes `spare.tmp`, written and flushed; replaces an earlier one.
pub(super) fn create_spare(disk: &dyn Disk, dir: &Path, bytes: u64) -> io::Result<Spare> {
    let path = dir.join("spare.tmp");
    let file = disk.create(&path)?;
    let zeros = vec![0; CHUNK_BYTES];
    let mut at = 0;
    while at < bytes {
        let chunk = (bytes - at).min(CHUNK_BYTES as u64);
        disk.write_at(&file, &path, &zeros[..chunk as usize], at)?;
        at += chunk;
    }
    disk.sync(&file, &path)?;
    Ok(Spare { file, path, bytes })
}

/// Removes from the oldest on, each for good before the next, so that the numbers on disk stay consecutive. A file that cannot
/// be removed costs space only.
fn remove(disk: &dyn Disk, dir: &Path, purged: &mut VecDeque<PathBuf>) {
    while let Some(file) = purged.front() {
        if let Err(err) = disk.remove(file).and_then(|()| disk.sync_dir(dir)) {
            tracing::warn!(file = %file.display(), %err, "cannot remove a purged log segment");
            return;
        }
        purged.pop_front();
    }
}
