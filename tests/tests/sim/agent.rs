//! An agent: the real view logic, gossip engine, orphan rule, merge and reconciler; streams and calls as `agent/src/session.rs` and
//! `agent/src/local` make them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use swarmnet_agent::desired::Inputs;
use swarmnet_agent::liveness::members;
use swarmnet_agent::local::sandboxes::orphans;
use swarmnet_agent::local::{Attachment, DnsSettings, LocalObjects, SandboxRecord, SandboxState};
use swarmnet_agent::session::{News, Unfit, fold};
use swarmnet_dataplane::desired::Options;
use swarmnet_dataplane::model::ModelKernel;
use swarmnet_gossip::{Condition as NodeCondition, Engine, Liveness, Local, NodeState, Target};
use swarmnet_manager_core::{Attach, Command, Outcome, Pushed};
use swarmnet_types::{
    AttachmentSpec, Condition, Endpoint, EndpointId, Name, Network, NodeId, NodeView, Revision,
    SandboxId, ServiceId,
};

use crate::Ms;
use crate::bugs::Bug;
use crate::client::{Calls, End};
use crate::context::Context;
use crate::invariants::{names, plane as kernel};
use crate::packet::{CallId, Packet, Place, Reply, StreamId, Word};
use crate::plane::Plane;
use crate::world::{MANAGERS, address, node_id};

/// As in `session.rs`.
const HEARTBEAT_MS: Ms = 1_000;
const SILENCE_MAX_MS: Ms = 2_500;
/// As in `sandboxes.rs`: how long a removal waits for a manager.
const RELEASE_PATIENCE_MS: Ms = 2_000;
/// As in `outbox.rs`.
const OUTBOX_PAUSE_MS: Ms = 500;
/// As in `orphans.rs`, but for its pause without a new view.
const ORPHANS_EVERY_MS: Ms = 1_000;

/// What survives the daemon.
#[derive(Debug, Default)]
pub(crate) struct Store {
    generation: u64,
    pub(crate) sandboxes: BTreeMap<SandboxId, Arc<SandboxRecord>>,
    /// The outbox: endpoints to give back.
    pub(crate) releases: BTreeSet<EndpointId>,
    /// The view file.
    pub(crate) view: Option<Arc<NodeView>>,
    /// The file of verdicts: who is dead.
    dead: Liveness,
    /// How many sandboxes were ever named here.
    named: u64,
}

/// What a call is for.
#[derive(Debug, Clone)]
enum Purpose {
    Attach { sandbox: SandboxId, name: Name, spec: AttachmentSpec },
    Ready { sandbox: SandboxId },
    Condition,
    Release { endpoints: BTreeSet<EndpointId> },
}

/// What an attach was answered.
struct Granted {
    endpoints: Vec<Endpoint>,
    service: Option<ServiceId>,
    networks: Vec<Network>,
}

#[derive(Debug)]
struct Stream {
    id: StreamId,
    manager: usize,
    heard: Ms,
    beat_at: Ms,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Agent {
    me: usize,
    node: NodeId,
    pub(crate) store: Store,
    pub(crate) view: Option<Arc<NodeView>>,
    /// The store changed: `held` is to be looked at again.
    pub(crate) changed: bool,
    stream: Option<Stream>,
    next_stream: StreamId,
    manager: usize,
    retry_at: Ms,
    resync: bool,
    /// Sandboxes on their way.
    begun: BTreeSet<SandboxId>,
    /// When the record of one that leaves goes.
    leaving: BTreeMap<SandboxId, Ms>,
    pub(crate) calls: Calls,
    purposes: BTreeMap<CallId, Purpose>,
    release_at: Ms,
    releasing: bool,
    /// When orphans are looked for next.
    orphans_at: Ms,
    gossip: Option<Gossip>,
    /// Verdicts of the daemon before this one.
    known: Liveness,
    pub(crate) liveness: Arc<Liveness>,
    plane: Plane,
    /// Inputs of the merge changed, and when it is done.
    bring_at: Option<Ms>,
    pub(crate) in_kernel: Revision,
    told_kernel: Revision,
    /// What the last round could not do.
    complaints: Vec<String>,
}

#[derive(Debug)]
struct Gossip {
    engine: Engine,
    /// What this process's clock shows more than the run's.
    ahead_ms: u64,
    members_of: Revision,
}

// === life ===

impl Agent {
    pub(crate) fn start(
        me: usize,
        store: Store,
        life: u64,
        (kernel, dir): (Arc<ModelKernel>, &Path),
        context: &mut Context<'_>,
    ) -> Self {
        let view = store.view.clone();
        let mut agent = Self {
            me,
            node: node_id(me),
            view,
            changed: true,
            stream: None,
            next_stream: ((me as u64) << 48) | (life << 32),
            manager: context.rng.index(MANAGERS),
            retry_at: context.now,
            resync: false,
            begun: BTreeSet::new(),
            leaving: BTreeMap::new(),
            calls: Calls::new(Place::Agent(me), life),
            purposes: BTreeMap::new(),
            release_at: context.now,
            releasing: false,
            orphans_at: context.now,
            gossip: None,
            known: store.dead.clone(),
            liveness: Arc::new(store.dead.clone()),
            plane: Plane::start(kernel, dir),
            bring_at: Some(context.now),
            in_kernel: Revision::default(),
            told_kernel: Revision::default(),
            complaints: Vec::new(),
            store,
        };
        agent.heal(context);
        agent
    }

    /// What was being removed is removed.
    fn heal(&mut self, context: &mut Context<'_>) {
        let left = |r: &Arc<SandboxRecord>| r.state != SandboxState::Ready;
        let ids: Vec<_> = self.store.sandboxes.values().filter(|r| left(r)).map(|r| r.id).collect();
        for id in ids {
            self.stop(id, context);
        }
    }

    /// The machine was started anew: sandboxes went with it.
    pub(crate) fn lose_sandboxes(store: &mut Store) {
        for record in std::mem::take(&mut store.sandboxes).into_values() {
            store.releases.extend(record.cluster_endpoints().map(|e| e.id));
        }
        store.generation += 1;
    }

    fn place(&self) -> Place {
        Place::Agent(self.me)
    }

    pub(crate) fn handle(&mut self, packet: Packet, context: &mut Context<'_>) {
        match packet {
            Packet::Answer { call, attempt, reply } => {
                if let Some(end) = self.calls.answer((call, attempt), reply, context) {
                    self.ended(call, end, context);
                }
            }
            Packet::Stream { id, word } => self.hear(id, word, context),
            Packet::Gossip { sender, data } => self.datagram(sender, &data, context),
            Packet::Raft(_)
            | Packet::Call { .. }
            | Packet::Forward { .. }
            | Packet::Forwarded { .. } => {}
        }
    }

    pub(crate) fn tick(&mut self, context: &mut Context<'_>) {
        self.tick_stream(context);
        for (call, end) in self.calls.tick(context) {
            self.ended(call, end, context);
        }
        self.tick_orphans(context);
        self.tick_outbox(context);
        self.tick_leaving(context);
        self.gossip(context);
        if self.bring_at.is_some_and(|at| at <= context.now) {
            self.bring(context);
        }
        self.store.view.clone_from(&self.view);
    }
}

// === the session ===

impl Agent {
    fn tick_stream(&mut self, context: &mut Context<'_>) {
        let now = context.now;
        match &mut self.stream {
            None if now >= self.retry_at => self.open(context),
            Some(stream) if now > stream.heard + SILENCE_MAX_MS => self.close(true, context),
            Some(stream) if now >= stream.beat_at => {
                stream.beat_at = now + HEARTBEAT_MS;
                self.say(Word::AgentBeat, context);
            }
            None | Some(_) => {}
        }
        self.acknowledge(context);
    }

    fn open(&mut self, context: &mut Context<'_>) {
        let now = context.now;
        let (id, manager) = (self.next_stream, self.manager);
        self.next_stream += 1;
        self.stream = Some(Stream { id, manager, heard: now, beat_at: now + HEARTBEAT_MS });
        let have = self.view.as_ref().filter(|_| !self.resync).map(|v| v.revision);
        let sandboxes = self.store.sandboxes.keys().chain(&self.begun).copied().collect();
        self.told_kernel = Revision::default();
        self.say(Word::Hello { have: have.unwrap_or_default(), sandboxes }, context);
    }

    fn say(&self, word: Word, context: &mut Context<'_>) {
        let Some(stream) = &self.stream else { return };
        let packet = Packet::Stream { id: stream.id, word };
        context.send(self.place(), Place::Manager(stream.manager), packet);
    }

    /// The next stream begins a moment later, at another manager when this one is to be left.
    fn close(&mut self, leave: bool, context: &mut Context<'_>) {
        if leave {
            self.manager = (self.manager + 1) % MANAGERS;
        }
        self.stream = None;
        self.retry_at = context.now + context.rng.between(50, 500);
    }

    fn hear(&mut self, id: StreamId, word: Word, context: &mut Context<'_>) {
        let Some(stream) = self.stream.as_mut().filter(|s| s.id == id) else { return };
        stream.heard = context.now;
        match word {
            Word::Push(pushed) => {
                let news = match *pushed {
                    Pushed::Snapshot(view) => News::Whole(view),
                    Pushed::Delta(delta) => {
                        context.truth.counts.deltas += 1;
                        News::Delta(delta)
                    }
                };
                self.follow(news, context);
            }
            Word::End => {
                self.resync = false;
                self.close(true, context);
            }
            Word::ManagerBeat | Word::Hello { .. } | Word::Ack { .. } | Word::AgentBeat => {}
        }
    }

    fn follow(&mut self, mut news: News, context: &mut Context<'_>) {
        if context.has(Bug::AppliesForeignDelta)
            && let (News::Delta(delta), Some(view)) = (&mut news, &self.view)
        {
            delta.applies_to = view.revision;
        }
        if context.has(Bug::ServesBeforeCatchUp)
            && let News::Whole(view) = news
        {
            return self.take(Arc::new(view), context);
        }
        match fold(self.view.clone(), news) {
            Ok(view) => self.take(view, context),
            Err(unfit) => {
                context.truth.counts.unfit += 1;
                context.trace.line(context.now, format_args!("agent {}: {unfit}", self.me));
                let gap = !matches!(unfit, Unfit::Older { .. });
                self.resync = gap;
                self.close(!gap, context);
            }
        }
    }

    fn take(&mut self, view: Arc<NodeView>, context: &mut Context<'_>) {
        self.resync = false;
        context.truth.viewed(self.me, self.view.as_ref(), &view);
        context.trace.line(context.now, format_args!("agent {} at {}", self.me, view.revision));
        self.view = Some(view);
        self.bring_soon(context);
    }

    fn tick_orphans(&mut self, context: &mut Context<'_>) {
        let Some(view) = &self.view else { return };
        if context.now < self.orphans_at || context.has(Bug::ReleasesWhatHelloLacks) {
            return;
        }
        self.orphans_at = context.now + ORPHANS_EVERY_MS;
        let (store, begun) = (&self.store, &self.begun);
        let is_known = |id| store.sandboxes.contains_key(&id) || begun.contains(&id);
        let gone = orphans(view, is_known);
        self.store.releases.extend(gone);
    }

    fn acknowledge(&mut self, context: &mut Context<'_>) {
        if self.stream.is_some() && self.told_kernel != self.in_kernel {
            self.told_kernel = self.in_kernel;
            self.say(Word::Ack { revision: self.in_kernel }, context);
        }
    }
}

// === sandboxes ===

impl Agent {
    fn objects(&self) -> Arc<LocalObjects> {
        let sandboxes = self.store.sandboxes.clone();
        Arc::new(LocalObjects {
            generation: self.store.generation,
            networks: BTreeMap::new(),
            sandboxes,
        })
    }

    fn store_changed(&mut self, context: &mut Context<'_>) {
        self.store.generation += 1;
        self.changed = true;
        self.bring_soon(context);
    }

    fn netns(id: SandboxId) -> PathBuf {
        PathBuf::from(format!("/run/swarmnet/netns/{id}"))
    }

    pub(crate) fn begin_sandbox(
        &mut self,
        network: &Name,
        service: Option<Name>,
        context: &mut Context<'_>,
    ) {
        let sandbox = SandboxId::from_bytes(context.rng.bytes());
        self.begun.insert(sandbox);
        self.store.named += 1;
        let name = Name::new(format!("m{}w{}", self.me, self.store.named)).expect("a name");
        let spec = AttachmentSpec { network: network.to_string(), ..AttachmentSpec::default() };
        let command = Command::Attach(Attach {
            node: self.node,
            sandbox,
            name: name.clone(),
            hostname: name.to_string(),
            service,
            attachments: vec![spec.clone()],
        });
        let call = self.calls.begin(command, context);
        self.purposes.insert(call, Purpose::Attach { sandbox, name, spec });
    }

    fn ended(&mut self, call: CallId, end: End, context: &mut Context<'_>) {
        let Some(purpose) = self.purposes.remove(&call) else { return };
        let done = match end {
            End::Answered(Reply::Done { outcome, networks, .. }) => Some((outcome, networks)),
            End::Answered(_) | End::GivenUp => None,
        };
        match purpose {
            Purpose::Attach { sandbox, name, spec } => {
                self.begun.remove(&sandbox);
                if let Some((Outcome::Attached { endpoints, service }, networks)) = done {
                    let granted = Granted { endpoints, service, networks };
                    self.attached((sandbox, name, spec), granted, context);
                }
            }
            Purpose::Ready { sandbox } if done.is_some() => {
                if let Some(record) = self.store.sandboxes.get_mut(&sandbox) {
                    let record = Arc::make_mut(record);
                    if record.state == SandboxState::Attaching {
                        record.state = SandboxState::Ready;
                    }
                    self.store_changed(context);
                }
            }
            Purpose::Ready { sandbox } => self.stop(sandbox, context),
            Purpose::Condition => {}
            Purpose::Release { endpoints } => {
                self.releasing = false;
                self.release_at = context.now + OUTBOX_PAUSE_MS;
                if done.is_some() {
                    self.store.releases.retain(|e| !endpoints.contains(e));
                }
            }
        }
    }

    /// The record, once the cluster has granted what was asked for.
    fn attached(
        &mut self,
        (sandbox, name, spec): (SandboxId, Name, AttachmentSpec),
        granted: Granted,
        context: &mut Context<'_>,
    ) {
        let Granted { endpoints, service, networks } = granted;
        let network_of = |e: &Endpoint| networks.iter().find(|n| n.id == e.network).cloned();
        let Some(network) = endpoints.first().and_then(network_of) else {
            // The network is gone already on the manager that answered: given back, as after any failure.
            self.store.releases.extend(endpoints.iter().map(|e| e.id));
            return;
        };
        let record = SandboxRecord {
            id: sandbox,
            hostname: name.to_string(),
            name,
            netns: Self::netns(sandbox),
            named: false,
            attachments: vec![Attachment {
                spec,
                endpoint: endpoints[0].clone(),
                network,
                ifname: "eth0".to_owned(),
            }],
            fabric: endpoints.get(1).cloned(),
            service,
            service_name: None,
            dns: DnsSettings::default(),
            ports: Vec::new(),
            labels: BTreeMap::new(),
            created_ms: 0,
            process: None,
            owner: None,
            state: SandboxState::Attaching,
            comes_back: false,
        };
        context.truth.counts.sandboxes += 1;
        self.plane.add_netns(sandbox, Self::netns(sandbox));
        self.report(&record, Condition::Ready, Purpose::Ready { sandbox }, context);
        self.store.sandboxes.insert(sandbox, Arc::new(record));
        self.store_changed(context);
    }

    fn report(
        &mut self,
        record: &SandboxRecord,
        now: Condition,
        purpose: Purpose,
        context: &mut Context<'_>,
    ) {
        let conditions = record.cluster_endpoints().map(|e| (e.id, now)).collect();
        let command = Command::SetConditions { node: self.node, conditions };
        let call = self.calls.begin(command, context);
        self.purposes.insert(call, purpose);
    }

    fn ready(&self) -> Vec<SandboxId> {
        let ready = |r: &&Arc<SandboxRecord>| r.state == SandboxState::Ready;
        self.store.sandboxes.values().filter(ready).map(|r| r.id).collect()
    }

    pub(crate) fn stop_one(&mut self, context: &mut Context<'_>) {
        if let Some(id) = context.rng.pick(&self.ready()).copied() {
            self.stop(id, context);
        }
    }

    pub(crate) fn change_one(&mut self, context: &mut Context<'_>) {
        let Some(id) = context.rng.pick(&self.ready()).copied() else { return };
        let record = Arc::clone(&self.store.sandboxes[&id]);
        let all = [Condition::Ready, Condition::Unhealthy, Condition::Draining];
        let now = all[context.rng.index(all.len())];
        self.report(&record, now, Purpose::Condition, context);
    }

    /// First the others stop sending, then the kernel forgets; no manager is waited for longer than a moment.
    fn stop(&mut self, id: SandboxId, context: &mut Context<'_>) {
        let Some(record) = self.store.sandboxes.get_mut(&id) else { return };
        let record = Arc::make_mut(record);
        record.state = SandboxState::Leaving;
        self.store.releases.extend(record.cluster_endpoints().map(|e| e.id));
        self.leaving.insert(id, context.now + RELEASE_PATIENCE_MS);
        self.store_changed(context);
    }

    fn tick_leaving(&mut self, context: &mut Context<'_>) {
        let held = |r: &SandboxRecord, releases: &BTreeSet<EndpointId>| {
            r.cluster_endpoints().any(|e| releases.contains(&e.id))
        };
        let gone: Vec<_> = self
            .leaving
            .iter()
            .filter(|(id, until)| {
                let record = self.store.sandboxes.get(id);
                **until <= context.now || record.is_none_or(|r| !held(r, &self.store.releases))
            })
            .map(|(id, _)| *id)
            .collect();
        for id in gone {
            self.leaving.remove(&id);
            self.plane.remove_netns(id, Self::netns(id));
            self.store.sandboxes.remove(&id);
            self.store_changed(context);
        }
    }

    fn tick_outbox(&mut self, context: &mut Context<'_>) {
        if self.releasing || self.store.releases.is_empty() || context.now < self.release_at {
            return;
        }
        self.releasing = true;
        let endpoints = self.store.releases.clone();
        let list = endpoints.iter().copied().collect();
        let call = self.calls.begin(Command::Detach { node: self.node, endpoints: list }, context);
        self.purposes.insert(call, Purpose::Release { endpoints });
    }
}

// === gossip ===

impl Agent {
    fn datagram(&mut self, sender: NodeId, data: &Bytes, context: &mut Context<'_>) {
        let Some(gossip) = &mut self.gossip else { return };
        // Refused are nodes that one of the two does not know yet.
        let _ = gossip.engine.receive(sender, data, context.now + gossip.ahead_ms);
        self.gossip(context);
    }

    pub(crate) fn echoed(&mut self, target: Target, answered: bool, context: &mut Context<'_>) {
        if let Some(gossip) = &mut self.gossip {
            gossip.engine.echoed(target, answered, context.now + gossip.ahead_ms);
        }
        self.gossip(context);
    }

    fn gossip(&mut self, context: &mut Context<'_>) {
        let Some(view) = &self.view else { return };
        let gossip = self.gossip.get_or_insert_with(|| {
            let addr: SocketAddr = address(self.me);
            let me = Local { node: self.node, gossip: addr, vtep: addr.ip() };
            let ahead_ms = context.wall_ms(self.me) - context.now;
            let engine = Engine::new(me, None, context.rng.next(), context.now + ahead_ms);
            Gossip { engine, ahead_ms, members_of: Revision::default() }
        });
        let now = context.now + gossip.ahead_ms;
        if gossip.members_of != view.revision {
            gossip.members_of = view.revision;
            gossip.engine.set_members(Arc::new(members(view, &self.known)), now);
        }
        if gossip.engine.next_deadline_ms() > now {
            self.flush_gossip(context);
            return;
        }
        if let Some(liveness) = gossip.engine.advance(now) {
            let is_dead = |(_, s): &(&NodeId, &NodeState)| s.condition == NodeCondition::Dead;
            let dead = liveness.iter().filter(is_dead).map(|(n, s)| (*n, s.clone()));
            self.store.dead = dead.collect();
            let dead = self.store.dead.len();
            context.truth.counts.deaths += dead as u64;
            context.trace.line(context.now, format_args!("agent {}: {dead} dead", self.me));
            self.liveness = Arc::new(liveness);
            self.bring_soon(context);
        }
        self.flush_gossip(context);
    }

    fn flush_gossip(&mut self, context: &mut Context<'_>) {
        let (place, sender) = (self.place(), self.node);
        let Some(gossip) = &mut self.gossip else { return };
        while let Some((to, data)) = gossip.engine.next_send() {
            if let Some(machine) = crate::world::machine_at(to.ip()) {
                context.send(place, Place::Agent(machine), Packet::Gossip { sender, data });
            }
        }
    }

    pub(crate) fn next_echo(&mut self) -> Option<(Target, IpAddr)> {
        self.gossip.as_mut()?.engine.next_echo()
    }

    pub(crate) fn holds_for_alive(&self, node: NodeId) -> bool {
        self.liveness.get(&node).is_some_and(|s| s.condition == NodeCondition::Alive)
    }
}

// === the kernel ===

impl Agent {
    fn bring_soon(&mut self, context: &mut Context<'_>) {
        let at = context.now + context.rng.between(1, 60);
        self.bring_at = Some(self.bring_at.map_or(at, |before| before.min(at)));
    }

    fn inputs(&self) -> Inputs {
        Inputs {
            view: self.view.clone(),
            liveness: Arc::clone(&self.liveness),
            local: self.objects(),
            underlay: Arc::default(),
            overlay_netns: PathBuf::from("/run/swarmnet/dp"),
            options: Options::default(),
            held: self.view.is_none(),
        }
    }

    fn bring(&mut self, context: &mut Context<'_>) {
        self.bring_at = None;
        let fault = context.rng.chance(30).then(|| context.rng.index(20));
        self.plane.fail(fault);
        let inputs = self.inputs();
        let before = inputs.held.then(|| self.plane.seen());
        let (wish, status) = self.plane.bring(&inputs);
        let again = swarmnet_runtime::ReconcileStatus::retry_after(&status);
        self.complaints = status.complaints().cloned().collect();
        if let Some(before) = before {
            let verdict = kernel::untouched(self.me, &before, &self.plane.seen());
            context.truth.hold(kernel::NAME, verdict);
            return;
        }
        let verdict = kernel::follows(self.me, &inputs, &wish);
        context.truth.hold(kernel::NAME, verdict);
        context.truth.hold(names::NAME, names::check(self.me, &inputs, &wish));
        if let Some(after) = again {
            let after = Ms::try_from(after.as_millis()).unwrap_or(Ms::MAX);
            self.bring_at = Some(context.now + after.max(1));
            return;
        }
        self.in_kernel = status.stamp.revision;
        if context.rng.chance(100) {
            let verdict = kernel::whole(self.me, &self.plane.undone(&wish));
            context.truth.hold(kernel::NAME, verdict);
        }
    }

    /// What keeps the node from being as it should be when nothing happens any more.
    pub(crate) fn missing(&mut self, known: &NodeView) -> Option<String> {
        let me = self.me;
        let view = self.view.clone()?;
        let mut known = known.clone();
        known.revision = view.revision;
        if *view != known {
            return Some(format!("agent {me} has an old view"));
        }
        if self.bring_at.is_some() || self.in_kernel != view.revision {
            return Some(format!("agent {me} has an old kernel: {:?}", self.complaints));
        }
        if !self.calls.is_idle() || !self.store.releases.is_empty() || !self.leaving.is_empty() {
            return Some(format!("agent {me} is not done"));
        }
        let others = known.nodes.keys().filter(|n| **n != self.node);
        if let Some(node) = others.into_iter().find(|n| !self.holds_for_alive(**n)) {
            return Some(format!("agent {me} does not hold {} for alive", node.short()));
        }
        None
    }

    /// Of a node at rest: the kernel against the wish.
    pub(crate) fn at_rest(&mut self) -> Result<(), String> {
        self.plane.fail(None);
        let (wish, _) = self.plane.bring(&self.inputs());
        kernel::whole(self.me, &self.plane.undone(&wish))
    }

    pub(crate) fn records(&self) -> impl Iterator<Item = (usize, &SandboxRecord)> {
        self.store.sandboxes.values().map(|r| (self.me, r.as_ref()))
    }

    /// The stop of a process.
    pub(crate) fn into_store(self) -> Store {
        self.store
    }
}
