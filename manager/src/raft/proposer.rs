//! Turns many proposals into few log entries.
//!
//! Input: a bounded queue of proposals. Outputs: one entry per round trip of Raft, one answer per proposal. A follower flushes its log
//! once per entry and waits for it, so what arrives during a flush becomes the next entry: one flush serves all that wait.
//!
//! Proposals of one caller keep their order only if it awaits each. An entry that finds no majority in time is answered
//! [`ProposeError::QuorumLost`], and may still be applied later: repeating is made safe by the request id, in the state.

use std::sync::Arc;
use std::time::Duration;

use openraft::error::{ClientWriteError, RaftError as OpenraftError};
use swarmnet_types::Revision;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::error::{Leader, ProposeError};
use super::types::{Batch, Outcome, Proposal, Raft};

/// Callers beyond this many wait in `propose`; nothing is dropped.
const QUEUE_DEPTH: usize = 1024;
/// Most proposals in one entry.
const BATCH_MAX: usize = 256;
/// An entry is closed when it holds about this much, so that it passes to a follower in one message.
const BATCH_BYTES: usize = 1 << 20;

/// The callers' end.
#[derive(Debug, Clone)]
pub(super) struct Proposer {
    queue: mpsc::Sender<Job>,
}

#[derive(Debug)]
struct Job {
    proposal: Proposal,
    bytes: usize,
    reply: oneshot::Sender<Answer>,
}

type Answer = Result<(Revision, Outcome), ProposeError>;

/// The worker's end.
#[derive(Debug)]
pub(super) struct Queue(mpsc::Receiver<Job>);

pub(super) fn queue() -> (Proposer, Queue) {
    let (queue, jobs) = mpsc::channel(QUEUE_DEPTH);
    (Proposer { queue }, Queue(jobs))
}

// === impl Proposer ===

impl Proposer {
    /// Waits for the verdict. Dropping the future does not take the proposal back.
    pub(super) async fn propose(&self, proposal: Proposal) -> Answer {
        let bytes = postcard::to_stdvec(&proposal).map_or(usize::MAX, |bytes| bytes.len());
        let (reply, answer) = oneshot::channel();
        let sent = self.queue.send(Job { proposal, bytes, reply }).await;
        sent.map_err(|_| stopped())?;
        answer.await.unwrap_or_else(|_| Err(stopped()))
    }
}

// === impl Queue ===

impl Queue {
    /// Serves the queue until Raft or the process stops.
    pub(super) async fn run(mut self, raft: Raft, deadline: Duration, stop: CancellationToken) {
        let mut jobs = Vec::with_capacity(BATCH_MAX);
        loop {
            let received = tokio::select! {
                biased;
                () = stop.cancelled() => return, // cancel-safe: a token remembers
                received = self.0.recv_many(&mut jobs, BATCH_MAX) => received, // cancel-safe by its contract
            };
            if received == 0 {
                return;
            }
            while !jobs.is_empty() {
                let rest = jobs.split_off(batch_len(&jobs));
                commit(&raft, std::mem::replace(&mut jobs, rest), deadline).await;
            }
        }
    }
}

/// How many of the jobs go into one entry: at least one.
fn batch_len(jobs: &[Job]) -> usize {
    let mut bytes = 0_usize;
    let fitting = jobs.iter().take_while(|job| {
        bytes = bytes.saturating_add(job.bytes);
        bytes <= BATCH_BYTES
    });
    fitting.count().max(1)
}

/// One entry, and the answers to its proposals.
async fn commit(raft: &Raft, jobs: Vec<Job>, deadline: Duration) {
    let (proposals, replies): (Vec<_>, Vec<_>) =
        jobs.into_iter().map(|job| (job.proposal, job.reply)).unzip();
    let written = timeout(deadline, raft.client_write(Batch(Arc::new(proposals)))).await;
    // A caller that went away does not want its answer.
    match written.map_err(|_| ProposeError::QuorumLost).and_then(|w| w.map_err(refused)) {
        Ok(response) => {
            for (reply, verdict) in replies.into_iter().zip(response.data.0) {
                drop(reply.send(verdict.map_err(ProposeError::Rejected)));
            }
        }
        Err(err) => {
            for reply in replies {
                drop(reply.send(Err(err.clone())));
            }
        }
    }
}

fn refused(err: OpenraftError<u64, ClientWriteError<u64, openraft::BasicNode>>) -> ProposeError {
    match err {
        OpenraftError::APIError(ClientWriteError::ForwardToLeader(to)) => {
            let leader = to.leader_id.zip(to.leader_node);
            let leader = leader.map(|(node, at)| Leader { node, addr: at.addr });
            ProposeError::NotLeader { leader }
        }
        // Only a change of the members can be refused so.
        OpenraftError::APIError(err @ ClientWriteError::ChangeMembershipError(_)) => {
            ProposeError::Stopped { reason: err.to_string() }
        }
        OpenraftError::Fatal(fatal) => ProposeError::Stopped { reason: fatal.to_string() },
    }
}

fn stopped() -> ProposeError {
    ProposeError::Stopped { reason: "this manager is shutting down".into() }
}
