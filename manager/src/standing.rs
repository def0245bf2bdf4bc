//! What a node is to the cluster now, asked by itself; and its goodbye.

use swarmnet_manager_core::{Command, RemoveNode};
use swarmnet_pki::Peer;
use swarmnet_proto::v1;
use swarmnet_types::{NodeId, NodeIndex, Revision, Role};
use tonic::Status;

use crate::ca::unix_ms;
use crate::raft::{RaftNode, StateHandle};
use crate::writer::Writer;

/// A node's role and number.
fn row(writer: &Writer, node: NodeId) -> Result<(Role, NodeIndex), Status> {
    writer
        .read(|s| s.node(node).map(|n| (n.role, n.index)))
        .ok_or_else(|| Status::permission_denied("this node was removed from the cluster"))
}

/// The node is a member of the Raft group, as this manager's log has it, committed or not.
pub(crate) fn is_seated(raft: &RaftNode, index: NodeIndex) -> bool {
    raft.status().members.contains_key(&u64::from(index.get()))
}

/// What the node is, as of no earlier than the question. That it has no seat, it hears when that is committed: it may then throw its log
/// away.
pub(crate) async fn of(writer: &Writer, node: NodeId) -> Result<v1::StandingResponse, Status> {
    writer.catch_up().await?;
    let (role, index) = row(writer, node)?;
    let raft = writer.raft().status();
    if raft.applied < Revision(raft.membership) {
        return Err(Status::unavailable("the managers' group is being changed"));
    }
    Ok(v1::StandingResponse {
        role: v1::Role::from(role).into(),
        seated: raft.members.contains_key(&u64::from(index.get())),
        generation: writer.read(|s| s.cluster().map_or(0, |c| c.generation)),
    })
}

/// The node goes for good.
pub(crate) async fn leave(
    writer: &Writer,
    node: NodeId,
    request_id: &[u8],
) -> Result<Revision, Status> {
    writer.catch_up().await?;
    let (_, index) = row(writer, node)?;
    if is_seated(writer.raft(), index) {
        return Err(Status::failed_precondition("this node is still in the managers' group"));
    }
    let remove = RemoveNode { node: node.to_string(), force: true, alive: true };
    let (revision, _) = writer.write(Command::RemoveNode(remove), request_id).await?;
    tracing::info!(%node, "left");
    Ok(revision)
}

/// Is the certificate that calls this node a manager of before it was made a worker? While the group still has it, it is a manager all
/// the same: who was the leader must be able to end its own part.
pub(crate) fn is_demoted(raft: &RaftNode, state: &StateHandle, peer: &Peer) -> bool {
    let index = state.read(|s| {
        let node = s.node(peer.node_id).filter(|n| n.role == Role::Worker)?;
        let record = s.record(node.id)?;
        (unix_ms(peer.issued()) <= record.demoted_ms).then_some(node.index)
    });
    index.is_some_and(|index| !is_seated(raft, index))
}
