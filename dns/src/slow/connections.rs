//! The TCP clients of all sandboxes: how many there may be, and who makes room for the next.
//!
//! A client that has been answered and has nothing in work makes room first, the one quiet for longest; then one that owes us
//! something for longer than a grace: it has never asked, or does not take its answer. A client whose query is in work, or
//! that has only just come, never does: the newcomer waits in the listener's queue instead. So silent clients cannot lock out
//! others (CVE-2024-8418), and however many come at once, each is heard. At the limit over all sandboxes a fuller sandbox
//! gives way to an emptier one, never the other way round.
//!
//! [`Table`] is pure: the time is a parameter.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use swarmnet_types::SandboxId;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) per_sandbox: usize,
    pub(crate) total: usize,
    /// How long a client may owe us its first query, or the taking of an answer, before it counts as silent.
    pub(crate) grace: Duration,
}

#[derive(Debug)]
struct Entry {
    closed: CancellationToken,
    in_work: u32,
    answered: bool,
    /// An answer is being taken, or not, by the client.
    writing: bool,
    /// Last change of the above, since the table's start.
    since: Duration,
}

/// Who makes room, best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    Idle,
    Owing,
}

impl Entry {
    /// `None`: not at all, now.
    fn rank(&self, now: Duration, grace: Duration) -> Option<Rank> {
        let owes = self.writing || (self.in_work == 0 && !self.answered);
        if self.closed.is_cancelled() {
            None
        } else if owes {
            (now.saturating_sub(self.since) >= grace).then_some(Rank::Owing)
        } else {
            (self.in_work == 0).then_some(Rank::Idle)
        }
    }
}

#[derive(Debug)]
struct Table {
    limits: Limits,
    /// A connection stays here until its file descriptor is closed.
    sandboxes: BTreeMap<SandboxId, BTreeMap<u64, Entry>>,
    total: usize,
    last_id: u64,
}

/// Those that have not been told to close.
fn staying(entries: &BTreeMap<u64, Entry>) -> usize {
    entries.values().filter(|entry| !entry.closed.is_cancelled()).count()
}

impl Table {
    fn new(limits: Limits) -> Self {
        Self { limits, sandboxes: BTreeMap::new(), total: 0, last_id: 0 }
    }

    /// Enters a new connection; `None` when there is no room yet. Whoever can make room has been told to then.
    fn admit(
        &mut self,
        sandbox: SandboxId,
        now: Duration,
        closed: &CancellationToken,
    ) -> Option<u64> {
        let own = self.sandboxes.get(&sandbox).map_or(0, BTreeMap::len);
        if own >= self.limits.per_sandbox || self.total >= self.limits.total {
            if let Some(victim) = self.victim(sandbox, now) {
                victim.closed.cancel();
            }
            return None;
        }
        self.last_id += 1;
        let closed = closed.clone();
        let entry = Entry { closed, in_work: 0, answered: false, writing: false, since: now };
        self.sandboxes.entry(sandbox).or_default().insert(self.last_id, entry);
        self.total += 1;
        Some(self.last_id)
    }

    /// `None` also when room is being made already.
    fn victim(&self, sandbox: SandboxId, now: Duration) -> Option<&Entry> {
        let own = self.sandboxes.get(&sandbox);
        let own_staying = own.map_or(0, staying);
        if own.is_some_and(|own| own.len() >= self.limits.per_sandbox) {
            let full = own_staying >= self.limits.per_sandbox;
            return own.filter(|_| full).and_then(|own| self.quietest(own, now));
        }
        let mut fuller: Vec<_> = self.sandboxes.values().map(|all| (staying(all), all)).collect();
        if fuller.iter().map(|(count, _)| count).sum::<usize>() < self.limits.total {
            return None;
        }
        fuller.retain(|&(count, _)| count > own_staying);
        fuller.sort_by_key(|&(count, _)| std::cmp::Reverse(count));
        let all = fuller.into_iter().map(|(_, all)| all).chain(own);
        all.into_iter().find_map(|all| self.quietest(all, now))
    }

    fn quietest<'t>(&self, all: &'t BTreeMap<u64, Entry>, now: Duration) -> Option<&'t Entry> {
        let ranked = all.values().filter_map(|entry| {
            entry.rank(now, self.limits.grace).map(|rank| (rank, entry.since, entry))
        });
        ranked.min_by_key(|&(rank, since, _)| (rank, since)).map(|(_, _, entry)| entry)
    }

    fn remove(&mut self, sandbox: SandboxId, id: u64) {
        let Some(own) = self.sandboxes.get_mut(&sandbox) else { return };
        if own.remove(&id).is_some() {
            self.total -= 1;
        }
        if own.is_empty() {
            self.sandboxes.remove(&sandbox);
        }
    }
}

/// The table, shared by the listeners of all sandboxes.
#[derive(Debug)]
pub(crate) struct Connections {
    epoch: Instant,
    grace: Duration,
    table: Mutex<Table>,
    /// Somebody left, or would make room now.
    changed: Notify,
}

impl Connections {
    pub(crate) fn new(limits: Limits) -> Arc<Self> {
        Arc::new(Self {
            epoch: Instant::now(),
            grace: limits.grace,
            table: Mutex::new(Table::new(limits)),
            changed: Notify::new(),
        })
    }

    /// A place for one more client of `sandbox`, as soon as there is one.
    pub(super) async fn place(self: &Arc<Self>, sandbox: SandboxId) -> Place {
        let closed = CancellationToken::new();
        loop {
            // Before the look, so that no change is missed between it and the wait.
            let changed = self.changed.notified();
            let admitted = self.table().admit(sandbox, self.epoch.elapsed(), &closed);
            if let Some(id) = admitted {
                return Place { connections: Arc::clone(self), sandbox, id, closed };
            }
            // A grace that ends changes nothing by itself: look again now and then.
            drop(timeout(self.grace / 4, changed).await);
        }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One connection's place in the table; given back on drop, which must come after its file descriptor is closed.
#[derive(Debug)]
pub(super) struct Place {
    connections: Arc<Connections>,
    sandbox: SandboxId,
    id: u64,
    /// Cancelled when the connection is to end.
    pub(super) closed: CancellationToken,
}

impl Place {
    /// A whole query has come.
    pub(super) fn asked(&self) {
        self.change(|entry| entry.in_work += 1);
    }

    /// From now on it is the client's part to take an answer.
    pub(super) fn writing(&self) {
        self.change(|entry| entry.writing = true);
    }

    /// The kernel has the whole answer.
    pub(super) fn answered(&self) {
        self.change(|entry| {
            entry.in_work = entry.in_work.saturating_sub(1);
            entry.answered = true;
            entry.writing = false;
        });
        self.connections.changed.notify_waiters();
    }

    fn change(&self, change: impl FnOnce(&mut Entry)) {
        let now = self.connections.epoch.elapsed();
        let mut table = self.connections.table();
        let own = table.sandboxes.get_mut(&self.sandbox);
        if let Some(entry) = own.and_then(|own| own.get_mut(&self.id)) {
            change(entry);
            entry.since = now;
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.connections.table().remove(self.sandbox, self.id);
        self.connections.changed.notify_waiters();
    }
}

#[cfg(test)]
mod tests;
