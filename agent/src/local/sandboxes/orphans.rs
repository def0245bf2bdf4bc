//! What a call left unfinished between this node and the cluster: the daemon died between the grant and the record, or between the
//! record and the release or the report, or gave up a call that was carried out after all. Endpoints that no sandbox has are released;
//! those that were being connected are reported as ready.
//!
//! Input: the `watch` of the view. Output: releases and conditions in the outbox. The node decides, because only it knows of sandboxes that are on
//! their way; a manager that compared a list of sandboxes with its state would take back what was granted after the list was made.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use swarmnet_types::{Condition, Endpoint, EndpointId, NodeView, SandboxId};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::{Sandboxes, blocking};
use crate::local::error::{LocalError, chain};
use crate::local::files;
use crate::local::objects::{SandboxRecord, SandboxState};

/// Between two looks at least. A release needs about as long to come back as a view.
const PAUSE: Duration = Duration::from_secs(1);
/// At most: a call may end without a new view.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// Of the endpoints in `view`, those of this node that no sandbox holds.
///
/// A sandbox must count as holding all of its endpoints from before one is asked for until it is recorded, and while they are given
/// back.
pub fn orphans(view: &NodeView, is_held: impl Fn(&Endpoint) -> bool) -> Vec<EndpointId> {
    let own = view.endpoints.values().filter(|e| e.node == view.me);
    own.filter(|e| !is_held(e)).map(|e| e.id).collect()
}

impl Sandboxes {
    /// Gives orphans back for as long as there are views.
    pub async fn release_orphans(&self, mut views: watch::Receiver<Option<Arc<NodeView>>>) {
        let ids: Vec<_> = self.means.store.current().sandboxes.keys().copied().collect();
        join_all(ids.into_iter().map(|id| self.finish_connecting(id))).await;
        loop {
            let view = views.borrow_and_update().clone();
            if let Some(view) = view {
                match self.orphans_in(&view).await {
                    Ok(gone) if gone.is_empty() => {}
                    Ok(gone) => {
                        let free = self.left_by_the_kernel(&view, gone).await;
                        if !free.is_empty() {
                            tracing::info!(endpoints = free.len(), "released what no sandbox has");
                            self.means.outbox.release(&free).await;
                        }
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

    /// Of these, the ones whose sandbox, if it lives, is without them in the kernel as well.
    pub(super) async fn left_by_the_kernel(
        &self,
        view: &NodeView,
        gone: Vec<EndpointId>,
    ) -> Vec<EndpointId> {
        let objects = self.means.store.current();
        let left = async |endpoint: EndpointId| {
            let sandbox = view.endpoints.get(&endpoint).map(|e| e.sandbox);
            match sandbox.filter(|id| objects.sandboxes.contains_key(id)) {
                Some(living) => self.built(living, objects.generation).await.is_ok(),
                None => true,
            }
            .then_some(endpoint)
        };
        join_all(gone.into_iter().map(left)).await.into_iter().flatten().collect()
    }

    /// A network that was being connected when the daemon died is ready once it is in the kernel: nobody else would say so.
    pub(super) async fn finish_connecting(&self, id: SandboxId) {
        let _turn = self.locks.take(id).await;
        let unfinished = |record: &SandboxRecord| {
            let has = |now| record.cluster_endpoints().any(|e| e.condition == now);
            // Where all are starting, it is the program that is awaited, if there is one.
            let connected = has(Condition::Ready) || record.process.is_none();
            record.state == SandboxState::Ready
                && has(Condition::Starting)
                && !has(Condition::Draining)
                && connected
        };
        let objects = self.means.store.current();
        if !objects.sandboxes.get(&id).is_some_and(|record| unfinished(record)) {
            return;
        }
        let finished = match self.built(id, objects.generation).await {
            Ok(()) => self.set_condition(id, Condition::Ready).await,
            Err(err) => Err(err),
        };
        if let Err(err) = finished {
            tracing::warn!(sandbox = %id, err = %chain(&err), "a network is not ready");
        }
    }

    pub(super) async fn orphans_in(&self, view: &NodeView) -> Result<Vec<EndpointId>, LocalError> {
        // In the order in which a sandbox comes to be: one that goes on from here to there is seen in one of the places.
        let mut busy = self.locks.held();
        let dir = self.means.paths.sandboxes();
        let begun = blocking(move || files::list(&dir)).await?;
        let id = |dir: &std::path::PathBuf| dir.file_name()?.to_str()?.parse().ok();
        let recorded = self.means.store.current();
        // What is begun has no record yet: what it will hold is not known. What is recorded holds what the record says.
        busy.extend(begun.iter().filter_map(id).filter(|id| !recorded.sandboxes.contains_key(id)));
        let holds = |record: &SandboxRecord, endpoint| {
            record.cluster_endpoints().any(|held| held.id == endpoint)
        };
        let mut gone = orphans(view, |e| {
            let record = recorded.sandboxes.get(&e.sandbox);
            busy.contains(&e.sandbox) || record.is_some_and(|record| holds(record, e.id))
        });
        // A view that came before the release was told still has them.
        gone.retain(|endpoint| !self.means.outbox.is_releasing(endpoint));
        Ok(gone)
    }
}
