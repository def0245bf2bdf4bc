//! Everything that log and snapshots do to the disk passes through [`Disk`], so that tests can let it fail, and forget what was not
//! flushed. [`AtRest`] is what both need: the disk, and the keys of what lies on it.
//!
//! All of it blocks.

use std::fmt::Debug;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::sync::Arc;

use super::keyring::Keyring;

/// The operations, with the real ones as their bodies. `path` is where `file` was opened.
pub(super) trait Disk: Debug + Send + Sync {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        fs::read(path)
    }

    /// An empty file, in place of one that is there.
    fn create(&self, path: &Path) -> io::Result<File> {
        let mut options = File::options();
        options.read(true).write(true).create(true).truncate(true).mode(0o600).open(path)
    }

    fn open(&self, path: &Path) -> io::Result<File> {
        File::options().read(true).write(true).open(path)
    }

    fn write_at(&self, file: &File, _path: &Path, bytes: &[u8], offset: u64) -> io::Result<()> {
        file.write_all_at(bytes, offset)
    }

    /// What was written is on the disk afterwards, and with it the file's length.
    fn sync(&self, file: &File, _path: &Path) -> io::Result<()> {
        file.sync_data()
    }

    /// Lasts once the folder is flushed.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    /// Makes names that were created, renamed or removed in `dir` last.
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        File::open(dir)?.sync_all()
    }
}

/// The machine's.
#[derive(Debug)]
pub(super) struct RealDisk;

impl Disk for RealDisk {}

/// What log and snapshots are kept with. Clones share it.
#[derive(Debug, Clone)]
pub(super) struct AtRest {
    pub(super) keyring: Keyring,
    pub(super) disk: Arc<dyn Disk>,
}

impl AtRest {
    pub(super) fn new(keyring: Keyring) -> Self {
        Self { keyring, disk: Arc::new(RealDisk) }
    }
}
