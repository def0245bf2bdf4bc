//! One peer of the table: what gossip and kernel say of it, and what follows from that alone. The rest of the table, above all
//! whether a death is credible, is `table`'s.

use std::net::IpAddr;

use crate::identity::Identity;
use crate::members::Condition;
use crate::track::{MISSES_TO_DIE, Track};

/// How long a member may be unheard after it (or we) came, before it is asked for by echo.
pub(crate) const START_GRACE_MS: u64 = 3_000;
/// As [`MISSES_TO_DIE`], for a node without its agent, which is echoed for hours: at 10 % loss 3 in a row would happen each
/// minute.
const MISSES_TO_DIE_WHEN_LOST: u8 = 6;

#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) track: Track,
    /// By the state; serves until an identity is heard.
    pub(crate) known_vtep: IpAddr,
    pub(crate) identity: Option<Identity>,
    pub(crate) gossip: Gossip,
    /// foca suspects it: echo it ahead of the verdict.
    pub(crate) suspect: bool,
    pub(crate) verdict: Option<(Condition, u64)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Gossip {
    /// Never heard; the time since when we wait.
    Never {
        since_ms: u64,
    },
    Up,
    Down {
        since_ms: u64,
    },
}

/// What follows for one peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Is(Condition),
    /// Dead, if the jury agrees.
    Dies,
    /// The jury did not agree: as before.
    HeldBack,
    Undecided,
}

// === impl Peer ===

impl Peer {
    pub(crate) fn take_identity(&mut self, identity: &Identity) {
        if self.identity.is_none_or(|known| identity.generation >= known.generation) {
            self.identity = Some(*identity);
            self.track.move_to(identity.vtep);
        }
    }

    pub(crate) fn has_left(&self) -> bool {
        self.identity.is_some_and(|identity| identity.left)
    }

    pub(crate) fn is_dead(&self) -> bool {
        matches!(self.verdict, Some((Condition::Dead, _))) || self.has_left()
    }

    /// When gossip lost it, if it has.
    pub(crate) fn lost_ms(&self, now_ms: u64) -> Option<u64> {
        match self.gossip {
            Gossip::Up => None,
            Gossip::Down { since_ms } => Some(since_ms),
            Gossip::Never { since_ms } => {
                let over_ms = since_ms + START_GRACE_MS;
                (now_ms >= over_ms).then_some(over_ms)
            }
        }
    }

    /// Since when neither its agent nor its kernel answers.
    pub(crate) fn accused_since_ms(&self, now_ms: u64) -> Option<u64> {
        self.track.silent_since_ms().filter(|_| self.is_unheard(now_ms))
    }

    pub(crate) fn condition(&self) -> Option<Condition> {
        self.verdict.map(|(condition, _)| condition)
    }

    /// Gossip does not hear it, or suspects it; and it is not dead anyway.
    pub(crate) fn is_unheard(&self, now_ms: u64) -> bool {
        (self.suspect || self.lost_ms(now_ms).is_some()) && !self.is_dead()
    }

    pub(crate) fn wants_echo(&self, now_ms: u64) -> bool {
        self.is_unheard(now_ms) || (self.track.falls_silent() && !self.is_dead())
    }

    /// `succeeded`: another node is heard at this one's address, so an echo from there says nothing about this one.
    pub(crate) fn verdict_now(&self, succeeded: bool, now_ms: u64) -> Verdict {
        if self.has_left() {
            return Verdict::Is(Condition::Dead);
        }
        if self.gossip == Gossip::Up {
            return Verdict::Is(Condition::Alive);
        }
        let Some(lost_ms) = self.lost_ms(now_ms) else { return Verdict::Undecided };
        let condition = self.condition();
        if succeeded || condition == Some(Condition::Dead) {
            return Verdict::Is(Condition::Dead);
        }
        let misses_to_die = match condition {
            Some(Condition::AgentLost) => MISSES_TO_DIE_WHEN_LOST,
            _ => MISSES_TO_DIE,
        };
        // An answer from before the loss may be older than the crash.
        let answered = self.track.answered_ms().is_some_and(|at| at >= lost_ms);
        if self.track.misses() >= misses_to_die {
            Verdict::Dies
        } else if answered && self.track.misses() == 0 {
            Verdict::Is(Condition::AgentLost)
        } else {
            Verdict::Undecided
        }
    }
}
