//! The stand-in for openraft: Raft as in the paper (Ongaro, Ousterhout 2014, figures 2 and 13), pure, with a disk that can lose what
//! was not flushed.
//!
//! Why not openraft itself: its core chooses between its inputs by an unbiased `tokio::select!`, whose chance cannot be seeded
//! without `tokio_unstable`; two runs of one seed would differ. Our storage and transport under openraft have tests of their own
//! (`manager/src/raft/tests`, `manager/tests/raft_kill.rs`). Times are those of `RaftConfig`.
//!
//! What must be on disk before a word is said is kept: a vote, an appended entry and a new term are told to others only after the
//! flush, unless the run has [`Bug::AcksBeforeFlush`].

use std::collections::BTreeSet;
use std::sync::Arc;

use swarmnet_manager_core::Proposal;

use crate::Ms;
use crate::bugs::Bug;
use crate::rng::Rng;

pub(crate) type Index = u64;
pub(crate) type Term = u64;
/// Index and term of an entry.
pub(crate) type LogId = (Index, Term);

const HEARTBEAT_MS: Ms = 100;
const ELECTION_MIN_MS: Ms = 300;
const ELECTION_MAX_MS: Ms = 600;
/// A leader that heard no majority for so long takes no proposals.
const QUORUM_TIMEOUT_MS: Ms = 3_000;
/// Entries in one message.
const ENTRIES_MAX: usize = 16;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) term: Term,
    /// Empty: the blank entry of a new leader.
    pub(crate) batch: Arc<Vec<Proposal>>,
}

/// The state at an entry, as bytes.
#[derive(Debug, Clone)]
pub(crate) struct Snapshot {
    pub(crate) last: LogId,
    pub(crate) bytes: Arc<Vec<u8>>,
}

/// What is written. A crash leaves what was flushed.
#[derive(Debug, Clone, Default)]
pub(crate) struct Disk {
    term: Term,
    vote: Option<usize>,
    /// The last entry that is no longer in `entries`.
    base: LogId,
    entries: Vec<Entry>,
    pub(crate) snapshot: Option<Snapshot>,
    /// Known to be committed; may be old.
    committed: Index,
}

#[derive(Debug, Clone)]
pub(crate) enum Message {
    Vote {
        term: Term,
        last: LogId,
    },
    VoteReply {
        term: Term,
        granted: bool,
    },
    Append {
        term: Term,
        prev: LogId,
        entries: Vec<Entry>,
        commit: Index,
    },
    Install {
        term: Term,
        snapshot: Snapshot,
    },
    /// `matched`: what the follower has of the leader's log; when not `ok`, where it may be.
    AppendReply {
        term: Term,
        ok: bool,
        matched: Index,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Follower,
    Candidate,
    Leader,
}

/// One peer, as a leader sees it.
#[derive(Debug, Clone, Copy, Default)]
struct Peer {
    next: Index,
    matched: Index,
    heard: Ms,
}

type Outgoing = Vec<(usize, Message)>;

/// What waits for the disk.
#[derive(Debug, Default)]
struct Unflushed {
    /// Something was written since the flush under way began.
    dirty: bool,
    held: Outgoing,
    in_flight: Option<(Disk, Outgoing)>,
}

#[derive(Debug)]
pub(crate) struct Raft {
    me: usize,
    disk: Disk,
    durable: Disk,
    unflushed: Unflushed,
    pub(crate) role: Role,
    pub(crate) leader: Option<usize>,
    pub(crate) commit: Index,
    votes: BTreeSet<usize>,
    peers: Vec<Peer>,
    election_at: Ms,
    beat_at: Ms,
    out: Outgoing,
    /// A snapshot of the leader that the state has not taken yet.
    installed: Option<Snapshot>,
    bug: Option<Bug>,
}

// === impl Disk ===

impl Disk {
    /// A log that begins with these.
    pub(crate) fn founded(batch: Vec<Proposal>) -> Self {
        let first = Entry { term: 1, batch: Arc::new(batch) };
        Self { term: 1, entries: vec![first], committed: 1, ..Self::default() }
    }

    pub(crate) fn last(&self) -> LogId {
        let index = self.base.0 + self.entries.len() as u64;
        (index, self.entries.last().map_or(self.base.1, |e| e.term))
    }

    /// Position in `entries`.
    fn at(&self, index: Index) -> Option<usize> {
        let ahead = index.checked_sub(self.base.0 + 1)?;
        usize::try_from(ahead).ok().filter(|at| *at < self.entries.len())
    }

    fn term_at(&self, index: Index) -> Option<Term> {
        if index == self.base.0 {
            return Some(self.base.1);
        }
        self.at(index).map(|at| self.entries[at].term)
    }

    pub(crate) fn entry(&self, index: Index) -> Option<&Entry> {
        self.at(index).map(|at| &self.entries[at])
    }

    /// Forgets the entries up to `index`, which the snapshot holds.
    fn purge(&mut self, index: Index) {
        if let Some(at) = self.at(index) {
            self.base = (index, self.entries[at].term);
            self.entries.drain(..=at);
        }
    }
}

// === impl Raft ===

impl Raft {
    /// One of `count` managers, as its disk has it.
    pub(crate) fn new(me: usize, count: usize, disk: Disk, bug: Option<Bug>) -> Self {
        let snapshot = disk.snapshot.as_ref().map_or(0, |s| s.last.0);
        Self {
            me,
            commit: snapshot.max(disk.committed.min(disk.last().0)),
            durable: disk.clone(),
            disk,
            unflushed: Unflushed::default(),
            role: Role::Follower,
            leader: None,
            votes: BTreeSet::new(),
            peers: vec![Peer::default(); count],
            election_at: 0,
            beat_at: 0,
            out: Vec::new(),
            installed: None,
            bug,
        }
    }

    pub(crate) fn disk(&self) -> &Disk {
        &self.disk
    }

    /// What a crash at this moment leaves: what was flushed, or, as a kernel may write at any time, all of it.
    pub(crate) fn crash(self, written: bool) -> Disk {
        if written { self.disk } else { self.durable }
    }

    pub(crate) fn term(&self) -> Term {
        self.disk.term
    }

    pub(crate) fn take_out(&mut self) -> Outgoing {
        std::mem::take(&mut self.out)
    }

    pub(crate) fn take_installed(&mut self) -> Option<Snapshot> {
        self.installed.take()
    }

    fn majority(&self) -> usize {
        self.peers.len() / 2 + 1
    }

    fn others(&self) -> impl Iterator<Item = usize> + use<> {
        let me = self.me;
        (0..self.peers.len()).filter(move |p| *p != me)
    }

    /// Leads, and a majority showed itself lately.
    pub(crate) fn can_propose(&self, now: Ms) -> bool {
        let fresh = self.others().filter(|p| now < self.peers[*p].heard + QUORUM_TIMEOUT_MS);
        self.role == Role::Leader && fresh.count() + 1 >= self.majority()
    }

    // === disk ===

    /// A flush is to begin; [`Self::flushed`] ends it.
    pub(crate) fn begin_flush(&mut self) -> bool {
        let waiting = &mut self.unflushed;
        if !waiting.dirty || waiting.in_flight.is_some() {
            return false;
        }
        waiting.dirty = false;
        waiting.in_flight = Some((self.disk.clone(), std::mem::take(&mut waiting.held)));
        true
    }

    pub(crate) fn flushed(&mut self) {
        let Some((disk, held)) = self.unflushed.in_flight.take() else { return };
        self.durable = disk;
        self.out.extend(held);
        if self.role == Role::Leader {
            self.advance_commit();
        }
    }

    /// Says something that rests on what was written.
    fn promise(&mut self, to: usize, message: Message) {
        let waiting = &mut self.unflushed;
        if self.bug == Some(Bug::AcksBeforeFlush) {
            self.out.push((to, message));
        } else if waiting.dirty {
            waiting.held.push((to, message));
        } else if let Some((_, held)) = &mut waiting.in_flight {
            held.push((to, message));
        } else {
            self.out.push((to, message));
        }
    }

    /// The newest snapshot is of `last`; keeps a few entries behind it.
    pub(crate) fn snapshot(&mut self, snapshot: Snapshot, keep: u64) {
        let upto = snapshot.last.0.saturating_sub(keep);
        self.disk.snapshot = Some(snapshot);
        self.disk.purge(upto);
        self.unflushed.dirty = true;
    }

    fn remember_commit(&mut self) {
        // Not flushed for its own sake, as in our store.
        self.disk.committed = self.commit;
    }

    // === time ===

    fn postpone_election(&mut self, now: Ms, rng: &mut Rng) {
        self.election_at = now + ELECTION_MAX_MS + rng.between(ELECTION_MIN_MS, ELECTION_MAX_MS);
    }

    pub(crate) fn tick(&mut self, now: Ms, rng: &mut Rng) {
        if self.election_at == 0 {
            self.postpone_election(now, rng);
        }
        if self.role == Role::Leader {
            if now >= self.beat_at {
                self.broadcast(now);
            }
        } else if now >= self.election_at {
            self.stand(now, rng);
        }
    }

    fn stand(&mut self, now: Ms, rng: &mut Rng) {
        self.postpone_election(now, rng);
        self.role = Role::Candidate;
        self.leader = None;
        self.disk.term += 1;
        self.disk.vote = Some(self.me);
        self.unflushed.dirty = true;
        // Our own vote counts at once: nobody hears of this election before it is on disk.
        self.votes = BTreeSet::from([self.me]);
        let (term, last) = (self.disk.term, self.disk.last());
        for peer in self.others() {
            self.promise(peer, Message::Vote { term, last });
        }
    }

    fn lead(&mut self, now: Ms) {
        self.role = Role::Leader;
        self.leader = Some(self.me);
        let next = self.disk.last().0 + 1;
        self.peers.fill(Peer { next, matched: 0, heard: now });
        self.append(Arc::default());
        self.broadcast(now);
    }

    fn append(&mut self, batch: Arc<Vec<Proposal>>) -> LogId {
        self.disk.entries.push(Entry { term: self.disk.term, batch });
        self.unflushed.dirty = true;
        self.disk.last()
    }

    /// Puts a batch into the log.
    pub(crate) fn propose(&mut self, batch: Vec<Proposal>, now: Ms) -> LogId {
        let id = self.append(Arc::new(batch));
        self.broadcast(now);
        id
    }

    fn broadcast(&mut self, now: Ms) {
        self.beat_at = now + HEARTBEAT_MS;
        for peer in self.others() {
            self.send_to(peer);
        }
    }

    fn send_to(&mut self, peer: usize) {
        let term = self.disk.term;
        let next = self.peers[peer].next;
        let prev = next - 1;
        let message = match (self.disk.term_at(prev), &self.disk.snapshot) {
            (Some(prev_term), _) => {
                let from = usize::try_from(prev - self.disk.base.0).expect("a short log");
                let entries: Vec<_> =
                    self.disk.entries[from..].iter().take(ENTRIES_MAX).cloned().collect();
                // The usual case is success: the next message goes on behind this one.
                self.peers[peer].next = next + entries.len() as u64;
                Message::Append { term, prev: (prev, prev_term), entries, commit: self.commit }
            }
            (None, Some(snapshot)) => Message::Install { term, snapshot: snapshot.clone() },
            (None, None) => return,
        };
        self.out.push((peer, message));
    }

    // === messages ===

    pub(crate) fn handle(&mut self, from: usize, message: Message, now: Ms, rng: &mut Rng) {
        let (Message::Vote { term, .. }
        | Message::VoteReply { term, .. }
        | Message::Append { term, .. }
        | Message::Install { term, .. }
        | Message::AppendReply { term, .. }) = message;
        if term > self.disk.term {
            self.disk.term = term;
            self.disk.vote = None;
            self.unflushed.dirty = true;
            self.role = Role::Follower;
            self.leader = None;
        }
        match message {
            Message::Vote { term, last } => self.asked_for_vote(from, term, last, (now, rng)),
            Message::VoteReply { term, granted } => {
                if granted && self.role == Role::Candidate && term == self.disk.term {
                    self.votes.insert(from);
                    if self.votes.len() >= self.majority() {
                        self.lead(now);
                    }
                }
            }
            Message::Append { term, prev, entries, commit } => {
                let (ok, matched) = if term < self.disk.term {
                    (false, 0)
                } else {
                    self.follow(from, now, rng);
                    self.take_entries(prev, entries, commit)
                };
                let term = self.disk.term;
                self.promise(from, Message::AppendReply { term, ok, matched });
            }
            Message::Install { term, snapshot } => {
                let matched = snapshot.last.0;
                let ok = term >= self.disk.term;
                if ok {
                    self.follow(from, now, rng);
                    self.install(snapshot);
                }
                let term = self.disk.term;
                self.promise(from, Message::AppendReply { term, ok, matched });
            }
            Message::AppendReply { term, ok, matched } => {
                if self.role == Role::Leader && term == self.disk.term {
                    self.answered(from, (ok, matched), now);
                }
            }
        }
    }

    fn asked_for_vote(&mut self, from: usize, term: Term, last: LogId, (now, rng): (Ms, &mut Rng)) {
        let ours = self.disk.last();
        let newer = (last.1, last.0) >= (ours.1, ours.0);
        let free = self.disk.vote.is_none_or(|v| v == from);
        let granted = term == self.disk.term && free && newer;
        if granted {
            if self.disk.vote.is_none() {
                self.disk.vote = Some(from);
                self.unflushed.dirty = true;
            }
            self.postpone_election(now, rng);
        }
        let term = self.disk.term;
        self.promise(from, Message::VoteReply { term, granted });
    }

    fn follow(&mut self, leader: usize, now: Ms, rng: &mut Rng) {
        self.role = Role::Follower;
        self.leader = Some(leader);
        self.postpone_election(now, rng);
    }

    fn take_entries(&mut self, prev: LogId, entries: Vec<Entry>, commit: Index) -> (bool, Index) {
        let end = prev.0 + entries.len() as u64;
        if prev.0 >= self.disk.base.0 && self.disk.term_at(prev.0) != Some(prev.1) {
            return (false, self.disk.last().0.min(prev.0.saturating_sub(1)));
        }
        for (entry, index) in entries.into_iter().zip(prev.0 + 1..) {
            if index <= self.disk.base.0 || self.disk.term_at(index) == Some(entry.term) {
                continue;
            }
            if let Some(at) = self.disk.at(index) {
                self.disk.entries.truncate(at);
            }
            self.disk.entries.push(entry);
            self.unflushed.dirty = true;
        }
        if commit.min(end) > self.commit {
            self.commit = commit.min(end);
            self.remember_commit();
        }
        (true, end)
    }

    fn install(&mut self, snapshot: Snapshot) {
        let last = snapshot.last;
        if last.0 <= self.commit {
            return;
        }
        if self.disk.term_at(last.0) == Some(last.1) {
            self.disk.purge(last.0);
        } else {
            self.disk.entries.clear();
            self.disk.base = last;
        }
        self.disk.snapshot = Some(snapshot.clone());
        self.unflushed.dirty = true;
        self.commit = last.0;
        self.remember_commit();
        self.installed = Some(snapshot);
    }

    fn answered(&mut self, from: usize, (ok, matched): (bool, Index), now: Ms) {
        let last = self.disk.last().0;
        let peer = &mut self.peers[from];
        peer.heard = now;
        if ok {
            peer.matched = peer.matched.max(matched);
            peer.next = peer.next.max(peer.matched + 1);
            self.advance_commit();
        } else {
            peer.next = (matched + 1).clamp(peer.matched + 1, last + 1);
            self.send_to(from);
        }
    }

    /// Figure 8 of the paper: only entries of our own term are counted.
    fn advance_commit(&mut self) {
        let mut matched: Vec<_> = self.others().map(|p| self.peers[p].matched).collect();
        let bug = self.bug == Some(Bug::AcksBeforeFlush);
        matched.push(if bug { self.disk.last().0 } else { self.durable.last().0 });
        matched.sort_unstable();
        let index = matched[matched.len() - self.majority()];
        if index > self.commit && self.disk.term_at(index) == Some(self.disk.term) {
            self.commit = index;
            self.remember_commit();
        }
    }
}
