//! Whole clusters in virtual time: many engines, one queue of events, all chance from one seed, which every failure names.

mod cluster;

use cluster::Cluster;

use crate::members::Condition::{AgentLost, Alive, Dead};

#[test]
fn clusters_form_fast_and_without_a_false_verdict() {
    for (size, seed) in [(2, 1), (3, 2), (5, 3), (20, 4), (50, 5)] {
        let mut cluster = Cluster::form(size, seed);
        cluster.run(60_000);
        assert_eq!(cluster.false_verdicts, [], "{size} nodes, seed {seed}");
    }
}

#[test]
fn the_same_seed_repeats_exactly() {
    let run = || {
        let mut cluster = Cluster::form(10, 7);
        cluster.loss = 0.1;
        cluster.crash(3);
        cluster.run(20_000);
        (cluster.datagrams, cluster.views)
    };
    assert_eq!(run(), run());
}

/// How long it takes until all see a crash, over many seeds, in ascending order.
fn detection_times_ms(size: usize, seeds: std::ops::Range<u64>, loss: f64) -> Vec<u64> {
    let one = |seed| {
        let mut cluster = Cluster::form(size, seed);
        cluster.loss = loss;
        cluster.run(1_000 + seed * 97 % 3_000);
        cluster.crash(size - 1);
        let time_ms = cluster.time_until(&[size - 1], Dead);
        assert_eq!(cluster.wrongly_dead(), [], "seed {seed}");
        time_ms.unwrap_or_else(|| panic!("seed {seed}: not seen by all"))
    };
    let mut times: Vec<u64> = seeds.map(one).collect();
    times.sort_unstable();
    println!(
        "{size} nodes, loss {loss}: median {} ms, worst {} ms",
        times[times.len() / 2],
        times[times.len() - 1]
    );
    times
}

#[test]
fn a_crash_is_seen_by_all_within_5_s() {
    for (size, seeds) in [(2, 0..60), (3, 0..60), (5, 0..60), (20, 0..30), (50, 0..12)] {
        let times = detection_times_ms(size, seeds, 0.0);
        assert!(times.iter().all(|ms| *ms <= 5_000), "{size} nodes: {times:?}");
    }
}

#[test]
fn a_crash_is_seen_in_time_on_a_lossy_network_and_nobody_dies_wrongly() {
    for (size, seeds) in [(5, 0..30), (20, 0..10)] {
        let times = detection_times_ms(size, seeds, 0.05);
        assert!(times[times.len() / 2] <= 5_000, "{size} nodes: {times:?}");
    }
}

#[test]
fn loss_alone_kills_nobody() {
    let mut cluster = Cluster::form(10, 11);
    cluster.loss = 0.1;
    cluster.run(600_000);
    assert_eq!(cluster.wrongly_dead(), []);
}

#[test]
fn a_killed_agent_is_lost_for_all_and_dead_for_nobody() {
    let mut cluster = Cluster::form(5, 21);
    cluster.stop(2);
    let time_ms = cluster.time_until(&[2], AgentLost);
    assert!(time_ms.is_some_and(|ms| ms <= 5_000), "{time_ms:?}");
    cluster.run(120_000);
    assert!((0..5).filter(|n| *n != 2).all(|n| cluster.view(n, 2) == Some(AgentLost)));
    cluster.restart(2);
    let time_ms = cluster.time_until(&[2], Alive);
    assert!(time_ms.is_some_and(|ms| ms <= 2_000), "{time_ms:?}");
    cluster.run(5_000);
    assert!((0..5).all(|n| cluster.view(2, n) == Some(Alive)));
}

#[test]
fn a_crash_is_seen_in_time_with_every_manager_stopped() {
    for seed in 0..20 {
        let mut cluster = Cluster::form(6, seed);
        (0..3).for_each(|manager| cluster.stop(manager));
        cluster.run(10_000);
        cluster.crash(4);
        let time_ms = cluster.time_until(&[4], Dead);
        assert!(time_ms.is_some_and(|ms| ms <= 5_000), "seed {seed}: {time_ms:?}");
        assert!((0..3).all(|manager| cluster.view(5, manager) == Some(AgentLost)));
    }
}

#[test]
fn a_crash_at_the_moment_the_managers_stop_is_seen_in_time() {
    for seed in 0..20 {
        let mut cluster = Cluster::form(6, seed);
        (0..3).for_each(|manager| cluster.stop(manager));
        cluster.crash(4);
        let time_ms = cluster.time_until(&[4], Dead);
        assert!(time_ms.is_some_and(|ms| ms <= 5_000), "seed {seed}: {time_ms:?}");
    }
}

#[test]
fn the_smaller_side_of_a_partition_keeps_everything_and_a_heal_brings_all_back() {
    for seed in 0..5 {
        let mut cluster = Cluster::form(7, seed);
        cluster.cut(&[5, 6]);
        cluster.run(60_000);
        assert!((0..5).all(|far| cluster.view(5, far) == Some(Alive)), "seed {seed}");
        assert!((0..5).all(|near| cluster.view(near, 6) == Some(Dead)), "seed {seed}");
        cluster.heal();
        let all: Vec<usize> = (0..7).collect();
        let healed = (0..300).any(|_| {
            cluster.run(50);
            all.iter().all(|a| all.iter().all(|b| cluster.view(*a, *b) == Some(Alive)))
        });
        assert!(healed, "seed {seed}: not whole 15 s after the heal");
    }
}

#[test]
fn a_crashed_node_that_comes_back_is_alive_again() {
    let mut cluster = Cluster::form(5, 31);
    cluster.crash(1);
    assert!(cluster.time_until(&[1], Dead).is_some());
    cluster.run(30_000);
    cluster.restart(1);
    let time_ms = cluster.time_until(&[1], Alive);
    assert!(time_ms.is_some_and(|ms| ms <= 3_000), "{time_ms:?}");
}

#[test]
fn a_frozen_agent_is_never_dead_and_wakes_up_alive() {
    let mut cluster = Cluster::form(5, 41);
    cluster.stop(2);
    cluster.run(8_000);
    cluster.thaw(2);
    let time_ms = cluster.time_until(&[2], Alive);
    assert!(time_ms.is_some_and(|ms| ms <= 3_000), "{time_ms:?}");
    cluster.run(3_000);
    assert!((0..5).all(|n| cluster.view(2, n) == Some(Alive)));
    assert_eq!(cluster.wrongly_dead(), []);
}

#[test]
fn good_bye_is_believed_at_once_by_all() {
    let mut cluster = Cluster::form(10, 51);
    cluster.leave(4);
    let time_ms = cluster.time_until(&[4], Dead);
    assert!(time_ms.is_some_and(|ms| ms <= 1_500), "{time_ms:?}");
}

#[test]
fn a_node_that_moves_is_known_by_its_new_address_everywhere() {
    let mut cluster = Cluster::form(5, 61);
    cluster.move_node(3, 200);
    cluster.run(3_000);
    assert!((0..5).all(|n| cluster.vtep(n, 3) == Some(Cluster::address(200).ip())));
    assert!((0..5).all(|n| cluster.view(n, 3) == Some(Alive)));
    cluster.run(30_000);
    assert_eq!(cluster.false_verdicts, []);
}

#[test]
fn a_removed_node_cannot_gossip_itself_back() {
    let mut cluster = Cluster::form(4, 71);
    cluster.remove_from_state(3);
    cluster.run(30_000);
    assert!((0..3).all(|n| cluster.view(n, 3).is_none()));
    assert!(cluster.refused > 0, "it was heard, and refused");
}
