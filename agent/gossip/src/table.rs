//! The verdict on each node: a pure function of what gossip said, which echoes were answered, and the time.
//!
//! | gossip says | kernel | verdict |
//! |---|---|---|
//! | heard | – | alive |
//! | left for good | – | dead |
//! | down, or never heard for `START_GRACE_MS`, and another node is heard at its address | – | dead |
//! | down, or never heard for `START_GRACE_MS` | answers | agent-lost |
//! | the same | 3 echoes in a row lost (6 once it was agent-lost) | dead, unless we are cut off |
//! | the same | undecided | as before |
//!
//! **Dead lasts** until gossip hears the agent: a kernel that answers after a death may be a reboot, and then nothing of what
//! ran there is left. **Cut off**: a death is believed only when at least half of the *jury* has shown life within the last 2 s, and
//! after the accused left an echo unanswered: what was heard before the silence began says nothing about it.
//! The jury is the first 32 not-dead nodes after this one on the ring of ids (random ids: a random sample, another one for each
//! node), the accused included; one for each address, which a host that joined again and again has under many ids. Its silent members are echoed while anyone is accused, so the evidence is fresh and does
//! not depend on the slow round of gossip. When the accused is the *only* other node there is nobody to ask: then a witness outside
//! the cluster (the default gateway) is echoed, and a silent witness means that we are cut off. Without a witness the death
//! is believed: what we evict, we could not reach anyway, and it is shown again when it is heard.
//!
//! While cut off nothing changes, for as long as it lasts. Time is unix ms throughout; it must not go backwards.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::ops::Bound;

use swarmnet_types::NodeId;

use crate::identity::Identity;
use crate::members::{Condition, Doubts, Liveness, Members, NodeState};
use crate::peer::{Gossip, Peer, Verdict};
use crate::track::Track;

/// Signs of life are evidence for this long.
const FRESH_MS: u64 = 2_000;
const JURY_MAX: usize = 32;
/// The patrol: so many peers without a sign of life within `PATROL_FRESH_MS` are echoed every `PATROL_EVERY_MS`. By foca's probes
/// alone each node is looked at 2 times a second *on average*, and 1 death in 50 would be noticed 2 s late; 8 echoes more make
/// that rare.
const PATROL_PEERS: usize = 2;
const PATROL_EVERY_MS: u64 = 250;
const PATROL_FRESH_MS: u64 = 1_000;

#[derive(Debug)]
pub(crate) struct Table {
    me: Identity,
    me_since_ms: u64,
    /// Every member but this node.
    peers: BTreeMap<NodeId, Peer>,
    /// An address outside the cluster whose answer shows that we are not cut off.
    witness: Option<Track>,
    cut_off: bool,
    /// The node the patrol goes on after, on the ring of ids.
    patrol_after: NodeId,
    next_patrol_ms: u64,
    /// Something the liveness shows has changed.
    changed: bool,
}

/// Whom to echo.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    Node(NodeId),
    Witness,
}

// === impl Table ===

impl Table {
    pub(crate) fn new(me: Identity, witness: Option<IpAddr>, now_ms: u64) -> Self {
        Self {
            me,
            me_since_ms: now_ms,
            peers: BTreeMap::new(),
            witness: witness.map(|addr| Track::new(addr, now_ms)),
            cut_off: false,
            patrol_after: me.node,
            next_patrol_ms: now_ms,
            changed: true,
        }
    }

    pub(crate) fn set_me(&mut self, me: Identity) {
        self.me = me;
        self.changed = true;
    }

    /// Takes over the known nodes. Returns the identities that were heard of nodes that are members no more.
    pub(crate) fn set_members(&mut self, members: &Members, now_ms: u64) -> Vec<Identity> {
        for (&node, member) in members.iter().filter(|(node, _)| **node != self.me.node) {
            let peer = self.peers.entry(node).or_insert_with(|| Peer {
                track: Track::new(member.vtep, now_ms),
                known_vtep: member.vtep,
                identity: None,
                gossip: Gossip::Never { since_ms: now_ms },
                suspect: false,
                verdict: member.dead_since_ms.map(|since_ms| (Condition::Dead, since_ms)),
            });
            peer.known_vtep = member.vtep;
            if peer.identity.is_none() {
                peer.track.move_to(member.vtep);
            }
        }
        self.changed = true;
        let gone: Vec<_> =
            self.peers.keys().filter(|node| !members.contains_key(node)).copied().collect();
        gone.iter().filter_map(|node| self.peers.remove(node)?.identity).collect()
    }

    /// foca holds this identity for active.
    pub(crate) fn gossip_up(&mut self, identity: &Identity, now_ms: u64) {
        let Some(peer) = self.peers.get_mut(&identity.node) else { return };
        peer.take_identity(identity);
        peer.gossip = Gossip::Up;
        peer.suspect = false;
        peer.track.alive(now_ms);
        self.changed = true;
    }

    /// foca holds this identity for down.
    pub(crate) fn gossip_down(&mut self, identity: &Identity, now_ms: u64) {
        let Some(peer) = self.peers.get_mut(&identity.node) else { return };
        peer.take_identity(identity);
        if !matches!(peer.gossip, Gossip::Down { .. }) {
            peer.gossip = Gossip::Down { since_ms: now_ms };
        }
        self.changed = true;
    }

    /// A node has a new identity; whether it is up is told apart.
    pub(crate) fn renamed(&mut self, identity: &Identity) {
        let Some(peer) = self.peers.get_mut(&identity.node) else { return };
        peer.take_identity(identity);
        self.changed = true;
    }

    /// A datagram came from this very identity. An outdated one proves nothing.
    pub(crate) fn heard(&mut self, identity: &Identity, now_ms: u64) {
        let Some(peer) = self.peers.get_mut(&identity.node) else { return };
        if peer.identity.is_none_or(|known| identity.generation >= known.generation) {
            peer.track.alive(now_ms);
        }
    }

    /// The nodes foca suspects at this moment, in ascending order.
    pub(crate) fn set_suspects(&mut self, suspects: &[NodeId]) {
        for (node, peer) in &mut self.peers {
            peer.suspect = suspects.binary_search(node).is_ok();
        }
    }

    /// The echo asked for by [`Table::echoes_due`] is over.
    pub(crate) fn echoed(&mut self, target: Target, answered: bool, now_ms: u64) {
        let track = match target {
            Target::Node(node) => self.peers.get_mut(&node).map(|peer| &mut peer.track),
            Target::Witness => self.witness.as_mut(),
        };
        if let Some(track) = track {
            track.echoed(answered, now_ms);
        }
    }

    /// We were not running for a while: what looks like silence may have been our own.
    pub(crate) fn distrust(&mut self) {
        let tracks = self.peers.values_mut().map(|peer| &mut peer.track).chain(&mut self.witness);
        tracks.for_each(Track::distrust);
    }

    /// The echoes to send now. Each must be answered by one [`Table::echoed`].
    pub(crate) fn echoes_due(&mut self, now_ms: u64) -> Vec<(Target, IpAddr)> {
        let since_ms = self.peers.values().filter_map(|peer| peer.accused_since_ms(now_ms)).max();
        let jury = if since_ms.is_some() { self.jury() } else { Vec::new() };
        let alone = jury.len() == 1;
        // Evidence is renewed before it is stale.
        let stale = |track: &Track| {
            since_ms.is_some_and(|since| !track.shows_life(since, now_ms, FRESH_MS / 2))
        };
        let patrol = self.patrol(now_ms);
        let mut due = Vec::new();
        for (&node, peer) in &mut self.peers {
            let juror = jury.contains(&node) && stale(&peer.track);
            let wanted = juror || peer.wants_echo(now_ms) || patrol.contains(&node);
            if wanted && peer.track.start_echo(now_ms) {
                due.push((Target::Node(node), peer.track.addr()));
            }
        }
        if let Some(witness) = self.witness.as_mut().filter(|witness| alone && stale(witness))
            && witness.start_echo(now_ms)
        {
            due.push((Target::Witness, witness.addr()));
        }
        due
    }

    /// Peers whose agent is not suspected, but whose kernel has stopped to answer: foca should look. Each is named once.
    pub(crate) fn take_silent(&mut self) -> Vec<NodeId> {
        let up = self.peers.iter_mut().filter(|(_, p)| p.gossip == Gossip::Up && !p.suspect);
        up.filter_map(|(node, p)| p.track.take_silence().then_some(*node)).collect()
    }

    /// The peers whose turn it is to be looked at. All nodes walk the same ring, each from itself on, so they are spread over it.
    fn patrol(&mut self, now_ms: u64) -> Vec<NodeId> {
        if now_ms < self.next_patrol_ms {
            return Vec::new();
        }
        self.next_patrol_ms = now_ms + PATROL_EVERY_MS;
        let after = (Bound::Excluded(self.patrol_after), Bound::Unbounded);
        let ring = self.peers.range(after).chain(self.peers.range(..=self.patrol_after));
        let unseen = ring.filter(|(_, p)| {
            p.gossip == Gossip::Up && !p.track.shows_life(0, now_ms, PATROL_FRESH_MS)
        });
        let picked: Vec<NodeId> = unseen.map(|(node, _)| *node).take(PATROL_PEERS).collect();
        if let Some(last) = picked.last() {
            self.patrol_after = *last;
        }
        picked
    }

    /// Brings the verdicts up to date. `Some` when the liveness is another than at the last call.
    pub(crate) fn judge(&mut self, now_ms: u64) -> Option<Liveness> {
        // One for all: looked for anew for each of a thousand dead, it would take half a core.
        let jury = self.jury();
        let heard_at = self.heard_at();
        let verdict = |peer| self.verdict(peer, &jury, &heard_at, now_ms);
        let verdicts: Vec<_> =
            self.peers.iter().map(|(node, peer)| (*node, verdict(peer))).collect();
        let mut held_back = false;
        for (node, verdict) in verdicts {
            let Some(peer) = self.peers.get_mut(&node) else { continue };
            let before = peer.condition();
            let after = match verdict {
                Verdict::Is(condition) => Some(condition),
                Verdict::HeldBack => {
                    held_back = true;
                    before
                }
                Verdict::Dies | Verdict::Undecided => before,
            };
            if after != before {
                tracing::info!(%node, ?before, ?after, "node changed");
                peer.verdict = after.map(|condition| (condition, now_ms));
                self.changed = true;
            }
        }
        if held_back != self.cut_off {
            self.cut_off = held_back;
            if held_back {
                tracing::warn!(
                    "most peers are silent: this node seems cut off, nothing is evicted"
                );
            }
        }
        std::mem::take(&mut self.changed).then(|| self.liveness())
    }

    pub(crate) fn doubts(&self, now_ms: u64) -> Doubts {
        let doubted = self.peers.iter().filter(|(_, peer)| peer.is_unheard(now_ms));
        doubted.map(|(node, _)| *node).collect()
    }

    /// Gossip hears and suspects nobody amiss, except those that are dead anyway.
    pub(crate) fn is_calm(&self) -> bool {
        self.peers.values().all(|p| p.is_dead() || (p.gossip == Gossip::Up && !p.suspect))
    }

    /// Deaths are held back at this moment.
    pub(crate) fn is_cut_off(&self) -> bool {
        self.cut_off
    }

    /// Peers gossip does not hear: node, the last identity heard, whether it was never heard.
    pub(crate) fn unheard(&self) -> impl Iterator<Item = (NodeId, Option<Identity>, bool)> {
        self.peers.iter().filter_map(|(&node, peer)| match peer.gossip {
            Gossip::Up => None,
            Gossip::Never { .. } => Some((node, peer.identity, true)),
            Gossip::Down { .. } => Some((node, peer.identity, false)),
        })
    }

    fn liveness(&self) -> Liveness {
        let me = NodeState {
            condition: Condition::Alive,
            since_ms: self.me_since_ms,
            incarnation: self.me.generation,
            addr: self.me.vtep,
        };
        let peers = self.peers.iter().filter_map(|(node, peer)| {
            let (condition, since_ms) = peer.verdict?;
            let incarnation = peer.identity.map_or(0, |identity| identity.generation);
            let addr = peer.identity.map_or(peer.known_vtep, |identity| identity.vtep);
            Some((*node, NodeState { condition, since_ms, incarnation, addr }))
        });
        peers.chain([(self.me.node, me)]).collect()
    }

    /// The first not-dead nodes after this one on the ring of ids, one for each address.
    fn jury(&self) -> Vec<NodeId> {
        let after = self.peers.range(self.me.node..);
        let ring = after.chain(self.peers.range(..self.me.node));
        let mut seated = BTreeSet::new();
        ring.filter(|(_, peer)| !peer.is_dead() && seated.insert(peer.track.addr()))
            .map(|(node, _)| *node)
            .take(JURY_MAX)
            .collect()
    }

    /// The addresses at which a node is heard, this one included.
    fn heard_at(&self) -> BTreeSet<IpAddr> {
        let up = self.peers.values().filter(|peer| peer.gossip == Gossip::Up);
        up.map(|peer| peer.track.addr()).chain([self.me.vtep]).collect()
    }

    fn verdict(
        &self,
        peer: &Peer,
        jury: &[NodeId],
        heard_at: &BTreeSet<IpAddr>,
        now_ms: u64,
    ) -> Verdict {
        match peer.verdict_now(heard_at.contains(&peer.track.addr()), now_ms) {
            Verdict::Dies if self.death_is_credible(peer, jury, now_ms) => {
                Verdict::Is(Condition::Dead)
            }
            Verdict::Dies => Verdict::HeldBack,
            decided => decided,
        }
    }

    fn death_is_credible(&self, accused: &Peer, jury: &[NodeId], now_ms: u64) -> bool {
        let since_ms = accused.track.silent_since_ms().unwrap_or(now_ms);
        let shows_life = |track: &Track| track.shows_life(since_ms, now_ms, FRESH_MS);
        if jury.len() == 1 {
            return self.witness.as_ref().is_none_or(shows_life);
        }
        jury.iter().filter(|node| shows_life(&self.peers[*node].track)).count() * 2 >= jury.len()
    }
}

#[cfg(test)]
mod tests;
