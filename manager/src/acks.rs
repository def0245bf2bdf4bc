//! Which revision each agent has in its kernel, as far as this manager serves it; and waiting until all that are concerned have one.
//!
//! Scale: one row for each agent served. Nothing is persisted: an agent says where it stands when it comes back.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use swarmnet_proto::v1;
use swarmnet_proto::v1::manager_peer_client::ManagerPeerClient;
use swarmnet_types::{NodeId, Revision, Role};
use tokio::sync::watch;
use tokio::time::timeout;

use crate::manager::{Liveness, NodeCondition};
use crate::writer::{Writer, now_ms};

/// Names listed of those that are missing.
const NAMED_MAX: usize = 8;
/// How long another manager may take to say what it knows.
const ASK_MAX: Duration = Duration::from_millis(500);

/// Where one agent stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Ack {
    pub(crate) revision: Revision,
    pub(crate) failures: Vec<String>,
    /// Unix milliseconds.
    pub(crate) seen_ms: u64,
}

/// See the module. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Acks {
    rows: Arc<Mutex<BTreeMap<NodeId, Ack>>>,
    changed: watch::Sender<u64>,
}

impl Acks {
    pub(crate) fn new() -> Self {
        Self { rows: Arc::default(), changed: watch::Sender::new(0) }
    }

    fn with<T>(&self, work: impl FnOnce(&mut BTreeMap<NodeId, Ack>) -> T) -> T {
        work(&mut self.rows.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn put(&self, node: NodeId, revision: Revision, failures: Vec<String>) {
        self.with(|rows| rows.insert(node, Ack { revision, failures, seen_ms: now_ms() }));
        self.changed.send_modify(|n| *n += 1);
    }

    pub(crate) fn seen(&self, node: NodeId) {
        self.with(|rows| rows.entry(node).or_default().seen_ms = now_ms());
    }

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
            seen_ms: ack.seen_ms,
        };
        self.rows().into_iter().map(message).collect()
    }
}

/// What all managers together know: of each agent the newest word.
pub(crate) async fn gather(writer: &Writer, acks: &Acks) -> BTreeMap<NodeId, Ack> {
    let me = writer.tls().identity().node_id();
    let others: Vec<_> =
        writer.read(|s| s.managers().filter(|n| n.id != me).map(|n| n.addr).collect());
    let ask = |addr| {
        let channel = swarmnet_pki::channel(addr, Role::Manager, writer.tls());
        async move {
            let mut peer = ManagerPeerClient::new(channel);
            let answer = timeout(ASK_MAX, peer.acks(v1::AcksRequest {})).await.ok()?.ok()?;
            Some(answer.into_inner().acks)
        }
    };
    let answers = futures_util::future::join_all(others.into_iter().map(ask)).await;
    let mut all = acks.rows();
    for message in answers.into_iter().flatten().flatten() {
        let Ok(node) = NodeId::try_from(&message.node[..]) else { continue };
        let row = all.entry(node).or_default();
        if message.seen_ms > row.seen_ms {
            *row = Ack {
                revision: Revision(message.revision),
                failures: message.failures,
                seen_ms: message.seen_ms,
            };
        }
    }
    all
}

/// How far a revision is. Nodes that do not live are not waited for.
pub(crate) fn progress(
    writer: &Writer,
    rows: &BTreeMap<NodeId, Ack>,
    liveness: &BTreeMap<NodeId, NodeCondition>,
    wanted: Revision,
) -> v1::WaitProgress {
    let alive = |id: &NodeId| {
        liveness.get(id).copied().unwrap_or(NodeCondition::Ready) == NodeCondition::Ready
    };
    writer.read(|state| {
        let (mut total, mut missing) = (0, BTreeSet::new());
        let mut failures = Vec::new();
        for node in state.nodes().filter(|n| alive(&n.id)) {
            total += 1;
            let row = rows.get(&node.id);
            let acked = row.map(|r| r.revision).unwrap_or_default();
            // What lies between its word and now may not concern it at all.
            let has = acked >= wanted
                || (acked.0 > 0
                    && state.delta(node.id, acked).is_some_and(|d| d.changes.is_empty()));
            if has {
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
            done: missing.is_empty(),
            missing: missing.into_iter().take(NAMED_MAX).collect(),
            failures,
        }
    })
}

/// The verdicts at this moment.
pub(crate) fn alive(liveness: &Liveness) -> Arc<BTreeMap<NodeId, NodeCondition>> {
    Arc::clone(&liveness.borrow())
}
