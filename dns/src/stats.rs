//! Counters of the name server, by result, for metrics. Each query is counted once by what it ended as; `truncated` and
//! `cache_hits` and `stale` come on top of that.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        /// Live counters, written by both threads.
        #[derive(Debug, Default)]
        pub struct Stats {
            $(pub(crate) $name: AtomicU64,)*
        }

        /// The counters at one moment; each only ever grows.
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
        pub struct StatsSnapshot {
            $($(#[$doc])* pub $name: u64,)*
        }

        impl Stats {
            pub fn snapshot(&self) -> StatsSnapshot {
                StatsSnapshot { $($name: self.$name.load(Ordering::Relaxed),)* }
            }

            /// Adds what one thread counted for itself, so that the hot path touches no shared line per query.
            pub(crate) fn add(&self, tally: &StatsSnapshot) {
                $(if tally.$name > 0 {
                    self.$name.fetch_add(tally.$name, Ordering::Relaxed);
                })*
            }
        }
    };
}

counters! {
    /// Answered from the tables, with records.
    local,
    /// Known name without a record of that type: empty answer.
    nodata,
    /// Pointer query for an address of ours without a name.
    nxdomain,
    /// Answered by an upstream resolver, or from its cache.
    forwarded,
    /// Of the forwarded: answered from the cache.
    cache_hits,
    /// Of the forwarded: answered from an entry past its time because no upstream did.
    stale,
    /// No upstream answered.
    servfail,
    /// Not ours, and the sandbox may not ask outside; or a kind of query that nobody may ask.
    refused,
    /// Malformed, or an opcode, class or EDNS version that is not served.
    malformed,
    /// "Server failure" because the sandbox had too many queries waiting.
    overloaded,
    /// Not answered at all: responses sent to us, scraps, queries that found the way to the slow path full.
    dropped,
    /// Answers that could not be encoded, or that the socket did not take.
    unsent,
    /// Answers by UDP that were cut: the client asks again by TCP.
    truncated,
}

pub(crate) fn bump(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
