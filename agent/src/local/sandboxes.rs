//! Sandboxes from the first reservation to the last file: attach, ready, detach.
//!
//! Order of an attach: reserve (the cluster, and this node for local networks) → namespace → record (`Attaching`) → kernel and
//! names, built by the reconcilers → `Ready`. A detach goes the other way. Any failure undoes the earlier steps; a crash in
//! between is healed by [`heal`](Sandboxes::heal) at the next start.
//!
//! Invariants: no record without a namespace, no namespace of ours without a folder that names it; nothing waits for a manager
//! when a sandbox goes.

mod compose;
mod connect;
mod heal;
mod locks;
mod orphans;
pub mod plan;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use swarmnet_types::{
    AttachmentSpec, Condition, Driver, EndpointId, Name, NodeId, SandboxId, Service,
};

pub use orphans::orphans;
pub use plan::SandboxWish;

use self::compose::{Draught, compose};
use self::locks::Locks;
use self::plan::Place;
use super::border::{KernelStatus, Session};
use super::cluster::{Cluster, Granted, Reservation};
use super::error::{LocalError, chain};
use super::host::Host;
use super::lookup::Match;
use super::objects::{PortMap, SandboxRecord, SandboxState};
use super::outbox::Outbox;
use super::ports::Others;
use super::store::{Draft, LocalStore};
use super::{files, lookup, naming, process, resolv};
use crate::paths::Paths;

/// Docker's own limit for an attachment (`sw:C29`).
const BUILD_MAX: Duration = Duration::from_secs(20);
/// How long a removal waits for the reconcilers before the namespace goes all the same.
const TEAR_MAX: Duration = Duration::from_secs(10);
/// How long a removal waits for a manager to release the endpoints.
const RELEASE_PATIENCE: Duration = Duration::from_secs(2);
const DEFAULT_NETWORK: &str = "bridge";

/// What sandboxes are made with.
#[derive(Debug, Clone)]
pub struct Means {
    pub paths: Paths,
    pub store: Arc<LocalStore>,
    pub host: Arc<dyn Host>,
    pub kernel: Arc<dyn KernelStatus>,
    pub cluster: Cluster,
    pub session: Arc<dyn Session>,
    pub outbox: Arc<Outbox>,
}

/// See the module.
#[derive(Debug)]
pub struct Sandboxes {
    means: Means,
    locks: Locks,
}

/// Unix time in milliseconds.
pub fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

impl Sandboxes {
    pub fn new(means: Means) -> Self {
        Self { means, locks: Locks::default() }
    }

    pub fn means(&self) -> &Means {
        &self.means
    }

    /// Makes a sandbox, up to the point where kernel and names have it. It is `Attaching` until [`ready`](Self::ready).
    ///
    /// # Errors
    /// See [`LocalError`]; nothing is left of it then.
    pub async fn attach(&self, wish: SandboxWish) -> Result<Arc<SandboxRecord>, LocalError> {
        let draught = self.draught(wish).await?;
        let id = draught.id;
        let _turn = self.locks.take(id).await;
        match self.make(draught).await {
            Ok(generation) => {
                if let Err(err) = self.built(id, generation).await {
                    self.take_down(id).await;
                    return Err(err);
                }
                self.means.store.sandbox(id)
            }
            Err(err) => Err(err),
        }
    }

    async fn draught(&self, mut wish: SandboxWish) -> Result<Draught, LocalError> {
        let id = SandboxId::from_bytes(rand::random());
        let objects = self.means.store.current();
        let taken = |name: &str| objects.sandboxes.values().any(|s| s.name.as_str() == name);
        let name = match wish.name.take() {
            Some(name) => name,
            None => naming::choose(rand::random(), taken),
        };
        check_name(&objects, &name)?;
        let hostname = match wish.hostname.take() {
            Some(name) => plan::check_hostname(name)?,
            None => id.short().parse().expect("hex digits"),
        };
        if wish.attachments.is_empty() && wish.service.is_none() {
            let network = DEFAULT_NETWORK.to_owned();
            wish.attachments.push(AttachmentSpec { network, ..AttachmentSpec::default() });
        }
        let mut places = Vec::new();
        for spec in &wish.attachments {
            places.push((spec.clone(), self.place(&spec.network).await?));
        }
        plan::check_places(&wish, &places)?;
        let owner = wish.owner_pid.map(process::owner).transpose()?;
        let paths = &self.means.paths;
        let host_stack = places
            .iter()
            .any(|(_, p)| matches!(p, Place::Local(n) if n.spec.driver == Driver::Host));
        let netns = match (host_stack, wish.named) {
            (true, _) => PathBuf::from("/proc/self/ns/net"),
            (false, true) => paths.named_netns(&name),
            (false, false) => paths.netns(id),
        };
        Ok(Draught { id, name, hostname, netns, owner, wish, places })
    }

    /// Local ids and names come first, then what the cluster knows, then prefixes of local ids.
    async fn place(&self, reference: &str) -> Result<Place, LocalError> {
        let local = lookup::network(&self.means.store.current(), reference)?;
        let joined = self.means.cluster.standing().is_some();
        match local {
            Some((network, Match::Id | Match::Name)) => Ok(Place::Local((*network).clone())),
            Some((network, Match::Prefix)) => {
                let known =
                    if joined { self.means.cluster.network(reference).await? } else { None };
                Ok(known.map_or_else(|| Place::Local((*network).clone()), |_| Place::Cluster))
            }
            None if joined => Ok(Place::Cluster),
            None => Err(LocalError::NoNetworkAlone { text: reference.to_owned() }),
        }
    }

    /// Reservation and namespace side by side, then the record. Undoes both when one fails.
    async fn make(&self, draught: Draught) -> Result<u64, LocalError> {
        let (granted, netns) = tokio::join!(self.reserve(&draught), self.make_netns(&draught));
        let id = draught.id;
        let endpoints = |granted: &Granted| -> Vec<EndpointId> {
            granted.endpoints.iter().chain(&granted.fabric).map(|e| e.id).collect()
        };
        let failed = match (granted, netns) {
            (Ok(granted), Ok(())) => {
                let reserved = endpoints(&granted);
                match self.record(draught, granted).await {
                    Ok(generation) => return Ok(generation),
                    Err(err) => (err, reserved),
                }
            }
            (Ok(granted), Err(err)) => (err, endpoints(&granted)),
            (Err(err), _) => (err, Vec::new()),
        };
        let (err, reserved) = failed;
        self.means.outbox.release(&reserved).await;
        self.drop_netns(id).await;
        Err(err)
    }

    async fn reserve(&self, draught: &Draught) -> Result<Granted, LocalError> {
        let cluster = |(spec, place): &(AttachmentSpec, Place)| {
            (*place == Place::Cluster).then(|| spec.clone())
        };
        let attachments: Vec<_> = draught.places.iter().filter_map(cluster).collect();
        if attachments.is_empty() && draught.wish.service.is_none() {
            return Ok(Granted::default());
        }
        let reservation = Reservation {
            sandbox: draught.id,
            name: draught.name.clone(),
            hostname: draught.hostname.to_string(),
            service: draught.wish.service.clone(),
            attachments,
            existing: false,
        };
        self.means.cluster.attach(&reservation).await
    }

    /// The note of the path comes first: a crash leaves a note without a namespace, never the reverse.
    async fn make_netns(&self, draught: &Draught) -> Result<(), LocalError> {
        if draught.netns.starts_with("/proc") {
            return Ok(());
        }
        let (host, path) = (Arc::clone(&self.means.host), draught.netns.clone());
        let note = self.means.paths.sandbox(draught.id).netns_note();
        blocking(move || {
            files::overwrite(&note, &path.to_string_lossy())?;
            host.create_netns(&path).map_err(|err| {
                // Not ours: the heal must not remove it.
                let _ = files::remove(&note);
                err.into()
            })
        })
        .await
    }

    /// Local grants and the record, in one change.
    async fn record(&self, draught: Draught, granted: Granted) -> Result<u64, LocalError> {
        let others = self.others(&draught.wish.ports).await?;
        let node = self.means.cluster.standing().map_or(NodeId::default(), |s| s.node);
        let (record, generation) = self
            .means
            .store
            .change(|draft| {
                check_name(&draft.objects, &draught.name)?;
                let record = compose(draft, draught, granted, (node, &others))?;
                draft.objects.sandboxes.insert(record.id, Arc::new(record.clone()));
                Ok(record)
            })
            .await?;
        self.write_files(&record).await?;
        Ok(generation)
    }

    /// What else may hold ports; asked only when ports are wished for.
    async fn others(&self, wishes: &[PortMap]) -> Result<Others, LocalError> {
        if wishes.is_empty() {
            return Ok(Others::default());
        }
        let host = Arc::clone(&self.means.host);
        let mut others = blocking(move || host.ports().map_err(Into::into)).await?;
        if let Some(view) = self.means.session.view() {
            let of = |s: &Service| {
                s.publications.iter().map(|p| (s.name.clone(), p.clone())).collect::<Vec<_>>()
            };
            others.published = view.services.values().flat_map(of).collect();
        }
        Ok(others)
    }

    async fn built(&self, id: SandboxId, generation: u64) -> Result<(), LocalError> {
        let built = tokio::time::timeout(BUILD_MAX, self.means.kernel.wait_applied(id, generation));
        let sandbox = self.means.store.sandbox(id)?.name.clone();
        match built.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(reason)) => Err(LocalError::Build { sandbox, reason }),
            Err(_elapsed) => {
                Err(LocalError::BuildTimeout { sandbox, seconds: BUILD_MAX.as_secs() })
            }
        }
    }

    /// The sandbox is complete: the cluster is told, and then balancing and names send to it.
    ///
    /// # Errors
    /// No manager took it; the caller decides what becomes of the sandbox.
    pub async fn ready(&self, id: SandboxId) -> Result<Arc<SandboxRecord>, LocalError> {
        let record = self.means.store.sandbox(id)?;
        let now: Vec<_> = record.cluster_endpoints().map(|e| (e.id, Condition::Ready)).collect();
        if !now.is_empty() {
            self.means.cluster.report(&now).await?;
        }
        self.means
            .store
            .change_sandbox(id, |record| {
                record.set_condition(Condition::Ready);
                record.state = SandboxState::Ready;
                Ok(())
            })
            .await?;
        self.means.store.sandbox(id)
    }

    /// Everything on this sandbox's endpoints is in this condition now; the cluster learns of it as soon as it can.
    pub async fn set_condition(&self, id: SandboxId, now: Condition) -> Result<(), LocalError> {
        let (endpoints, _) = self
            .means
            .store
            .change_sandbox(id, |record| {
                record.set_condition(now);
                Ok(record.cluster_endpoints().map(|e| e.id).collect::<Vec<_>>())
            })
            .await?;
        self.means.outbox.condition(&endpoints, now).await;
        Ok(())
    }

    /// Takes a sandbox down. Done when nothing is left of it on this node; one that is gone already is done.
    ///
    /// # Errors
    /// The namespace or a file could not be removed; the next start tries again.
    pub async fn detach(&self, id: SandboxId) -> Result<(), LocalError> {
        let _turn = self.locks.take(id).await;
        self.tear(id).await
    }

    async fn take_down(&self, id: SandboxId) {
        if let Err(err) = self.tear(id).await {
            tracing::warn!(sandbox = %id.short(), err = %chain(&err), "not all of a sandbox was removed");
        }
    }

    async fn tear(&self, id: SandboxId) -> Result<(), LocalError> {
        let leaving = self.means.store.change_sandbox(id, |record| {
            record.state = SandboxState::Leaving;
            Ok(record.clone())
        });
        let (record, generation) = match leaving.await {
            Ok(done) => done,
            Err(LocalError::NoSandbox { .. }) => return Ok(()),
            Err(err) => return Err(err),
        };
        // First the others stop sending, then the kernel forgets: the reverse of an attach.
        let endpoints: Vec<_> = record.cluster_endpoints().map(|e| e.id).collect();
        if !endpoints.is_empty() {
            self.means.outbox.release(&endpoints).await;
            self.means.outbox.settle(&endpoints, RELEASE_PATIENCE).await;
        }
        let torn = self.means.kernel.wait_applied(id, generation);
        match tokio::time::timeout(TEAR_MAX, torn).await {
            Ok(Ok(())) => {}
            // The namespace takes its links along; what is left outside, the reconcilers go on removing.
            Ok(Err(reason)) => tracing::warn!(sandbox = %record.name, reason, "take-down"),
            Err(_elapsed) => tracing::warn!(sandbox = %record.name, "take-down takes long"),
        }
        if !record.shares_host_stack() {
            let (host, path) = (Arc::clone(&self.means.host), record.netns.clone());
            blocking(move || host.remove_netns(&path).map_err(Into::into)).await?;
        }
        let remove = |draft: &mut Draft| Ok(draft.objects.sandboxes.remove(&id));
        self.means.store.change(remove).await.map(|_| ())
    }

    /// Removes namespace and folder of a sandbox that never got a record.
    async fn drop_netns(&self, id: SandboxId) {
        let (host, paths) = (Arc::clone(&self.means.host), self.means.paths.sandbox(id));
        let dropped = blocking(move || heal::drop_unfinished(&*host, &paths)).await;
        if let Err(err) = dropped {
            tracing::warn!(sandbox = %id.short(), err = %chain(&err), "not all of a sandbox was removed");
        }
    }

    /// The files that lie over `/etc/…` in the sandbox.
    async fn write_files(&self, record: &SandboxRecord) -> Result<(), LocalError> {
        let (host, record) = (Arc::clone(&self.means.host), record.clone());
        let paths = self.means.paths.sandbox(record.id);
        blocking(move || {
            let resolver = resolv::resolv_conf(&record, &host.resolver());
            files::overwrite(&paths.resolv_conf(), &resolver)?;
            files::overwrite(&paths.hosts(), &resolv::hosts(&record))
        })
        .await
    }
}

/// Runs what blocks on a thread for such.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, LocalError> + Send + 'static,
) -> Result<T, LocalError> {
    tokio::task::spawn_blocking(work).await.unwrap_or(Err(LocalError::Stopping))
}

fn check_name(objects: &super::LocalObjects, name: &Name) -> Result<(), LocalError> {
    match objects.sandboxes.values().find(|s| s.name == *name) {
        Some(other) => Err(LocalError::SandboxName { name: name.clone(), sandbox: other.id }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod fake;
#[cfg(test)]
mod tests;
