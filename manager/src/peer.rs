//! What managers ask of each other besides Raft.

use std::time::Duration;

use bytes::Bytes;
use swarmnet_manager_core::Proposal;
use swarmnet_proto::v1;
use swarmnet_proto::v1::manager_peer_server::ManagerPeer;
use tonic::{Request, Response, Status};

use crate::acks::Acks;
use crate::raft::{ProposeError, RaftError};
use crate::writer::{PROPOSAL_FORMAT, Verdict, Writer};

/// How long a new manager may take to catch up before it is left a learner.
const CATCH_UP: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub(crate) struct PeerGrpc {
    writer: Writer,
    acks: Acks,
}

impl PeerGrpc {
    pub(crate) fn new(writer: Writer, acks: Acks) -> Self {
        Self { writer, acks }
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

    async fn add_member(
        &self,
        request: Request<v1::AddMemberRequest>,
    ) -> Result<Response<v1::AddMemberResponse>, Status> {
        let v1::AddMemberRequest { index, addr } = request.into_inner();
        match self.writer.raft().add_voter(index.into(), addr, CATCH_UP).await {
            Ok(()) => Ok(Response::new(v1::AddMemberResponse {})),
            Err(err @ (RaftError::NotLeader { .. } | RaftError::QuorumLost)) => {
                Err(Status::unavailable(err.to_string()))
            }
            Err(err @ RaftError::ChangeInProgress) => Err(Status::aborted(err.to_string())),
            Err(err) => Err(Status::failed_precondition(err.to_string())),
        }
    }
}
