//! The cluster itself: tokens, status, and waiting for a revision to be everywhere.

use std::time::Duration;

use swarmnet_manager_core::{Command, Secret};
use swarmnet_proto::v1;
use swarmnet_types::{Revision, Role};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tokio_stream::Stream;
use tonic::Status;

use super::{ControlGrpc, id};
use crate::acks::{self, Others};
use crate::join;
use crate::manager::Liveness;

/// How long a caller is kept waiting at most.
const WAIT_MAX: Duration = Duration::from_secs(30);

impl ControlGrpc {
    pub(super) async fn token(
        &self,
        request: v1::GetTokenRequest,
    ) -> Result<v1::GetTokenResponse, Status> {
        let role: Role = Option::from(request.role())
            .ok_or_else(|| Status::invalid_argument("malformed message: role: missing"))?;
        if request.rotate {
            let secret: [u8; 16] =
                swarmnet_pki::random_bytes().map_err(|err| Status::internal(err.to_string()))?;
            let command = Command::RotateToken { role, secret: Secret::new(secret) };
            self.writer.write(command, &request.request_id).await?;
        }
        // One that was replaced at another manager a moment ago is of no use.
        self.writer.catch_up().await?;
        Ok(v1::GetTokenResponse { token: join::token(&self.writer, role)?.to_string() })
    }

    pub(super) fn cluster_status(&self) -> Result<v1::ClusterStatus, Status> {
        let cluster = join::cluster(&self.writer)?;
        let raft = self.writer.raft().status();
        let alive = acks::alive(&self.liveness);
        let me = self.writer.tls().identity().node_id();
        let up = |node| node == me || alive.get(&node).is_some_and(|c| c.answers());
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        Ok(self.writer.read(|s| v1::ClusterStatus {
            id: id(cluster.id.as_bytes()),
            revision: s.revision().0,
            term: raft.term,
            leader: s
                .nodes()
                .find(|n| raft.leader == Some(n.index.get().into()))
                .map(|n| id(n.id.as_bytes()))
                .unwrap_or_default(),
            managers: count(s.managers().count()),
            reachable_managers: count(s.managers().filter(|n| up(n.id)).count()),
            nodes: count(s.nodes().count()),
            data_path_port: cluster.data_path_port.into(),
            default_pools: cluster.pools.iter().map(ToString::to_string).collect(),
            default_pool_mask_len: cluster.pool_mask_len.into(),
            created_ms: cluster.created_ms,
            cert_expiry_ms: cluster.cert_expiry_ms,
        }))
    }

    /// Progress until every live node that is concerned has the revision in its kernel.
    pub(super) fn wait_for(
        self,
        revision: u64,
    ) -> impl Stream<Item = Result<v1::WaitProgress, Status>> + Send {
        let start = Waiting {
            said: self.acks.subscribe(),
            liveness: self.liveness.clone(),
            applied: self.writer.raft().state().applied(),
            others: Others::new(self.writer.clone()),
            deadline: Instant::now() + WAIT_MAX,
            last: None,
            control: self,
        };
        futures_util::stream::unfold(Some(start), move |waiting| async move {
            let (step, next) = waiting?.step(Revision(revision)).await;
            Some((Ok(step), next))
        })
    }
}

/// Someone waits.
struct Waiting {
    control: ControlGrpc,
    /// Of this manager's agents.
    said: watch::Receiver<u64>,
    liveness: Liveness,
    applied: watch::Receiver<Revision>,
    others: Others,
    deadline: Instant,
    last: Option<v1::WaitProgress>,
}

impl Waiting {
    /// The next step that differs from the last, and what goes on after it.
    async fn step(mut self, wanted: Revision) -> (v1::WaitProgress, Option<Self>) {
        loop {
            if self.last.is_some() {
                self.news().await;
            }
            let step = self.look(wanted);
            if self.last.as_ref() != Some(&step) {
                self.last = Some(step.clone());
                let next = (!step.done).then_some(self);
                return (step, next);
            }
        }
    }

    /// Waits until something may have changed, or the time is over.
    async fn news(&mut self) {
        // cancel-safe: watches lose nothing, questions to others live outside. An input that is gone says nothing more.
        tokio::select! {
            Ok(()) = self.said.changed() => {}
            Ok(()) = self.liveness.changed() => {}
            Ok(()) = self.applied.changed() => {}
            () = self.others.next() => {}
            () = sleep_until(self.deadline) => {}
        }
    }

    fn look(&self, wanted: Revision) -> v1::WaitProgress {
        let control = &self.control;
        let known = self.others.known(&control.acks);
        let alive = acks::alive(&control.liveness);
        let mut step = control.writer.read(|s| acks::progress(s, &known, &alive, wanted));
        if Instant::now() >= self.deadline && !step.done {
            let late = step.missing.iter();
            let late: Vec<_> =
                late.map(|n| format!("{n}: has not acknowledged the change yet")).collect();
            step.failures.extend(late);
            step.done = true;
        }
        step
    }
}
