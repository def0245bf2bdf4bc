//! The real gossip engine, and what its verdicts change.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use bytes::Bytes;
use swarmnet_agent::liveness::members;
use swarmnet_agent::verdicts::remembered;
use swarmnet_gossip::{Condition as NodeCondition, Engine, Local, Target};
use swarmnet_types::{NodeId, Revision};

use crate::context::Context;
use crate::packet::{Packet, Place};
use crate::world::address;

use super::Agent;

#[derive(Debug)]
pub(super) struct Gossip {
    pub(super) engine: Engine,
    /// What this process's clock shows more than the run's.
    pub(super) ahead_ms: u64,
    pub(super) members_of: Revision,
}

impl Agent {
    pub(super) fn datagram(&mut self, sender: NodeId, data: &Bytes, context: &mut Context<'_>) {
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

    pub(super) fn gossip(&mut self, context: &mut Context<'_>) {
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
            self.store.dead = remembered(&liveness);
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
