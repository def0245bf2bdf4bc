//! What the managers must still be told of this node's endpoints: that they are gone, or in another condition.
//!
//! Inputs: [`Outbox::release`], [`Outbox::condition`]. Output: calls to a manager, by one worker, until they were answered.
//! Invariants: what is put in survives a restart; of one endpoint only the newest word is kept, so the box is bounded by the
//! endpoints of the node; a release outlives every condition.
//!
//! With no manager a sandbox may thus be stopped and removed at once: the cluster learns of it later.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use swarmnet_runtime::{Backoff, Supervisor};
use swarmnet_types::{Condition, EndpointId};
use tokio::sync::{Mutex, watch};

use super::cluster::Cluster;
use super::error::{LocalError, chain};
use super::files::{self, Format};
use crate::paths::Paths;

const FORMAT: Format = Format { name: "swarmnet-outbox", version: 1 };
/// How many endpoints one call names at most.
const BATCH: usize = 256;
const PAUSE_MIN: Duration = Duration::from_millis(500);
const PAUSE_MAX: Duration = Duration::from_secs(15);

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
struct Letters {
    releases: BTreeSet<EndpointId>,
    conditions: BTreeMap<EndpointId, Condition>,
}

impl Letters {
    fn is_empty(&self) -> bool {
        self.releases.is_empty() && self.conditions.is_empty()
    }

    fn release(&mut self, endpoint: EndpointId) {
        self.conditions.remove(&endpoint);
        self.releases.insert(endpoint);
    }

    fn condition(&mut self, endpoint: EndpointId, condition: Condition) {
        if !self.releases.contains(&endpoint) {
            self.conditions.insert(endpoint, condition);
        }
    }

    /// Takes out what was sent, unless a newer word came meanwhile.
    fn sent(&mut self, sent: &Self) {
        for endpoint in &sent.releases {
            self.releases.remove(endpoint);
        }
        self.conditions.retain(|e, c| sent.conditions.get(e) != Some(c));
    }

    fn batch(&self) -> Self {
        Self {
            releases: self.releases.iter().copied().take(BATCH).collect(),
            conditions: self.conditions.iter().map(|(e, c)| (*e, *c)).take(BATCH).collect(),
        }
    }
}

/// See the module.
#[derive(Debug)]
pub struct Outbox {
    paths: Paths,
    letters: watch::Sender<Letters>,
    /// Held while the file is written, so that the newest content is written last.
    disk: Mutex<()>,
}

impl Outbox {
    /// Reads what is left from before. Blocks.
    pub fn open(paths: &Paths) -> Result<Self, LocalError> {
        let letters = files::read(&paths.outbox(), FORMAT)?.unwrap_or_default();
        Ok(Self {
            paths: paths.clone(),
            letters: watch::Sender::new(letters),
            disk: Mutex::new(()),
        })
    }

    /// The cluster is to release these endpoints. On the disk when this returns.
    pub async fn release(&self, endpoints: &[EndpointId]) {
        self.put(|letters| endpoints.iter().for_each(|e| letters.release(*e))).await;
    }

    /// These endpoints are in this condition now.
    pub async fn condition(&self, endpoints: &[EndpointId], now: Condition) {
        self.put(|letters| endpoints.iter().for_each(|e| letters.condition(*e, now))).await;
    }

    /// A release of it waits to be told.
    pub fn is_releasing(&self, endpoint: &EndpointId) -> bool {
        self.letters.borrow().releases.contains(endpoint)
    }

    /// Nothing is waiting.
    pub fn is_empty(&self) -> bool {
        self.letters.borrow().is_empty()
    }

    /// Waits until a manager has taken the releases of these endpoints, or for this long.
    pub async fn settle(&self, endpoints: &[EndpointId], patience: Duration) {
        let mut letters = self.letters.subscribe();
        let gone = letters.wait_for(|l| endpoints.iter().all(|e| !l.releases.contains(e)));
        // Without an answer in time they are sent later.
        let _ = tokio::time::timeout(patience, gone).await;
    }

    /// Forgets everything: the node left its cluster.
    pub async fn clear(&self) {
        self.put(|letters| *letters = Letters::default()).await;
    }

    async fn put(&self, change: impl FnOnce(&mut Letters)) {
        let changed = self.letters.send_if_modified(|letters| {
            let before = letters.clone();
            change(letters);
            *letters != before
        });
        if changed {
            self.save().await;
        }
    }

    /// A box that cannot be saved is still sent; only a crash would then leave endpoints that the next daemon finds orphaned.
    async fn save(&self) {
        let _writing = self.disk.lock().await;
        let (letters, path) = (self.letters.borrow().clone(), self.paths.outbox());
        let write = move || files::write(&path, FORMAT, &letters);
        match tokio::task::spawn_blocking(write).await {
            Ok(Ok(())) => {}
            Ok(Err(err)) => tracing::warn!(err = %chain(&err), "the outbox is not on the disk"),
            Err(err) => tracing::warn!(%err, "the outbox is not on the disk"),
        }
    }

    /// Sends what is in the box and what comes in, until shutdown.
    pub async fn deliver(&self, cluster: &Cluster, supervisor: &Supervisor) {
        let mut letters = self.letters.subscribe();
        let mut delays =
            Backoff::new(PAUSE_MIN, PAUSE_MAX, 0.5).expect("the constants are in order").delays();
        loop {
            let batch = letters.borrow_and_update().batch();
            let pause = if batch.is_empty() || cluster.standing().is_none() {
                None
            } else {
                match self.send(cluster, &batch).await {
                    Ok(()) => {
                        delays.reset();
                        continue;
                    }
                    Err(err) => {
                        tracing::info!(err = %chain(&err), "managers were not told; again later");
                        Some(delays.delay())
                    }
                }
            };
            tokio::select! {
                biased;
                () = supervisor.token().cancelled() => return, // cancel-safe: a token remembers
                changed = letters.changed() => { // cancel-safe: a watch remembers
                    if changed.is_err() {
                        return;
                    }
                }
                () = tokio::time::sleep(pause.unwrap_or_default()), if pause.is_some() => {} // cancel-safe: made anew
            }
        }
    }

    async fn send(&self, cluster: &Cluster, batch: &Letters) -> Result<(), LocalError> {
        if !batch.releases.is_empty() {
            let releases: Vec<_> = batch.releases.iter().copied().collect();
            forgive(cluster.detach(&releases).await)?;
        }
        if !batch.conditions.is_empty() {
            let conditions: Vec<_> = batch.conditions.iter().map(|(e, c)| (*e, *c)).collect();
            forgive(cluster.report(&conditions).await)?;
        }
        self.put(|letters| letters.sent(batch)).await;
        Ok(())
    }
}

/// A manager's refusal is its last word on the matter: it knows the endpoints no more. Only what may pass is tried again.
fn forgive(result: Result<(), LocalError>) -> Result<(), LocalError> {
    match result {
        Err(LocalError::Cluster { status }) if status.code() != tonic::Code::Unavailable => {
            tracing::warn!(%status, "a manager refused what this node says of its endpoints");
            Ok(())
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u8) -> EndpointId {
        EndpointId::from_bytes([n; 16])
    }

    #[test]
    fn the_newest_word_counts_and_a_release_is_the_last() {
        let mut letters = Letters::default();
        letters.condition(id(1), Condition::Ready);
        letters.condition(id(1), Condition::Draining);
        assert_eq!(letters.conditions[&id(1)], Condition::Draining);
        letters.release(id(1));
        letters.condition(id(1), Condition::Ready);
        assert!(letters.conditions.is_empty());
        letters.condition(id(2), Condition::Ready);
        let batch = letters.batch();
        letters.condition(id(2), Condition::Draining);
        letters.sent(&batch);
        assert!(letters.releases.is_empty());
        assert_eq!(letters.conditions[&id(2)], Condition::Draining, "it came meanwhile");
    }

    #[tokio::test]
    async fn the_box_survives_a_restart() {
        let dir = tempfile::tempdir().expect("a folder");
        let paths = Paths::new(dir.path(), dir.path());
        Outbox::open(&paths).expect("opened").release(&[id(1)]).await;
        let again = Outbox::open(&paths).expect("opened");
        assert!(!again.is_empty());
        again.clear().await;
        assert!(Outbox::open(&paths).expect("opened").is_empty());
    }
}
