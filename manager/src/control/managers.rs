//! The managers as a group.

use std::net::SocketAddr;
use std::time::Duration;

use swarmnet_manager_core::Rejection;
use swarmnet_proto::v1;
use swarmnet_proto::v1::manager_peer_client::ManagerPeerClient;
use swarmnet_types::{Node, Role};
use tokio::time::timeout;
use tonic::Status;

use super::{ControlGrpc, id};
use crate::manager::NodeCondition;
use crate::raft::{Leader, RaftStatus};
use crate::writer::refusal;

/// How long the leader may take to say what it knows.
const ASK_MAX: Duration = Duration::from_secs(2);

fn seat(raft: &RaftStatus, index: u64) -> v1::GroupSeat {
    match raft.members.get(&index) {
        None => v1::GroupSeat::None,
        Some(member) if member.voter => v1::GroupSeat::Voter,
        Some(_) => v1::GroupSeat::Learner,
    }
}

impl ControlGrpc {
    /// What the leader knows; without one, what this manager does.
    pub(super) async fn manager_list(&self) -> v1::ManagerGroup {
        let leader = self.writer.raft().leadership().borrow().leader.clone();
        match leader {
            Some(leader) if !self.writer.raft().is_leader() => match self.ask(&leader).await {
                Some(group) => group,
                None => self.own_group().await,
            },
            _ => self.own_group().await,
        }
    }

    async fn ask(&self, leader: &Leader) -> Option<v1::ManagerGroup> {
        let addr: SocketAddr = leader.addr.parse().ok()?;
        let channel = swarmnet_pki::channel(addr, Role::Manager, self.writer.tls());
        let mut peer = ManagerPeerClient::new(channel);
        match timeout(ASK_MAX, peer.group(v1::ListManagersRequest {})).await {
            Ok(Ok(group)) => Some(group.into_inner()),
            Ok(Err(status)) => {
                tracing::debug!(%addr, reason = swarmnet_pki::explain(&status), "no word of the group");
                None
            }
            Err(_elapsed) => None,
        }
    }

    /// The group as this manager knows it.
    pub(crate) async fn own_group(&self) -> v1::ManagerGroup {
        let rows = self.rows().await;
        let raft = self.writer.raft().status();
        let index = |n: &Node| u64::from(n.index.get());
        let is_one = |n: &&Node| n.role == Role::Manager || raft.members.contains_key(&index(n));
        let nodes: Vec<Node> = self.writer.read(|s| s.nodes().filter(is_one).cloned().collect());
        let leader = nodes.iter().find(|n| raft.leader == Some(index(n)));
        let members = nodes.iter().map(|node| {
            let at = index(node);
            let own = (at == raft.me).then_some(raft.last_log);
            v1::GroupMember {
                status: Some(self.status(node, &raft, &rows)),
                seat: seat(&raft, at).into(),
                matched: own.or_else(|| raft.members.get(&at)?.matched),
                // Whichever of the two misses it first.
                answers: raft.members.get(&at).is_some_and(|member| member.answers)
                    && !matches!(
                        self.condition(node.id),
                        NodeCondition::Down | NodeCondition::AgentLost
                    ),
            }
        });
        let members: Vec<v1::GroupMember> = members.collect();
        let voters = members.iter().filter(|m| m.seat() == v1::GroupSeat::Voter);
        let alive = voters.clone().filter(|m| m.answers).count();
        let majority = voters.count() / 2 + 1;
        v1::ManagerGroup {
            term: raft.term,
            leader: leader.map(|n| id(n.id.as_bytes())).unwrap_or_default(),
            last_log: raft.last_log,
            margin: u32::try_from(alive.saturating_sub(majority)).unwrap_or(u32::MAX),
            members,
        }
    }

    /// May this node stop being a manager? Those that are on their way out count no more.
    pub(super) async fn check_demotion(&self, reference: &str) -> Result<(), Status> {
        let node = self.writer.read(|s| s.find_node(reference).cloned());
        let node = node.map_err(|err| refusal(&err))?;
        if node.role != Role::Manager {
            return Ok(());
        }
        let group = self.manager_list().await;
        // Without a leader there is no write either, which says so better.
        if group.leader.is_empty() {
            return Ok(());
        }
        let managers: Vec<_> =
            self.writer.read(|s| s.managers().map(|n| id(n.id.as_bytes())).collect());
        let voters = group.members.iter().filter(|m| m.seat() == v1::GroupSeat::Voter);
        let voters =
            voters.filter_map(|m| Some((&m.status.as_ref()?.node.as_ref()?.id, m.answers)));
        let voters: Vec<_> = voters.filter(|(of, _)| managers.contains(of)).collect();
        let me = id(node.id.as_bytes());
        let is_voter = voters.iter().any(|(of, _)| **of == me);
        let alive = voters.iter().filter(|(of, answers)| *answers && **of != me).count();
        // The last one, the state refuses in words of its own.
        if is_voter && voters.len() > 1 && alive <= (voters.len() - 1) / 2 {
            return Err(refusal(&Rejection::QuorumWouldGo));
        }
        Ok(())
    }
}
