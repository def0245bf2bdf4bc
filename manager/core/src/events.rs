//! What happened to the cluster, for people: one event for each object that an entry of the log created, changed or removed.
//!
//! Derived, like the change log of the views: not serialized and not in the digest. Every manager derives the same events from the same
//! entries, so that a reader goes on at any of them by the revision it has read to. A manager that took a snapshot knows nothing of
//! what was before it, and says so.

mod facts;

use std::collections::{BTreeMap, VecDeque};
use std::fmt;

use swarmnet_types::Revision;

use crate::state::State;
use crate::state::txn::{Changed, Txn};
use facts::{Facts, Names};

/// How many are remembered; each is a few hundred bytes.
pub(crate) const EVENTS_MAX: usize = 4096;

/// Attribute → its value; of a change `KEY.old` and `KEY.new`. No secrets.
pub type Attributes = BTreeMap<String, String>;

/// One thing that happened to one object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    pub revision: Revision,
    /// By the clock of the leader that took the change: Unix time in milliseconds.
    pub time_ms: u64,
    pub subject: Subject,
    pub action: Action,
    /// In full, as users write it; of a standing token its role.
    pub id: String,
    /// The `name` always, where the object has one.
    pub attributes: Attributes,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    Cluster,
    Ca,
    Token,
    Node,
    /// A node's.
    Certificate,
    Network,
    Service,
    Endpoint,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    Create,
    Update,
    Remove,
    /// Of a token: earlier ones are void. Of the CA: another one is on its way to take its place.
    Rotate,
    /// The new CA has taken the old one's place.
    Complete,
    /// The present CA stays.
    Abandon,
    /// Of a token: it lets nobody join any more.
    Revoke,
    Renew,
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cluster => "cluster",
            Self::Ca => "ca",
            Self::Token => "token",
            Self::Node => "node",
            Self::Certificate => "certificate",
            Self::Network => "network",
            Self::Service => "service",
            Self::Endpoint => "endpoint",
        })
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Create => "create",
            Self::Update => "update",
            Self::Remove => "remove",
            Self::Rotate => "rotate",
            Self::Complete => "complete",
            Self::Abandon => "abandon",
            Self::Revoke => "revoke",
            Self::Renew => "renew",
        })
    }
}

// === what a transaction did ===

/// The events of a transaction that is about to be committed, in the order of its first writes.
pub(crate) fn of(txn: &Txn<'_>) -> Vec<Event> {
    let changes = txn.changes();
    let names = Names::new(txn, &changes);
    let happened = changes.iter().flat_map(|changed| happened(changed, &names));
    happened
        .map(|(subject, action, id, attributes)| Event {
            revision: txn.revision(),
            time_ms: txn.now_ms,
            subject,
            action,
            id,
            attributes,
        })
        .collect()
}

type Happened = (Subject, Action, String, Attributes);

fn happened(changed: &Changed<'_>, names: &Names<'_>) -> Vec<Happened> {
    let one = |subject, id: String, old: Option<Facts>, new: Option<Facts>| {
        let change = compared(old, new);
        change.map(|(action, attributes)| (subject, action, id, attributes)).into_iter().collect()
    };
    match *changed {
        Changed::Cluster(old, new) => facts::of_cluster(old, new),
        Changed::Record(id, old, new) => facts::renewed(id, old, new, names).into_iter().collect(),
        Changed::Token(id, old, new) => {
            let (was, is) = (old.map(facts::token), new.map(facts::token));
            let mut events: Vec<_> = one(Subject::Token, id.to_string(), was, is);
            let ended = |t: &crate::FurtherToken| t.revoked_ms.is_some();
            if new.is_some_and(ended) && old.is_some_and(|t| !ended(t)) {
                for event in &mut events {
                    event.1 = Action::Revoke;
                }
            }
            events
        }
        Changed::Node(id, old, new) => {
            one(Subject::Node, id.to_string(), old.map(facts::node), new.map(facts::node))
        }
        Changed::Network(id, old, new) => {
            one(Subject::Network, id.to_string(), old.map(facts::network), new.map(facts::network))
        }
        Changed::Service(id, old, new) => {
            let facts = |service| facts::service(service, names);
            one(Subject::Service, id.to_string(), old.map(facts), new.map(facts))
        }
        Changed::Endpoint(id, old, new) => {
            let facts = |endpoint| facts::endpoint(endpoint, names);
            one(Subject::Endpoint, id.to_string(), old.map(facts), new.map(facts))
        }
    }
}

/// `None` when nothing that people are told of is different.
fn compared(old: Option<Facts>, new: Option<Facts>) -> Option<(Action, Attributes)> {
    let all = |facts: Facts| facts.into_iter().filter(|(_, value)| !value.is_empty()).collect();
    match (old, new) {
        (None, None) => None,
        (None, Some(new)) => Some((Action::Create, all(new))),
        (Some(old), None) => Some((Action::Remove, all(old))),
        (Some(old), Some(new)) => facts::differences(&old, &new).map(|d| (Action::Update, d)),
    }
}

// === the ones that are remembered ===

/// The newest events, ascending by revision.
#[derive(Debug, Clone, Default)]
pub(crate) struct EventLog {
    /// All that happened after this revision is here.
    floor: Revision,
    events: VecDeque<Event>,
}

impl EventLog {
    pub(crate) fn starting_at(floor: Revision) -> Self {
        Self { floor, ..Self::default() }
    }

    pub(crate) fn push(&mut self, events: Vec<Event>) {
        self.events.extend(events);
        while self.events.len() > EVENTS_MAX
            && let Some(oldest) = self.events.front().map(|event| event.revision)
        {
            // A revision is told whole or not at all.
            self.floor = oldest;
            self.events.drain(..self.events.partition_point(|event| event.revision <= oldest));
        }
    }
}

impl State {
    /// What happened after a revision; `None` when that is no longer known.
    pub fn events_after(&self, after: Revision) -> Option<impl Iterator<Item = &Event>> {
        let log = &self.events;
        let from = log.events.partition_point(|event| event.revision <= after);
        (after >= log.floor).then(|| log.events.range(from..))
    }

    /// The revision after which all that happened is known.
    pub fn events_floor(&self) -> Revision {
        self.events.floor
    }
}
