//! Managers together: elections, lost leaders, lost majorities, lagging followers, changes of the members.

use std::time::{Duration, Instant};

use swarmnet_proto::v1::RaftMessage;
use swarmnet_proto::v1::raft_client::RaftClient;
use swarmnet_proto::wire::{SPOKEN, Spoken};
use swarmnet_types::Revision;
use tempfile::TempDir;
use tonic::Code;

use super::super::*;
use super::support::{PATIENCE, TestNode, Trio, commands, config, connector, put};

const ANY_PORT: ([u8; 4], u16) = ([127, 0, 0, 1], 0);

fn single(config: &RaftConfig) -> TestNode {
    let node = TestNode::start(config, ANY_PORT.into()).unwrap();
    match node.run(node.node.bootstrap([(config.me, node.addr.to_string())].into())) {
        Ok(()) => drop(node.propose(commands::init()).unwrap()),
        Err(RaftError::AlreadyBootstrapped) => {}
        Err(err) => panic!("{err}"),
    }
    node
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "not in {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_single_node_restarts_with_what_it_acknowledged() {
    let dir = TempDir::new().unwrap();
    let config = config(dir.path(), 1);
    let node = single(&config);
    assert!(node.run(node.node.is_initialized()).unwrap());
    let (revision, _) = node.propose(put("kept")).unwrap();
    node.kill();
    let node = single(&config);
    assert!(node.has("kept"), "known before the first election: the commit was saved");
    assert!(node.run(node.node.barrier()).unwrap() >= revision);
}

#[test]
fn concurrent_proposals_share_entries() {
    let dir = TempDir::new().unwrap();
    let node = single(&config(dir.path(), 1));
    let (before, _) = node.propose(put("first")).unwrap();
    let last = node.run(async {
        let keys: Vec<_> = (0..500).map(|n| format!("key {n}")).collect();
        let writes = keys.iter().map(|key| node.node.propose(put(key)));
        let written = futures_util::future::join_all(writes).await;
        written.into_iter().map(|result| result.unwrap().0).max().unwrap()
    });
    assert!(last.0 - before.0 < 50, "500 proposals took {} entries", last.0 - before.0);
    assert!((0..500).all(|n| node.has(&format!("key {n}"))));
}

#[test]
fn a_dead_leader_is_replaced_and_nothing_acknowledged_is_lost() {
    let mut trio = Trio::start(|_| {});
    let leader = trio.leader();
    let other = leader % 3 + 1;
    let told = trio.node(other).propose(put("redirected")).unwrap_err();
    let named = matches!(&told, ProposeError::NotLeader { leader: Some(to) } if to.node == leader);
    assert!(named, "{told}");
    for n in 0..50 {
        trio.write(&format!("before {n}"));
    }
    trio.kill(leader);
    let dead = Instant::now();
    let revision = trio.write("after");
    let gap = dead.elapsed();
    println!("writes resumed after {gap:?}");
    assert!(gap < Duration::from_secs(2), "writes resumed after {gap:?}");
    trio.revive(leader);
    for (id, node) in trio.alive() {
        node.wait_applied(revision);
        let lost: Vec<_> = (0..50).filter(|n| !node.has(&format!("before {n}"))).collect();
        assert!(lost.is_empty() && node.has("after"), "manager {id} lost {lost:?}");
    }
}

#[test]
fn any_manager_reads_what_was_acknowledged_before() {
    let trio = Trio::start(|_| {});
    for n in 0..20 {
        let key = format!("key {n}");
        trio.write(&key);
        for (id, node) in trio.alive() {
            node.run(node.node.barrier()).unwrap();
            assert!(node.has(&key), "manager {id} does not know {key}");
        }
    }
}

#[test]
fn without_a_majority_writes_fail_with_swarms_sentence_and_come_back_by_themselves() {
    let mut trio = Trio::start(|config| config.quorum_timeout = Duration::from_millis(1500));
    let leader = trio.leader();
    let others: Vec<u64> = (1..=3).filter(|id| *id != leader).collect();
    trio.kill(others[0]);
    trio.kill(others[1]);
    for n in 0..3 {
        let err = trio.node(leader).propose(put(&format!("lost {n}"))).unwrap_err();
        assert!(matches!(err, ProposeError::QuorumLost), "{err}");
        assert_eq!(err.to_string(), QUORUM_LOST);
    }
    let read = trio.node(leader);
    assert!(matches!(read.run(read.node.barrier()), Err(RaftError::QuorumLost)));
    trio.revive(others[0]);
    trio.write("again");
}

#[test]
fn a_follower_that_lags_behind_the_log_gets_a_snapshot() {
    let mut trio = Trio::start(|config| {
        config.snapshot_every = 40;
        config.snapshot_keep = 5;
    });
    let leader = trio.leader();
    let follower = leader % 3 + 1;
    trio.kill(follower);
    let mut last = Revision(0);
    for n in 0..150 {
        last = trio.write(&format!("key {n}"));
    }
    let purged = || trio.node(trio.leader()).node.status().purged.unwrap_or(0);
    until("the leader shortens its log", || purged() > 60);
    trio.revive(follower);
    let revived = trio.node(follower);
    revived.wait_applied(last);
    assert!((0..150).all(|n| revived.has(&format!("key {n}"))));
    until("the follower has a snapshot", || revived.node.status().snapshot.unwrap_or(0) > 60);
    let digest = |node: &TestNode| node.node.state().read(swarmnet_manager_core::State::digest);
    let reference = trio.alive().next().unwrap().1;
    reference.wait_applied(last);
    until("both states are equal", || digest(reference) == digest(revived));
}

#[test]
fn a_large_log_makes_a_snapshot_early() {
    let dir = TempDir::new().unwrap();
    let config = RaftConfig { snapshot_bytes: 20_000, snapshot_keep: 1, ..config(dir.path(), 1) };
    let node = single(&config);
    for n in 0..40 {
        node.propose(put(&format!("{n:0>1000}"))).unwrap();
    }
    until("there is a snapshot", || node.node.status().snapshot.is_some());
    until("the log is short", || node.node.status().purged.is_some());
}

#[test]
fn managers_are_added_and_removed() {
    let dirs: Vec<_> = (0..3).map(|_| TempDir::new().unwrap()).collect();
    let first = single(&config(dirs[0].path(), 1));
    first.propose(put("before")).unwrap();
    let second = TestNode::start(&config(dirs[1].path(), 2), ANY_PORT.into()).unwrap();
    assert!(!second.run(second.node.is_initialized()).unwrap());
    let third = TestNode::start(&config(dirs[2].path(), 3), ANY_PORT.into()).unwrap();
    let matched = |id: u64| first.node.status().members[&id].matched;
    for (id, node) in [(2, &second), (3, &third)] {
        first.run(first.node.add_learner(id, node.addr.to_string())).unwrap();
        until("it has caught up", || matched(id) >= Some(first.node.status().membership));
        first.run(first.node.make_voter(id)).unwrap();
        assert!(node.has("before") || node.run(node.node.barrier()).is_ok());
    }
    let voters = first.node.status().members.values().filter(|member| member.voter).count();
    assert_eq!(voters, 3);
    let absent = first.run(first.node.make_voter(9));
    assert!(matches!(absent, Err(RaftError::Membership { .. })), "{absent:?}");
    first.run(first.node.add_learner(9, "127.0.0.1:9".into())).unwrap();
    assert!(!first.node.status().members[&9].voter);
    for gone in [9, 3, 7] {
        first.run(first.node.remove_member(gone)).unwrap();
    }
    assert_eq!(first.node.status().members.keys().copied().collect::<Vec<_>>(), [1, 2]);
    second.kill();
    assert!(matches!(first.propose(put("alone")), Err(ProposeError::QuorumLost)));
}

#[test]
fn a_leader_takes_itself_out_and_the_others_go_on() {
    let trio = Trio::start(|_| {});
    let leader = trio.leader();
    trio.write("before");
    trio.node(leader).run(trio.node(leader).node.remove_member(leader)).unwrap();
    let left = Instant::now();
    let others = || trio.alive().filter(|(id, _)| *id != leader);
    until("another leads", || others().any(|(_, node)| node.node.is_leader()));
    println!("another leads after {:?}", left.elapsed());
    let (_, next) = others().find(|(_, node)| node.node.is_leader()).expect("it was seen");
    next.propose(put("after")).unwrap();
    let status = next.node.status();
    assert!(!status.members.contains_key(&leader) && status.applied.0 >= status.membership);
    assert!(!trio.node(leader).node.is_leader());
}

#[test]
fn a_cluster_is_bootstrapped_once() {
    let dir = TempDir::new().unwrap();
    let node = single(&config(dir.path(), 1));
    node.propose(put("a")).unwrap();
    let members = || [(1, node.addr.to_string())].into();
    let again = node.run(node.node.bootstrap(members()));
    assert!(matches!(again, Err(RaftError::AlreadyBootstrapped)), "{again:?}");
}

#[test]
fn what_a_peer_cannot_read_it_refuses() {
    let dir = TempDir::new().unwrap();
    let node = single(&config(dir.path(), 1));
    let codes = node.run(async {
        let mut client = RaftClient::new(connector()(1, &node.addr.to_string()));
        let newer = RaftMessage { version: 2, ..RaftMessage::default() };
        let garbage =
            RaftMessage { version: 1, payload: vec![0xff; 40].into(), ..RaftMessage::default() };
        let refused = client.vote(newer.clone()).await.unwrap_err();
        assert_eq!(
            refused.message(),
            "the other manager speaks version 2 of the protocol between daemons, this manager version 1: upgrade swarmnet on the manager"
        );
        assert_eq!(Spoken::of_refusal(&refused), Some(SPOKEN));
        [
            refused.code(),
            client.append_entries(newer).await.unwrap_err().code(),
            client.append_entries(garbage.clone()).await.unwrap_err().code(),
            client.install_snapshot(garbage).await.unwrap_err().code(),
        ]
    });
    let (newer, garbage) = (Code::FailedPrecondition, Code::InvalidArgument);
    assert_eq!(codes, [newer, newer, garbage, garbage]);
    node.propose(put("still serves")).unwrap();
}

#[test]
fn shutdown_releases_the_folder_and_refuses_proposals() {
    let dir = TempDir::new().unwrap();
    let config = config(dir.path(), 1);
    let node = single(&config);
    node.propose(put("a")).unwrap();
    assert!(node.run(node.node.shutdown()).is_clean());
    assert!(matches!(node.propose(put("b")), Err(ProposeError::Stopped { .. })));
    assert!(single(&config).has("a"));
}
