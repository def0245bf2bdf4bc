//! A leader's own entries: answered before its disk has them, and nothing follows from them until it does.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use futures_util::poll;
use openraft::network::{RPCOption, RaftNetwork, RaftNetworkFactory};
use openraft::raft::AppendEntriesRequest;
use openraft::storage::{RaftLogStorage, RaftLogStorageExt, RaftStateMachine};
use openraft::{BasicNode, CommittedLeaderId, EntryPayload};
use tempfile::TempDir;
use tokio::time::timeout;

use super::super::Keyring;
use super::super::disk::{AtRest, Disk, RealDisk};
use super::super::snapshot::SnapshotDir;
use super::super::state_machine::StateMachine;
use super::super::store::LogStore;
use super::super::transport::Peers;
use super::super::types::{Batch, Entry, LogId, StorageError, Vote};
use super::support::{self, PATIENCE, connector};

const ME: u64 = 1;
const OTHER: u64 = 2;

/// Its flushes wait while it is held.
#[derive(Debug, Default, Clone)]
struct SlowDisk(Arc<(Mutex<bool>, Condvar)>);

/// Lets the disk go on when it is dropped.
struct Held(SlowDisk);

impl SlowDisk {
    fn hold(&self) -> Held {
        *self.0.0.lock().unwrap() = true;
        Held(self.clone())
    }

    /// The storage of this node on it.
    fn open(&self, dir: &Path) -> (LogStore, StateMachine) {
        let keyring = Keyring::open(dir, None).unwrap();
        let at_rest = AtRest { keyring, disk: Arc::new(self.clone()) };
        let log = LogStore::open(&dir.join("log"), 1 << 16, ME, &at_rest).unwrap();
        let (snapshots, newest) = SnapshotDir::open(&dir.join("snapshots"), &at_rest).unwrap();
        let machine = StateMachine::new(snapshots, newest, log.unflushed(), Box::new(|_, _| {}));
        (log, machine)
    }
}

impl Disk for SlowDisk {
    fn sync(&self, file: &File, path: &Path) -> io::Result<()> {
        let (is_held, changed) = &*self.0;
        drop(changed.wait_while(is_held.lock().unwrap(), |is_held| *is_held).unwrap());
        RealDisk.sync(file, path)
    }
}

impl Held {
    fn go_on(self) {
        drop(self);
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let (is_held, changed) = &*self.0.0;
        *is_held.lock().unwrap() = false;
        changed.notify_all();
    }
}

fn entry(leader: u64, index: u64) -> Entry {
    let log_id = LogId::new(CommittedLeaderId::new(1, leader), index);
    Entry { log_id, payload: EntryPayload::Normal(Batch(Arc::new(vec![support::put("a")]))) }
}

/// The storage of a node whose vote says that `leader` leads.
async fn led_by(leader: u64, dir: &TempDir, disk: &SlowDisk) -> (LogStore, StateMachine) {
    let (mut log, machine) = disk.open(dir.path());
    log.save_vote(&Vote::new_committed(1, leader)).await.unwrap();
    (log, machine)
}

async fn soon<T>(what: impl Future<Output = T>) -> T {
    timeout(PATIENCE, what).await.expect("not held up")
}

#[tokio::test]
async fn a_leader_goes_on_while_its_disk_writes_and_applies_only_afterwards() {
    let (dir, disk) = (TempDir::new().unwrap(), SlowDisk::default());
    let (mut log, mut machine) = led_by(ME, &dir, &disk).await;
    let held = disk.hold();
    soon(log.blocking_append([entry(ME, 1), entry(ME, 2)])).await.unwrap();

    let mut applied = std::pin::pin!(machine.apply([entry(ME, 1)]));
    assert!(poll!(&mut applied).is_pending());
    held.go_on();
    assert_eq!(soon(applied).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_follower_answers_after_the_flush() {
    let (dir, disk) = (TempDir::new().unwrap(), SlowDisk::default());
    let (mut log, _) = led_by(OTHER, &dir, &disk).await;
    // Of its own leadership, but that is over: they come from the one who leads now.
    for (leader, index) in [(ME, 1), (OTHER, 2)] {
        let held = disk.hold();
        let mut appended = std::pin::pin!(log.blocking_append([entry(leader, index)]));
        assert!(poll!(&mut appended).is_pending());
        held.go_on();
        soon(appended).await.unwrap();
    }
}

#[tokio::test]
async fn no_message_calls_committed_what_the_disk_does_not_have() {
    let (dir, disk) = (TempDir::new().unwrap(), SlowDisk::default());
    let (mut log, machine) = led_by(ME, &dir, &disk).await;
    let asked = Arc::new(AtomicBool::new(false));
    let (seen, make) = (Arc::clone(&asked), connector());
    let connector: super::super::Connector = Arc::new(move |id, addr| {
        seen.store(true, Ordering::SeqCst);
        make(id, addr)
    });
    let mut peers = Peers::new(connector, log.unflushed(), machine.handle());
    let mut peer = peers.new_client(OTHER, &BasicNode::new("127.0.0.1:1")).await;
    let message = |committed: u64| {
        let leader_commit = Some(entry(ME, committed).log_id);
        let vote = Vote::new_committed(1, ME);
        AppendEntriesRequest { vote, prev_log_id: None, entries: Vec::new(), leader_commit }
    };
    let option = || RPCOption::new(Duration::from_secs(1));
    soon(log.blocking_append([entry(ME, 1)])).await.unwrap();
    soon(log.unflushed().on_disk(1)).await.unwrap();
    let held = disk.hold();
    soon(log.blocking_append([entry(ME, 2)])).await.unwrap();

    // What was there before is told at once; nobody listens, which is an answer too.
    soon(peer.append_entries(message(1), option())).await.unwrap_err();
    assert!(asked.swap(false, Ordering::SeqCst));
    // Another peer: a channel is made once.
    let mut peer = peers.new_client(OTHER + 1, &BasicNode::new("127.0.0.1:1")).await;
    let mut told = std::pin::pin!(peer.append_entries(message(2), option()));
    assert!(poll!(&mut told).is_pending());
    assert!(!asked.load(Ordering::SeqCst));
    held.go_on();
    soon(told).await.unwrap_err();
    assert!(asked.load(Ordering::SeqCst));
}

#[tokio::test]
async fn a_leader_whose_disk_fails_applies_nothing_and_takes_no_more() {
    let (dir, disk) = (TempDir::new().unwrap(), SlowDisk::default());
    let (mut log, mut machine) = led_by(ME, &dir, &disk).await;
    log.close();
    soon(log.blocking_append([entry(ME, 1)])).await.unwrap();
    let refused = |err: StorageError| assert!(err.to_string().contains("was not written"), "{err}");
    refused(soon(machine.apply([entry(ME, 1)])).await.unwrap_err());
    refused(soon(log.blocking_append([entry(ME, 2)])).await.unwrap_err());
}
