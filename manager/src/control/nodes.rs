//! Nodes.

use std::collections::BTreeMap;

use swarmnet_manager_core::{Command, NodeChange, Outcome, Rejection, RemoveNode};
use swarmnet_proto::v1;
use swarmnet_types::{Node, NodeId, Role};
use tonic::Status;

use super::{ControlGrpc, id};
use crate::acks::{self, Ack, Others};
use crate::manager::NodeCondition;
use crate::raft::RaftStatus;
use crate::standing;
use crate::writer::refusal;

impl ControlGrpc {
    /// What nodes have acknowledged, at any manager that answers.
    pub(super) async fn rows(&self) -> BTreeMap<NodeId, Ack> {
        Others::new(self.writer.clone()).once(&self.acks).await.rows
    }

    pub(super) fn condition(&self, node: NodeId) -> NodeCondition {
        let me = self.writer.tls().identity().node_id();
        // This very process answers.
        let fallback = if node == me { NodeCondition::Ready } else { NodeCondition::Unknown };
        acks::alive(&self.liveness).get(&node).copied().unwrap_or(fallback)
    }

    pub(super) fn status(
        &self,
        node: &Node,
        raft: &RaftStatus,
        rows: &BTreeMap<NodeId, Ack>,
    ) -> v1::NodeStatus {
        let me = self.writer.tls().identity().node_id();
        let condition = self.condition(node.id);
        let row = rows.get(&node.id).cloned().unwrap_or_default();
        let index = u64::from(node.index.get());
        let record = self.writer.read(|s| s.record(node.id).cloned()).unwrap_or_default();
        v1::NodeStatus {
            node: Some(node.into()),
            state: v1::NodeState::from(condition).into(),
            leader: raft.leader == Some(index),
            reachable_manager: node.role == Role::Manager
                && raft.members.contains_key(&index)
                && condition.answers(),
            acked: row.revision.0,
            last_seen_ms: row.seen_ms,
            myself: node.id == me,
            cert_until_ms: record.tls.until_ms,
            ephemeral_ms: record.ephemeral_ms.unwrap_or_default(),
            lag: row.lag(),
            connected: row.sessions > 0,
        }
    }

    pub(super) async fn node_list(&self) -> Vec<v1::NodeStatus> {
        let rows = self.rows().await;
        let raft = self.writer.raft().status();
        let nodes: Vec<Node> = self.writer.read(|s| s.nodes().cloned().collect());
        nodes.iter().map(|node| self.status(node, &raft, &rows)).collect()
    }

    pub(super) async fn node_inspect(
        &self,
        reference: &str,
        speaker: NodeId,
    ) -> Result<v1::NodeStatus, Status> {
        let own = speaker.to_string();
        let reference = if reference == "self" { &own } else { reference };
        let node =
            self.writer.read(|s| s.find_node(reference).cloned()).map_err(|err| refusal(&err))?;
        let rows = self.rows().await;
        Ok(self.status(&node, &self.writer.raft().status(), &rows))
    }

    pub(super) async fn node_update(
        &self,
        request: v1::UpdateNodeRequest,
    ) -> Result<v1::NodeStatus, Status> {
        if request.role() == v1::Role::Worker {
            self.check_demotion(&request.reference).await?;
        }
        let change = NodeChange {
            node: request.reference.clone(),
            availability: Option::from(request.availability()),
            role: Option::from(request.role()),
            labels_add: request.labels_add.clone().into_iter().collect(),
            labels_rm: request.labels_remove.clone(),
        };
        let (_, outcome) =
            self.writer.write(Command::UpdateNode(change), &request.request_id).await?;
        let Outcome::NodeUpdated { node } = outcome else {
            return Err(Status::internal("the state answered an update with something else"));
        };
        self.node_inspect(&node.to_string(), node).await
    }

    pub(super) async fn node_remove(
        &self,
        request: v1::RemoveNodeRequest,
    ) -> Result<v1::RemoveNodeResponse, Status> {
        let (node, index) = self
            .writer
            .read(|s| s.find_node(&request.reference).map(|n| (n.id, n.index)))
            .map_err(|err| refusal(&err))?;
        // A worker since a moment ago: the group would count a vote that nobody has.
        if standing::is_seated(self.writer.raft(), index) {
            return Err(refusal(&Rejection::NodeIsManager { node: request.reference }));
        }
        let alive = !matches!(self.condition(node), NodeCondition::Down | NodeCondition::Unknown);
        let command = Command::RemoveNode(RemoveNode {
            node: request.reference,
            force: request.force,
            alive,
        });
        let (revision, _) = self.writer.write(command, &request.request_id).await?;
        Ok(v1::RemoveNodeResponse { id: id(node.as_bytes()), revision: revision.0 })
    }
}

impl From<NodeCondition> for v1::NodeState {
    fn from(condition: NodeCondition) -> Self {
        match condition {
            NodeCondition::Ready | NodeCondition::Doubted => Self::Ready,
            NodeCondition::AgentLost => Self::AgentLost,
            NodeCondition::Down => Self::Down,
            NodeCondition::Unknown => Self::Unknown,
        }
    }
}
