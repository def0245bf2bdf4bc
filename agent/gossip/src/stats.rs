//! Counters of the gossip, for metrics. Monotonic since the start of the worker, except the gauges.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Why a datagram was not handed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("too short, too long, or of no known version")]
    Garbage,
    #[error("sealed with a key this node does not hold")]
    UnknownKey,
    #[error("the seal is broken")]
    Forged,
    #[error("seen before, or too old to tell")]
    Replayed,
    #[error("from or about nodes the cluster does not know")]
    UnknownNode,
    #[error("sealed, but no gossip")]
    Malformed,
}

/// Datagrams refused, by reason.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Refusals {
    pub garbage: u64,
    pub unknown_key: u64,
    pub forged: u64,
    pub replayed: u64,
    pub unknown_node: u64,
    pub malformed: u64,
}

/// A copy of the counters.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StatsSnapshot {
    pub sent: u64,
    /// The socket's buffer was full or the network unreachable; gossip is sent again anyway.
    pub send_failed: u64,
    pub received: u64,
    pub refused: Refusals,
    pub echoes_sent: u64,
    pub echoes_lost: u64,
    /// How often this worker ran so late that it distrusted what it had seen meanwhile.
    pub stalls: u64,
    /// Gauge: more than half of the peers are silent, so nobody is declared dead.
    pub cut_off: bool,
}

#[derive(Debug, Default)]
pub(crate) struct Stats {
    pub(crate) sent: AtomicU64,
    pub(crate) send_failed: AtomicU64,
    pub(crate) received: AtomicU64,
    pub(crate) echoes_sent: AtomicU64,
    pub(crate) echoes_lost: AtomicU64,
    pub(crate) stalls: AtomicU64,
    pub(crate) cut_off: AtomicBool,
    garbage: AtomicU64,
    unknown_key: AtomicU64,
    forged: AtomicU64,
    replayed: AtomicU64,
    unknown_node: AtomicU64,
    malformed: AtomicU64,
}

impl Stats {
    pub(crate) fn refused(&self, why: Refusal) {
        let counter = match why {
            Refusal::Garbage => &self.garbage,
            Refusal::UnknownKey => &self.unknown_key,
            Refusal::Forged => &self.forged,
            Refusal::Replayed => &self.replayed,
            Refusal::UnknownNode => &self.unknown_node,
            Refusal::Malformed => &self.malformed,
        };
        bump(counter);
    }

    pub(crate) fn snapshot(&self) -> StatsSnapshot {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        StatsSnapshot {
            sent: read(&self.sent),
            send_failed: read(&self.send_failed),
            received: read(&self.received),
            refused: Refusals {
                garbage: read(&self.garbage),
                unknown_key: read(&self.unknown_key),
                forged: read(&self.forged),
                replayed: read(&self.replayed),
                unknown_node: read(&self.unknown_node),
                malformed: read(&self.malformed),
            },
            echoes_sent: read(&self.echoes_sent),
            echoes_lost: read(&self.echoes_lost),
            stalls: read(&self.stalls),
            cut_off: self.cut_off.load(Ordering::Relaxed),
        }
    }
}

pub(crate) fn bump(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
