//! How long to wait before the next try: exponential, bounded, jittered.
//!
//! [`Backoff`] is the policy (plain data), [`Delays`] one run of it. Jitter only shortens, so the maximum is a promise.

use std::time::Duration;

use rand::RngExt;

/// A checked policy: the n-th delay is `min · 2^n`, at most `max`, shortened by up to `jitter` of itself.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Backoff {
    min: Duration,
    max: Duration,
    jitter: f64,
}

/// The parameters make no policy.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
pub enum BackoffError {
    #[error("the shortest delay must not be zero")]
    ZeroMin,
    #[error("the longest delay {max:?} is shorter than the shortest {min:?}")]
    MaxBelowMin { min: Duration, max: Duration },
    #[error("jitter {jitter} is not within 0 and 1")]
    JitterRange { jitter: f64 },
}

/// The delays of one run of failures; endless.
#[derive(Debug, Clone)]
pub struct Delays {
    policy: Backoff,
    next: Duration,
}

impl Backoff {
    /// A policy from `min` to `max`; `jitter` is the part of a delay, 0 to 1, that chance may take off.
    pub const fn new(min: Duration, max: Duration, jitter: f64) -> Result<Self, BackoffError> {
        if min.is_zero() {
            return Err(BackoffError::ZeroMin);
        }
        if max.as_nanos() < min.as_nanos() {
            return Err(BackoffError::MaxBelowMin { min, max });
        }
        // Written so that NaN is refused.
        if !(jitter >= 0.0 && jitter <= 1.0) {
            return Err(BackoffError::JitterRange { jitter });
        }
        Ok(Self { min, max, jitter })
    }

    /// Begins a run of failures.
    pub const fn delays(self) -> Delays {
        Delays { policy: self, next: self.min }
    }
}

impl Delays {
    /// The run of failures is over: the next delay is the shortest again.
    pub const fn reset(&mut self) {
        self.next = self.policy.min;
    }

    /// The next delay.
    pub fn delay(&mut self) -> Duration {
        let full = self.next;
        self.next = full.saturating_mul(2).min(self.policy.max);
        full.mul_f64(1.0 - self.policy.jitter * rand::rng().random::<f64>())
    }
}

impl Iterator for Delays {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        Some(self.delay())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: fn(u64) -> Duration = Duration::from_millis;

    #[test]
    fn delays_double_up_to_the_maximum_and_reset() {
        let mut delays = Backoff::new(MS(100), MS(700), 0.0).unwrap().delays();
        let first: Vec<_> = delays.by_ref().take(5).collect();
        assert_eq!(first, [MS(100), MS(200), MS(400), MS(700), MS(700)]);
        delays.reset();
        assert_eq!(delays.delay(), MS(100));
    }

    #[test]
    fn jitter_only_shortens_and_stays_in_its_part() {
        let policy = Backoff::new(MS(100), MS(100), 0.5).unwrap();
        assert!(policy.delays().take(1000).all(|d| d > MS(49) && d <= MS(100)));
    }

    #[test]
    fn bad_parameters_are_refused() {
        assert_eq!(Backoff::new(MS(0), MS(1), 0.0), Err(BackoffError::ZeroMin));
        let (min, max) = (MS(2), MS(1));
        assert_eq!(Backoff::new(min, max, 0.0), Err(BackoffError::MaxBelowMin { min, max }));
        for jitter in [-0.1, 1.1, f64::NAN] {
            assert!(Backoff::new(MS(1), MS(1), jitter).is_err(), "{jitter}");
        }
    }

    #[test]
    fn huge_delays_saturate() {
        let mut delays = Backoff::new(Duration::MAX, Duration::MAX, 0.0).unwrap().delays();
        assert_eq!(delays.next, Duration::MAX);
        delays.next = delays.next.saturating_mul(2);
        assert_eq!(delays.next, Duration::MAX);
    }
}
