//! A manager: the stand-in Raft under the real state, writes as `manager/src/writer.rs` makes them, sessions as
//! `manager/src/dispatcher.rs` keeps them around the real [`Push`].

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use swarmnet_manager_core::{Command, NoPush, Outcome, Proposal, Push, Pushed, State};
use swarmnet_types::{NodeId, Revision, SandboxId};

use crate::Ms;
use crate::bugs::Bug;
use crate::context::Context;
use crate::packet::{CallId, Packet, Place, Reply, StreamId, Verdict, Word};
use crate::raft::{Disk, Index, Raft, Role, Snapshot, Term};
use crate::world::{MANAGERS, node_id};

/// As in `writer.rs`.
const PATIENCE_MS: Ms = 5_000;
const PAUSE_MS: Ms = 50;
const LEADER_MAX_MS: Ms = 3_000;
/// As in `dispatcher.rs`.
const HEARTBEAT_MS: Ms = 1_000;
const SILENCE_MAX_MS: Ms = 5_000;
/// Small, so that a run has several snapshots, and followers that need one.
const SNAPSHOT_EVERY: u64 = 24;
const SNAPSHOT_KEEP: u64 = 6;
const BATCH_MAX: usize = 8;

/// Who waits for the verdict on a proposal.
#[derive(Debug, Clone, Copy)]
enum Waiter {
    Own { write: u64 },
    Other { manager: usize, write: u64 },
}

/// Who is answered.
#[derive(Debug)]
struct Origin {
    from: Place,
    call: CallId,
    attempt: u32,
}

#[derive(Debug)]
enum Stage {
    /// No leader took it.
    Pausing { until: Ms },
    /// In our log or with the leader.
    Out { until: Ms },
    /// Decided, but not applied here yet.
    Decided { verdict: Box<(Revision, Outcome)>, until: Ms },
}

#[derive(Debug)]
struct Write {
    proposal: Arc<Proposal>,
    origin: Option<Origin>,
    until: Ms,
    stage: Stage,
}

#[derive(Debug)]
struct Session {
    agent: usize,
    push: Push,
    heard: Ms,
    beat_at: Ms,
    /// The agent reads the last message until then.
    busy_until: Ms,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Manager {
    me: usize,
    pub(crate) raft: Raft,
    pub(crate) state: State,
    pub(crate) applied: Index,
    apply_at: Option<Ms>,
    flush_at: Option<Ms>,
    /// Proposals for the next entry.
    queue: Vec<(Arc<Proposal>, Waiter)>,
    waiting: BTreeMap<Index, (Term, Vec<Waiter>)>,
    writes: BTreeMap<u64, Write>,
    next_write: u64,
    sessions: BTreeMap<StreamId, Session>,
    /// Longest delay of a flush, and of an apply.
    pub(crate) flush_ms: Ms,
    pub(crate) apply_ms: Ms,
}

// === life ===

impl Manager {
    pub(crate) fn start(me: usize, disk: Disk, life: u64, context: &mut Context<'_>) -> Self {
        let (state, applied) = match &disk.snapshot {
            Some(snapshot) => (read(snapshot), snapshot.last.0),
            None => (State::default(), 0),
        };
        if applied > 0 {
            context.truth.agrees(applied, &state, true);
        }
        Self {
            me,
            raft: Raft::new(me, MANAGERS, disk, context.bug),
            state,
            applied,
            apply_at: None,
            flush_at: None,
            queue: Vec::new(),
            waiting: BTreeMap::new(),
            writes: BTreeMap::new(),
            next_write: life << 32,
            sessions: BTreeMap::new(),
            flush_ms: 8,
            apply_ms: 20,
        }
    }

    fn place(&self) -> Place {
        Place::Manager(self.me)
    }

    pub(crate) fn handle(&mut self, from: Place, packet: Packet, context: &mut Context<'_>) {
        match packet {
            Packet::Raft(message) => {
                self.raft.handle(from.machine(), message, context.now, context.rng);
            }
            Packet::Call { call, attempt, command, request } => {
                self.write(command, request, Some(Origin { from, call, attempt }), context);
            }
            Packet::Forward { write, proposal } => {
                let waiter = Waiter::Other { manager: from.machine(), write };
                if self.raft.can_propose(context.now) {
                    self.queue.push((proposal, waiter));
                } else {
                    self.tell(waiter, None, context);
                }
            }
            Packet::Forwarded { write, verdict } => self.decided(write, verdict, context),
            Packet::Stream { id, word } => self.hear(id, from.machine(), word, context),
            Packet::Answer { .. } | Packet::Gossip { .. } => {}
        }
        self.turn(context);
    }

    /// Everything that is due.
    pub(crate) fn tick(&mut self, context: &mut Context<'_>) {
        self.raft.tick(context.now, context.rng);
        self.turn(context);
        self.tick_writes(context);
        self.tick_sessions(context);
    }

    fn turn(&mut self, context: &mut Context<'_>) {
        if self.raft.role != Role::Leader {
            self.deposed(context);
        } else if self.raft.can_propose(context.now)
            && !self.queue.is_empty()
            && self.flush_at.is_none()
        {
            self.propose(context);
        }
        if self.flush_at.is_none() && self.raft.begin_flush() {
            self.flush_at = Some(context.now + context.rng.between(1, self.flush_ms));
        }
        if self.flush_at.is_some_and(|at| at <= context.now) {
            self.flush_at = None;
            self.raft.flushed();
        }
        if let Some(snapshot) = self.raft.take_installed() {
            self.install(&snapshot, context);
        }
        if self.raft.commit > self.applied && self.apply_at.is_none() {
            self.apply_at = Some(context.now + context.rng.between(0, self.apply_ms));
        }
        if self.apply_at.is_some_and(|at| at <= context.now) {
            self.apply_at = None;
            self.apply(context);
        }
        for (to, message) in self.raft.take_out() {
            context.send(self.place(), Place::Manager(to), Packet::Raft(message));
        }
    }

    fn install(&mut self, snapshot: &Snapshot, context: &mut Context<'_>) {
        self.state = read(snapshot);
        self.applied = snapshot.last.0;
        context.truth.counts.installs += 1;
        context.trace.line(
            context.now,
            format_args!("manager {} took the snapshot of {}", self.me, self.applied),
        );
        context.truth.agrees(self.applied, &self.state, true);
        self.push_all(context);
    }

    fn apply(&mut self, context: &mut Context<'_>) {
        while self.applied < self.raft.commit {
            let index = self.applied + 1;
            let Some(entry) = self.raft.disk().entry(index).cloned() else { break };
            self.applied = index;
            context.truth.committed(self.me, index, &entry);
            let mut verdicts = Vec::new();
            for proposal in entry.batch.iter() {
                let outcome = self.state.apply(Revision(index), proposal);
                verdicts.push(outcome.map(|outcome| (Revision(index), outcome)));
            }
            context.truth.agrees(index, &self.state, index.is_multiple_of(16));
            if let Some((term, waiters)) = self.waiting.remove(&index) {
                for (at, waiter) in waiters.into_iter().enumerate() {
                    // Another leader's entry took the place: what became of ours is not known here.
                    let verdict = verdicts.get(at).filter(|_| term == entry.term).cloned();
                    self.tell(waiter, verdict, context);
                }
            }
        }
        context
            .trace
            .line(context.now, format_args!("manager {} applied {}", self.me, self.applied));
        let snapshot = self.raft.disk().snapshot.as_ref().map_or(0, |s| s.last.0);
        if self.applied >= snapshot + SNAPSHOT_EVERY {
            self.snapshot();
        }
        self.push_all(context);
    }

    fn snapshot(&mut self) {
        let Some(term) = self.raft.disk().entry(self.applied).map(|e| e.term) else { return };
        let bytes = postcard::to_stdvec(&self.state).expect("a state can be written");
        let snapshot = Snapshot { last: (self.applied, term), bytes: Arc::new(bytes) };
        self.raft.snapshot(snapshot, SNAPSHOT_KEEP);
    }
}

fn read(snapshot: &Snapshot) -> State {
    postcard::from_bytes(&snapshot.bytes).expect("a state that was written can be read")
}

// === writes ===

impl Manager {
    fn write(
        &mut self,
        command: Command,
        request_id: [u8; 16],
        origin: Option<Origin>,
        context: &mut Context<'_>,
    ) {
        let (now_ms, seed) = (context.wall_ms(self.me), context.rng.bytes());
        let proposal = Arc::new(Proposal { command, now_ms, seed, request_id });
        let id = self.next_write;
        self.next_write += 1;
        let until = context.now + PATIENCE_MS;
        let stage = Stage::Pausing { until: context.now };
        self.writes.insert(id, Write { proposal, origin, until, stage });
        self.attempt(id, context);
    }

    fn attempt(&mut self, id: u64, context: &mut Context<'_>) {
        let Some(write) = self.writes.get_mut(&id) else { return };
        let proposal = Arc::clone(&write.proposal);
        write.stage = Stage::Out { until: context.now + LEADER_MAX_MS };
        match self.raft.leader {
            Some(leader) if leader != self.me => {
                let packet = Packet::Forward { write: id, proposal };
                context.send(self.place(), Place::Manager(leader), packet);
            }
            Some(_) if self.raft.can_propose(context.now) => {
                self.queue.push((proposal, Waiter::Own { write: id }));
            }
            _ => write.stage = Stage::Pausing { until: context.now + PAUSE_MS },
        }
    }

    fn propose(&mut self, context: &mut Context<'_>) {
        let count = self.queue.len().min(BATCH_MAX);
        let (batch, waiters): (Vec<_>, Vec<_>) = self.queue.drain(..count).unzip();
        let batch = batch.into_iter().map(Arc::unwrap_or_clone).collect();
        let (index, term) = self.raft.propose(batch, context.now);
        self.waiting.insert(index, (term, waiters));
    }

    /// Not, or no longer, the leader: those who wait try elsewhere, with the same proposal.
    fn deposed(&mut self, context: &mut Context<'_>) {
        let queue = std::mem::take(&mut self.queue);
        let waiting = std::mem::take(&mut self.waiting);
        let waiters = queue.into_iter().map(|(_, w)| w);
        for waiter in waiters.chain(waiting.into_values().flat_map(|(_, w)| w)) {
            self.tell(waiter, None, context);
        }
    }

    fn tell(&mut self, waiter: Waiter, verdict: Option<Verdict>, context: &mut Context<'_>) {
        match waiter {
            Waiter::Own { write } => self.decided(write, verdict, context),
            Waiter::Other { manager, write } => {
                let packet = Packet::Forwarded { write, verdict };
                context.send(self.place(), Place::Manager(manager), packet);
            }
        }
    }

    fn decided(&mut self, id: u64, verdict: Option<Verdict>, context: &mut Context<'_>) {
        let Some(write) = self.writes.get_mut(&id) else { return };
        if matches!(write.stage, Stage::Decided { .. }) {
            return;
        }
        match verdict {
            None => write.stage = Stage::Pausing { until: context.now + PAUSE_MS },
            Some(Ok(done)) => {
                let until = context.now + LEADER_MAX_MS;
                write.stage = Stage::Decided { verdict: Box::new(done), until };
                self.finish_applied(context);
            }
            Some(Err(rejection)) => self.finish(id, Reply::Refused(rejection), context),
        }
    }

    /// Answers what is decided and applied here.
    fn finish_applied(&mut self, context: &mut Context<'_>) {
        let applied = Revision(self.applied);
        let done: Vec<_> = self
            .writes
            .iter()
            .filter_map(|(id, w)| match &w.stage {
                Stage::Decided { verdict, .. } if verdict.0 <= applied => {
                    Some((*id, (**verdict).clone()))
                }
                _ => None,
            })
            .collect();
        for (id, (revision, outcome)) in done {
            let networks = match &outcome {
                Outcome::Attached { endpoints, .. } => {
                    let of = endpoints.iter().filter_map(|e| self.state.network(e.network));
                    of.cloned().collect()
                }
                _ => Vec::new(),
            };
            self.finish(id, Reply::Done { revision, outcome, networks }, context);
        }
    }

    fn finish(&mut self, id: u64, reply: Reply, context: &mut Context<'_>) {
        let Some(write) = self.writes.remove(&id) else { return };
        if let Some(Origin { from, call, attempt }) = write.origin {
            context.send(self.place(), from, Packet::Answer { call, attempt, reply });
        }
    }

    fn tick_writes(&mut self, context: &mut Context<'_>) {
        self.finish_applied(context);
        let now = context.now;
        let ids: Vec<_> = self.writes.keys().copied().collect();
        for id in ids {
            let write = &self.writes[&id];
            match write.stage {
                Stage::Pausing { until } | Stage::Out { until } if now >= until => {
                    if now >= write.until {
                        self.finish(id, Reply::Unavailable, context);
                    } else {
                        self.attempt(id, context);
                    }
                }
                // The change was made, but this manager does not keep up.
                Stage::Decided { until, .. } if now >= until => {
                    self.finish(id, Reply::Unavailable, context);
                }
                Stage::Pausing { .. } | Stage::Out { .. } | Stage::Decided { .. } => {}
            }
        }
    }
}

// === sessions ===

impl Manager {
    fn hear(&mut self, id: StreamId, agent: usize, word: Word, context: &mut Context<'_>) {
        if let Word::Hello { have, sandboxes } = word {
            self.welcome((id, agent), have, &sandboxes, context);
            return;
        }
        let Some(session) = self.sessions.get_mut(&id) else { return };
        session.heard = context.now;
        if let Word::Ack { revision } = word {
            context.truth.acknowledged(agent, revision);
        }
    }

    fn welcome(
        &mut self,
        (id, agent): (StreamId, usize),
        have: Revision,
        sandboxes: &BTreeSet<SandboxId>,
        context: &mut Context<'_>,
    ) {
        let node = node_id(agent);
        let session = Session {
            agent,
            push: Push::resume(node, have),
            heard: context.now,
            beat_at: context.now,
            busy_until: context.now,
        };
        self.sessions.insert(id, session);
        if context.has(Bug::ReleasesWhatHelloLacks) {
            self.release(node, sandboxes, context);
        }
        self.push(id, context);
    }

    /// The bug: the Hello may be older than a sandbox.
    fn release(&mut self, node: NodeId, exist: &BTreeSet<SandboxId>, context: &mut Context<'_>) {
        let held = self.state.endpoints_of(node);
        let endpoints: Vec<_> =
            held.filter(|e| !exist.contains(&e.sandbox)).map(|e| e.id).collect();
        if !endpoints.is_empty() {
            self.write(Command::Detach { node, endpoints }, context.rng.bytes(), None, context);
        }
    }

    fn push_all(&mut self, context: &mut Context<'_>) {
        let ids: Vec<_> = self.sessions.keys().copied().collect();
        for id in ids {
            self.push(id, context);
        }
    }

    fn push(&mut self, id: StreamId, context: &mut Context<'_>) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        if session.busy_until > context.now {
            return;
        }
        match session.push.next(&self.state) {
            Ok(None) => {}
            Ok(Some(pushed)) => self.say_push(id, pushed, context),
            Err(NoPush::Behind { .. }) if context.has(Bug::ServesBeforeCatchUp) => {
                let node = node_id(session.agent);
                if let Ok(view) = self.state.node_view(node) {
                    session.push = Push::resume(node, view.revision);
                    self.say_push(id, Pushed::Snapshot(view), context);
                }
            }
            Err(_) => self.end(id, context),
        }
    }

    fn say_push(&mut self, id: StreamId, pushed: Pushed, context: &mut Context<'_>) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        session.busy_until = context.now + context.rng.below(30);
        self.say(id, Word::Push(Box::new(pushed)), context);
    }

    fn say(&self, id: StreamId, word: Word, context: &mut Context<'_>) {
        let Some(session) = self.sessions.get(&id) else { return };
        context.send(self.place(), Place::Agent(session.agent), Packet::Stream { id, word });
    }

    fn end(&mut self, id: StreamId, context: &mut Context<'_>) {
        self.say(id, Word::End, context);
        self.sessions.remove(&id);
    }

    fn tick_sessions(&mut self, context: &mut Context<'_>) {
        let now = context.now;
        let ids: Vec<_> = self.sessions.keys().copied().collect();
        for id in ids {
            let session = self.sessions.get_mut(&id).expect("listed a moment ago");
            if now > session.heard + SILENCE_MAX_MS {
                self.end(id, context);
                continue;
            }
            if now >= session.beat_at {
                session.beat_at = now + HEARTBEAT_MS;
                self.say(id, Word::ManagerBeat, context);
            }
            self.push(id, context);
        }
    }
}
