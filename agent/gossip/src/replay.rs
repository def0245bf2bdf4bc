//! Refuses datagrams that were seen before.
//!
//! Per sender one window: the newest session and the last 128 sequence numbers of it, as in RFC 4303 §3.4.3. A restarted sender
//! has a higher session (its start time) and begins a new window. A *lower* session is an old recording, or a sender that
//! restarted with its clock set back: it is believed only when the known session has been silent for `SILENCE_MS`. Then an
//! attacker could replay an older session of a dead node; foca ignores what it says, because its generation is outdated.
//!
//! Memory: one entry of 48 bytes for each known node; unknown senders get none.

use std::collections::BTreeMap;

use swarmnet_types::NodeId;

use crate::members::Members;
use crate::seal::Stamp;
use crate::stats::Refusal;

const WINDOW: u64 = 128;
const SILENCE_MS: u64 = 10_000;

#[derive(Debug, Default)]
pub(crate) struct ReplayGuard {
    /// Sender → what was seen of it.
    windows: BTreeMap<NodeId, Window>,
}

#[derive(Debug)]
struct Window {
    session: u64,
    highest: u64,
    /// Bit i: `highest - i` was seen.
    seen: u128,
    last_ms: u64,
}

impl ReplayGuard {
    /// Admits a datagram once. Call it only for what passed the seal, and only for known senders.
    ///
    /// # Errors
    /// [`Refusal::Replayed`].
    pub(crate) fn admit(&mut self, stamp: &Stamp, now_ms: u64) -> Result<(), Refusal> {
        let fresh = Window { session: stamp.session, highest: 0, seen: 0, last_ms: now_ms };
        let window = self.windows.entry(stamp.sender).or_insert(fresh);
        if stamp.session != window.session {
            let silent_ms = now_ms.saturating_sub(window.last_ms);
            if stamp.session < window.session && silent_ms < SILENCE_MS {
                return Err(Refusal::Replayed);
            }
            *window = Window { session: stamp.session, highest: 0, seen: 0, last_ms: now_ms };
        }
        window.mark(stamp.sequence)?;
        window.last_ms = now_ms;
        Ok(())
    }

    /// Forgets nodes that are no longer members.
    pub(crate) fn retain(&mut self, members: &Members) {
        self.windows.retain(|node, _| members.contains_key(node));
    }
}

impl Window {
    fn mark(&mut self, sequence: u64) -> Result<(), Refusal> {
        if sequence > self.highest {
            let ahead = sequence - self.highest;
            self.seen = if ahead >= WINDOW { 0 } else { self.seen << ahead };
            self.seen |= 1;
            self.highest = sequence;
            return Ok(());
        }
        let behind = self.highest - sequence;
        if sequence == 0 || behind >= WINDOW || self.seen & (1 << behind) != 0 {
            return Err(Refusal::Replayed);
        }
        self.seen |= 1 << behind;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(session: u64, sequence: u64) -> Stamp {
        Stamp { sender: NodeId::from_bytes([1; 16]), session, sequence }
    }

    fn admitted(guard: &mut ReplayGuard, session: u64, sequence: u64, now_ms: u64) -> bool {
        guard.admit(&stamp(session, sequence), now_ms).is_ok()
    }

    #[test]
    fn each_is_admitted_once_in_any_near_order() {
        let mut guard = ReplayGuard::default();
        for sequence in [1, 3, 2, 129, 4, 130] {
            assert!(admitted(&mut guard, 1, sequence, 0), "{sequence}");
            assert!(!admitted(&mut guard, 1, sequence, 0), "{sequence} again");
        }
        assert!(!admitted(&mut guard, 1, 1, 0), "fell out of the window");
        assert!(!admitted(&mut guard, 1, 0, 0), "there is no number 0");
        assert!(admitted(&mut guard, 1, 10_000, 0));
        assert!(admitted(&mut guard, 1, 10_000 - 127, 0));
        assert!(!admitted(&mut guard, 1, 10_000 - 128, 0));
    }

    #[test]
    fn a_restart_begins_a_new_window_at_once() {
        let mut guard = ReplayGuard::default();
        assert!(admitted(&mut guard, 5, 1000, 0));
        assert!(admitted(&mut guard, 6, 1, 1));
        assert!(!admitted(&mut guard, 5, 1001, 2), "the old session is over");
    }

    #[test]
    fn a_restart_with_the_clock_set_back_is_heard_after_a_silence() {
        let mut guard = ReplayGuard::default();
        assert!(admitted(&mut guard, 5, 1, 0));
        assert!(!admitted(&mut guard, 4, 1, SILENCE_MS - 1));
        assert!(admitted(&mut guard, 4, 2, SILENCE_MS));
        assert!(admitted(&mut guard, 4, 3, SILENCE_MS + 1));
    }

    #[test]
    fn nodes_that_are_gone_are_forgotten() {
        let mut guard = ReplayGuard::default();
        assert!(admitted(&mut guard, 5, 1, 0));
        guard.retain(&Members::new());
        assert!(guard.windows.is_empty());
    }
}
