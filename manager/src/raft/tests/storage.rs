//! The storage by itself.

use std::fs;
use std::path::{Path, PathBuf};

use openraft::testing::{StoreBuilder, Suite};
use swarmnet_pki::sealed::SealedError;
use tempfile::TempDir;

use super::super::folder::Folder;
use super::super::snapshot::SnapshotDamage;
use super::super::state_machine::StateMachine;
use super::super::store::LogStore;
use super::super::types::{StorageError, TypeConfig};
use super::super::*;
use super::support::{TestNode, commands, config, put};

struct Builder;

fn open(dir: &Path) -> (LogStore, StateMachine) {
    let keyring = Keyring::open(dir, None).unwrap();
    let Folder { log, snapshots, newest } = Folder::open(&config(dir, 1), keyring).unwrap();
    let machine = StateMachine::new(snapshots, newest, log.unflushed(), Box::new(|_, _| {}));
    (log, machine)
}

impl StoreBuilder<TypeConfig, LogStore, StateMachine, TempDir> for Builder {
    async fn build(&self) -> Result<(TempDir, LogStore, StateMachine), StorageError> {
        let dir = TempDir::new().unwrap();
        let (log, machine) = open(dir.path());
        Ok((dir, log, machine))
    }
}

#[test]
fn openraft_storage_suite() {
    Suite::test_all(Builder).unwrap();
}

/// A folder with a snapshot in it, and the snapshot's path.
fn with_snapshot() -> (TempDir, PathBuf) {
    let dir = TempDir::new().unwrap();
    let node = TestNode::start(&config(dir.path(), 1), ([127, 0, 0, 1], 0).into()).unwrap();
    node.run(node.node.bootstrap([(1, node.addr.to_string())].into())).unwrap();
    node.propose(commands::init()).unwrap();
    node.propose(put("a")).unwrap();
    node.run(node.node.snapshot()).unwrap();
    let made = || node.node.status().snapshot.is_some();
    while !made() {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    node.run(node.node.shutdown());
    let mut files = fs::read_dir(dir.path().join("snapshots")).unwrap();
    let path = files.next().unwrap().unwrap().path();
    assert!(files.next().is_none());
    (dir, path)
}

fn refusal(dir: &Path) -> RaftError {
    TestNode::start(&config(dir, 1), ([127, 0, 0, 1], 0).into()).err().expect("refused")
}

#[test]
fn a_damaged_snapshot_refuses_the_start_and_stays() {
    let (dir, path) = with_snapshot();
    let whole = fs::read(&path).unwrap();
    for at in [0, 8, 12, 17, whole.len() / 2, whole.len() - 1] {
        let mut damaged = whole.clone();
        damaged[at] ^= 0x40;
        fs::write(&path, &damaged).unwrap();
        let err = refusal(dir.path());
        assert!(matches!(&err, RaftError::Snapshot { file, .. } if *file == path), "{at}: {err}");
        assert_eq!(fs::read(&path).unwrap(), damaged);
    }
    fs::write(&path, &whole[..whole.len() - 1]).unwrap();
    let err = refusal(dir.path());
    let short = SealedError::Length {
        what: "snapshot",
        expected: whole.len() as u64,
        found: whole.len() as u64 - 1,
    };
    assert!(
        matches!(&err, RaftError::Snapshot { damage: SnapshotDamage::File(e), .. } if *e == short),
        "{err}"
    );
}

#[test]
fn a_snapshot_that_is_gone_refuses_the_start() {
    let dir = TempDir::new().unwrap();
    let config = RaftConfig { snapshot_keep: 0, ..config(dir.path(), 1) };
    let node = TestNode::start(&config, ([127, 0, 0, 1], 0).into()).unwrap();
    node.run(node.node.bootstrap([(1, node.addr.to_string())].into())).unwrap();
    node.propose(commands::init()).unwrap();
    node.run(node.node.snapshot()).unwrap();
    let purged = || node.node.status().snapshot.is_some();
    while !purged() {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    // openraft purges when it hears of the next entry.
    node.propose(put("a")).unwrap();
    node.run(node.node.barrier()).unwrap();
    node.run(node.node.shutdown());
    let snapshots = dir.path().join("snapshots");
    let file = fs::read_dir(&snapshots).unwrap().next().unwrap().unwrap().path();
    let whole = fs::read(&file).unwrap();
    fs::remove_file(&file).unwrap();
    let err = refusal(dir.path());
    assert!(matches!(&err, RaftError::SnapshotMissing { dir, .. } if *dir == snapshots), "{err}");
    fs::write(&file, whole).unwrap();
    TestNode::start(&config, ([127, 0, 0, 1], 0).into()).unwrap();
}

#[test]
fn a_newer_snapshot_is_refused_by_name_and_version() {
    let (dir, path) = with_snapshot();
    let mut newer = fs::read(&path).unwrap();
    newer[8] = 2;
    fs::write(&path, &newer).unwrap();
    let text = format!("{}: snapshot format version 2, this build knows up to 1", path.display());
    assert_eq!(refusal(dir.path()).to_string(), text);
}

#[test]
fn a_damaged_log_refuses_the_start() {
    let (dir, _) = with_snapshot();
    let path = dir.path().join("log").join("0000000000000001.wal");
    let mut damaged = fs::read(&path).unwrap();
    damaged[60] ^= 1;
    fs::write(&path, &damaged).unwrap();
    let err = refusal(dir.path());
    assert!(
        err.to_string().starts_with(&format!("{} is damaged at byte ", path.display())),
        "{err}"
    );
}
