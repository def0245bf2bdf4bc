//! Nodes that joined by an ephemeral token are removed when they have been gone for as long as it says.
//!
//! Inputs: the verdicts of the gossip, the state. Output: removals, by the leader alone. How long a node has been gone is known to the
//! manager that watches: after a change of leader the time begins anew, so a node is never removed too early.

use std::collections::BTreeMap;
use std::time::Duration;

use swarmnet_manager_core::{Command, RemoveNode};
use swarmnet_types::NodeId;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::acks;
use crate::manager::{Liveness, NodeCondition};
use crate::writer::Writer;

const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Since when nodes have been gone.
#[derive(Debug, Default)]
struct Gone(BTreeMap<NodeId, Instant>);

impl Gone {
    /// Notes who is gone at `now`, of ephemeral nodes and the time each may be; whose time is over.
    fn look(
        &mut self,
        now: Instant,
        gone: impl IntoIterator<Item = (NodeId, Duration)>,
    ) -> Vec<NodeId> {
        let mut since = BTreeMap::new();
        let mut over = Vec::new();
        for (node, limit) in gone {
            let begun = self.0.get(&node).copied().unwrap_or(now);
            since.insert(node, begun);
            if now.saturating_duration_since(begun) >= limit {
                over.push(node);
            }
        }
        self.0 = since;
        over
    }
}

/// Watches for as long as the caller lets it.
pub(crate) async fn watch(writer: Writer, liveness: Liveness) {
    let mut gone = Gone::default();
    let mut look = interval(LOOK_EVERY);
    look.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        look.tick().await;
        if !writer.raft().is_leader() {
            gone = Gone::default();
            continue;
        }
        let absent = absent(&writer, &liveness);
        for node in gone.look(Instant::now(), absent) {
            let reference = node.to_string();
            let remove = RemoveNode { node: reference, force: false, alive: false };
            match writer.write(Command::RemoveNode(remove), &[]).await {
                Ok(_) => tracing::info!(%node, "an ephemeral node was gone for too long: removed"),
                Err(status) => {
                    tracing::warn!(%node, reason = status.message(), "cannot remove an ephemeral node");
                }
            }
        }
    }
}

/// Ephemeral nodes that do not answer, and how long each may be gone.
fn absent(writer: &Writer, liveness: &Liveness) -> Vec<(NodeId, Duration)> {
    let alive = acks::alive(liveness);
    let is_gone = |node: &NodeId| {
        let condition = alive.get(node).copied().unwrap_or(NodeCondition::Unknown);
        matches!(condition, NodeCondition::Down | NodeCondition::Unknown)
    };
    let me = writer.tls().identity().node_id();
    writer.read(|s| {
        s.nodes()
            .filter(|n| n.id != me && is_gone(&n.id))
            .filter_map(|n| Some((n.id, Duration::from_millis(s.record(n.id)?.ephemeral_ms?))))
            .collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_node_is_removed_when_its_time_is_over_and_not_when_it_came_back() {
        let [a, b] = [1, 2].map(|n| NodeId::from_bytes([n; 16]));
        let minute = Duration::from_mins(1);
        let start = Instant::now();
        let mut gone = Gone::default();
        assert!(gone.look(start, [(a, minute), (b, minute)]).is_empty());
        // b was seen again.
        assert!(gone.look(start + minute / 2, [(a, minute)]).is_empty());
        assert_eq!(gone.look(start + minute, [(a, minute), (b, minute)]), [a]);
        assert_eq!(gone.look(start + minute * 2, [(b, minute)]), [b]);
    }
}
