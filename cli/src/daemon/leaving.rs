//! A node leaves its cluster: a manager becomes a worker first, sandboxes on the cluster's networks end, the managers strike the node
//! off, and it forgets all.

use std::time::Duration;

use swarmnet_agent::local::cluster::{Cluster, request_id};
use swarmnet_agent::local::{LocalError, Standing};
use swarmnet_proto::v1;
use swarmnet_proto::v1::control_client::ControlClient;
use swarmnet_proto::v1::dispatcher_client::DispatcherClient;
use swarmnet_types::{NodeId, Role};
use tokio::time::{Instant, sleep, timeout};
use tonic::Code;

use super::membership::{NO_CLUSTER, Node};
use crate::error::CliError;

/// How long the managers may take with one question.
const ASK_MAX: Duration = Duration::from_secs(10);
/// How long a manager may take to become a worker: its leader's election included, when it leads.
const DEMOTION_MAX: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(100);

/// `sw:M13`.
const LOCKED_LEAVE: &str = "Swarm is encrypted and locked. Please unlock it first or use `--force` to ignore this message.";

/// `sw:M13`.
fn warning(reason: &str) -> CliError {
    CliError::failure(format!(
        "You are attempting to leave the swarm on a node that is participating as a manager. {reason}"
    ))
}

/// What speaks against one manager's leaving, of so many that vote and so many of them that answer, itself included.
fn obstacle(voters: usize, alive: usize) -> Option<String> {
    let (voters_left, alive_left) = (voters.saturating_sub(1), alive.saturating_sub(1));
    if voters_left == 0 {
        return Some("Removing the last manager erases all current state of the swarm. Use `--force` to ignore this message.".to_owned());
    }
    (alive_left <= voters_left / 2).then(|| {
        format!(
            "Removing this node leaves {alive_left} managers out of {voters_left}. Without a Raft quorum your swarm will be inaccessible. The only way to restore a swarm that has lost consensus is to reinitialize it with `--force-new-cluster`. Use `--force` to suppress this message."
        )
    })
}

impl Node {
    /// Whether the managers have heard of it.
    pub(super) async fn leave(&self, force: bool) -> Result<bool, CliError> {
        let Some(standing) = self.agent.standing() else {
            return Err(CliError::failure(NO_CLUSTER));
        };
        if self.agent.is_locked() && !force {
            return Err(CliError::failure(LOCKED_LEAVE));
        }
        let cluster = &self.workloads.sandboxes().means().cluster;
        if standing.role == Role::Manager && !self.agent.is_locked() {
            match self.step_down(cluster, standing).await {
                Ok(()) => {}
                Err(err) if !force => return Err(err),
                Err(err) => tracing::warn!(%err, "leaves as a manager"),
            }
        }
        let mut slot = self.manager.lock().await;
        self.remove_clustered().await?;
        self.workloads.sandboxes().means().outbox.clear().await;
        let told = say_goodbye(cluster).await;
        self.forget(slot.take()).await;
        Ok(told)
    }

    /// Takes this manager out of the managers' group.
    async fn step_down(&self, cluster: &Cluster, me: Standing) -> Result<(), CliError> {
        let nobody = || {
            warning(
                "Doing so may lose the consensus of your cluster. The only way to restore a swarm that has lost consensus is to reinitialize it with `--force-new-cluster`. Use `--force` to suppress this message.",
            )
        };
        let list = cluster.call(|channel| async move {
            ControlClient::new(channel).list_managers(v1::ListManagersRequest {}).await
        });
        let group = timeout(ASK_MAX, list).await.map_err(|_| nobody())?;
        let group = match group {
            Ok(group) => group,
            Err(err) if is_gone(&err) => return Ok(()),
            Err(_) => return Err(nobody()),
        };
        let voters = group.members.iter().filter(|m| m.seat() == v1::GroupSeat::Voter);
        let alive = voters.clone().filter(|m| m.answers).count();
        if let Some(reason) = obstacle(voters.count(), alive) {
            return Err(warning(&reason));
        }
        let request = v1::UpdateNodeRequest {
            request_id: request_id(),
            reference: me.node.to_string(),
            role: v1::Role::Worker.into(),
            ..v1::UpdateNodeRequest::default()
        };
        let demote = cluster.call(|channel| {
            let request = request.clone();
            async move { ControlClient::new(channel).update_node(request).await }
        });
        let demoted = timeout(ASK_MAX, demote).await.map_err(|_| nobody())?;
        match demoted {
            Ok(_) => {}
            // It is a worker to the managers already, and finds out in a moment.
            Err(err) if is_gone(&err) => {}
            Err(err) => return Err(CliError::failure(err)),
        }
        self.wait_demoted(me.node).await
    }

    /// The worker that follows the role does the rest.
    async fn wait_demoted(&self, me: NodeId) -> Result<(), CliError> {
        let deadline = Instant::now() + DEMOTION_MAX;
        while Instant::now() < deadline {
            match self.agent.standing() {
                Some(now) if now.node == me && now.role == Role::Manager => sleep(POLL).await,
                _ => return Ok(()),
            }
        }
        Err(CliError::failure(
            "the other managers have not let this one go in time: see `swarmnet manager ls`, then leave again",
        ))
    }

    async fn remove_clustered(&self) -> Result<(), CliError> {
        let store = &self.workloads.sandboxes().means().store;
        let clustered: Vec<_> = store
            .current()
            .sandboxes
            .values()
            .filter(|s| s.cluster_endpoints().next().is_some())
            .map(|s| s.id)
            .collect();
        for id in clustered {
            self.workloads.remove(id, true).await.map_err(CliError::failure)?;
        }
        Ok(())
    }
}

/// The managers have struck this node off already.
fn is_gone(err: &LocalError) -> bool {
    matches!(err, LocalError::Cluster { status } if status.code() == Code::PermissionDenied)
}

/// Has the managers strike this node off. A node that they have not any more need not say anything.
async fn say_goodbye(cluster: &Cluster) -> bool {
    let request = v1::GoodbyeRequest { request_id: request_id() };
    let said = cluster.call(|channel| {
        let request = request.clone();
        async move { DispatcherClient::new(channel).leave(request).await }
    });
    match timeout(ASK_MAX, said).await {
        Ok(Ok(_)) => true,
        Ok(Err(err)) if is_gone(&err) => true,
        Ok(Err(err)) => {
            tracing::warn!(%err, "leaves without a word to the managers");
            false
        }
        Err(_elapsed) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_manager_and_a_quorum_do_not_leave_unforced() {
        let says = |voters, alive, words: &str| {
            obstacle(voters, alive).is_some_and(|reason| reason.contains(words))
        };
        assert!(says(1, 1, "Removing the last manager erases all current state"));
        assert!(says(3, 2, "leaves 1 managers out of 2"));
        assert!(says(4, 2, "leaves 1 managers out of 3"));
        for (voters, alive) in [(2, 2), (3, 3), (4, 3), (5, 4), (5, 5)] {
            assert_eq!(obstacle(voters, alive), None, "{alive} of {voters}");
        }
    }
}
