//! One sentence for each verdict, over a model of which kernels answer.

use std::net::SocketAddr;

use super::*;
use crate::members::Member;
use crate::peer::START_GRACE_MS;
use crate::track::ECHO_TIMEOUT_MS;

use Condition::{AgentLost, Alive, Dead};

fn node(n: u8) -> NodeId {
    NodeId::from_bytes([n; 16])
}

fn identity(n: u8, generation: u64) -> Identity {
    let addr = SocketAddr::from(([192, 0, 2, n], 7946));
    Identity::new(node(n), generation, addr, addr.ip())
}

fn members(nodes: impl IntoIterator<Item = u8>) -> Members {
    let member = |n: u8| {
        let id = identity(n, 0);
        (id.node, Member { gossip: id.gossip, vtep: id.vtep, dead_since_ms: None })
    };
    nodes.into_iter().map(member).collect()
}

/// A table of node 1 whose peers 2..=n are all heard at time 0.
struct Bench {
    table: Table,
    now_ms: u64,
    silent: Vec<u8>,
    witness_silent: bool,
    last: Liveness,
}

impl Bench {
    fn new(n: u8) -> Self {
        Self::with_witness(n, None)
    }

    fn with_witness(n: u8, witness: Option<IpAddr>) -> Self {
        let mut table = Table::new(identity(1, 1), witness, 0);
        table.set_members(&members(1..=n), 0);
        for peer in 2..=n {
            table.gossip_up(&identity(peer, 1), 0);
        }
        Self::of(table)
    }

    fn of(mut table: Table) -> Self {
        let last = table.judge(0).unwrap();
        Self { table, now_ms: 0, silent: Vec::new(), witness_silent: false, last }
    }

    /// Lets time pass: echoes are answered at once by those who do, and lost after the timeout by the silent.
    fn run(&mut self, ms: u64) {
        let mut lost: Vec<(u64, Target)> = Vec::new();
        let until = self.now_ms + ms;
        while self.now_ms < until {
            self.now_ms += 50;
            let now_ms = self.now_ms;
            for (_, target) in lost.extract_if(.., |(at, _)| *at <= now_ms) {
                self.table.echoed(target, false, now_ms);
            }
            for (target, _) in self.table.echoes_due(now_ms) {
                let silent = match target {
                    Target::Node(node) => self.silent.contains(&node.as_bytes()[0]),
                    Target::Witness => self.witness_silent,
                };
                if silent {
                    lost.push((now_ms + ECHO_TIMEOUT_MS, target));
                } else {
                    self.table.echoed(target, true, now_ms);
                }
            }
            if let Some(liveness) = self.table.judge(now_ms) {
                self.last = liveness;
            }
        }
        for (_, target) in lost {
            self.table.echoed(target, false, self.now_ms);
        }
    }

    fn down(&mut self, nodes: &[u8]) {
        for n in nodes {
            self.table.gossip_down(&identity(*n, 1), self.now_ms);
        }
    }

    fn is(&self, n: u8) -> Option<Condition> {
        self.last.get(&node(n)).map(|state| state.condition)
    }
}

#[test]
fn an_agent_that_is_down_with_a_kernel_that_answers_is_lost_not_dead() {
    let mut bench = Bench::new(3);
    bench.down(&[2]);
    bench.run(60_000);
    assert_eq!((bench.is(2), bench.is(3)), (Some(AgentLost), Some(Alive)));
}

#[test]
fn agent_and_kernel_silent_is_dead_within_1200_ms_of_the_word() {
    let mut bench = Bench::new(3);
    bench.silent = vec![2];
    bench.down(&[2]);
    bench.run(1_200);
    assert_eq!((bench.is(2), bench.is(3)), (Some(Dead), Some(Alive)));
}

#[test]
fn a_kernel_alone_that_is_silent_is_alive() {
    let mut bench = Bench::new(3);
    bench.silent = vec![2];
    bench.run(60_000);
    assert_eq!(bench.is(2), Some(Alive));
}

#[test]
fn echoes_begin_at_the_suspicion() {
    let mut bench = Bench::new(3);
    bench.silent = vec![2];
    bench.table.set_suspects(&[node(2)]);
    bench.run(1_200);
    assert_eq!(bench.is(2), Some(Alive), "suspicion alone is no verdict");
    bench.down(&[2]);
    bench.run(50);
    assert_eq!(bench.is(2), Some(Dead));
}

#[test]
fn the_kernel_of_a_lost_agent_dies_within_the_bound() {
    let mut bench = Bench::new(3);
    bench.down(&[2]);
    bench.run(10_000);
    assert_eq!(bench.is(2), Some(AgentLost));
    bench.silent = vec![2];
    bench.run(4_000);
    assert_eq!(bench.is(2), Some(Dead));
}

#[test]
fn the_kernel_of_a_lost_agent_may_lose_some_echoes() {
    let mut bench = Bench::new(3);
    bench.down(&[2]);
    bench.run(10_000);
    for _ in 0..20 {
        bench.silent = vec![2];
        bench.run(1_000);
        bench.silent.clear();
        bench.run(1_000);
        assert_eq!(bench.is(2), Some(AgentLost));
    }
}

#[test]
fn dead_stays_dead_until_gossip_hears_the_agent() {
    let mut bench = Bench::new(3);
    bench.silent = vec![2];
    bench.down(&[2]);
    bench.run(2_000);
    bench.silent.clear();
    bench.run(10_000);
    assert_eq!(bench.is(2), Some(Dead), "an answering kernel may be a reboot");
    bench.table.gossip_up(&identity(2, 2), bench.now_ms);
    bench.run(100);
    let state = &bench.last[&node(2)];
    assert_eq!((state.condition, state.incarnation), (Alive, 2));
}

#[test]
fn a_suspect_is_in_doubt_until_it_is_heard_or_dead() {
    let mut bench = Bench::new(4);
    let doubts = |bench: &Bench| bench.table.doubts(bench.now_ms);
    assert!(doubts(&bench).is_empty());
    bench.table.set_suspects(&[node(2)]);
    assert_eq!(doubts(&bench), [node(2)].into());
    bench.table.gossip_up(&identity(2, 1), bench.now_ms);
    assert!(doubts(&bench).is_empty(), "it refuted");
    bench.silent = vec![2];
    bench.down(&[2, 3]);
    assert_eq!(doubts(&bench), [node(2), node(3)].into(), "before any verdict");
    bench.run(2_000);
    assert_eq!((bench.is(2), bench.is(3)), (Some(Dead), Some(AgentLost)));
    assert_eq!(doubts(&bench), [node(3)].into(), "of the dead there is no doubt");
}

#[test]
fn one_that_says_good_bye_is_dead_at_once() {
    let mut bench = Bench::new(3);
    let left = Identity { left: true, ..identity(2, 2) };
    bench.table.renamed(&left);
    bench.run(50);
    assert_eq!(bench.is(2), Some(Dead));
    bench.table.gossip_down(&left, bench.now_ms);
    bench.run(10_000);
    assert_eq!(bench.is(2), Some(Dead));
}

#[test]
fn more_than_half_silent_at_once_keeps_everything() {
    for (n, gone) in [(3, 2), (5, 3), (6, 3), (30, 15), (50, 49)] {
        let mut bench = Bench::new(n);
        let vanished: Vec<u8> = (2..2 + gone).collect();
        bench.silent.clone_from(&vanished);
        bench.down(&vanished);
        bench.run(120_000);
        assert!(vanished.iter().all(|v| bench.is(*v) == Some(Alive)), "{gone} of {}", n - 1);
        assert!(bench.table.is_cut_off());
    }
}

#[test]
fn half_or_fewer_silent_at_once_are_dead() {
    for (n, gone) in [(3, 1), (5, 2), (6, 2), (30, 14)] {
        let mut bench = Bench::new(n);
        let vanished: Vec<u8> = (2..2 + gone).collect();
        bench.silent.clone_from(&vanished);
        bench.down(&vanished);
        bench.run(3_000);
        assert!(vanished.iter().all(|v| bench.is(*v) == Some(Dead)), "{gone} of {}", n - 1);
        assert!(!bench.table.is_cut_off());
    }
}

#[test]
fn being_cut_off_is_seen_although_gossip_finds_out_one_by_one() {
    let mut bench = Bench::new(50);
    bench.silent = (2..=50).collect();
    for n in 2..=50 {
        bench.run(700);
        bench.down(&[n]);
    }
    bench.run(10_000);
    assert!(bench.last.values().all(|state| state.condition == Alive));
}

#[test]
fn the_end_of_being_cut_off_leaves_those_that_really_died() {
    let mut bench = Bench::new(5);
    bench.silent = vec![2, 3, 4, 5];
    bench.down(&[2, 3, 4, 5]);
    bench.run(20_000);
    assert_eq!(bench.is(2), Some(Alive));
    bench.silent = vec![2];
    for n in 3..=5 {
        bench.table.gossip_up(&identity(n, 2), bench.now_ms);
    }
    bench.run(3_000);
    assert_eq!((bench.is(2), bench.is(3)), (Some(Dead), Some(Alive)));
    assert!(!bench.table.is_cut_off());
}

#[test]
fn a_crash_after_all_managers_were_stopped_is_seen() {
    let mut bench = Bench::new(6);
    bench.down(&[2, 3, 4]);
    bench.run(10_000);
    bench.silent = vec![5];
    bench.down(&[5]);
    bench.run(1_500);
    let seen = [2, 3, 4, 5, 6].map(|n| bench.is(n).unwrap());
    assert_eq!(seen, [AgentLost, AgentLost, AgentLost, Dead, Alive]);
}

#[test]
fn deaths_one_after_another_are_seen_down_to_the_last() {
    let mut bench = Bench::new(4);
    for n in [2, 3, 4] {
        bench.silent.push(n);
        bench.down(&[n]);
        bench.run(5_000);
        assert_eq!(bench.is(n), Some(Dead), "{n}");
    }
}

#[test]
fn the_only_peer_dies_unless_the_witness_is_silent_too() {
    let witness = IpAddr::from([192, 0, 2, 254]);
    for (witness, witness_silent, want) in
        [(None, false, Dead), (Some(witness), false, Dead), (Some(witness), true, Alive)]
    {
        let mut bench = Bench::with_witness(2, witness);
        bench.silent = vec![2];
        bench.witness_silent = witness_silent;
        bench.down(&[2]);
        bench.run(5_000);
        assert_eq!(bench.is(2), Some(want), "{witness:?} silent: {witness_silent}");
    }
}

#[test]
fn after_a_start_a_member_never_heard_is_judged_by_its_kernel() {
    let mut table = Table::new(identity(1, 1), None, 0);
    table.set_members(&members(1..=5), 0);
    for peer in 4..=5 {
        table.gossip_up(&identity(peer, 1), 0);
    }
    let mut bench = Bench::of(table);
    bench.silent = vec![2];
    bench.run(START_GRACE_MS - 100);
    assert_eq!((bench.is(2), bench.is(3)), (None, None), "no verdict before the grace is over");
    bench.run(2_000);
    assert_eq!((bench.is(2), bench.is(3)), (Some(Dead), Some(AgentLost)));
}

#[test]
fn a_node_known_for_dead_is_dead_until_heard() {
    let mut table = Table::new(identity(1, 1), None, 0);
    let mut all = members(1..=3);
    all.get_mut(&node(2)).unwrap().dead_since_ms = Some(7);
    table.set_members(&all, 0);
    let mut bench = Bench::of(table);
    assert_eq!((bench.is(2), bench.last[&node(2)].since_ms), (Some(Dead), 7), "from the start");
    bench.run(10_000);
    assert_eq!((bench.is(2), bench.is(3)), (Some(Dead), Some(AgentLost)));
    bench.table.gossip_up(&identity(2, 1), bench.now_ms);
    bench.run(50);
    assert_eq!(bench.is(2), Some(Alive));
    // What was known before counts once: our own verdict stands.
    bench.table.set_members(&all, bench.now_ms);
    bench.run(50);
    assert_eq!(bench.is(2), Some(Alive));
}

#[test]
fn those_known_for_dead_have_no_say_in_whether_we_are_cut_off() {
    let mut table = Table::new(identity(1, 1), None, 0);
    let mut all = members(1..=6);
    for n in 2..=4 {
        all.get_mut(&node(n)).unwrap().dead_since_ms = Some(0);
    }
    table.set_members(&all, 0);
    table.gossip_up(&identity(5, 1), 0);
    table.gossip_up(&identity(6, 1), 0);
    let mut bench = Bench::of(table);
    bench.silent = vec![2, 3, 4];
    bench.run(10_000);
    assert_eq!([2, 3, 4, 5].map(|n| bench.is(n)), [Dead, Dead, Dead, Alive].map(Some));
    bench.silent.push(6);
    bench.down(&[6]);
    bench.run(2_000);
    assert_eq!(bench.is(6), Some(Dead), "half of those that were alive say so");
}

/// A host that left and joined again, as nodes 2, 3 and now 4.
fn rejoined(heard: impl IntoIterator<Item = u8>) -> Bench {
    let mut table = Table::new(identity(1, 1), None, 0);
    let mut all = members(1..=5);
    for n in 2..=3 {
        all.get_mut(&node(n)).unwrap().vtep = identity(4, 0).vtep;
    }
    table.set_members(&all, 0);
    for n in heard {
        table.gossip_up(&identity(n, 1), 0);
    }
    Bench::of(table)
}

#[test]
fn a_host_that_joined_again_is_not_what_it_was_before() {
    let mut bench = rejoined([4, 5]);
    bench.run(START_GRACE_MS + 1_000);
    assert_eq!([2, 3, 4].map(|n| bench.is(n)), [Dead, Dead, Alive].map(Some));
    let mut all = members(1..=3);
    all.get_mut(&node(2)).unwrap().vtep = identity(1, 0).vtep;
    let mut table = Table::new(identity(1, 1), None, 0);
    table.set_members(&all, 0);
    let mut bench = Bench::of(table);
    bench.run(START_GRACE_MS + 1_000);
    assert_eq!(bench.is(2), Some(Dead), "its host is this one now");
}

#[test]
fn a_host_has_one_vote_under_however_many_ids() {
    let mut bench = rejoined([4, 5]);
    bench.silent = vec![2, 3, 4];
    bench.down(&[4]);
    bench.run(START_GRACE_MS + 2_000);
    assert_eq!([2, 3, 4, 5].map(|n| bench.is(n)), [Dead, Dead, Dead, Alive].map(Some));
    assert!(!bench.table.is_cut_off());
}

#[test]
fn the_gossiped_address_wins_over_the_state() {
    let mut bench = Bench::new(3);
    let moved = IpAddr::from([198, 51, 100, 7]);
    bench.table.renamed(&Identity { vtep: moved, ..identity(2, 2) });
    bench.table.set_members(&members(1..=3), bench.now_ms);
    bench.run(50);
    assert_eq!(bench.last[&node(2)].addr, moved);
    // An outdated word about it changes nothing.
    bench.table.renamed(&identity(2, 1));
    bench.run(50);
    assert_eq!(bench.last[&node(2)].addr, moved);
}

#[test]
fn a_removed_member_is_forgotten() {
    let mut bench = Bench::new(3);
    let gone = bench.table.set_members(&members([1, 3]), 0);
    assert_eq!(gone, [identity(2, 1)]);
    bench.run(50);
    assert_eq!((bench.is(2), bench.last.len()), (None, 2));
}

#[test]
fn a_stall_of_our_own_makes_silence_count_anew() {
    let mut bench = Bench::new(3);
    bench.silent = vec![2];
    bench.table.set_suspects(&[node(2)]);
    bench.run(2_000);
    bench.table.distrust();
    bench.silent.clear();
    bench.down(&[2]);
    bench.run(2_000);
    assert_eq!(bench.is(2), Some(AgentLost));
}

#[test]
fn an_outdated_datagram_is_no_sign_of_life() {
    let mut bench = Bench::new(3);
    bench.table.gossip_up(&identity(2, 9), 0);
    bench.silent = vec![2];
    bench.table.gossip_down(&identity(2, 9), 0);
    for _ in 0..30 {
        bench.table.heard(&identity(2, 8), bench.now_ms);
        bench.run(100);
    }
    assert_eq!(bench.is(2), Some(Dead));
}
