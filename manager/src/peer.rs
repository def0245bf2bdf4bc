//! What managers ask of each other besides Raft.

use std::net::SocketAddr;

use bytes::Bytes;
use swarmnet_manager_core::Proposal;
use swarmnet_pki::Speaker;
use swarmnet_proto::v1::manager_peer_server::ManagerPeer;
use swarmnet_proto::{Malformed, v1};
use swarmnet_types::Role;
use tonic::{Request, Response, Status};

use crate::acks::Acks;
use crate::control::ControlGrpc;
use crate::raft::{ProposeError, RaftError};
use crate::writer::{PROPOSAL_FORMAT, Verdict, Writer};

#[derive(Debug)]
pub(crate) struct PeerGrpc {
    writer: Writer,
    acks: Acks,
    control: ControlGrpc,
}

impl PeerGrpc {
    pub(crate) fn new(writer: Writer, acks: Acks, control: ControlGrpc) -> Self {
        Self { writer, acks, control }
    }
}

#[tonic::async_trait]
impl ManagerPeer for PeerGrpc {
    async fn propose(
        &self,
        request: Request<v1::ProposeRequest>,
    ) -> Result<Response<v1::ProposeResponse>, Status> {
        let v1::ProposeRequest { format, proposal } = request.into_inner();
        if format != PROPOSAL_FORMAT {
            return Err(Status::unimplemented(format!(
                "proposals of format {format} are not known here, {PROPOSAL_FORMAT} are: upgrade"
            )));
        }
        let proposal: Proposal = postcard::from_bytes(&proposal)
            .map_err(|err| Status::invalid_argument(format!("not a proposal: {err}")))?;
        let verdict: Verdict = match self.writer.raft().propose(proposal).await {
            Ok(done) => Ok(done),
            Err(ProposeError::Rejected(rejection)) => Err(rejection),
            Err(other) => return Err(Status::unavailable(other.to_string())),
        };
        let verdict = Bytes::from(postcard::to_stdvec(&verdict).expect("plain data encodes"));
        Ok(Response::new(v1::ProposeResponse { verdict }))
    }

    async fn acks(
        &self,
        _: Request<v1::AcksRequest>,
    ) -> Result<Response<v1::AcksResponse>, Status> {
        Ok(Response::new(v1::AcksResponse { acks: self.acks.messages() }))
    }

    async fn group(
        &self,
        _: Request<v1::ListManagersRequest>,
    ) -> Result<Response<v1::ManagerGroup>, Status> {
        if !self.writer.raft().is_leader() {
            return Err(Status::unavailable("this manager does not lead"));
        }
        Ok(Response::new(self.control.own_group().await))
    }

    async fn add_member(
        &self,
        request: Request<v1::AddMemberRequest>,
    ) -> Result<Response<v1::AddMemberResponse>, Status> {
        let caller = Speaker::of(&request)?.node_id();
        let v1::AddMemberRequest { index, addr } = request.into_inner();
        if addr.parse::<SocketAddr>().is_err() {
            return Err(Malformed::new("addr", "want IP:PORT").into());
        }
        let known = self.writer.read(|s| s.node(caller).map(|n| (n.index.get(), n.role)));
        if known != Some((index, Role::Manager)) {
            return Err(Status::failed_precondition("this node is not to be a manager"));
        }
        let (raft, id) = (self.writer.raft(), u64::from(index));
        let status = raft.status();
        let done = match status.members.get(&id) {
            _ if !raft.is_leader() => {
                Err(RaftError::NotLeader { leader: raft.leadership().borrow().leader.clone() })
            }
            None => raft.add_learner(id, addr).await,
            Some(member) if member.addr != addr => raft.set_addr(id, addr).await,
            Some(_) => Ok(()),
        };
        match done {
            Ok(()) => Ok(Response::new(v1::AddMemberResponse {
                voter: status.members.get(&id).is_some_and(|member| member.voter),
            })),
            Err(err @ RaftError::ChangeInProgress) => Err(Status::aborted(err.to_string())),
            Err(err @ (RaftError::NotLeader { .. } | RaftError::QuorumLost)) => {
                Err(Status::unavailable(err.to_string()))
            }
            Err(err) => Err(Status::failed_precondition(err.to_string())),
        }
    }
}
