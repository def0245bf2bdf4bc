//! Signs of life of one address: what it sent, which echoes it answered, which it did not, and when the next echo is due.

use std::net::IpAddr;

/// The answer to an echo counts as lost after this time.
pub(crate) const ECHO_TIMEOUT_MS: u64 = 300;
/// Echoes in a row that a node under suspicion may lose: 3 · 300 ms, mostly spent within foca's own suspicion.
pub(crate) const MISSES_TO_DIE: u8 = 3;
/// Pause between two echoes to an address whose case is not urgent. 6 losses at this pace take 2.8 s.
const ECHO_EVERY_MS: u64 = 500;

#[derive(Debug)]
pub(crate) struct Track {
    addr: IpAddr,
    /// The last datagram of its own, or answered echo.
    alive_ms: Option<u64>,
    /// The last answered echo.
    answered_ms: Option<u64>,
    /// Echoes lost since the last sign of life.
    misses: u8,
    /// When the first of these was sent.
    silent_since_ms: Option<u64>,
    /// When the echo in flight was sent; at most one is.
    in_flight_ms: Option<u64>,
    /// Not before this time.
    next_echo_ms: u64,
    /// It has answered since it was last accused: its silence means something.
    answers: bool,
}

impl Track {
    pub(crate) fn new(addr: IpAddr, now_ms: u64) -> Self {
        Self {
            addr,
            alive_ms: None,
            answered_ms: None,
            misses: 0,
            silent_since_ms: None,
            in_flight_ms: None,
            next_echo_ms: now_ms,
            answers: false,
        }
    }

    pub(crate) fn addr(&self) -> IpAddr {
        self.addr
    }

    pub(crate) fn answered_ms(&self) -> Option<u64> {
        self.answered_ms
    }

    /// Echoes lost since the last sign of life.
    pub(crate) fn misses(&self) -> u8 {
        self.misses
    }

    /// When the first of the lost echoes was sent; `None` when the last one was answered.
    pub(crate) fn silent_since_ms(&self) -> Option<u64> {
        self.silent_since_ms
    }

    /// A sign of life not before `since_ms`, and not older than `within_ms`.
    pub(crate) fn shows_life(&self, since_ms: u64, now_ms: u64, within_ms: u64) -> bool {
        self.alive_ms.is_some_and(|at| at >= since_ms && at + within_ms >= now_ms)
    }

    /// What is known of another address counts for nothing at this one.
    pub(crate) fn move_to(&mut self, addr: IpAddr) {
        if self.addr != addr {
            self.addr = addr;
            self.answered_ms = None;
            self.answers = false;
            self.distrust();
        }
    }

    /// A datagram of its own came in.
    pub(crate) fn alive(&mut self, now_ms: u64) {
        self.alive_ms = Some(now_ms);
        self.distrust();
    }

    /// Silence counts from here anew.
    pub(crate) fn distrust(&mut self) {
        self.misses = 0;
        self.silent_since_ms = None;
    }

    /// It used to answer and has begun not to: worth following up.
    pub(crate) fn falls_silent(&self) -> bool {
        self.answers && self.misses > 0
    }

    /// Whether it used to answer and now is silent. True once: only a further answer makes its silence mean something again,
    /// or a network that begins to drop echoes would be accused for ever.
    pub(crate) fn take_silence(&mut self) -> bool {
        let silent = self.falls_silent() && self.misses >= MISSES_TO_DIE;
        self.answers &= !silent;
        silent
    }

    /// Whether an echo is to be sent now; if so it is in flight from here on.
    pub(crate) fn start_echo(&mut self, now_ms: u64) -> bool {
        if self.in_flight_ms.is_some() || now_ms < self.next_echo_ms {
            return false;
        }
        self.in_flight_ms = Some(now_ms);
        self.next_echo_ms = now_ms + ECHO_EVERY_MS;
        true
    }

    /// The echo in flight is over.
    pub(crate) fn echoed(&mut self, answered: bool, now_ms: u64) {
        let sent_ms = self.in_flight_ms.take().unwrap_or(now_ms);
        if answered {
            self.alive(now_ms);
            self.answered_ms = Some(now_ms);
            self.answers = true;
            return;
        }
        // A sign of life while the echo was out outweighs it.
        if self.shows_life(sent_ms, now_ms, ECHO_TIMEOUT_MS) {
            return;
        }
        self.misses = self.misses.saturating_add(1);
        self.silent_since_ms.get_or_insert(sent_ms);
        // The first losses are followed up at once: a verdict hangs on them.
        if self.misses < MISSES_TO_DIE {
            self.next_echo_ms = now_ms;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn track() -> Track {
        Track::new(IpAddr::from([192, 0, 2, 1]), 0)
    }

    #[test]
    fn one_echo_at_a_time_and_lost_ones_are_repeated_at_once() {
        let mut track = track();
        assert!(track.start_echo(0) && !track.start_echo(0));
        track.echoed(false, 300);
        assert!(track.start_echo(300));
        track.echoed(true, 301);
        assert_eq!((track.misses(), track.silent_since_ms()), (0, None));
        assert!(!track.start_echo(799) && track.start_echo(800));
    }

    #[test]
    fn silence_begins_when_the_first_lost_echo_was_sent() {
        let mut track = track();
        for now_ms in [100, 400, 700] {
            assert!(track.start_echo(now_ms));
            track.echoed(false, now_ms + 300);
        }
        assert_eq!((track.misses(), track.silent_since_ms()), (3, Some(100)));
        assert!(!track.start_echo(1_000), "no longer urgent");
    }

    #[test]
    fn a_datagram_outweighs_the_echo_that_was_out() {
        let mut track = track();
        assert!(track.start_echo(0));
        track.alive(200);
        track.echoed(false, 300);
        assert_eq!(track.misses(), 0);
    }

    #[test]
    fn life_must_be_shown_late_enough_and_recently() {
        let mut track = track();
        track.alive(1_000);
        assert!(track.shows_life(1_000, 3_000, 2_000));
        assert!(!track.shows_life(1_001, 3_000, 2_000));
        assert!(!track.shows_life(0, 3_001, 2_000));
    }

    #[test]
    fn silence_is_taken_once_and_only_from_one_that_used_to_answer() {
        let mut track = track();
        let mut now_ms = 0;
        let mut lose_3 = |track: &mut Track| {
            for _ in 0..3 {
                now_ms += 2_000;
                assert!(track.start_echo(now_ms));
                track.echoed(false, now_ms + 300);
            }
            now_ms
        };
        lose_3(&mut track);
        assert!(!track.take_silence(), "never answered");
        let at_ms = lose_3(&mut track);
        assert!(track.start_echo(at_ms + 900));
        track.echoed(true, at_ms + 901);
        lose_3(&mut track);
        assert!(track.take_silence() && !track.take_silence());
        track.alive(at_ms + 7_000);
        lose_3(&mut track);
        assert!(!track.take_silence(), "has not answered since");
    }

    #[test]
    fn another_address_begins_with_a_clean_slate() {
        let mut track = track();
        assert!(track.start_echo(0));
        track.echoed(false, 300);
        track.move_to(IpAddr::from([192, 0, 2, 2]));
        assert_eq!((track.misses(), track.answered_ms()), (0, None));
    }
}
