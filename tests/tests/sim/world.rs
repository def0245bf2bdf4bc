//! The world of a run: machines, network, time, and whose turn it is. Everything happens in one thread in the order of one queue.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use swarmnet_dataplane::model::ModelKernel;
use swarmnet_gossip::Target;
use swarmnet_manager_core::{
    CertificateAuthority, ClusterInit, Command, JoinNode, NodeTls, Proposal, Secret,
};
use swarmnet_types::{Availability, ClusterId, NodeDescription, NodeId, Role};
use tempfile::TempDir;

use crate::Ms;
use crate::agent::{Agent, Store};
use crate::bugs::Bug;
use crate::client::Calls;
use crate::context::Context;
use crate::faults::{self, Kind, Undo};
use crate::invariants::{converged, held, plane};
use crate::manager::Manager;
use crate::network::Network;
use crate::operator;
use crate::packet::{Envelope, Packet, Place};
use crate::raft::{Disk, Role as RaftRole};
use crate::rng::Rng;
use crate::trace::Trace;
use crate::truth::Truth;

/// The first so many are managers too.
pub(crate) const MANAGERS: usize = 3;
pub(crate) const MACHINES: usize = 5;
/// Unix ms at the start of a run.
pub(crate) const EPOCH_MS: u64 = 1_700_000_000_000;
/// How often a process looks at its clock.
const TICK_MS: Ms = 20;
const ECHO_TIMEOUT_MS: Ms = 300;
/// The faults of a run end in this span.
const CHAOS_MS: (Ms, Ms) = (6_000, 18_000);
/// After the faults, all must be well within this time: elections, gossip's way back from a partition, the pauses of retries.
const SETTLE_MS: Ms = 40_000;

pub(crate) fn node_id(machine: usize) -> NodeId {
    let mut bytes = [0x5a; 16];
    // Spread over the ring, as random ids are.
    bytes[0] = u8::try_from(machine * 97 % 251).expect("below 251");
    NodeId::from_bytes(bytes)
}

pub(crate) fn address(machine: usize) -> SocketAddr {
    let last = u8::try_from(machine + 1).expect("a few machines");
    (Ipv4Addr::new(192, 0, 2, last), 2377).into()
}

pub(crate) fn machine_at(addr: IpAddr) -> Option<usize> {
    (0..MACHINES).find(|m| address(*m).ip() == addr)
}

#[derive(Debug)]
enum Event {
    Deliver { envelope: Box<Envelope>, life: u64 },
    Tick { machine: usize },
    Echo { machine: usize, life: u64, target: Target, answered: bool },
    Fault,
    Undo(Undo),
    Work,
    Heal,
}

#[derive(Debug)]
struct Queued {
    at: Ms,
    serial: u64,
    event: Event,
}

impl PartialEq for Queued {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Queued {}

impl PartialOrd for Queued {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Queued {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.at, self.serial).cmp(&(other.at, other.serial))
    }
}

#[derive(Debug)]
pub(crate) struct Machine {
    /// Counts the starts of the daemon; what was meant for an earlier one is lost.
    life: u64,
    manager: Option<Box<Manager>>,
    agent: Option<Box<Agent>>,
    /// Disk and store of a daemon that does not run.
    disk: Disk,
    store: Store,
    kernel: Arc<ModelKernel>,
    dir: TempDir,
    pub(crate) flush_ms: Ms,
    pub(crate) apply_ms: Ms,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) now: Ms,
    pub(crate) rng: Rng,
    pub(crate) network: Network,
    pub(crate) machines: Vec<Machine>,
    pub(crate) truth: Truth,
    pub(crate) trace: Trace,
    pub(crate) skews: Vec<i64>,
    queue: BinaryHeap<Reverse<Queued>>,
    serial: u64,
    kinds: Vec<Kind>,
    operator: Calls,
    bug: Option<Bug>,
    healed: Option<Ms>,
    /// Entries whose state was compared with the sandboxes that live.
    checked: u64,
}

impl Machine {
    fn new(disk: Disk) -> Self {
        let mut machine = Self {
            life: 0,
            manager: None,
            agent: None,
            disk,
            store: Store::default(),
            kernel: Arc::default(),
            dir: tempfile::tempdir().expect("a folder"),
            flush_ms: 0,
            apply_ms: 0,
        };
        machine.at_speed();
        machine
    }

    pub(crate) fn at_speed(&mut self) {
        (self.flush_ms, self.apply_ms) = (8, 20);
    }
}

/// Nobody checks certificates here.
fn authority() -> CertificateAuthority {
    CertificateAuthority {
        cert_pem: String::new(),
        key_pem: Secret::default(),
        fingerprint: [0; 32],
    }
}

/// The first entry of every log: a cluster of all machines.
fn founding(rng: &mut Rng) -> Vec<Proposal> {
    let description = |machine: usize| NodeDescription {
        name: format!("m{machine}"),
        addr: address(machine),
        data_path: address(machine).ip(),
        version: "0.1.0".into(),
    };
    let join = |machine: usize| JoinNode {
        node: node_id(machine),
        role: if machine < MANAGERS { Role::Manager } else { Role::Worker },
        availability: Availability::Active,
        description: description(machine),
        tls: NodeTls::by(&authority(), 0),
        token: None,
    };
    let init = Command::InitCluster(Box::new(ClusterInit {
        id: ClusterId::from_bytes([0xc1; 16]),
        ca: authority(),
        worker_token: Secret::new(*b"worker"),
        manager_token: Secret::new(*b"manager"),
        pools: Vec::new(),
        // Few addresses, so that they are soon given to somebody else.
        pool_mask_len: 28,
        data_path_port: 4789,
        cert_expiry_ms: 1_000_000,
        gossip_secret: [1; 32],
        ingress: Vec::new(),
        avoid: Vec::new(),
        first: join(0),
    }));
    let joins = (1..MACHINES).map(|machine| Command::JoinNode(join(machine)));
    let proposal =
        |command| Proposal { command, now_ms: EPOCH_MS, seed: rng.bytes(), request_id: [0; 16] };
    std::iter::once(init).chain(joins).map(proposal).collect()
}

// === a run ===

impl World {
    pub(crate) fn new(seed: u64, bug: Option<Bug>, loud: bool) -> Self {
        let mut rng = Rng::new(seed);
        let founding = founding(&mut rng);
        let disk = |machine| {
            if machine < MANAGERS { Disk::founded(founding.clone()) } else { Disk::default() }
        };
        let kinds = faults::kinds(&mut rng);
        let mut world = Self {
            now: 0,
            network: Network::new(),
            machines: (0..MACHINES).map(|m| Machine::new(disk(m))).collect(),
            truth: Truth::new(),
            trace: Trace::new(loud),
            skews: vec![i64::try_from(EPOCH_MS).expect("this century"); MACHINES],
            queue: BinaryHeap::new(),
            serial: 0,
            kinds,
            operator: Calls::new(Place::Operator(0), 0),
            bug,
            healed: None,
            checked: 0,
            rng,
        };
        for machine in 0..MACHINES {
            world.start(machine);
            let at = world.rng.below(TICK_MS);
            world.push(at, Event::Tick { machine });
        }
        let heal_at = world.rng.between(CHAOS_MS.0, CHAOS_MS.1);
        world.push(1_000, Event::Work);
        world.push(2_500, Event::Fault);
        world.push(heal_at, Event::Heal);
        world
    }

    /// Until all is well after the last fault, or something is not.
    pub(crate) fn run(&mut self) {
        let mut look_at = 0;
        while self.truth.violation.is_none()
            && let Some(Reverse(queued)) = self.queue.pop()
        {
            self.now = queued.at;
            self.handle(queued.event);
            self.check_held();
            let Some(healed) = self.healed.filter(|_| self.now >= look_at) else { continue };
            look_at = self.now + 100;
            let missing = self.missing();
            if missing.is_empty() {
                return self.check_rest();
            }
            if self.now > healed + SETTLE_MS {
                let verdict = converged::check(&missing, self.now - healed);
                self.truth.hold(converged::NAME, verdict);
            }
        }
    }

    fn push(&mut self, after: Ms, event: Event) {
        self.serial += 1;
        let queued = Queued { at: self.now + after, serial: self.serial, event };
        self.queue.push(Reverse(queued));
    }

    pub(crate) fn undo_after(&mut self, after: Ms, undo: Undo) {
        self.push(after, Event::Undo(undo));
    }

    pub(crate) fn note(&mut self, what: fmt::Arguments<'_>) {
        self.trace.line(self.now, what);
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Deliver { envelope, life } => self.deliver(*envelope, life),
            Event::Tick { machine } => {
                self.tick(machine);
                self.push(TICK_MS, Event::Tick { machine });
            }
            Event::Echo { machine, life, target, answered } => {
                if self.machines[machine].life == life {
                    self.with_agent(machine, |agent, context| {
                        agent.echoed(target, answered, context);
                    });
                }
            }
            Event::Fault if self.healed.is_none() => {
                if let Some(kind) = self.rng.pick(&self.kinds).copied() {
                    self.truth.counts.faults += 1;
                    faults::strike(self, kind);
                }
                let after = faults::pause(&mut self.rng);
                self.push(after, Event::Fault);
            }
            Event::Work if self.healed.is_none() => {
                self.work();
                let after = self.rng.between(20, 250);
                self.push(after, Event::Work);
            }
            Event::Fault | Event::Work => {}
            // What a fault of before left is over as well.
            Event::Undo(_) if self.healed.is_some() => {}
            Event::Undo(undo) => faults::undo(self, undo),
            Event::Heal => self.heal(),
        }
    }

    fn tick(&mut self, machine: usize) {
        self.with_manager(machine, Manager::tick);
        self.with_agent(machine, Agent::tick);
        if machine == 0 {
            self.with_operator(|calls, context| drop(calls.tick(context)));
        }
    }

    fn heal(&mut self) {
        self.note(format_args!("heal"));
        self.healed = Some(self.now);
        self.network.heal();
        for machine in 0..MACHINES {
            self.machines[machine].at_speed();
            if self.machines[machine].agent.is_none() {
                self.start(machine);
            }
        }
    }

    /// Somebody wants something.
    fn work(&mut self) {
        let machine = self.rng.index(MACHINES);
        match self.rng.below(10) {
            0..=3 => {
                let command = operator::wish(&mut self.rng);
                self.with_operator(|calls, context| {
                    calls.begin(command, context);
                });
            }
            4..=6 => self.with_agent(machine, |agent, context| {
                let network = operator::network(context.rng);
                let service = context.rng.chance(600).then(|| operator::service(context.rng));
                agent.begin_sandbox(&network, service, context);
            }),
            7 | 8 => self.with_agent(machine, Agent::stop_one),
            _ => self.with_agent(machine, Agent::change_one),
        }
    }
}

// === processes ===

impl World {
    pub(crate) fn start(&mut self, at: usize) {
        if self.machines[at].agent.is_some() {
            return;
        }
        self.note(format_args!("machine {at} starts"));
        let machine = &mut self.machines[at];
        machine.life += 1;
        let life = machine.life;
        let (disk, store) = (std::mem::take(&mut machine.disk), std::mem::take(&mut machine.store));
        let kernel = Arc::clone(&machine.kernel);
        let dir = machine.dir.path().to_owned();
        let (manager, agent) = self.with_context(|context| {
            let manager =
                (at < MANAGERS).then(|| Box::new(Manager::start(at, disk, life, context)));
            (manager, Box::new(Agent::start(at, store, life, (kernel, &dir), context)))
        });
        self.machines[at].manager = manager;
        self.machines[at].agent = Some(agent);
    }

    /// The daemon ends without a word.
    pub(crate) fn stop(&mut self, at: usize) {
        let written = self.rng.chance(300);
        let machine = &mut self.machines[at];
        if let Some(manager) = machine.manager.take() {
            machine.disk = manager.raft.crash(written);
        }
        if let Some(agent) = machine.agent.take() {
            machine.store = agent.into_store();
        }
        self.note(format_args!("machine {at} stops"));
    }

    /// Of a machine whose daemon does not run.
    pub(crate) fn lose_kernel(&mut self, at: usize) {
        let machine = &mut self.machines[at];
        machine.kernel = Arc::default();
        Agent::lose_sandboxes(&mut machine.store);
    }

    /// Likewise.
    pub(crate) fn lose_view(&mut self, at: usize) {
        self.machines[at].store.view = None;
    }

    pub(crate) fn leader(&self) -> Option<usize> {
        let managers = self.machines.iter().enumerate();
        let leaders = managers.filter_map(|(at, m)| {
            let raft = &m.manager.as_ref()?.raft;
            (raft.role == RaftRole::Leader).then(|| (raft.term(), at))
        });
        leaders.max().map(|(_, at)| at)
    }

    fn with_context<T>(&mut self, work: impl FnOnce(&mut Context<'_>) -> T) -> T {
        let mut out = Vec::new();
        let mut context = Context {
            now: self.now,
            rng: &mut self.rng,
            out: &mut out,
            truth: &mut self.truth,
            trace: &mut self.trace,
            bug: self.bug,
            skews: &self.skews,
        };
        let done = work(&mut context);
        for envelope in out {
            self.route(&envelope);
        }
        done
    }

    fn with_manager(&mut self, at: usize, work: impl FnOnce(&mut Manager, &mut Context<'_>)) {
        let machine = &mut self.machines[at];
        let Some(mut manager) = machine.manager.take() else { return };
        (manager.flush_ms, manager.apply_ms) = (machine.flush_ms, machine.apply_ms);
        self.with_context(|context| work(&mut manager, context));
        self.machines[at].manager = Some(manager);
    }

    fn with_agent(&mut self, at: usize, work: impl FnOnce(&mut Agent, &mut Context<'_>)) {
        let Some(mut agent) = self.machines[at].agent.take() else { return };
        self.with_context(|context| work(&mut agent, context));
        while let Some((target, addr)) = agent.next_echo() {
            self.echo(at, target, addr);
        }
        self.machines[at].agent = Some(agent);
    }

    fn with_operator(&mut self, work: impl FnOnce(&mut Calls, &mut Context<'_>)) {
        let mut calls = std::mem::replace(&mut self.operator, Calls::new(Place::Operator(0), 0));
        self.with_context(|context| work(&mut calls, context));
        self.operator = calls;
    }
}

// === the wire ===

impl World {
    fn life(&self, place: Place) -> u64 {
        match place {
            Place::Operator(_) => 0,
            Place::Manager(at) | Place::Agent(at) => self.machines[at].life,
        }
    }

    fn route(&mut self, envelope: &Envelope) {
        let link = (envelope.from.machine(), envelope.to.machine());
        let life = self.life(envelope.to);
        let arrivals = self.network.arrivals(link, &envelope.packet, self.now, &mut self.rng);
        for at in arrivals {
            let envelope = Box::new(envelope.clone());
            self.push(at - self.now, Event::Deliver { envelope, life });
        }
    }

    fn deliver(&mut self, Envelope { from, to, packet }: Envelope, life: u64) {
        let kind = match &packet {
            Packet::Raft(_) => 1,
            Packet::Call { .. } => 2,
            Packet::Answer { .. } => 3,
            Packet::Forward { .. } => 4,
            Packet::Forwarded { .. } => 5,
            Packet::Stream { .. } => 6,
            Packet::Gossip { data, .. } => 7 + data.len() as u64,
        };
        self.trace
            .count(self.now, (kind << 16) | ((from.machine() as u64) << 8) | to.machine() as u64);
        let datagram = matches!(packet, Packet::Gossip { .. });
        let cut = self.network.is_cut(from.machine(), to.machine());
        if cut || (self.life(to) != life && !datagram) {
            if let Packet::Stream { id, .. } = packet {
                self.network.broken(id, self.now);
            }
            return;
        }
        match to {
            Place::Manager(at) => {
                self.with_manager(at, |manager, context| manager.handle(from, packet, context));
            }
            Place::Agent(at) => {
                self.with_agent(at, |agent, context| agent.handle(packet, context));
            }
            Place::Operator(_) => self.with_operator(|calls, context| {
                if let Packet::Answer { call, attempt, reply } = packet {
                    drop(calls.answer((call, attempt), reply, context));
                }
            }),
        }
    }

    /// The kernel of a machine answers whether its daemon runs or not.
    fn echo(&mut self, from: usize, target: Target, addr: IpAddr) {
        let answered = machine_at(addr).is_some_and(|to| {
            let lost = self.rng.chance(self.network.loss_per_mille);
            !lost && !self.network.is_cut(from, to) && !self.network.is_cut(to, from)
        });
        let after = if answered { self.rng.between(1, 5) } else { ECHO_TIMEOUT_MS };
        let life = self.machines[from].life;
        self.push(after, Event::Echo { machine: from, life, target, answered });
    }
}

// === checks ===

impl World {
    /// Whenever the state or a sandbox changed.
    fn check_held(&mut self) {
        let mut changed = self.checked != self.truth.last();
        for agent in self.machines.iter_mut().filter_map(|m| m.agent.as_mut()) {
            changed |= std::mem::take(&mut agent.changed);
        }
        if !changed {
            return;
        }
        self.checked = self.truth.last();
        let running = self.machines.iter().enumerate();
        let records = running.flat_map(|(at, m)| {
            let idle = m.store.sandboxes.values().map(move |r| (at, r.as_ref()));
            m.agent.iter().flat_map(|a| a.records()).chain(idle)
        });
        let verdict = held::check(&self.truth.state, records);
        self.truth.hold(held::NAME, verdict);
    }

    /// What keeps the run from being over.
    fn missing(&mut self) -> Vec<String> {
        let mut missing = Vec::new();
        let Some(leader) = self.leader() else { return vec!["nobody leads".to_owned()] };
        let last = self.truth.last();
        for (at, machine) in self.machines.iter().enumerate().take(MANAGERS) {
            let manager = machine.manager.as_ref();
            if manager.is_none_or(|m| m.applied != last || m.raft.disk().last().0 != last) {
                missing.push(format!("manager {at} is behind entry {last}"));
            }
        }
        if !self.operator.is_idle() {
            missing.push("a call is open".to_owned());
        }
        let state = &self.truth.state;
        let mut lives = std::collections::BTreeSet::new();
        for at in 0..MACHINES {
            let view =
                self.machines[leader].manager.as_ref().map(|m| m.state.node_view(node_id(at)));
            let Some((agent, Ok(view))) = self.machines[at].agent.as_mut().zip(view) else {
                missing.push(format!("agent {at} does not run"));
                continue;
            };
            lives.extend(agent.records().map(|(_, r)| r.id));
            missing.extend(agent.missing(&view));
            let acked = self.truth.acks.get(&at).copied().unwrap_or_default();
            if acked < agent.in_kernel {
                missing.push(format!("agent {at} was not heard to have {}", agent.in_kernel));
            }
        }
        let left = state.endpoints().filter(|e| !lives.contains(&e.sandbox)).count();
        if left > 0 {
            missing.push(format!("{left} endpoints of sandboxes that are gone"));
        }
        missing
    }

    fn check_rest(&mut self) {
        for machine in &mut self.machines {
            if let Some(agent) = &mut machine.agent {
                let verdict = agent.at_rest();
                self.truth.hold(plane::NAME, verdict);
            }
        }
        for machine in self.machines.iter().take(MANAGERS) {
            if let Some(manager) = &machine.manager {
                self.truth.agrees(manager.applied, &manager.state, true);
            }
        }
    }
}
