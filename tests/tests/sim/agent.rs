//! An agent: the real view logic, gossip engine, orphan rule, merge and reconciler; streams and calls as `agent/src/session.rs` and
//! `agent/src/local` make them.

mod gossip;
mod reconcile;
mod sandboxes;
mod session;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use swarmnet_agent::local::{SandboxRecord, SandboxState};
use swarmnet_dataplane::model::ModelKernel;
use swarmnet_gossip::Liveness;
use swarmnet_types::{EndpointId, NodeId, NodeView, Revision, SandboxId};

use crate::Ms;
use crate::client::Calls;
use crate::context::Context;
use crate::packet::{CallId, Packet, Place, StreamId};
use crate::plane::Plane;
use crate::world::{MANAGERS, node_id};

use self::gossip::Gossip;
use self::sandboxes::Purpose;
use self::session::Stream;

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
