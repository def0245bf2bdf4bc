//! One Raft node: wires log, state machine, transport and proposer, and is what the rest of a manager holds.
//!
//! Workers, owned by a child of the given supervisor:
//! - `raft/keeper` (critical): publishes the leadership, asks for a snapshot when the log in memory grows too large, and on shutdown
//!   stops openraft and releases the folder. It ends when openraft stops by itself (a failed disk), which stops the process.
//! - `raft/proposer` (critical): see `proposer.rs`.
//!
//! openraft runs tasks of its own; they end with it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use openraft::error::{
    ChangeMembershipError, CheckIsLeaderError, ClientWriteError, ForwardToLeader, InitializeError,
    RaftError as OpenraftError,
};
use openraft::{BasicNode, ChangeMembers, LogIdOptionExt};
use swarmnet_runtime::{ShutdownReport, Supervisor};
use swarmnet_types::Revision;
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;

use super::config::RaftConfig;
use super::error::{Leader, ProposeError, RaftError};
use super::folder::Folder;
use super::keyring::Keyring;
use super::proposer::{self, Proposer};
use super::service::RaftGrpc;
use super::state_machine::{ApplyHook, StateHandle, StateMachine};
use super::status::{Leadership, RaftStatus};
use super::store::LogStore;
use super::transport::{self, Connector, Peers};
use super::types::{Outcome, Proposal, Raft};

/// How often the size of the log in memory is looked at.
const SIZE_CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// For stopping: openraft's tasks end between two messages, the log between two flushes.
const SHUTDOWN_DEADLINE: Duration = Duration::from_secs(5);

/// A manager's seat in Raft; clones share it.
#[derive(Clone)]
pub struct RaftNode {
    raft: Raft,
    me: u64,
    log: LogStore,
    state: StateHandle,
    proposer: Proposer,
    peers: Peers,
    leadership: watch::Receiver<Leadership>,
    quorum_timeout: Duration,
    supervisor: Supervisor,
}

type Written<T> = Result<T, OpenraftError<u64, ClientWriteError<u64, BasicNode>>>;

// === impl RaftNode ===

impl fmt::Debug for RaftNode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RaftNode").field("me", &self.me).finish_non_exhaustive()
    }
}

impl RaftNode {
    /// Opens or makes the folder and joins in where the log ends. A new node does nothing until [`Self::bootstrap`] is called here
    /// or a leader adds it. `hook` is called after each change of the state.
    ///
    /// # Errors
    /// Of a damaged, newer or locked folder: nothing was changed.
    pub async fn start(
        config: RaftConfig,
        keyring: Keyring,
        connector: Connector,
        hook: ApplyHook,
        supervisor: &Supervisor,
    ) -> Result<Self, RaftError> {
        let settings = Arc::new(config.openraft()?);
        let me = config.me;
        let opened = spawn_blocking({
            let config = config.clone();
            move || Folder::open(&config, keyring)
        });
        let Folder { log, snapshots, newest } = opened.await.map_err(|err| stopped(&err))??;
        let machine = StateMachine::new(snapshots, newest, log.unflushed(), hook);
        let state = machine.handle();
        let peers = Peers::new(connector, log.unflushed(), state.clone());
        let raft = Raft::new(me, settings, peers.clone(), log.clone(), machine);
        let raft = raft.await.map_err(|err| stopped(&err))?;

        let supervisor = supervisor.child("raft");
        let server = raft.server_metrics();
        let (publish, leadership) = watch::channel(Leadership::new(&server.borrow()));
        let keeper =
            Keeper { raft: raft.clone(), log: log.clone(), snapshot_bytes: config.snapshot_bytes };
        supervisor.spawn_critical("keeper", keeper.run(publish, supervisor.token().clone()));
        let (proposer, jobs) = proposer::queue();
        let worker = jobs.run(raft.clone(), config.quorum_timeout, supervisor.token().clone());
        supervisor.spawn_critical("proposer", worker);
        let quorum_timeout = config.quorum_timeout;
        Ok(Self { raft, me, log, state, proposer, peers, leadership, quorum_timeout, supervisor })
    }

    /// Makes a cluster of these managers (Raft id → address); this node must be among them and new.
    pub async fn bootstrap(&self, members: BTreeMap<u64, String>) -> Result<(), RaftError> {
        let members = members.into_iter().map(|(id, addr)| (id, BasicNode { addr }));
        let done = self.raft.initialize(members.collect::<BTreeMap<_, _>>()).await;
        done.map_err(|err| match err {
            OpenraftError::APIError(InitializeError::NotAllowed(_)) => {
                RaftError::AlreadyBootstrapped
            }
            OpenraftError::APIError(err @ InitializeError::NotInMembers(_)) => {
                RaftError::Membership { reason: err.to_string() }
            }
            OpenraftError::Fatal(fatal) => stopped(&fatal),
        })
    }

    /// Puts a command through the log. Only the leader can; others name it.
    ///
    /// # Errors
    /// [`ProposeError::QuorumLost`] leaves open whether it will be applied: retry with the same request id.
    pub async fn propose(&self, proposal: Proposal) -> Result<(Revision, Outcome), ProposeError> {
        let leader = self.wait_for_leader().await.ok_or(ProposeError::QuorumLost)?;
        if leader.node != self.me {
            return Err(ProposeError::NotLeader { leader: Some(leader) });
        }
        // A leader cut off from its majority must not fill its log with what it cannot commit.
        let silent = self.raft.metrics().borrow().millis_since_quorum_ack;
        if silent.is_some_and(|ms| Duration::from_millis(ms) > self.quorum_timeout) {
            return Err(ProposeError::QuorumLost);
        }
        self.proposer.propose(proposal).await
    }

    /// Waits until this node's state holds every write that was acknowledged anywhere before the call, and returns a revision that
    /// does. A read afterwards is linearizable, on any manager.
    pub async fn barrier(&self) -> Result<Revision, RaftError> {
        let deadline = self.quorum_timeout.saturating_mul(2);
        timeout(deadline, self.read_index()).await.unwrap_or(Err(RaftError::QuorumLost))
    }

    /// Adds a manager that receives the log but does not count for majorities yet.
    pub async fn add_learner(&self, id: u64, addr: String) -> Result<(), RaftError> {
        self.change(self.raft.add_learner(id, BasicNode { addr }, false)).await.map(drop)
    }

    /// Makes a learner count for majorities. One that has not caught up holds up every write until it has.
    ///
    /// # Errors
    /// [`RaftError::Membership`]: it is no member.
    pub async fn make_voter(&self, id: u64) -> Result<(), RaftError> {
        let voters = ChangeMembers::AddVoterIds(BTreeSet::from([id]));
        self.change(self.raft.change_membership(voters, true)).await.map(drop)
    }

    /// Takes a manager out, voter or learner. One that is not there is no error. A leader that takes itself out leads until that is
    /// committed, and no longer.
    pub async fn remove_member(&self, id: u64) -> Result<(), RaftError> {
        let gone = BTreeSet::from([id]);
        let changes = match self.status().members.get(&id) {
            None => return Ok(()),
            Some(member) if member.voter => ChangeMembers::RemoveVoters(gone),
            Some(_) => ChangeMembers::RemoveNodes(gone),
        };
        self.change(self.raft.change_membership(changes, false)).await.map(drop)
    }

    /// Tells all managers that one of them has another address now.
    pub async fn set_addr(&self, id: u64, addr: String) -> Result<(), RaftError> {
        let nodes = BTreeMap::from([(id, BasicNode { addr })]);
        self.change(self.raft.change_membership(ChangeMembers::SetNodes(nodes), true))
            .await
            .map(drop)
    }

    /// The applied state, and the revision it has.
    pub fn state(&self) -> &StateHandle {
        &self.state
    }

    /// Who leads, and its changes.
    pub fn leadership(&self) -> watch::Receiver<Leadership> {
        self.leadership.clone()
    }

    /// This node believes that it leads.
    pub fn is_leader(&self) -> bool {
        self.leadership.borrow().is_me
    }

    /// Whether the node belongs to a cluster: bootstrapped, or added by a leader, now or in an earlier life.
    pub async fn is_initialized(&self) -> Result<bool, RaftError> {
        self.raft.is_initialized().await.map_err(|err| stopped(&err))
    }

    pub fn status(&self) -> RaftStatus {
        RaftStatus::new(&self.raft.metrics().borrow(), |id| self.peers.hears(id))
    }

    /// What answers the other managers; serve it where only managers get in.
    pub fn grpc(&self) -> RaftGrpc {
        RaftGrpc::new(self.raft.clone(), self.state.clone())
    }

    /// Makes a snapshot now and shortens the log; does not wait for it.
    pub async fn snapshot(&self) -> Result<(), RaftError> {
        self.raft.trigger().snapshot().await.map_err(|err| stopped(&err))
    }

    /// After a change of the keys: what is written from now on is sealed with the new one, and the state is written anew.
    pub async fn reseal(&self) -> Result<(), RaftError> {
        self.log.roll().await?;
        self.snapshot().await
    }

    /// Stops this node and releases its folder. Also done by the shutdown of the supervisor given to [`Self::start`].
    pub async fn shutdown(&self) -> ShutdownReport {
        self.supervisor.shutdown(SHUTDOWN_DEADLINE).await
    }

    /// The leader, waited for as long as an election may take.
    async fn wait_for_leader(&self) -> Option<Leader> {
        let mut leadership = self.leadership.clone();
        let known = leadership.wait_for(|leadership| leadership.leader.is_some());
        let known = timeout(self.quorum_timeout, known).await.ok()?.ok()?;
        known.leader.clone()
    }

    async fn read_index(&self) -> Result<Revision, RaftError> {
        let leader = self.wait_for_leader().await.ok_or(RaftError::QuorumLost)?;
        let index = if leader.node == self.me {
            let read = self.raft.get_read_log_id().await;
            read.map(|(read, _applied)| read.index().unwrap_or(0))
        } else {
            let at = (leader.node, leader.addr.as_str());
            transport::read_index(&self.peers, at).await.map_err(|err| {
                tracing::debug!(%err, leader = leader.node, "no read index");
                RaftError::QuorumLost
            })?
        };
        let index = index.map_err(|err| match err {
            OpenraftError::APIError(CheckIsLeaderError::ForwardToLeader(to)) => forward(to),
            OpenraftError::APIError(CheckIsLeaderError::QuorumNotEnough(_)) => {
                RaftError::QuorumLost
            }
            OpenraftError::Fatal(fatal) => stopped(&fatal),
        })?;
        let mut applied = self.state.applied();
        let reached = applied.wait_for(|applied| applied.0 >= index).await;
        reached.map(|applied| *applied).map_err(|err| stopped(&err))
    }

    /// Runs a change of the members with a deadline: without a majority openraft would wait for ever.
    async fn change<T>(&self, change: impl Future<Output = Written<T>>) -> Result<T, RaftError> {
        let written = timeout(self.quorum_timeout, change).await;
        written.map_err(|_| RaftError::QuorumLost)?.map_err(changed)
    }
}

/// Looks after one running openraft.
struct Keeper {
    raft: Raft,
    log: LogStore,
    snapshot_bytes: usize,
}

// === impl Keeper ===

impl Keeper {
    async fn run(self, publish: watch::Sender<Leadership>, stop: CancellationToken) {
        let mut server = self.raft.server_metrics();
        let mut size_check = interval(SIZE_CHECK_INTERVAL);
        size_check.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut snapshot_before = None;
        let stopped_by_itself = loop {
            let event = tokio::select! {
                biased;
                () = stop.cancelled() => break false, // cancel-safe: a token remembers
                changed = server.changed() => changed.map(|()| true), // cancel-safe: the value stays marked as unseen
                _ = size_check.tick() => Ok(false), // cancel-safe: an interval keeps its deadline
            };
            match event {
                Ok(true) => announce(&publish, Leadership::new(&server.borrow_and_update())),
                Ok(false) => self.bound_log(&mut snapshot_before).await,
                Err(_) => break true,
            }
        };
        if stopped_by_itself {
            let state = self.raft.metrics().borrow().running_state.clone();
            tracing::error!(?state, "raft stopped by itself");
        }
        self.stop().await;
    }

    /// Asks for a snapshot when the log in memory is too large. After a snapshot the kept entries may still be more than the limit:
    /// only one snapshot is asked for until there is one.
    async fn bound_log(&self, asked_after: &mut Option<u64>) {
        let newest = self.raft.metrics().borrow().snapshot.index().unwrap_or(0);
        if self.log.bytes() > self.snapshot_bytes && *asked_after != Some(newest) {
            *asked_after = Some(newest);
            if let Err(err) = self.raft.trigger().snapshot().await {
                // The loop learns of the end by the metrics.
                tracing::warn!(%err, "no snapshot: raft has stopped");
            }
        }
    }

    /// Stops openraft, then the log's writer, so that the folder is free when this returns.
    async fn stop(self) {
        if let Err(err) = self.raft.shutdown().await {
            tracing::error!(%err, "raft ended with a panic");
        }
        let log = self.log;
        if spawn_blocking(move || log.close()).await.is_err() {
            tracing::error!("closing the raft log panicked");
        }
    }
}

fn announce(publish: &watch::Sender<Leadership>, now: Leadership) {
    publish.send_if_modified(|then| {
        let modified = *then != now;
        *then = now;
        modified
    });
}

fn changed(err: OpenraftError<u64, ClientWriteError<u64, BasicNode>>) -> RaftError {
    match err {
        OpenraftError::APIError(ClientWriteError::ForwardToLeader(to)) => forward(to),
        OpenraftError::APIError(ClientWriteError::ChangeMembershipError(err)) => match err {
            ChangeMembershipError::InProgress(_) => RaftError::ChangeInProgress,
            err => RaftError::Membership { reason: err.to_string() },
        },
        OpenraftError::Fatal(fatal) => stopped(&fatal),
    }
}

fn forward(to: ForwardToLeader<u64, BasicNode>) -> RaftError {
    let leader = to.leader_id.zip(to.leader_node);
    RaftError::NotLeader { leader: leader.map(|(node, at)| Leader { node, addr: at.addr }) }
}

fn stopped(err: &dyn std::error::Error) -> RaftError {
    RaftError::Stopped { reason: err.to_string() }
}
