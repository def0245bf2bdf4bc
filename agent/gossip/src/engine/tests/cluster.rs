//! The simulated cluster: network, kernels, processes and time.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use swarmnet_types::NodeId;

use crate::engine::Engine;
use crate::members::{Condition, Liveness, Local, Member, Members};
use crate::stats::Refusal;
use crate::table::Target;
use crate::track::ECHO_TIMEOUT_MS;

const START_MS: u64 = 1_700_000_000_000;

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Datagram { from: usize, to: usize, data: Bytes },
    EchoDone { of: usize, target: Target, answered: bool },
    Wake { of: usize },
}

/// A verdict other than alive on a node that never failed: when, whose, on whom, which.
pub(super) type FalseVerdict = (u64, usize, usize, Condition);

pub(super) struct Cluster {
    pub(super) loss: f64,
    pub(super) views: Vec<Liveness>,
    pub(super) datagrams: u64,
    /// Datagrams from or about unknown nodes.
    pub(super) refused: u64,
    pub(super) false_verdicts: Vec<FalseVerdict>,
    now_ms: u64,
    rng: StdRng,
    members: Arc<Members>,
    engines: Vec<Engine>,
    /// Where each node is at this moment.
    addresses: BTreeMap<SocketAddr, usize>,
    queue: BinaryHeap<Reverse<(u64, u64, Event)>>,
    next_serial: u64,
    /// When each engine is woken next; older wakes in the queue are void.
    wake_at: Vec<u64>,
    /// Kernel and agent are gone.
    crashed: BTreeSet<usize>,
    /// The agent does not run; the kernel answers.
    stopped: BTreeSet<usize>,
    /// The nodes on the other side of a partition.
    cut: BTreeSet<usize>,
    failed_once: BTreeSet<usize>,
}

fn node(n: usize) -> NodeId {
    let mut bytes = [0; 16];
    // Spread over the ring, as random ids are.
    bytes[0] = (n * 37 % 251) as u8;
    bytes[8..].copy_from_slice(&(n as u64).to_be_bytes());
    NodeId::from_bytes(bytes)
}

impl Cluster {
    fn new(size: usize, seed: u64) -> Self {
        let member = |n| {
            let gossip = Self::address(n);
            (node(n), Member { gossip, vtep: gossip.ip(), dead_since_ms: None })
        };
        let mut cluster = Self {
            loss: 0.0,
            views: vec![Liveness::new(); size],
            datagrams: 0,
            refused: 0,
            false_verdicts: Vec::new(),
            now_ms: START_MS,
            rng: StdRng::seed_from_u64(seed),
            members: Arc::new((0..size).map(member).collect()),
            engines: Vec::new(),
            addresses: (0..size).map(|n| (Self::address(n), n)).collect(),
            queue: BinaryHeap::new(),
            next_serial: 0,
            wake_at: vec![u64::MAX; size],
            crashed: BTreeSet::new(),
            stopped: BTreeSet::new(),
            cut: BTreeSet::new(),
            failed_once: BTreeSet::new(),
        };
        for n in 0..size {
            let engine = cluster.fresh_engine(n);
            cluster.engines.push(engine);
            let after_ms = cluster.rng.random_range(0..500);
            cluster.wake(n, START_MS + after_ms);
        }
        cluster
    }

    /// A cluster in which all have heard all.
    pub(super) fn form(size: usize, seed: u64) -> Self {
        let mut cluster = Self::new(size, seed);
        let alive = |c: &Self, a, b| c.view(a, b) == Some(Condition::Alive);
        let formed = (0..200).any(|_| {
            cluster.run(50);
            (0..size).all(|a| (0..size).all(|b| alive(&cluster, a, b)))
        });
        assert!(formed, "seed {seed}: {size} nodes did not form within 10 s");
        cluster.run(2_000);
        cluster
    }

    pub(super) fn address(n: usize) -> SocketAddr {
        SocketAddr::from(([10, 0, (n / 250) as u8, (n % 250) as u8 + 1], 7946))
    }

    fn fresh_engine(&mut self, n: usize) -> Engine {
        let addr = Self::address(n);
        let me = Local { node: node(n), gossip: addr, vtep: addr.ip() };
        let mut engine = Engine::new(me, None, self.rng.random(), self.now_ms);
        engine.set_members(Arc::clone(&self.members), self.now_ms);
        engine
    }

    // === time ===

    pub(super) fn run(&mut self, ms: u64) {
        let until = self.now_ms + ms;
        while self.queue.peek().is_some_and(|Reverse((at, ..))| *at <= until) {
            let Some(Reverse((at, _, event))) = self.queue.pop() else { break };
            self.now_ms = at;
            self.handle(event);
        }
        self.now_ms = until;
    }

    /// Time until every running node but those in `of` holds all of `of` for `want`; `None` after 60 s.
    pub(super) fn time_until(&mut self, of: &[usize], want: Condition) -> Option<u64> {
        let from_ms = self.now_ms;
        while self.now_ms < from_ms + 60_000 {
            let mut watchers = (0..self.engines.len()).filter(|n| self.runs(*n) && !of.contains(n));
            if watchers.all(|w| of.iter().all(|o| self.view(w, *o) == Some(want))) {
                return Some(self.now_ms - from_ms);
            }
            self.run(50);
        }
        None
    }

    fn push(&mut self, at_ms: u64, event: Event) {
        self.next_serial += 1;
        self.queue.push(Reverse((at_ms, self.next_serial, event)));
    }

    fn wake(&mut self, n: usize, at_ms: u64) {
        self.wake_at[n] = at_ms;
        self.push(at_ms, Event::Wake { of: n });
    }

    fn handle(&mut self, event: Event) {
        let now_ms = self.now_ms;
        let (Event::Datagram { to: who, .. }
        | Event::EchoDone { of: who, .. }
        | Event::Wake { of: who }) = event;
        if self.crashed.contains(&who) {
            return;
        }
        if self.stopped.contains(&who) {
            // A frozen process takes its events up when it runs again; for one that was killed they are dropped at the restart.
            self.push(now_ms + 50, event);
            return;
        }
        match event {
            Event::Datagram { from, to, data } => {
                match self.engines[to].receive(node(from), &data, now_ms) {
                    Ok(()) => {}
                    Err(Refusal::UnknownNode) => self.refused += 1,
                    Err(other) => panic!("{other}"),
                }
            }
            Event::EchoDone { of, target, answered } => {
                self.engines[of].echoed(target, answered, now_ms);
            }
            Event::Wake { of } if self.wake_at[of] != now_ms => return,
            Event::Wake { .. } => {}
        }
        self.turn(who);
    }

    fn turn(&mut self, who: usize) {
        let now_ms = self.now_ms;
        if let Some(liveness) = self.engines[who].advance(now_ms) {
            self.note_false_verdicts(who, &liveness);
            self.views[who] = liveness;
        }
        self.drain(who);
        let wake_ms = self.engines[who].next_deadline_ms().max(now_ms + 1);
        if wake_ms != self.wake_at[who] {
            self.wake(who, wake_ms);
        }
    }

    fn note_false_verdicts(&mut self, who: usize, liveness: &Liveness) {
        for n in (0..self.engines.len()).filter(|n| !self.failed_once.contains(n)) {
            if let Some(state) = liveness.get(&node(n))
                && state.condition != Condition::Alive
            {
                self.false_verdicts.push((self.now_ms, who, n, state.condition));
            }
        }
    }

    // === network ===

    fn drain(&mut self, who: usize) {
        while let Some((to, data)) = self.engines[who].next_send() {
            self.datagrams += 1;
            let Some(&to) = self.addresses.get(&to) else { continue };
            if self.delivered(who, to) {
                let at_ms = self.now_ms + self.rng.random_range(0..3);
                self.push(at_ms, Event::Datagram { from: who, to, data });
            }
        }
        while let Some((target, addr)) = self.engines[who].next_echo() {
            let to = self.addresses.get(&SocketAddr::new(addr, 7946)).copied();
            let answered = to.is_some_and(|to| self.delivered(who, to) && self.delivered(to, who));
            let after_ms = if answered { self.rng.random_range(0..5) } else { ECHO_TIMEOUT_MS };
            self.push(self.now_ms + after_ms, Event::EchoDone { of: who, target, answered });
        }
    }

    fn delivered(&mut self, from: usize, to: usize) -> bool {
        let lost = self.rng.random_bool(self.loss);
        let linked = self.cut.contains(&from) == self.cut.contains(&to);
        !lost && linked && !self.crashed.contains(&to)
    }

    // === faults ===

    fn runs(&self, n: usize) -> bool {
        !self.crashed.contains(&n) && !self.stopped.contains(&n)
    }

    pub(super) fn crash(&mut self, n: usize) {
        self.crashed.insert(n);
        self.failed_once.insert(n);
    }

    /// Kills or freezes the agent: what follows, restart or thaw, decides.
    pub(super) fn stop(&mut self, n: usize) {
        self.stopped.insert(n);
        self.failed_once.insert(n);
    }

    pub(super) fn thaw(&mut self, n: usize) {
        self.stopped.remove(&n);
        // What the driver does after a stall.
        self.engines[n].stalled();
    }

    /// A new process on the node.
    pub(super) fn restart(&mut self, n: usize) {
        self.crashed.remove(&n);
        self.stopped.remove(&n);
        let theirs = |event: &Event| {
            matches!(event, Event::Datagram { to, .. } if *to == n)
                || matches!(event, Event::EchoDone { of, .. } if *of == n)
        };
        self.queue.retain(|Reverse((_, _, event))| !theirs(event));
        self.engines[n] = self.fresh_engine(n);
        self.views[n] = Liveness::new();
        self.wake(n, self.now_ms);
    }

    pub(super) fn cut(&mut self, side: &[usize]) {
        self.cut.extend(side);
        // Each side may hold the other for dead.
        self.failed_once.extend(0..self.engines.len());
    }

    pub(super) fn heal(&mut self) {
        self.cut.clear();
    }

    pub(super) fn leave(&mut self, n: usize) {
        self.failed_once.insert(n);
        self.engines[n].leave(self.now_ms);
        self.turn(n);
    }

    pub(super) fn move_node(&mut self, n: usize, to: usize) {
        self.addresses.remove(&Self::address(n));
        let addr = Self::address(to);
        self.addresses.insert(addr, n);
        self.engines[n].move_to(addr, addr.ip(), self.now_ms);
        self.turn(n);
    }

    /// All but the removed node itself learn of it.
    pub(super) fn remove_from_state(&mut self, n: usize) {
        self.failed_once.insert(n);
        let mut members = (*self.members).clone();
        members.remove(&node(n));
        self.members = Arc::new(members);
        for other in (0..self.engines.len()).filter(|other| *other != n) {
            self.engines[other].set_members(Arc::clone(&self.members), self.now_ms);
            self.turn(other);
        }
    }

    // === views ===

    pub(super) fn view(&self, who: usize, of: usize) -> Option<Condition> {
        self.views[who].get(&node(of)).map(|state| state.condition)
    }

    pub(super) fn vtep(&self, who: usize, of: usize) -> Option<IpAddr> {
        self.views[who].get(&node(of)).map(|state| state.addr)
    }

    pub(super) fn wrongly_dead(&self) -> Vec<FalseVerdict> {
        let dead = |verdict: &&FalseVerdict| verdict.3 == Condition::Dead;
        self.false_verdicts.iter().filter(dead).copied().collect()
    }
}
