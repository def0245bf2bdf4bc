//! Raft's messages between managers: the answering half.
//!
//! Inputs: calls of other managers; that a caller is a manager of this cluster is checked before, where all roles are checked.
//! Outputs: openraft's answers, errors included, inside the payload. A status is returned only for a message that cannot be read.

use openraft::error::{CheckIsLeaderError, RaftError};
use openraft::{BasicNode, LogIdOptionExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use swarmnet_proto::v1::RaftMessage;
use swarmnet_proto::v1::raft_server;
use tonic::{Request, Response, Status};

use super::state_machine::StateHandle;
use super::transport::{self, CallError, MESSAGE_BYTES_MAX};
use super::types::Raft;

/// Why the leader gave no read index.
pub(super) type ReadIndexError = RaftError<u64, CheckIsLeaderError<u64, BasicNode>>;

/// The gRPC service of one node. Serve it on the managers' mTLS listener only.
#[derive(Clone)]
pub struct RaftGrpc {
    raft: Raft,
    state: StateHandle,
}

// === impl RaftGrpc ===

impl std::fmt::Debug for RaftGrpc {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RaftGrpc").finish_non_exhaustive()
    }
}

impl RaftGrpc {
    pub(super) fn new(raft: Raft, state: StateHandle) -> Self {
        Self { raft, state }
    }

    /// The payload of a message from this node's own group, and the version to answer in.
    fn read<T: DeserializeOwned>(&self, request: Request<RaftMessage>) -> Result<(T, u32), Status> {
        let message = request.into_inner();
        if let (Some(own), Some(theirs)) = (self.state.generation(), message.generation)
            && own != theirs
        {
            return Err(Status::failed_precondition(format!(
                "the cluster was made anew: this manager is of its generation {own}, the caller of {theirs}; the older one has to leave and join again"
            )));
        }
        match transport::decode(&message) {
            Ok(payload) => Ok((payload, message.version)),
            Err(CallError::Version(err)) => Err(err.into()),
            Err(err) => Err(Status::invalid_argument(err.to_string())),
        }
    }

    /// The service for a tonic router, with the message sizes Raft needs.
    pub fn into_server(self) -> raft_server::RaftServer<Self> {
        raft_server::RaftServer::new(self)
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX)
    }
}

#[tonic::async_trait]
impl raft_server::Raft for RaftGrpc {
    async fn append_entries(
        &self,
        request: Request<RaftMessage>,
    ) -> Result<Response<RaftMessage>, Status> {
        let (message, version) = self.read(request)?;
        answered(&self.raft.append_entries(message).await, version)
    }

    async fn vote(&self, request: Request<RaftMessage>) -> Result<Response<RaftMessage>, Status> {
        let (message, version) = self.read(request)?;
        answered(&self.raft.vote(message).await, version)
    }

    async fn install_snapshot(
        &self,
        request: Request<RaftMessage>,
    ) -> Result<Response<RaftMessage>, Status> {
        let (message, version) = self.read(request)?;
        answered(&self.raft.install_snapshot(message).await, version)
    }

    async fn read_index(
        &self,
        request: Request<RaftMessage>,
    ) -> Result<Response<RaftMessage>, Status> {
        let ((), version) = self.read(request)?;
        let read = self.raft.get_read_log_id().await;
        let answer: Result<u64, ReadIndexError> =
            read.map(|(read, _applied)| read.index().unwrap_or(0));
        answered(&answer, version)
    }
}

fn answered<T: Serialize>(answer: &T, version: u32) -> Result<Response<RaftMessage>, Status> {
    let message = transport::encode(answer, version);
    Ok(Response::new(message.map_err(|err| Status::internal(err.to_string()))?))
}
