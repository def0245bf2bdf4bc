//! Raft's messages between managers: the calling half. The answering half is `service.rs`.
//!
//! Inputs: openraft's requests for one target. Outputs: gRPC calls over channels that the caller's [`Connector`] makes (TLS, addresses
//! and time-outs of connecting are its business). Payloads are postcard, with a version beside them: the greatest that the target speaks,
//! as its last answer or refusal had it.
//!
//! One channel per target is shared by replication, votes and snapshots. A target that has not answered for [`SILENCE_MAX`] gets a
//! new channel: after a link was cut, TCP may wait minutes before it sends again on the old one. Deadlines are openraft's: it drops
//! a call that takes too long.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use openraft::BasicNode;
use openraft::error::{InstallSnapshotError, RPCError, RaftError, RemoteError, Unreachable};
use openraft::network::{Backoff, RPCOption, RaftNetwork, RaftNetworkFactory};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, InstallSnapshotRequest, InstallSnapshotResponse,
    VoteRequest, VoteResponse,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use swarmnet_proto::v1::RaftMessage;
use swarmnet_proto::v1::raft_client::RaftClient;
use swarmnet_proto::wire::{self, NoCommonVersion, SPOKEN, Spoken};
use tokio::time::Instant;
use tonic::transport::Channel;
use tonic::{Response, Status};

use super::service::ReadIndexError;
use super::state_machine::StateHandle;
use super::types::TypeConfig;
use super::unflushed::Unflushed;

/// Longest message: a single entry may be as large as a batch of the proposer, a snapshot chunk is smaller.
pub(super) const MESSAGE_BYTES_MAX: usize = 64 << 20;
/// After so long without an answer the connection is made anew.
const SILENCE_MAX: Duration = Duration::from_secs(1);
/// A target that has not answered for so long is not there: many heartbeats of a leader, on a busy machine too.
const HEARD_MAX: Duration = Duration::from_secs(2);
/// Before the next message to a target that could not be reached. openraft's own default is 500 ms, and a returning peer would wait.
const UNREACHABLE_DELAY: Duration = Duration::from_millis(100);

/// Makes a channel to a manager: its Raft id and address. It must not block (lazy channels), should give up connecting after 500 ms,
/// and must set `TCP_NODELAY`.
pub type Connector = Arc<dyn Fn(u64, &str) -> Channel + Send + Sync>;

/// The channels to all managers; clones share them.
#[derive(Clone)]
pub(super) struct Peers {
    connector: Connector,
    /// By Raft id; at most one per manager ever seen.
    channels: Arc<Mutex<BTreeMap<u64, Peer>>>,
    unflushed: Unflushed,
    state: StateHandle,
}

#[derive(Debug)]
struct Peer {
    addr: String,
    channel: Channel,
    /// When the oldest call began that no answer has followed.
    silent_since: Option<Instant>,
    /// As it said last.
    speaks: Option<Spoken>,
    /// When it answered last.
    heard: Option<Instant>,
}

/// One target of openraft.
#[derive(Debug)]
pub(super) struct PeerNetwork {
    peers: Peers,
    target: u64,
    addr: String,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Method {
    AppendEntries,
    Vote,
    InstallSnapshot,
    ReadIndex,
}

/// A call gave no usable answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum CallError {
    #[error("{status}")]
    Status { status: Box<Status> },
    #[error("cannot encode or decode a message: {source}")]
    Codec {
        #[from]
        source: postcard::Error,
    },
    #[error(transparent)]
    Version(#[from] NoCommonVersion),
}

type RpcResult<T, E = openraft::error::Infallible> =
    Result<T, RPCError<u64, BasicNode, RaftError<u64, E>>>;

// === impl Peers ===

impl fmt::Debug for Peers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Peers").field("channels", &self.lock()).finish_non_exhaustive()
    }
}

impl Peers {
    pub(super) fn new(connector: Connector, unflushed: Unflushed, state: StateHandle) -> Self {
        Self { connector, channels: Arc::default(), unflushed, state }
    }

    /// One call and its answer. Cancel-safe: a dropped call counts as silence.
    pub(super) async fn call<Q: Serialize, A: DeserializeOwned>(
        &self,
        (target, addr): (u64, &str),
        method: Method,
        request: &Q,
    ) -> Result<A, CallError> {
        let (channel, version) = self.begin(target, addr);
        let message =
            RaftMessage { generation: self.state.generation(), ..encode(request, version)? };
        let mut client = RaftClient::new(channel)
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX);
        let answer = match method {
            Method::AppendEntries => client.append_entries(message).await,
            Method::Vote => client.vote(message).await,
            Method::InstallSnapshot => client.install_snapshot(message).await,
            Method::ReadIndex => client.read_index(message).await,
        };
        match answer.map(Response::into_inner) {
            Ok(answer) => {
                self.answered(target, Spoken::told(answer.wire));
                decode(&answer)
            }
            Err(status) => {
                if let Some(speaks) = Spoken::of_refusal(&status) {
                    self.answered(target, speaks);
                }
                Err(CallError::Status { status: Box::new(status) })
            }
        }
    }

    /// For a call that begins now: the channel, and the version to write.
    fn begin(&self, target: u64, addr: &str) -> (Channel, u32) {
        let now = Instant::now();
        let mut channels = self.lock();
        let heard = channels.get(&target).and_then(|peer| peer.heard);
        if let Some(peer) = channels.get_mut(&target) {
            let silent_since = *peer.silent_since.get_or_insert(now);
            if peer.addr == addr && now - silent_since < SILENCE_MAX {
                let common = peer.speaks.and_then(|theirs| SPOKEN.common(theirs));
                return (peer.channel.clone(), common.unwrap_or(SPOKEN.newest()));
            }
        }
        let channel = (self.connector)(target, addr);
        let peer = Peer {
            addr: addr.to_owned(),
            channel: channel.clone(),
            silent_since: Some(now),
            speaks: None,
            heard,
        };
        channels.insert(target, peer);
        (channel, SPOKEN.newest())
    }

    fn answered(&self, target: u64, speaks: Spoken) {
        if let Some(peer) = self.lock().get_mut(&target) {
            peer.silent_since = None;
            peer.speaks = Some(speaks);
            peer.heard = Some(Instant::now());
        }
    }

    /// It has answered a moment ago. Only a leader asks all others all the time.
    pub(super) fn hears(&self, target: u64) -> bool {
        let heard = self.lock().get(&target).and_then(|peer| peer.heard);
        heard.is_some_and(|at| at.elapsed() < HEARD_MAX)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Peer>> {
        self.channels.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl RaftNetworkFactory<TypeConfig> for Peers {
    type Network = PeerNetwork;

    async fn new_client(&mut self, target: u64, node: &BasicNode) -> PeerNetwork {
        PeerNetwork { peers: self.clone(), target, addr: node.addr.clone() }
    }
}

// === impl PeerNetwork ===

impl PeerNetwork {
    async fn rpc<Q, A, E>(&self, method: Method, request: &Q) -> RpcResult<A, E>
    where
        Q: Serialize,
        A: DeserializeOwned,
        E: Error + DeserializeOwned,
    {
        let target = (self.target, self.addr.as_str());
        let answer = self.peers.call(target, method, request).await;
        // Whatever the reason, a pause is right: the connection is refused, the peer starts, or it is of another version.
        let answer: Result<A, RaftError<u64, E>> =
            answer.map_err(|err| RPCError::Unreachable(Unreachable::new(&err)))?;
        answer.map_err(|err| RPCError::RemoteError(RemoteError::new(self.target, err)))
    }
}

impl RaftNetwork<TypeConfig> for PeerNetwork {
    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<TypeConfig>,
        _option: RPCOption,
    ) -> RpcResult<AppendEntriesResponse<u64>> {
        // A message must not call committed what this disk does not have yet.
        if let Some(committed) = &rpc.leader_commit {
            let flushed = self.peers.unflushed.on_disk(committed.index).await;
            flushed.map_err(|err| RPCError::Unreachable(Unreachable::new(&err)))?;
        }
        self.rpc(Method::AppendEntries, &rpc).await
    }

    async fn install_snapshot(
        &mut self,
        rpc: InstallSnapshotRequest<TypeConfig>,
        _option: RPCOption,
    ) -> RpcResult<InstallSnapshotResponse<u64>, InstallSnapshotError> {
        self.rpc(Method::InstallSnapshot, &rpc).await
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<u64>,
        _option: RPCOption,
    ) -> RpcResult<VoteResponse<u64>> {
        self.rpc(Method::Vote, &rpc).await
    }

    fn backoff(&self) -> Backoff {
        Backoff::new(std::iter::repeat(UNREACHABLE_DELAY))
    }
}

/// What a follower needs to answer a linearizable read: the leader's read index.
pub(super) async fn read_index(
    peers: &Peers,
    leader: (u64, &str),
) -> Result<Result<u64, ReadIndexError>, CallError> {
    peers.call(leader, Method::ReadIndex, &()).await
}

/// A message in one of the versions that are [`SPOKEN`]; there is one encoding so far.
pub(super) fn encode<T: Serialize>(value: &T, version: u32) -> Result<RaftMessage, CallError> {
    let payload = postcard::to_stdvec(value)?.into();
    Ok(RaftMessage { version, payload, generation: None, wire: Some(SPOKEN.into()) })
}

pub(super) fn decode<T: DeserializeOwned>(message: &RaftMessage) -> Result<T, CallError> {
    wire::agree("manager", "other manager", Spoken::only(message.version))?;
    Ok(postcard::from_bytes(&message.payload)?)
}
