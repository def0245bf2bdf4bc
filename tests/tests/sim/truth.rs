//! The books of a run: the one history that all managers must have, what clients were told, and the first thing that went wrong.

use std::collections::BTreeMap;
use std::sync::Arc;

use swarmnet_manager_core::{Command, Outcome, Rejection, State};
use swarmnet_types::{NodeView, Revision};

use crate::bugs::Bug;
use crate::invariants::{acknowledged, agreement, forward, told, unique};
use crate::packet::Reply;
use crate::raft::{Entry, Index};
use crate::world::node_id;

/// One wish of a client, whatever the number of its tries.
pub(crate) type Op = usize;

/// An invariant that does not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Violation {
    pub(crate) invariant: &'static str,
    pub(crate) what: String,
}

/// What the state made of a request when it met it first.
pub(crate) type First = (Revision, Result<Outcome, Rejection>);

/// See the module.
#[derive(Debug)]
pub(crate) struct Truth {
    pub(crate) violation: Option<Violation>,
    /// From index 1.
    entries: Vec<Entry>,
    pub(crate) state: State,
    /// The states that were, by revision.
    history: BTreeMap<Revision, State>,
    /// Op → what it is, and the requests that stand for it.
    ops: Vec<(String, Vec<[u8; 16]>)>,
    by_request: BTreeMap<[u8; 16], Op>,
    pub(crate) firsts: BTreeMap<[u8; 16], First>,
    /// Of each agent, what managers heard to be in its kernel.
    pub(crate) acks: BTreeMap<usize, Revision>,
    pub(crate) counts: Counts,
}

/// What happened in a run: a harness in which nothing happens proves nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) entries: u64,
    pub(crate) ops: u64,
    pub(crate) done: u64,
    pub(crate) refused: u64,
    /// Requests that the state met again.
    pub(crate) repeated: u64,
    pub(crate) terms: u64,
    pub(crate) views: u64,
    pub(crate) deltas: u64,
    pub(crate) unfit: u64,
    pub(crate) sandboxes: u64,
    pub(crate) deaths: u64,
    pub(crate) faults: u64,
    pub(crate) installs: u64,
}

impl Counts {
    pub(crate) fn add(&mut self, other: &Self) {
        let Self { entries, ops, done, refused, repeated, terms, views, .. } = other;
        let Self { deltas, unfit, sandboxes, deaths, faults, installs, .. } = other;
        self.entries += entries;
        self.ops += ops;
        self.done += done;
        self.refused += refused;
        self.repeated += repeated;
        self.terms += terms;
        self.views += views;
        self.deltas += deltas;
        self.unfit += unfit;
        self.sandboxes += sandboxes;
        self.deaths += deaths;
        self.faults += faults;
        self.installs += installs;
    }
}

impl Truth {
    pub(crate) fn new() -> Self {
        Self {
            violation: None,
            entries: Vec::new(),
            state: State::default(),
            history: BTreeMap::new(),
            ops: Vec::new(),
            by_request: BTreeMap::new(),
            firsts: BTreeMap::new(),
            acks: BTreeMap::new(),
            counts: Counts::default(),
        }
    }

    /// Notes the first violation; later ones may follow from it.
    pub(crate) fn hold(&mut self, invariant: &'static str, verdict: Result<(), String>) {
        if let Err(what) = verdict
            && self.violation.is_none()
        {
            self.violation = Some(Violation { invariant, what });
        }
    }

    pub(crate) fn last(&self) -> Index {
        self.entries.len() as Index
    }

    // === the log ===

    /// A manager carries out an entry.
    pub(crate) fn committed(&mut self, manager: usize, index: Index, entry: &Entry) {
        let at = usize::try_from(index).expect("a short log") - 1;
        if let Some(known) = self.entries.get(at) {
            let verdict = agreement::same_entry(manager, index, (known, entry));
            return self.hold(agreement::NAME, verdict);
        }
        if at > self.entries.len() {
            let verdict = Err(format!("manager {manager} skipped entries before {index}"));
            return self.hold(agreement::NAME, verdict);
        }
        if self.entries.last().is_none_or(|last| last.term != entry.term) {
            self.counts.terms += 1;
        }
        self.counts.entries += 1;
        self.entries.push(entry.clone());
        for proposal in entry.batch.iter() {
            let outcome = self.state.apply(Revision(index), proposal);
            self.met(proposal.request_id, (Revision(index), outcome));
        }
        if !entry.batch.is_empty() {
            let verdict = unique::check(&self.state);
            self.hold(unique::NAME, verdict);
            self.history.insert(self.state.revision(), self.state.clone());
        }
    }

    fn met(&mut self, request: [u8; 16], verdict: First) {
        // The founding of the cluster, which nobody repeats.
        if request == [0; 16] {
            return;
        }
        if self.firsts.contains_key(&request) {
            self.counts.repeated += 1;
            return;
        }
        self.firsts.insert(request, verdict);
        let Some(op) = self.by_request.get(&request) else { return };
        let (what, requests) = &self.ops[*op];
        let done = requests.iter().filter(|r| matches!(self.firsts.get(*r), Some((_, Ok(_)))));
        let verdict = acknowledged::done_once(what, done.count());
        self.hold(acknowledged::NAME, verdict);
    }

    /// The state at `revision`, or at the last one before.
    pub(crate) fn at(&self, revision: Revision) -> Option<&State> {
        self.history.range(..=revision).next_back().map(|(_, state)| state)
    }

    /// A manager says that this is the state at `index`.
    pub(crate) fn agrees(&mut self, index: Index, state: &State, digest: bool) {
        let verdict = match self.at(Revision(index)) {
            Some(known) => agreement::same_state(index, (known, state), digest),
            None => Ok(()),
        };
        self.hold(agreement::NAME, verdict);
    }

    // === clients ===

    pub(crate) fn begin(&mut self, command: &Command) -> Op {
        self.counts.ops += 1;
        self.ops.push((format!("{command:?}"), Vec::new()));
        self.ops.len() - 1
    }

    pub(crate) fn request(&mut self, op: Op, request: [u8; 16]) {
        self.ops[op].1.push(request);
        self.by_request.insert(request, op);
    }

    pub(crate) fn answered(
        &mut self,
        (op, request): (Op, [u8; 16]),
        reply: &Reply,
        bug: Option<Bug>,
    ) {
        let (what, requests) = &self.ops[op];
        // With that bug the answer may be to any of the tries.
        let firsts = requests.iter().filter_map(|r| self.firsts.get(r));
        let mine = self.firsts.get(&request);
        let done_before =
            bug == Some(Bug::RetriesAsNew) && firsts.clone().any(|(_, verdict)| verdict.is_ok());
        let verdict = match reply {
            Reply::Done { revision, outcome, .. } => {
                self.counts.done += 1;
                acknowledged::done(
                    what,
                    mine,
                    (*revision, outcome, Revision(self.entries.len() as u64)),
                )
            }
            Reply::Refused(_) if done_before => {
                Err(format!("a client was refused what had been done for it: {what}"))
            }
            Reply::Refused(rejection) => {
                self.counts.refused += 1;
                acknowledged::refused(what, mine, rejection)
            }
            Reply::Unavailable => Ok(()),
        };
        self.hold(acknowledged::NAME, verdict);
    }

    // === nodes ===

    /// A node has another view.
    pub(crate) fn viewed(&mut self, agent: usize, old: Option<&Arc<NodeView>>, new: &NodeView) {
        self.counts.views += 1;
        if let Some(old) = old {
            let verdict = forward::check(agent, old, new);
            self.hold(forward::NAME, verdict);
        }
        let verdict = match self.at(new.revision).map(|state| state.node_view(node_id(agent))) {
            Some(Ok(known)) => told::check(agent, &known, new),
            _ => Err(format!("agent {agent} has revision {} of no history", new.revision)),
        };
        self.hold(told::NAME, verdict);
    }

    /// A manager heard that this is in the kernel of a node.
    pub(crate) fn acknowledged(&mut self, agent: usize, revision: Revision) {
        let known = self.acks.entry(agent).or_default();
        *known = revision.max(*known);
    }
}
