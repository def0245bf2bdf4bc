//! The network between the machines: cuts, loss, delay, and the order of streams.
//!
//! A stream keeps its order until it breaks, and its ends notice by silence. Beyond what TCP does, a word of a stream is now and then
//! lost, doubled or overtaken: the push protocol carries its own numbers, and must not need TCP's word for it. A stream that lost
//! a word breaks within seconds.

use std::collections::{BTreeMap, BTreeSet};

use crate::Ms;
use crate::packet::{Packet, StreamId};
use crate::rng::Rng;

/// Until a stream that lost a word breaks.
const DOOM_MS_MAX: Ms = 3_000;

#[derive(Debug, Default)]
struct Line {
    /// When the last word arrives, each way; `true` is towards the agent.
    last: BTreeMap<bool, Ms>,
    /// It is broken from then on.
    doom: Option<Ms>,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Network {
    /// From, to.
    pub(crate) cut: BTreeSet<(usize, usize)>,
    pub(crate) loss_per_mille: u64,
    pub(crate) twice_per_mille: u64,
    /// Longest delay of what is late.
    pub(crate) late_ms: Ms,
    pub(crate) late_per_mille: u64,
    lines: BTreeMap<StreamId, Line>,
}

impl Network {
    pub(crate) fn new() -> Self {
        let mut network = Self {
            cut: BTreeSet::new(),
            loss_per_mille: 0,
            twice_per_mille: 0,
            late_ms: 0,
            late_per_mille: 0,
            lines: BTreeMap::new(),
        };
        network.heal();
        network
    }

    /// As a good network is.
    pub(crate) fn heal(&mut self) {
        self.cut.clear();
        (self.loss_per_mille, self.twice_per_mille) = (0, 0);
        (self.late_ms, self.late_per_mille) = (60, 50);
    }

    pub(crate) fn is_cut(&self, from: usize, to: usize) -> bool {
        self.cut.contains(&(from, to))
    }

    fn delay(&self, rng: &mut Rng) -> Ms {
        if rng.chance(self.late_per_mille) {
            rng.between(5, self.late_ms)
        } else {
            rng.between(1, 5)
        }
    }

    /// When a packet that is sent now arrives: never, once, or twice.
    pub(crate) fn arrivals(
        &mut self,
        (from, to): (usize, usize),
        packet: &Packet,
        now: Ms,
        rng: &mut Rng,
    ) -> Vec<Ms> {
        if from == to && !matches!(packet, Packet::Stream { .. }) {
            return vec![now + 1];
        }
        let lost = self.is_cut(from, to) || rng.chance(self.loss_per_mille);
        if let Packet::Stream { id, .. } = packet {
            return self.stream(*id, (from, to), lost, (now, rng));
        }
        let mut arrivals = Vec::new();
        if !lost {
            arrivals.push(now + self.delay(rng));
            if rng.chance(self.twice_per_mille) {
                arrivals.push(now + self.delay(rng) + rng.below(self.late_ms));
            }
        }
        arrivals
    }

    fn stream(
        &mut self,
        id: StreamId,
        (from, to): (usize, usize),
        lost: bool,
        (now, rng): (Ms, &mut Rng),
    ) -> Vec<Ms> {
        let delay = self.delay(rng);
        let cut = self.is_cut(from, to);
        let (twice, overtaken) =
            (rng.chance(self.twice_per_mille), rng.chance(self.twice_per_mille));
        let line = self.lines.entry(id).or_default();
        if line.doom.is_some_and(|doom| now >= doom) {
            return Vec::new();
        }
        if lost {
            let after = if cut { 0 } else { rng.below(DOOM_MS_MAX) };
            line.doom.get_or_insert(now + after);
            return Vec::new();
        }
        // The id says which machine is the agent's.
        let to_agent = to as u64 == id >> 48;
        let last = line.last.entry(to_agent).or_default();
        let at = if overtaken { now + delay } else { *last.max(&mut (now + delay)) };
        *last = at.max(*last);
        if twice { vec![at, at + rng.below(40)] } else { vec![at] }
    }

    /// A word could not be handed over.
    pub(crate) fn broken(&mut self, id: StreamId, now: Ms) {
        self.lines.entry(id).or_default().doom = Some(now);
    }
}
