//! Log and snapshots on a disk that fails, fills up, and forgets what was not flushed.
//!
//! [`FaultyDisk`] does what the real one does, and keeps, for each file, the bytes that a flush has not covered yet. A loss of power
//! keeps any of the sectors written since; a rename that its folder's flush has not covered may be undone.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex, MutexGuard};

use proptest::prelude::*;
use tempfile::TempDir;

use super::super::disk::{AtRest, Disk, RealDisk};
use super::super::keyring::Keyring;
use super::super::snapshot::{self, SnapshotDir};
use super::super::types::{SnapshotMeta, State};
use super::super::wal::{Op, Recovered, Wal};
use super::super::*;

const SEGMENT: u64 = 4096;
const SECTOR: usize = 512;

/// One write: offset, bytes before, bytes after.
type Written = (u64, Vec<u8>, Vec<u8>);

#[derive(Debug, Default)]
struct Inner {
    /// Writes since the file's last flush.
    unflushed: BTreeMap<PathBuf, Vec<Written>>,
    /// Renames since the folder's last flush, with what the new name held before.
    renamed: Vec<(PathBuf, PathBuf, Option<Vec<u8>>)>,
    /// How many more writes and flushes succeed; `None`: all.
    left: Option<usize>,
    /// Of the write that fails, so many bytes reach the file.
    torn_at: usize,
}

#[derive(Debug, Default, Clone)]
struct FaultyDisk(Arc<Mutex<Inner>>);

impl FaultyDisk {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap()
    }

    /// After `count` more operations the disk is full.
    fn fill_up(&self, count: usize, torn_at: usize) {
        let mut inner = self.lock();
        (inner.left, inner.torn_at) = (Some(count), torn_at);
    }

    fn spend(inner: &mut Inner) -> io::Result<()> {
        match &mut inner.left {
            Some(0) => Err(io::ErrorKind::StorageFull.into()),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// The power goes: of what was not flushed, `keep` says sector by sector what is there afterwards.
    fn lose_power(&self, mut keep: impl FnMut() -> bool) {
        let mut inner = self.lock();
        inner.left = None;
        for (from, to, old) in std::mem::take(&mut inner.renamed).into_iter().rev() {
            if keep() {
                continue;
            }
            fs::rename(&to, &from).unwrap();
            let pending = inner.unflushed.remove(&to);
            inner.unflushed.extend(pending.map(|writes| (from, writes)));
            if let Some(old) = old {
                fs::write(&to, old).unwrap();
            }
        }
        for (path, writes) in std::mem::take(&mut inner.unflushed) {
            let Ok(file) = File::options().write(true).open(&path) else { continue };
            for (offset, before, after) in writes.into_iter().rev() {
                let mut at = 0;
                while at < after.len() {
                    let place = offset as usize + at;
                    let end = (at + SECTOR - place % SECTOR).min(after.len());
                    if !keep() {
                        file.write_all_at(&before[at..end], place as u64).unwrap();
                    }
                    at = end;
                }
            }
        }
    }
}

impl Disk for FaultyDisk {
    fn write_at(&self, file: &File, path: &Path, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut inner = self.lock();
        let done = Self::spend(&mut inner);
        let len = if done.is_ok() { bytes.len() } else { inner.torn_at.min(bytes.len()) };
        let mut before = vec![0; len];
        // Behind the end of a file there is nothing.
        let mut read = 0;
        while read < len {
            match file.read_at(&mut before[read..], offset + read as u64)? {
                0 => break,
                count => read += count,
            }
        }
        file.write_all_at(&bytes[..len], offset)?;
        let written = (offset, before, bytes[..len].to_vec());
        inner.unflushed.entry(path.to_owned()).or_default().push(written);
        done
    }

    fn sync(&self, file: &File, path: &Path) -> io::Result<()> {
        let mut inner = self.lock();
        Self::spend(&mut inner)?;
        inner.unflushed.remove(path);
        RealDisk.sync(file, path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut inner = self.lock();
        Self::spend(&mut inner)?;
        let old = fs::read(to).ok();
        fs::rename(from, to)?;
        let pending = inner.unflushed.remove(from);
        inner.unflushed.extend(pending.map(|writes| (to.to_owned(), writes)));
        inner.renamed.push((from.to_owned(), to.to_owned(), old));
        Ok(())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut inner = self.lock();
        Self::spend(&mut inner)?;
        inner.renamed.retain(|(_, to, _)| to.parent() != Some(dir));
        RealDisk.sync_dir(dir)
    }
}

struct Machine {
    dir: TempDir,
    disk: FaultyDisk,
}

impl Machine {
    fn new() -> Self {
        Self { dir: TempDir::new().unwrap(), disk: FaultyDisk::default() }
    }

    fn at_rest(&self) -> AtRest {
        let keyring = Keyring::open(self.dir.path(), None).unwrap();
        AtRest { keyring, disk: Arc::new(self.disk.clone()) }
    }

    fn open(&self) -> Result<(Wal, Recovered), WalError> {
        Wal::open(&self.dir.path().join("log"), SEGMENT, &self.at_rest())
    }
}

/// One op and the log's answer.
fn write(wal: &Wal, op: Op) -> Result<(), WalError> {
    let (done, wait) = channel();
    wal.submit(op, Box::new(move |result| done.send(result).unwrap()));
    wait.recv().unwrap()
}

fn entry(index: u64, len: usize) -> (u64, Vec<u8>) {
    (index, vec![index as u8; len])
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    /// Lives of a log, each ended by a loss of power at some operation of the disk: what was acknowledged is there, nothing is there
    /// twice, nothing is there that was never written; and the log goes on.
    #[test]
    fn what_was_acknowledged_survives_a_loss_of_power_at_any_point(
        lives in prop::collection::vec((1..60_usize, 0..3000_usize, any::<u64>()), 1..5),
        lens in prop::collection::vec(1..1800_usize, 1..24),
    ) {
        let machine = Machine::new();
        let (mut acknowledged, mut written) = (Vec::new(), Vec::new());
        for (operations, torn_at, mut seed) in lives {
            let (wal, found) = machine.open().unwrap();
            let found: Vec<_> = found.entries.into();
            prop_assert!(found.len() >= acknowledged.len(), "{} of {}", found.len(), acknowledged.len());
            prop_assert_eq!(&found[..], &written[..found.len()]);
            written.truncate(found.len());
            acknowledged.clone_from(&found);
            machine.disk.fill_up(operations, torn_at);
            for len in &lens {
                let next = entry(written.len() as u64 + 1, *len);
                written.push(next.clone());
                match write(&wal, Op::Append(vec![next.clone()])) {
                    Ok(()) => acknowledged.push(next),
                    Err(_) => break,
                }
            }
            drop(wal);
            machine.disk.lose_power(|| {
                // An LCG: the choice must be repeatable.
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                seed >> 63 == 1
            });
        }
        let (_, found) = machine.open().unwrap();
        let found: Vec<_> = found.entries.into();
        prop_assert_eq!(&found[..acknowledged.len()], &acknowledged[..]);
    }
}

#[test]
fn a_full_disk_stops_the_log_by_name_and_loses_nothing() {
    let machine = Machine::new();
    let (wal, _) = machine.open().unwrap();
    for index in 1..=3 {
        write(&wal, Op::Append(vec![entry(index, 100)])).unwrap();
    }
    machine.disk.fill_up(0, 40);
    let err = write(&wal, Op::Append(vec![entry(4, 100)])).unwrap_err().to_string();
    let file = machine.dir.path().join("log/0000000000000001.wal");
    assert!(err.contains(&file.display().to_string()) && err.contains("no storage space"), "{err}");
    // Room again: still nothing is written after the first error.
    machine.disk.fill_up(usize::MAX, 0);
    write(&wal, Op::Append(vec![entry(4, 100)])).unwrap_err();
    drop(wal);
    let (wal, found) = machine.open().unwrap();
    assert_eq!(found.entries.len(), 3);
    write(&wal, Op::Append(vec![entry(4, 100)])).unwrap();
}

/// A snapshot's write may be cut at any operation: the folder then holds the snapshot before or the new one.
#[test]
fn a_snapshot_is_whole_or_the_one_before_at_every_cut() {
    let meta = |index| SnapshotMeta {
        last_log_id: Some(openraft::LogId::new(openraft::CommittedLeaderId::new(1, 1), index)),
        ..SnapshotMeta::default()
    };
    let bytes = |index| snapshot::encode(&meta(index), &State::default()).unwrap();
    for (operations, keeps) in (0..6).flat_map(|n| [(n, false), (n, true)]) {
        let machine = Machine::new();
        let dir = machine.dir.path().join("snapshots");
        let (snapshots, _) = SnapshotDir::open(&dir, &machine.at_rest()).unwrap();
        snapshots.save(&meta(1), &bytes(1)).unwrap();
        machine.disk.fill_up(operations, 100);
        let saved = snapshots.save(&meta(2), &bytes(2)).is_ok();
        assert_eq!(saved, operations >= 4, "write, flush, rename, flush of the folder");
        machine.disk.lose_power(|| keeps);
        let (_, newest) = SnapshotDir::open(&dir, &machine.at_rest()).unwrap();
        let index = newest.and_then(|n| n.meta.last_log_id).map(|id| id.index);
        assert!(
            index == Some(2) || (!saved && index == Some(1)),
            "{operations} operations: {index:?}"
        );
        let left = fs::read_dir(&dir).unwrap().count();
        assert_eq!(left, 1, "nothing half made is left");
    }
}
