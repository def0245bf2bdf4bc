//! Endpoints that the cluster holds for this node although their sandbox is gone: the daemon died between the grant and the record,
//! or gave up a call that was carried out after all.
//!
//! Input: the `watch` of the view. Output: releases in the outbox. The node decides, because only it knows of sandboxes that are on
//! their way; a manager that compared a list of sandboxes with its state would take back what was granted after the list was made.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use swarmnet_types::{EndpointId, NodeView, SandboxId};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::{Sandboxes, blocking};
use crate::local::error::{LocalError, chain};
use crate::local::files;

/// Between two looks at least. A release needs about as long to come back as a view.
const PAUSE: Duration = Duration::from_secs(1);
/// At most: a call may end without a new view.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// Of the endpoints in `view`, those of this node whose sandbox is neither there nor on its way.
///
/// A sandbox must count as known before its endpoints are asked for, and until they were given back.
pub fn orphans(view: &NodeView, is_known: impl Fn(SandboxId) -> bool) -> Vec<EndpointId> {
    let own = view.endpoints.values().filter(|e| e.node == view.me);
    own.filter(|e| !is_known(e.sandbox)).map(|e| e.id).collect()
}

impl Sandboxes {
    /// Gives orphans back for as long as there are views.
    pub async fn release_orphans(&self, mut views: watch::Receiver<Option<Arc<NodeView>>>) {
        loop {
            let view = views.borrow_and_update().clone();
            if let Some(view) = view {
                match self.orphans_in(&view).await {
                    Ok(gone) if gone.is_empty() => {}
                    Ok(gone) => {
                        tracing::info!(endpoints = gone.len(), "released what no sandbox has");
                        self.means.outbox.release(&gone).await;
                    }
                    Err(err) => tracing::warn!(err = %chain(&err), "orphans are not looked for"),
                }
            }
            sleep(PAUSE).await;
            // cancel-safe: a watch remembers.
            if let Ok(Err(_closed)) = timeout(LOOK_EVERY, views.changed()).await {
                return;
            }
        }
    }

    pub(super) async fn orphans_in(&self, view: &NodeView) -> Result<Vec<EndpointId>, LocalError> {
        // In the order in which a sandbox comes to be: one that goes on from here to there is seen in one of the places.
        let mut known = self.locks.held();
        let dir = self.means.paths.sandboxes();
        let begun = blocking(move || files::list(&dir)).await?;
        let id = |dir: &std::path::PathBuf| dir.file_name()?.to_str()?.parse().ok();
        known.extend(begun.iter().filter_map(id).collect::<BTreeSet<SandboxId>>());
        known.extend(self.means.store.current().sandboxes.keys());
        let mut gone = orphans(view, |id| known.contains(&id));
        // A view that came before the release was told still has them.
        gone.retain(|endpoint| !self.means.outbox.is_releasing(endpoint));
        Ok(gone)
    }
}
