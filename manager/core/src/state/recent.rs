//! Answers to recent requests, so that a client that lost the answer and asks again gets it and changes nothing twice.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

use crate::outcome::Outcome;
use crate::rejection::Rejection;

/// How many answers are kept at most; the oldest goes first.
pub(crate) const ANSWERS_MAX: usize = 4096;
/// How far off, either way, a node's clock may be when it joins. Further apart than certificates are dated back, they would be
/// invalid on arrival.
pub const CLOCK_SKEW_MS_MAX: u64 = 55 * 60 * 1000;
/// How long an answer is kept: ten minutes by any two clocks. Younger by the clock of one manager, it must not be too old by that
/// of the next.
pub(crate) const AGE_MS_MAX: u64 = 2 * CLOCK_SKEW_MS_MAX + 10 * 60 * 1000;

/// Of proposals that no writer made (tests, the founding in the simulation): a writer draws an id for each.
const NO_REQUEST: [u8; 16] = [0; 16];

pub(crate) type Answer = Result<Outcome, Rejection>;

/// Request id → its answer, and the ids in the order they were answered with the time of it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Recent {
    answers: BTreeMap<[u8; 16], Answer>,
    order: VecDeque<([u8; 16], u64)>,
}

impl Recent {
    pub(crate) fn get(&self, request: &[u8; 16]) -> Option<&Answer> {
        self.answers.get(request)
    }

    /// `now_ms` may go back when the leader changes; then answers are kept longer.
    pub(crate) fn record(&mut self, request: [u8; 16], now_ms: u64, answer: &Answer) {
        while let Some((oldest, at_ms)) = self.order.front()
            && (self.order.len() >= ANSWERS_MAX || at_ms.saturating_add(AGE_MS_MAX) < now_ms)
        {
            self.answers.remove(oldest);
            self.order.pop_front();
        }
        if request != NO_REQUEST {
            self.answers.insert(request, answer.clone());
            self.order.push_back((request, now_ms));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(n: usize) -> [u8; 16] {
        (n as u128 + 1).to_be_bytes()
    }

    #[test]
    fn answers_leave_by_number_and_by_age() {
        let mut recent = Recent::default();
        for n in 0..=ANSWERS_MAX {
            recent.record(request(n), 0, &Ok(Outcome::Done));
        }
        assert_eq!(recent.answers.len(), ANSWERS_MAX);
        assert!(recent.get(&request(0)).is_none() && recent.get(&request(1)).is_some());
        recent.record(request(9999), AGE_MS_MAX + 1, &Ok(Outcome::Done));
        assert_eq!((recent.answers.len(), recent.order.len()), (1, 1));
    }

    /// Found by the simulation: with ten minutes, the retry of a call after a leader with a fast clock was done anew.
    #[test]
    fn an_answer_outlives_the_clock_of_another_leader() {
        let mut recent = Recent::default();
        recent.record(request(1), CLOCK_SKEW_MS_MAX, &Ok(Outcome::Done));
        recent.record(request(2), 3 * CLOCK_SKEW_MS_MAX, &Ok(Outcome::Done));
        assert!(recent.get(&request(1)).is_some());
    }

    #[test]
    fn no_request_id_is_not_kept() {
        let mut recent = Recent::default();
        recent.record(NO_REQUEST, 0, &Ok(Outcome::Done));
        assert!(recent.get(&NO_REQUEST).is_none());
    }
}
