//! Warnings that a client can cause: at most one line per period, with the number of those held back. Pure; the time is given.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Between two lines of one notice.
const PERIOD: Duration = Duration::from_mins(1);

/// What the name server may have to warn of, over all sandboxes.
#[derive(Debug, Default)]
pub(crate) struct Notices {
    /// An answer could not be written.
    pub(crate) encode: Notice,
    /// A TCP client could not be accepted.
    pub(crate) accept: Notice,
}

/// When a warning was last written, and how often it was not since.
#[derive(Debug, Default)]
pub(crate) struct Notice {
    state: Mutex<(Option<Instant>, u64)>,
}

impl Notice {
    /// Whether to write the line now: the number held back since the last one.
    pub(crate) fn due(&self, now: Instant) -> Option<u64> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (last, held_back) = &mut *state;
        if last.is_some_and(|last| now.saturating_duration_since(last) < PERIOD) {
            *held_back += 1;
            return None;
        }
        *last = Some(now);
        Some(std::mem::take(held_back))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_per_period_says_how_many_were_held_back() {
        let notice = Notice::default();
        let start = Instant::now();
        assert_eq!(notice.due(start), Some(0));
        for _ in 0..5 {
            assert_eq!(notice.due(start + PERIOD / 2), None);
        }
        assert_eq!(notice.due(start + PERIOD), Some(5));
        assert_eq!(notice.due(start + PERIOD), None);
    }
}
