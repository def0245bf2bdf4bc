//! How often one source may try to join: a token bucket for each address, with a bounded number of them.
//!
//! A join secret cannot be guessed (128 bits); the limit keeps one host from spending the managers' time on signatures.
//! Pure: the caller hands in the clock. IPv6 sources count by /64, the least that one host is given.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

/// Attempts that a rested source may make at once: a rack that boots behind one address.
const BURST: u32 = 32;
/// One more attempt each second after that.
const REFILL: Duration = Duration::from_secs(1);
/// Known sources: about 100 bytes each. When all are busy, further ones share one bucket.
const SOURCES_MAX: usize = 4096;

/// Attempts left at a moment.
#[derive(Debug, Clone, Copy)]
struct Bucket {
    left: u32,
    /// Up to when refills are counted in `left`.
    at: Instant,
}

/// Key: source address (IPv6: its /64). A missing source is a rested one.
#[derive(Debug, Clone, Default)]
pub struct JoinLimiter {
    sources: BTreeMap<IpAddr, Bucket>,
    /// For sources that found no room.
    shared: Option<Bucket>,
    swept: Option<Instant>,
}

impl JoinLimiter {
    /// Whether `from` may try now; a granted attempt is counted. `now` must not run backwards.
    pub fn allow(&mut self, from: IpAddr, now: Instant) -> bool {
        let key = source(from);
        if self.sources.len() >= SOURCES_MAX && !self.sources.contains_key(&key) {
            self.sweep(now);
            if self.sources.len() >= SOURCES_MAX {
                return self.shared.get_or_insert(Bucket::rested(now)).take(now);
            }
        }
        self.sources.entry(key).or_insert(Bucket::rested(now)).take(now)
    }

    /// Forgets rested sources; at most once per refill, so that a flood does not pay for a scan with each packet.
    fn sweep(&mut self, now: Instant) {
        if self.swept.is_some_and(|at| now.saturating_duration_since(at) < REFILL) {
            return;
        }
        self.swept = Some(now);
        self.sources.retain(|_, bucket| {
            bucket.refill(now);
            bucket.left < BURST
        });
    }
}

impl Bucket {
    fn rested(now: Instant) -> Self {
        Self { left: BURST, at: now }
    }

    fn refill(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.at);
        let refills = u32::try_from(passed.as_millis() / REFILL.as_millis()).unwrap_or(u32::MAX);
        if refills >= BURST {
            *self = Self::rested(now);
        } else {
            self.left = BURST.min(self.left + refills);
            self.at += REFILL * refills;
        }
    }

    fn take(&mut self, now: Instant) -> bool {
        self.refill(now);
        let granted = self.left > 0;
        self.left = self.left.saturating_sub(1);
        granted
    }
}

fn source(from: IpAddr) -> IpAddr {
    match from.to_canonical() {
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() >> 64 << 64).into(),
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn ip(n: u32) -> IpAddr {
        Ipv4Addr::from_bits(0x0a00_0000 + n).into()
    }

    #[test]
    fn a_source_gets_its_burst_then_one_per_refill() {
        let (mut limiter, t0) = (JoinLimiter::default(), Instant::now());
        assert!((0..BURST).all(|_| limiter.allow(ip(1), t0)));
        assert!(!limiter.allow(ip(1), t0));
        assert!(limiter.allow(ip(2), t0), "others are not touched");
        assert!(!limiter.allow(ip(1), t0 + REFILL / 2));
        assert!(limiter.allow(ip(1), t0 + REFILL));
        assert!(!limiter.allow(ip(1), t0 + REFILL + REFILL / 2), "half refills are not lost");
        assert!(limiter.allow(ip(1), t0 + REFILL * 2));
        let later = t0 + REFILL * 1000;
        assert_eq!((0..100).filter(|_| limiter.allow(ip(1), later)).count(), BURST as usize);
    }

    #[test]
    fn one_ipv6_host_is_one_source() {
        let (mut limiter, t0) = (JoinLimiter::default(), Instant::now());
        let host = |n: u128| IpAddr::V6(Ipv6Addr::from_bits((0x2001_0db8 << 96) + n));
        assert!((0..u128::from(BURST)).all(|n| limiter.allow(host(n), t0)));
        assert!(!limiter.allow(host(999), t0));
        assert!(limiter.allow(host(1 << 64), t0));
        let mapped = Ipv4Addr::new(10, 0, 0, 1).to_ipv6_mapped().into();
        assert_eq!(source(mapped), ip(1));
    }

    #[test]
    fn memory_is_bounded_and_a_flood_shares_one_bucket() {
        let (mut limiter, t0) = (JoinLimiter::default(), Instant::now());
        let granted = (0..100_000).filter(|n| limiter.allow(ip(*n), t0)).count();
        assert_eq!(limiter.sources.len(), SOURCES_MAX);
        assert_eq!(granted, SOURCES_MAX + BURST as usize);
        assert!(limiter.allow(ip(0), t0), "known sources keep their own");
        assert!(limiter.allow(ip(200_000), t0 + REFILL * BURST), "rested sources make room");
        assert!(limiter.sources.len() < SOURCES_MAX);
    }
}
