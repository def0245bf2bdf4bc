//! A drained node: its tasks leave balancing and names on every node, and only when all agents have that in their kernels, and what was
//! open has had its time, are its programs told to stop.
//!
//! Inputs: the view that has this node drained; the managers' word of who has acknowledged it. Output: programs on the cluster's networks
//! are stopped as by their user. Sandboxes without a program of ours only leave balancing: who runs them ends them.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use swarmnet_proto::v1;
use swarmnet_proto::v1::control_client::ControlClient;
use swarmnet_types::{Availability, NodeView, Revision, SandboxId};
use tokio::sync::watch;
use tokio::time::sleep;

use crate::local::cluster::Cluster;
use crate::local::error::{LocalError, chain};
use crate::workload::Workloads;

/// For requests that were under way when the last node let go.
const OPEN_MAX: Duration = Duration::from_secs(5);
/// Between being told and being killed: `docker stop`'s.
const GRACE: Duration = Duration::from_secs(10);
/// After managers that did not answer, or agents that are late.
const RETRY: Duration = Duration::from_secs(1);

type Views = watch::Receiver<Option<Arc<NodeView>>>;

/// The revision that drained this node; `None`: it is not drained.
fn drained_by(view: Option<&NodeView>) -> Option<Revision> {
    let me = view.and_then(|view| view.nodes.get(&view.me))?;
    (me.availability == Availability::Drain).then_some(me.changed)
}

/// Until the agent stops.
pub async fn follow(workloads: Workloads, cluster: Cluster, mut views: Views) {
    let mut done = None;
    loop {
        let wanted = drained_by(views.borrow_and_update().as_deref());
        if wanted == done {
            if views.changed().await.is_err() {
                return;
            }
            continue;
        }
        if let Some(revision) = wanted {
            match is_everywhere(&cluster, revision).await {
                Ok(true) => {
                    sleep(OPEN_MAX).await;
                    // It may be wanted again by now.
                    if drained_by(views.borrow().as_deref()) == wanted {
                        stop_all(&workloads).await;
                    }
                }
                Ok(false) => continue,
                Err(err) => {
                    tracing::debug!(err = %chain(&err), "who has let go of this node is not known yet");
                    sleep(RETRY).await;
                    continue;
                }
            }
        }
        done = wanted;
    }
}

/// Whether every live node has the revision in its kernel, after the managers have waited for it a while.
async fn is_everywhere(cluster: &Cluster, revision: Revision) -> Result<bool, LocalError> {
    let request = v1::WaitRequest { revision: revision.0 };
    let call = |channel| async move { ControlClient::new(channel).wait(request).await };
    let mut progress = cluster.call(call).await?;
    while let Ok(Some(step)) = progress.message().await {
        if step.done {
            return Ok(step.acked == step.total);
        }
    }
    // The manager went away.
    sleep(RETRY).await;
    Ok(false)
}

async fn stop_all(workloads: &Workloads) {
    let objects = workloads.sandboxes().means().store.current();
    let running = objects.sandboxes.values().filter(|s| {
        s.process.as_ref().is_some_and(|p| !p.stopped) && s.cluster_endpoints().next().is_some()
    });
    let ids: Vec<SandboxId> = running.map(|s| s.id).collect();
    tracing::info!(programs = ids.len(), "this node is drained: its programs are told to stop");
    let stops = ids.into_iter().map(|id| async move { (id, workloads.stop(id, GRACE).await) });
    for (id, stopped) in join_all(stops).await {
        if let Err(err) = stopped {
            tracing::warn!(sandbox = %id.short(), err = %chain(&err), "a program of a drained node goes on");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::desired::fixture;

    #[test]
    fn only_a_node_that_the_view_has_drained_is_drained() {
        let mut view = fixture::view();
        assert_eq!(drained_by(None), None);
        assert_eq!(drained_by(Some(&view)), None);
        let me = view.me;
        let mine = view.nodes.get_mut(&me).expect("it is in its own view");
        (mine.availability, mine.changed) = (Availability::Drain, Revision(7));
        assert_eq!(drained_by(Some(&view)), Some(Revision(7)));
    }
}
