//! A group of one, made from what an old group left: nothing of the state is lost, and the old group's managers are strangers to it.

use std::time::{Duration, Instant};

use proptest::prelude::*;
use swarmnet_manager_core::{Command, Founder, Proposal, State};
use swarmnet_pki::UnlockKey;
use swarmnet_types::{NodeDescription, Revision};
use tempfile::TempDir;

use super::super::backup::BackupError;
use super::super::*;
use super::support::{PATIENCE, TestNode, Trio, commands, config, put};

const ANY_PORT: ([u8; 4], u16) = ([127, 0, 0, 1], 0);
/// Several elections of the old group.
const WATCH: Duration = Duration::from_secs(3);

fn refound() -> Proposal {
    let description = NodeDescription {
        name: "m1".into(),
        addr: ([192, 0, 2, 99], 7777).into(),
        data_path: [192, 0, 2, 99].into(),
        version: "0.1.0".into(),
    };
    let node = commands::NODE;
    commands::proposal(Command::Refound(Box::new(Founder::Known { node, description })))
}

/// What the state is to be after the recast.
fn refounded(remains: &Remains) -> State {
    let mut state = remains.state.clone();
    state.apply(remains.revision(), &refound()).unwrap();
    state
}

/// Recasts the folder of manager `me`, and starts it at the address it had.
fn recast(
    runtime: &tokio::runtime::Runtime,
    config: &RaftConfig,
    addr: std::net::SocketAddr,
) -> (TestNode, Remains) {
    let keyring = Keyring::open(&config.dir, None).unwrap();
    // The folder of a manager that was just killed may be locked for a moment.
    let until = Instant::now() + PATIENCE;
    let remains = loop {
        match runtime.block_on(Remains::read(config, &keyring)) {
            Err(RaftError::Wal(WalError::Locked { .. })) if Instant::now() < until => {
                std::thread::sleep(Duration::from_millis(10));
            }
            read => break read.unwrap(),
        }
    };
    let new = Remains { state: refounded(&remains), ..remains.clone() };
    runtime.block_on(new.found(config, &keyring, addr.to_string())).unwrap();
    (TestNode::start(config, addr).unwrap(), remains)
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

#[test]
fn after_a_lost_quorum_one_manager_goes_on_with_the_whole_state() {
    let mut trio = Trio::start(|_| {});
    let mut last = Revision(0);
    for n in 0..50 {
        last = trio.write(&format!("key {n}"));
    }
    for (_, node) in trio.alive() {
        node.wait_applied(last);
    }
    let digest = trio.node(3).node.state().read(State::digest);
    for id in 1..=3 {
        trio.kill(id);
    }
    let config = config(trio.dirs[&3].path(), 3);
    let (node, remains) = recast(&runtime(), &config, trio.addrs[&3]);
    assert_eq!(remains.state.digest(), digest, "all that any manager had");
    node.run(node.node.barrier()).unwrap();
    let now = node.node.state().read(State::digest);
    assert_eq!(now, refounded(&remains).digest(), "and that is what the new group has");
    assert_eq!(node.node.status().members.keys().collect::<Vec<_>>(), [&3]);
    let (revision, _) = node.propose(put("after")).unwrap();
    assert!(revision.0 > last.0 + (1 << 31), "no node has seen so late a revision");

    // The others come back, and are a majority of the old group, which knows of this manager.
    trio.revive(1);
    trio.revive(2);
    trio.write("of the old group");
    let until = Instant::now() + WATCH;
    while Instant::now() < until {
        assert!(node.node.is_leader(), "nobody of the old group has a say");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(node.has("after") && !node.has("of the old group"));
    node.propose(put("still")).unwrap();

    // As any other, it survives a crash.
    node.kill();
    let node = TestNode::start(&config, trio.addrs[&3]).unwrap();
    node.run(node.node.barrier()).unwrap();
    assert!(node.has("still"));
}

#[test]
fn a_backup_holds_the_whole_state_and_starts_a_group_in_an_empty_folder() {
    let old = TempDir::new().unwrap();
    let node = TestNode::start(&config(old.path(), 1), ANY_PORT.into()).unwrap();
    node.run(node.node.bootstrap([(1, node.addr.to_string())].into())).unwrap();
    node.propose(commands::init()).unwrap();
    for n in 0..20 {
        node.propose(put(&format!("key {n}"))).unwrap();
    }
    let state = node.node.state();
    let (digest, encoded) = (state.read(State::digest), state.encoded().unwrap());
    let file = backup::write(&encoded, None).unwrap();
    node.propose(put("too late")).unwrap();
    let remains = backup::read(&file, None).unwrap();
    assert_eq!(remains.state.digest(), digest);

    let new = TempDir::new().unwrap();
    let config = config(new.path(), 9);
    let keyring = Keyring::open(&config.dir, None).unwrap();
    let expected = refounded(&remains);
    let remains = Remains { state: expected.clone(), ..remains };
    runtime().block_on(remains.found(&config, &keyring, "127.0.0.1:1".into())).unwrap();
    let restored = TestNode::start(&config, ANY_PORT.into()).unwrap();
    restored.run(restored.node.barrier()).unwrap();
    assert_eq!(restored.node.state().read(State::digest), expected.digest());
    assert!(restored.has("key 19") && !restored.has("too late"));
    restored.propose(put("goes on")).unwrap();
}

#[test]
fn a_backup_that_is_damaged_cut_or_locked_is_refused() {
    let state = snapshot::encode(&super::super::types::SnapshotMeta::default(), &State::default());
    let state = state.unwrap();
    let (key, other) = (UnlockKey::generate().unwrap(), UnlockKey::generate().unwrap());
    let plain = backup::write(&state, None).unwrap();
    for at in 0..plain.len() {
        let mut damaged = plain.clone();
        damaged[at] ^= 1;
        assert!(backup::read(&damaged, None).is_err(), "byte {at}");
        assert!(backup::read(&plain[..at], None).is_err(), "cut at {at}");
    }
    let locked = backup::write(&state, Some(&key)).unwrap();
    assert!(backup::is_locked(&locked).unwrap() && !backup::is_locked(&plain).unwrap());
    backup::read(&locked, Some(&key)).unwrap();
    assert!(matches!(backup::read(&locked, None), Err(BackupError::Locked)));
    assert!(matches!(backup::read(&locked, Some(&other)), Err(BackupError::WrongKey(_))));
}

proptest! {
    /// Whatever an operator gives for a backup, there is an answer.
    #[test]
    fn garbage_for_a_backup_is_refused(garbage in prop::collection::vec(any::<u8>(), 0..400), at in 0..400_usize) {
        prop_assert!(backup::read(&garbage, None).is_err());
        let wrapped = backup::write(&garbage, None).unwrap();
        prop_assert!(backup::read(&wrapped, None).is_err(), "a sound envelope around it");
        let state = snapshot::encode(&super::super::types::SnapshotMeta::default(), &State::default());
        let mut state = state.unwrap();
        let at = at % state.len();
        let end = (at + garbage.len()).min(state.len());
        let is_same = state[at..end] == garbage[..end - at];
        state[at..end].copy_from_slice(&garbage[..end - at]);
        let wrapped = backup::write(&state, None).unwrap();
        prop_assert_eq!(backup::read(&wrapped, None).is_ok(), is_same);
    }
}
