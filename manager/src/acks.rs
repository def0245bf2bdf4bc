//! Which revision each agent has in its kernel, as far as this manager serves it; and waiting until all that are concerned have one.
//!
//! Scale: one row for each agent served. Nothing is persisted: an agent says where it stands when it comes back.

mod others;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use swarmnet_manager_core::State;
use swarmnet_proto::v1;
use swarmnet_types::{NodeId, Revision};
use tokio::sync::watch;
use tokio::time::Instant;

pub(crate) use self::others::Others;
use crate::manager::{Liveness, NodeCondition};
use crate::writer::now_ms;

/// Names listed of those that are missing.
const NAMED_MAX: usize = 8;

/// Where one agent stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Ack {
    pub(crate) revision: Revision,
    /// What it was sent last, at the manager that serves it.
    pub(crate) sent: Revision,
    pub(crate) failures: Vec<String>,
    /// Of overlay networks for which the user set none; 0: not known.
    pub(crate) overlay_mtu_bytes: u32,
    /// Objects put right that others had changed.
    pub(crate) repaired: u64,
    /// Unix milliseconds.
    pub(crate) seen_ms: u64,
    /// A revision that was sent and is not acknowledged, and since when: one at a time is followed.
    pub(crate) waiting: Option<(Revision, Instant)>,
    /// Streams that are open now; two while the agent moves from one to the next.
    pub(crate) sessions: u32,
}

impl Ack {
    /// Revisions between what it was sent last and what it has in its kernel.
    pub(crate) const fn lag(&self) -> u64 {
        self.sent.0.saturating_sub(self.revision.0)
    }
}

/// See the module. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Acks {
    rows: Arc<Mutex<BTreeMap<NodeId, Ack>>>,
    /// Streams that are open, of all agents.
    streams: Arc<AtomicU32>,
    changed: watch::Sender<u64>,
}

/// An agent's stream is open for as long as this lives.
#[derive(Debug)]
pub(crate) struct Open {
    acks: Acks,
    node: NodeId,
}

/// What all managers together know.
#[derive(Debug, Default)]
pub(crate) struct Known {
    pub(crate) rows: BTreeMap<NodeId, Ack>,
    /// Managers whose daemon does not run, by the word of their machine.
    pub(crate) stopped: BTreeSet<NodeId>,
}

impl Acks {
    pub(crate) fn new() -> Self {
        Self { rows: Arc::default(), streams: Arc::default(), changed: watch::Sender::new(0) }
    }

    fn with<T>(&self, work: impl FnOnce(&mut BTreeMap<NodeId, Ack>) -> T) -> T {
        work(&mut self.rows.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The agent's stream begins.
    pub(crate) fn open(&self, node: NodeId) -> Open {
        self.with(|rows| rows.entry(node).or_default().sessions += 1);
        self.streams.fetch_add(1, Ordering::Relaxed);
        self.seen(node);
        Open { acks: self.clone(), node }
    }

    /// How many streams are open here.
    pub(crate) fn streams(&self) -> u32 {
        self.streams.load(Ordering::Relaxed)
    }

    /// The agent was sent what is new up to a revision.
    pub(crate) fn sent(&self, node: NodeId, revision: Revision) {
        self.with(|rows| {
            let row = rows.entry(node).or_default();
            row.sent = revision;
            if row.waiting.is_none() && row.lag() > 0 {
                row.waiting = Some((revision, Instant::now()));
            }
        });
    }

    pub(crate) fn put(&self, node: NodeId, said: v1::Ack) {
        self.with(|rows| {
            let row = rows.entry(node).or_default();
            row.revision = Revision(said.revision);
            row.failures = said.failures;
            row.overlay_mtu_bytes = said.overlay_mtu;
            row.repaired = said.repaired;
            row.seen_ms = now_ms();
            if row.waiting.is_some_and(|(wanted, _)| wanted <= row.revision) {
                row.waiting = (row.lag() > 0).then(|| (row.sent, Instant::now()));
            }
        });
        self.changed.send_modify(|n| *n += 1);
    }

    pub(crate) fn seen(&self, node: NodeId) {
        self.with(|rows| rows.entry(node).or_default().seen_ms = now_ms());
    }

    /// Changes with every acknowledgement, and when a stream ends.
    pub(crate) fn subscribe(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    pub(crate) fn rows(&self) -> BTreeMap<NodeId, Ack> {
        self.with(|rows| rows.clone())
    }

    pub(crate) fn messages(&self) -> Vec<v1::NodeAck> {
        let message = |(node, ack): (NodeId, Ack)| v1::NodeAck {
            node: node.as_bytes().to_vec().into(),
            revision: ack.revision.0,
            failures: ack.failures,
            overlay_mtu: ack.overlay_mtu_bytes,
            repaired: ack.repaired,
            seen_ms: ack.seen_ms,
            sessions: ack.sessions,
            sent: ack.sent.0,
        };
        self.rows().into_iter().map(message).collect()
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.acks.with(|rows| {
            if let Some(row) = rows.get_mut(&self.node) {
                row.sessions = row.sessions.saturating_sub(1);
            }
        });
        self.acks.streams.fetch_sub(1, Ordering::Relaxed);
        self.acks.changed.send_modify(|n| *n += 1);
    }
}

impl From<&v1::NodeAck> for Ack {
    fn from(message: &v1::NodeAck) -> Self {
        Self {
            revision: Revision(message.revision),
            failures: message.failures.clone(),
            overlay_mtu_bytes: message.overlay_mtu,
            repaired: message.repaired,
            seen_ms: message.seen_ms,
            sessions: message.sessions,
            sent: Revision(message.sent),
            waiting: None,
        }
    }
}

/// Is a node that has not acknowledged waited for? One that nothing runs on is not: it takes the change when it comes back, before
/// it does anything else. A doubted node is, while a manager still holds its stream: its daemon may only be slow.
fn is_waited_for(node: NodeId, condition: NodeCondition, known: &Known) -> bool {
    match condition {
        NodeCondition::Ready => !known.stopped.contains(&node),
        NodeCondition::Doubted => known.rows.get(&node).is_some_and(|row| row.sessions > 0),
        NodeCondition::AgentLost | NodeCondition::Down | NodeCondition::Unknown => false,
    }
}

/// How far a revision is, as this manager's state has the nodes.
pub(crate) fn progress(
    state: &State,
    known: &Known,
    liveness: &BTreeMap<NodeId, NodeCondition>,
    wanted: Revision,
) -> v1::WaitProgress {
    let (mut total, mut missing) = (0, BTreeSet::new());
    let mut failures = Vec::new();
    // What another manager wrote may not have come here yet.
    let is_here = state.revision() >= wanted;
    for node in state.nodes() {
        let row = known.rows.get(&node.id);
        let acked = row.map(|r| r.revision).unwrap_or_default();
        // What lies between its word and now may not concern it at all.
        let is_unconcerned = || {
            let delta = if is_here && acked.0 > 0 { state.delta(node.id, acked) } else { None };
            delta.is_some_and(|d| d.changes.is_empty())
        };
        let condition = liveness.get(&node.id).copied().unwrap_or(NodeCondition::Ready);
        if !is_waited_for(node.id, condition, known) {
            continue;
        }
        total += 1;
        if acked >= wanted || is_unconcerned() {
            let said = row.map(|r| r.failures.as_slice()).unwrap_or_default();
            failures.extend(said.iter().map(|f| format!("{}: {f}", node.name)));
        } else {
            missing.insert(node.name.clone());
        }
    }
    let acked = total - u32::try_from(missing.len()).unwrap_or(total);
    v1::WaitProgress {
        acked,
        total,
        done: is_here && missing.is_empty(),
        missing: missing.into_iter().take(NAMED_MAX).collect(),
        failures,
    }
}

/// The verdicts at this moment.
pub(crate) fn alive(liveness: &Liveness) -> Arc<BTreeMap<NodeId, NodeCondition>> {
    Arc::clone(&liveness.borrow())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_without_a_daemon_is_not_waited_for_a_slow_one_is() {
        use NodeCondition::{AgentLost, Doubted, Down, Ready};
        let [open, closed, stopped] = [1, 2, 3].map(|n| NodeId::from_bytes([n; 16]));
        let acks = Acks::new();
        let stream = acks.open(open);
        drop(acks.open(closed));
        let known = Known { rows: acks.rows(), stopped: BTreeSet::from([stopped]) };
        let waited = |node, condition| is_waited_for(node, condition, &known);
        // Its manager may have died, and it is on its way to another one.
        assert!(waited(closed, Ready) && waited(open, Ready));
        assert!(waited(open, Doubted) && !waited(closed, Doubted));
        assert!(!waited(stopped, Ready));
        assert!(!waited(open, AgentLost) && !waited(open, Down));
        assert_eq!(acks.streams(), 1);
        drop(stream);
        assert_eq!((acks.rows()[&open].sessions, acks.streams()), (0, 0));
    }

    #[test]
    fn an_acknowledgement_keeps_the_stream_and_wakes_those_who_wait() {
        let node = NodeId::from_bytes([1; 16]);
        let acks = Acks::new();
        let stream = acks.open(node);
        let mut news = acks.subscribe();
        acks.sent(node, Revision(9));
        acks.put(node, v1::Ack { revision: 7, overlay_mtu: 1450, ..v1::Ack::default() });
        assert!(news.has_changed().expect("open"));
        news.mark_unchanged();
        let row = acks.rows()[&node].clone();
        assert_eq!((row.revision.0, row.overlay_mtu_bytes, row.sessions), (7, 1450, 1));
        assert_eq!(row.lag(), 2);
        assert_eq!(row.waiting.map(|(revision, _)| revision), Some(Revision(9)));
        acks.put(node, v1::Ack { revision: 9, ..v1::Ack::default() });
        assert_eq!(acks.rows()[&node].waiting, None);
        drop(stream);
        assert!(news.has_changed().expect("open"), "the end of a stream is news too");
    }
}
