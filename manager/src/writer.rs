//! The one way to change the state: proposals, committed here when this manager leads, else passed on to the leader.
//!
//! Inputs: commands with a request id. Outputs: what was brought about, after this manager's own state holds it; or the user's error
//! as a status. While there is no leader a call is tried again for [`PATIENCE`], with the same request id, so that nothing is done
//! twice.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use swarmnet_manager_core::{Command, Outcome, Proposal, Rejection, State};
use swarmnet_pki::TlsStore;
use swarmnet_proto::v1;
use swarmnet_proto::v1::manager_peer_client::ManagerPeerClient;
use swarmnet_types::{Revision, Role};
use tokio::time::{Instant, sleep, timeout};
use tonic::Status;

use crate::raft::{Leader, Leadership, ProposeError, QUORUM_LOST, RaftNode};

/// Format of a proposal on its way to the leader.
pub(crate) const PROPOSAL_FORMAT: u32 = 1;
/// How long a call waits for a leader: several elections.
const PATIENCE: Duration = Duration::from_secs(5);
/// Between two tries.
const PAUSE: Duration = Duration::from_millis(50);
/// How long the leader may take with a proposal.
const LEADER_MAX: Duration = Duration::from_secs(3);

/// What a leader says of a proposal.
pub(crate) type Verdict = Result<(Revision, Outcome), Rejection>;

/// See the module. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Writer {
    raft: Arc<RaftNode>,
    tls: TlsStore,
}

/// Unix time in milliseconds.
pub(crate) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// A proposal with this manager's clock and randomness. A caller that does not repeat its call gets a request id all the same: the
/// call is tried here until a leader answers.
pub(crate) fn proposal(command: Command, request_id: &[u8]) -> Result<Proposal, Status> {
    let request_id = match request_id.len() {
        0 => rand::random(),
        _ => request_id
            .try_into()
            .map_err(|_| Status::invalid_argument("a request id is 16 bytes or none"))?,
    };
    Ok(Proposal { command, now_ms: now_ms(), seed: rand::random(), request_id })
}

/// A refusal of the state, for the caller.
pub(crate) fn refusal(rejection: &Rejection) -> Status {
    swarmnet_proto::refused(rejection.kind(), rejection)
}

fn no_leader() -> Status {
    Status::unavailable(QUORUM_LOST)
}

impl Writer {
    pub(crate) fn new(raft: Arc<RaftNode>, tls: TlsStore) -> Self {
        Self { raft, tls }
    }

    pub(crate) fn raft(&self) -> &RaftNode {
        &self.raft
    }

    pub(crate) fn tls(&self) -> &TlsStore {
        &self.tls
    }

    /// Looks at this manager's state.
    pub(crate) fn read<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        self.raft.state().read(look)
    }

    /// Waits until this manager knows of all that any manager has acknowledged; over an election, as [`write`](Self::write) does.
    ///
    /// # Errors
    /// The user's sentence: there is no quorum.
    pub(crate) async fn catch_up(&self) -> Result<(), Status> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.raft.barrier().await {
                Ok(_) => return Ok(()),
                Err(_) if Instant::now() >= deadline => return Err(no_leader()),
                Err(_) => sleep(PAUSE).await,
            }
        }
    }

    /// Commits a command. When this returns, [`read`](Self::read) sees it.
    ///
    /// # Errors
    /// The user's sentence.
    pub(crate) async fn write(
        &self,
        command: Command,
        request_id: &[u8],
    ) -> Result<(Revision, Outcome), Status> {
        let proposal = proposal(command, request_id)?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.attempt(&proposal).await {
                Some(Ok((revision, outcome))) => {
                    self.applied(revision).await?;
                    return Ok((revision, outcome));
                }
                Some(Err(rejection)) => return Err(refusal(&rejection)),
                None if Instant::now() >= deadline => return Err(no_leader()),
                None => sleep(PAUSE).await,
            }
        }
    }

    /// `None`: no leader took it; try again.
    async fn attempt(&self, proposal: &Proposal) -> Option<Verdict> {
        match self.raft.propose(proposal.clone()).await {
            Ok(done) => Some(Ok(done)),
            Err(ProposeError::Rejected(rejection)) => Some(Err(rejection)),
            Err(ProposeError::NotLeader { leader }) => {
                let leader = leader?;
                // A leader that has died may leave us without an answer long after its successor is elected.
                tokio::select! {
                    verdict = self.pass_on(&leader, proposal) => verdict,
                    () = self.replaced(&leader) => None, // cancel-safe: the request id makes it harmless to ask again
                }
            }
            Err(ProposeError::QuorumLost | ProposeError::Stopped { .. }) => None,
        }
    }

    /// Waits until another manager leads.
    async fn replaced(&self, leader: &Leader) {
        let mut leadership = self.raft.leadership();
        let is_other = |now: &Leadership| now.leader.as_ref().is_some_and(|now| now != leader);
        if leadership.wait_for(is_other).await.is_err() {
            // Raft has stopped: no successor will be seen here.
            std::future::pending::<()>().await;
        }
    }

    async fn pass_on(&self, leader: &Leader, proposal: &Proposal) -> Option<Verdict> {
        let addr: SocketAddr = leader.addr.parse().ok()?;
        let channel = swarmnet_pki::channel(addr, Role::Manager, &self.tls);
        let request = v1::ProposeRequest {
            format: PROPOSAL_FORMAT,
            proposal: Bytes::from(postcard::to_stdvec(proposal).expect("plain data encodes")),
        };
        let mut peer = ManagerPeerClient::new(channel);
        match timeout(LEADER_MAX, peer.propose(request)).await {
            Ok(Ok(answer)) => postcard::from_bytes(&answer.into_inner().verdict).ok(),
            Ok(Err(status)) => {
                tracing::debug!(%addr, reason = swarmnet_pki::explain(&status), "not passed on");
                None
            }
            Err(_elapsed) => None,
        }
    }

    /// Waits until this manager has applied the revision.
    async fn applied(&self, revision: Revision) -> Result<(), Status> {
        let mut applied = self.raft.state().applied();
        let seen = applied.wait_for(|now| *now >= revision);
        match timeout(LEADER_MAX, seen).await {
            Ok(Ok(_)) => Ok(()),
            _ => Err(Status::unavailable(
                "the change was made, but this manager does not keep up: ask another one",
            )),
        }
    }
}
