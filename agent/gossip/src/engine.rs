//! foca, its timers and the table, without socket and clock: datagrams, echoes and time go in; datagrams to send, echoes to
//! make and the liveness come out. All randomness comes from the seed, so a simulation of many engines repeats exactly.
//!
//! Time is unix ms, monotonic. The caller hands in all that has arrived *before* it calls [`Engine::advance`], so that a late caller
//! does not fire a timer whose answer is already in the socket's buffer. After each call it drains [`Engine::next_send`] and
//! [`Engine::next_echo`].

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use foca::{AccumulatingRuntime, Foca, OwnedNotification, PostcardCodec, State, Timer, TimerToken};
use rand::SeedableRng;
use rand::rngs::StdRng;
use swarmnet_types::NodeId;

use crate::config::foca_config;
use crate::filter;
use crate::identity::Identity;
use crate::members::{Doubts, Liveness, Local, Members};
use crate::stats::Refusal;
use crate::table::{Table, Target};

/// How often suspicions are read, echoes sent and verdicts passed while somebody is not heard.
const TICK_MS: u64 = 100;
/// The same while all are well: a fifth of foca's suspicion, so that the echoes still end within it. Saves an idle node most
/// of its wakes.
const CALM_TICK_MS: u64 = 250;
/// Between two ticks that news call for. A tick looks at every peer: one for each of a thousand echoes a second took half a core.
const NEWS_TICK_MS: u64 = 20;
/// How often peers that gossip does not hear are announced to.
const ANNOUNCE_EVERY_MS: u64 = 500;
/// Of those never heard, so many at once: each answers with a packet full of others (about 25), so 1,000 are known in some seconds.
const ANNOUNCE_NEVER_MAX: usize = 16;
/// Of those that are down one at once; in large clusters more rarely, because every node does this: about 64 announces a second
/// reach a node that comes back, whatever the size.
const ANNOUNCERS_PER_ROUND: usize = 32;

/// See the module.
pub struct Engine {
    me: Identity,
    foca: Foca<Identity, PostcardCodec, StdRng, foca::NoCustomBroadcast>,
    effects: AccumulatingRuntime<Identity>,
    table: Table,
    members: Arc<Members>,
    /// foca's timers; at one time in the order foca wants.
    timers: BinaryHeap<Reverse<(u64, Timer<Identity>)>>,
    /// The token of foca's newest probe timer: foca ignores timers with an older one.
    timer_token: TimerToken,
    /// Bounded by use: drained after every call, which adds a few datagrams for each it takes.
    sends: VecDeque<(SocketAddr, Bytes)>,
    /// Bounded by use, and by one in flight for each peer.
    echoes: VecDeque<(Target, IpAddr)>,
    /// As of the last tick.
    doubts: Doubts,
    last_tick_ms: u64,
    next_tick_ms: u64,
    next_announce_ms: u64,
    announce_round: usize,
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").field("me", &self.me).finish_non_exhaustive()
    }
}

impl Engine {
    /// An engine whose generation is the time of its start. `witness`: see [`GossipConfig`](crate::GossipConfig).
    pub fn new(me: Local, witness: Option<IpAddr>, seed: u64, now_ms: u64) -> Self {
        let me = Identity::new(me.node, now_ms, me.gossip, me.vtep);
        let rng = StdRng::seed_from_u64(seed);
        Self {
            me,
            foca: Foca::new(me, foca_config(1), rng, PostcardCodec),
            effects: AccumulatingRuntime::new(),
            table: Table::new(me, witness, now_ms),
            members: Arc::default(),
            timers: BinaryHeap::new(),
            timer_token: TimerToken::default(),
            sends: VecDeque::new(),
            echoes: VecDeque::new(),
            doubts: Doubts::new(),
            last_tick_ms: 0,
            next_tick_ms: now_ms,
            next_announce_ms: now_ms,
            announce_round: 0,
        }
    }

    /// Takes over the nodes the state knows.
    pub fn set_members(&mut self, members: Arc<Members>, now_ms: u64) {
        let gone = self.table.set_members(&members, now_ms);
        self.members = members;
        let config = foca_config(self.members.len().max(1));
        self.foca.set_config(config).expect("only fields that may change differ");
        // foca forgets nobody, but it leaves those alone whom it holds for down. Not broadcast: each node hears it from the state.
        let down = gone.into_iter().map(foca::Member::down);
        let result = self.foca.apply_many(down, false, &mut self.effects);
        self.finish("removing members", result, now_ms);
        self.next_tick_ms = now_ms;
        self.next_announce_ms = now_ms;
    }

    /// One opened datagram from `sender`.
    ///
    /// # Errors
    /// What the filter refuses, and [`Refusal::Malformed`] for a sender that speaks as another node.
    pub fn receive(&mut self, sender: NodeId, gossip: &[u8], now_ms: u64) -> Result<(), Refusal> {
        let (me, members) = (self.me.node, &self.members);
        let is_known = |node: &NodeId| *node == me || members.contains_key(node);
        let (identity, gossip) = filter::admit(gossip, is_known)?;
        if identity.node != sender || sender == me {
            return Err(Refusal::Malformed);
        }
        let result = self.foca.handle_data(&gossip, &mut self.effects);
        self.finish("a datagram", result, now_ms);
        self.table.heard(&identity, now_ms);
        Ok(())
    }

    /// The echo handed out by [`Engine::next_echo`] is over.
    pub fn echoed(&mut self, target: Target, answered: bool, now_ms: u64) {
        self.table.echoed(target, answered, now_ms);
        // The next echo or the verdict may be due at once.
        self.tick_soon(now_ms);
    }

    /// The caller was not running for a while.
    pub fn stalled(&mut self) {
        self.table.distrust();
    }

    /// When [`Engine::advance`] must be called next.
    pub fn next_deadline_ms(&self) -> u64 {
        let timer = self.timers.peek().map_or(u64::MAX, |Reverse((at, _))| *at);
        timer.min(self.next_tick_ms)
    }

    /// Fires what is due. `Some` when the liveness has changed.
    pub fn advance(&mut self, now_ms: u64) -> Option<Liveness> {
        while self.timers.peek().is_some_and(|Reverse((at, _))| *at <= now_ms) {
            let Some(Reverse((_, timer))) = self.timers.pop() else { break };
            let result = self.foca.handle_timer(timer, &mut self.effects);
            self.finish("a timer", result, now_ms);
        }
        if now_ms >= self.next_announce_ms {
            self.next_announce_ms = now_ms + ANNOUNCE_EVERY_MS;
            self.announce(now_ms);
        }
        if now_ms < self.next_tick_ms {
            return None;
        }
        self.last_tick_ms = now_ms;
        self.table.set_suspects(&self.suspects());
        self.next_tick_ms = now_ms + if self.table.is_calm() { CALM_TICK_MS } else { TICK_MS };
        let liveness = self.table.judge(now_ms);
        self.doubts = self.table.doubts(now_ms);
        self.echoes.extend(self.table.echoes_due(now_ms));
        for node in self.table.take_silent() {
            self.suspect(node, now_ms);
        }
        liveness
    }

    /// This node has new addresses (C12): every peer learns them as the identity's successor.
    pub fn move_to(&mut self, gossip: SocketAddr, vtep: IpAddr, now_ms: u64) {
        if (self.me.gossip, self.me.vtep) != (gossip, vtep) {
            self.become_identity(Identity { gossip, vtep, ..self.me.next() }, now_ms);
        }
    }

    /// Says good-bye for good: peers hold this node for dead without asking its kernel.
    pub fn leave(&mut self, now_ms: u64) {
        self.become_identity(Identity { left: true, ..self.me.next() }, now_ms);
        let result = self.foca.leave_cluster(&mut self.effects);
        self.finish("leaving", result, now_ms);
    }

    /// A datagram to send, unsealed.
    pub fn next_send(&mut self) -> Option<(SocketAddr, Bytes)> {
        self.sends.pop_front()
    }

    /// An echo to make; its end is told to [`Engine::echoed`].
    pub fn next_echo(&mut self) -> Option<(Target, IpAddr)> {
        self.echoes.pop_front()
    }

    /// Who is not heard, but of whom no verdict is passed yet.
    pub fn doubts(&self) -> &Doubts {
        &self.doubts
    }

    /// More than half of the peers are silent: nobody is declared dead.
    pub fn is_cut_off(&self) -> bool {
        self.table.is_cut_off()
    }

    fn become_identity(&mut self, me: Identity, now_ms: u64) {
        let result = self.foca.change_identity(me, &mut self.effects);
        self.me = me;
        self.table.set_me(me);
        self.finish("changing identity", result, now_ms);
    }

    /// Raises foca's suspicion of a node whose kernel is silent, as a failed probe would: the node refutes it, or is down when the
    /// time of the suspicion is over.
    fn suspect(&mut self, node: NodeId, now_ms: u64) {
        let is_it = |m: &&foca::Member<Identity>| m.id().node == node && m.state() == State::Alive;
        let found = self.foca.iter_members().find(is_it).map(|m| (*m.id(), m.incarnation()));
        let Some((member_id, incarnation)) = found else { return };
        let suspect = foca::Member::new(member_id, incarnation, State::Suspect);
        let result = self.foca.apply_many(std::iter::once(suspect), true, &mut self.effects);
        self.finish("a suspicion", result, now_ms);
        let timer = Timer::ChangeSuspectToDown { member_id, incarnation, token: self.timer_token };
        let after = foca_config(self.members.len().max(1)).suspect_to_down_after;
        self.schedule(after, timer, now_ms);
    }

    fn suspects(&self) -> Vec<NodeId> {
        let all = self.foca.iter_membership_state();
        let mut suspects: Vec<_> =
            all.filter(|m| m.state() == State::Suspect).map(|m| m.id().node).collect();
        suspects.sort_unstable();
        suspects
    }

    /// Announces to some of those that gossip does not hear: joins the cluster, finds late nodes, heals partitions.
    fn announce(&mut self, now_ms: u64) {
        if self.me.left {
            return;
        }
        let round = self.announce_round;
        self.announce_round = round.wrapping_add(1);
        let (never, down): (Vec<_>, Vec<_>) =
            self.table.unheard().partition(|(_, _, never)| *never);
        let every = (self.members.len() / ANNOUNCERS_PER_ROUND).max(1);
        let down_max = usize::from(round.is_multiple_of(every));
        let picked = turn(&never, round, ANNOUNCE_NEVER_MAX);
        let picked = picked.chain(turn(&down, round / every, down_max));
        for &(node, identity, _) in picked {
            let Some(member) = self.members.get(&node) else { continue };
            let by_state = Identity::new(node, 0, member.gossip, member.vtep);
            // The gossiped address wins, but the state may know better when the node is not heard: take turns.
            let gossiped_turn = (round / (every * down.len().max(1))).is_multiple_of(2);
            let to = identity.filter(|_| gossiped_turn).unwrap_or(by_state);
            if let Err(err) = self.foca.announce(to, &mut self.effects) {
                tracing::debug!(%err, %node, "announce failed");
            }
        }
        self.collect_effects(now_ms);
    }

    fn finish(&mut self, what: &str, result: Result<(), foca::Error>, now_ms: u64) {
        if let Err(err) = result {
            // None of foca's errors leaves it broken; those that datagrams cause say nothing new.
            tracing::debug!(%err, "foca refused {what}");
        }
        self.collect_effects(now_ms);
    }

    fn collect_effects(&mut self, now_ms: u64) {
        while let Some((to, data)) = self.effects.to_send() {
            self.sends.push_back((to.gossip, data));
        }
        while let Some((after, timer)) = self.effects.to_schedule() {
            if let Timer::ProbeRandomMember(token) = timer {
                self.timer_token = token;
            }
            self.schedule(after, timer, now_ms);
        }
        while let Some(notification) = self.effects.to_notify() {
            self.note(&notification, now_ms);
        }
    }

    fn schedule(&mut self, after: Duration, timer: Timer<Identity>, now_ms: u64) {
        let after_ms = u64::try_from(after.as_millis()).unwrap_or(u64::MAX);
        self.timers.push(Reverse((now_ms.saturating_add(after_ms), timer)));
    }

    fn note(&mut self, notification: &OwnedNotification<Identity>, now_ms: u64) {
        match notification {
            OwnedNotification::MemberUp(identity) => self.table.gossip_up(identity, now_ms),
            OwnedNotification::MemberDown(identity) => self.table.gossip_down(identity, now_ms),
            OwnedNotification::Rename(_, identity) => self.table.renamed(identity),
            OwnedNotification::Rejoin(identity) => {
                tracing::info!(
                    generation = identity.generation,
                    "peers held us for dead: contradicted"
                );
                self.me = *identity;
                self.table.set_me(*identity);
            }
            OwnedNotification::Active | OwnedNotification::Idle | OwnedNotification::Defunct => {}
        }
        self.tick_soon(now_ms);
    }

    fn tick_soon(&mut self, now_ms: u64) {
        let soon = now_ms.max(self.last_tick_ms + NEWS_TICK_MS);
        self.next_tick_ms = self.next_tick_ms.min(soon);
    }
}

/// At most `count` of `all`: the ones whose turn it is in `round`.
fn turn<T>(all: &[T], round: usize, count: usize) -> impl Iterator<Item = &T> {
    let from = round.wrapping_mul(count) % all.len().max(1);
    all.iter().cycle().skip(from).take(count.min(all.len()))
}

#[cfg(test)]
mod tests;
