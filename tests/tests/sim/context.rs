//! What every process is handed when it is its turn: the time, its chance, the way out, and the run's books.

use crate::Ms;
use crate::bugs::Bug;
use crate::packet::{Envelope, Packet, Place};
use crate::rng::Rng;
use crate::trace::Trace;
use crate::truth::Truth;

#[derive(Debug)]
pub(crate) struct Context<'a> {
    pub(crate) now: Ms,
    pub(crate) rng: &'a mut Rng,
    pub(crate) out: &'a mut Vec<Envelope>,
    pub(crate) truth: &'a mut Truth,
    pub(crate) trace: &'a mut Trace,
    pub(crate) bug: Option<Bug>,
    /// What the clocks of the machines show more than the time of the run, by machine.
    pub(crate) skews: &'a [i64],
}

impl Context<'_> {
    pub(crate) fn send(&mut self, from: Place, to: Place, packet: Packet) {
        self.out.push(Envelope { from, to, packet });
    }

    pub(crate) fn has(&self, bug: Bug) -> bool {
        self.bug == Some(bug)
    }

    /// Unix ms by the machine's own clock.
    pub(crate) fn wall_ms(&self, machine: usize) -> u64 {
        self.now.saturating_add_signed(self.skews[machine])
    }
}
