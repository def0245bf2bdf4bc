//! Sandboxes that come back after a reboot: those that were made to stay, and those whose restart policy says so.
//!
//! Namespace, processes and endpoints went with the reboot: the sandbox is made anew by the same wish, with an id of its own. What
//! needs a cluster waits for a manager; until then the record stays on the disk as one that is to come back.

use std::sync::Arc;
use std::time::Duration;

use swarmnet_runtime::Backoff;
use swarmnet_types::SandboxId;

use super::Workloads;
use crate::local::error::{LocalError, chain};
use crate::local::objects::{SandboxRecord, SandboxState};
use crate::local::sandboxes::SandboxWish;

const RETRY_MIN: Duration = Duration::from_millis(500);
const RETRY_MAX: Duration = Duration::from_secs(15);

/// Does a sandbox whose namespace is gone come back? One that was made without a process stays until it is removed.
pub(super) fn comes_back(record: &SandboxRecord) -> bool {
    match (&record.process, record.owner) {
        (_, Some(_)) => false,
        (Some(process), None) => process.spec.restart.survives_reboot(process.stopped),
        (None, None) => true,
    }
}

/// The wish it was made by.
fn wish(record: &SandboxRecord) -> SandboxWish {
    SandboxWish {
        name: Some(record.name.clone()),
        hostname: Some(record.hostname.clone()).filter(|h| h.as_str() != record.id.short()),
        attachments: record.attachments.iter().map(|a| a.spec.clone()).collect(),
        service: record.service_name.clone(),
        dns: record.dns.clone(),
        ports: record.ports.clone(),
        labels: record.labels.clone(),
        named: record.named,
        owner_pid: None,
        process: record.process.as_ref().map(|p| p.spec.clone()),
    }
}

impl Workloads {
    /// Brings a sandbox back, by a worker that tries until it is there or removed by its user.
    pub(super) async fn revive(&self, lost: &SandboxRecord) -> Result<(), LocalError> {
        let id = lost.id;
        let store = &self.sandboxes.means().store;
        let parked = store.change_sandbox(id, |record| {
            // Nothing is built for it meanwhile.
            record.state = SandboxState::Leaving;
            record.comes_back = true;
            Ok(())
        });
        parked.await?;
        let this = self.clone();
        let stop = self.supervisor.token().clone();
        self.supervisor.spawn_transient("revive", async move {
            // cancel-safe: the record on the disk says that it is to come back.
            stop.run_until_cancelled(this.bring_back(id)).await;
        });
        Ok(())
    }

    async fn bring_back(&self, id: SandboxId) {
        let mut delays =
            Backoff::new(RETRY_MIN, RETRY_MAX, 0.5).expect("the constants are in order").delays();
        loop {
            let Ok(record) = self.sandboxes.means().store.sandbox(id) else { return };
            let clustered = record.cluster_endpoints().next().is_some();
            if !clustered || self.sandboxes.means().cluster.is_reachable().await {
                return self.replace(&record).await;
            }
            tokio::time::sleep(delays.delay()).await;
        }
    }

    /// The old record goes, or the name would be taken; then the new one comes.
    async fn replace(&self, record: &Arc<SandboxRecord>) {
        self.gone(record.id).await;
        match self.create(wish(record)).await {
            Ok(_) => tracing::info!(sandbox = %record.name, "back after a reboot"),
            Err(err) => {
                tracing::error!(sandbox = %record.name, err = %chain(&err), "does not come back");
            }
        }
    }
}
