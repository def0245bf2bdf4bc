//! Answers of upstream resolvers, kept by their TTL and, past it, for the time that no upstream answers (RFC 8767).
//!
//! Pure: the time comes in. Key → one response; at most [`ENTRIES_MAX`] entries and [`BYTES_MAX`] bytes, the oldest goes
//! first. Never holds anything of the local tables.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::response::Response;
use crate::wire::{Query, flag};

const ENTRIES_MAX: usize = 4096;
/// 4 MiB: a node has one such cache, and one more for each sandbox with servers of its own.
const BYTES_MAX: usize = 4 << 20;
/// A single answer may not push out hundreds.
const ENTRY_BYTES_MAX: usize = 16 << 10;
/// How long past its time an entry is of use (RFC 8767 §5.11: one to three days).
const STALE_MAX: Duration = Duration::from_hours(24);
/// How long the upstreams are left alone for an entry that they failed to renew (RFC 8767 §5: 30 s at most).
const RETRY_AFTER: Duration = Duration::from_secs(10);

/// All of a query that an answer may depend on.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Key {
    name: Box<[u8]>,
    kind: u16,
    class: u16,
    /// RD, AD and CD.
    flags: u16,
    /// Whether there is an OPT record, and DO in it.
    edns: Option<bool>,
}

impl Key {
    /// `None` when the query has EDNS options: cookies and client subnets make answers personal.
    pub(super) fn of(query: &Query) -> Option<Self> {
        if query.edns.is_some_and(|edns| edns.has_options) {
            return None;
        }
        let kept = flag::RECURSION_DESIRED | flag::AUTHENTIC_DATA | flag::CHECKING_DISABLED;
        Some(Self {
            name: query.name.as_bytes().into(),
            kind: query.kind,
            class: query.class,
            flags: query.flags & kept,
            edns: query.edns.map(|edns| edns.dnssec_ok),
        })
    }
}

#[derive(Debug)]
struct Entry {
    response: Arc<Response>,
    stored_at: Instant,
    lifetime: Duration,
    /// Until then nobody asks for a newer one.
    held_until: Option<Instant>,
}

/// What the cache has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Found {
    Fresh {
        response: Arc<Response>,
        elapsed_s: u32,
    },
    /// Past its time; `held` when the upstreams failed just now, so that asking again would only delay.
    Stale {
        response: Arc<Response>,
        held: bool,
    },
    Nothing,
}

#[derive(Debug, Default)]
pub(super) struct Cache {
    entries: HashMap<Key, Entry>,
    /// Keys of `entries` by the time they first came.
    order: VecDeque<Key>,
    bytes: usize,
}

impl Cache {
    pub(super) fn get(&self, key: &Key, now: Instant) -> Found {
        let Some(entry) = self.entries.get(key) else { return Found::Nothing };
        let elapsed = now.saturating_duration_since(entry.stored_at);
        let response = Arc::clone(&entry.response);
        if elapsed < entry.lifetime {
            Found::Fresh { response, elapsed_s: elapsed.as_secs() as u32 }
        } else if elapsed < entry.lifetime + STALE_MAX {
            Found::Stale { response, held: entry.held_until.is_some_and(|until| now < until) }
        } else {
            Found::Nothing
        }
    }

    /// Keeps `response` when it says for how long.
    pub(super) fn put(&mut self, key: &Key, response: &Arc<Response>, now: Instant) {
        let Some(lifetime_s) = response.lifetime_s() else { return };
        if response.len() > ENTRY_BYTES_MAX {
            return;
        }
        let entry = Entry {
            response: Arc::clone(response),
            stored_at: now,
            lifetime: Duration::from_secs(lifetime_s.into()),
            held_until: None,
        };
        self.bytes += response.len();
        match self.entries.insert(key.clone(), entry) {
            Some(old) => self.bytes -= old.response.len(),
            None => self.order.push_back(key.clone()),
        }
        while self.entries.len() > ENTRIES_MAX || self.bytes > BYTES_MAX {
            let Some(oldest) = self.order.pop_front() else { return };
            if let Some(old) = self.entries.remove(&oldest) {
                self.bytes -= old.response.len();
            }
        }
    }

    /// Notes that no upstream would renew this entry.
    pub(super) fn hold(&mut self, key: &Key, now: Instant) {
        if let Some(entry) = self.entries.get_mut(key) {
            entry.held_until = Some(now + RETRY_AFTER);
        }
    }
}

#[cfg(test)]
mod tests;
