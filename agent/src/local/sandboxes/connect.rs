//! Adding and taking away networks of a sandbox that exists (N12). Failure leaves no trace.

use std::sync::Arc;

use swarmnet_types::{
    AttachmentSpec, Condition, Driver, EndpointId, Network, NodeId, SandboxId, Scope,
};

use super::Sandboxes;
use super::compose::{local_endpoint, network_of};
use super::plan::{self, Place};
use crate::local::cluster::{Granted, Reservation};
use crate::local::error::{LocalError, chain};
use crate::local::lookup;
use crate::local::objects::{Attachment, SandboxRecord, SandboxState};
use crate::local::store::Draft;

impl Sandboxes {
    /// Joins a sandbox to one more network, up to ready.
    ///
    /// # Errors
    /// `sw:C20`–`C27`, or what the cluster or the kernel say; the sandbox is then as before.
    pub async fn connect(
        &self,
        id: SandboxId,
        spec: AttachmentSpec,
    ) -> Result<Arc<SandboxRecord>, LocalError> {
        let _turn = self.locks.take(id).await;
        let record = self.settled(id)?;
        let place = self.place(&spec.network).await?;
        let granted = match &place {
            Place::Local(network) => {
                plan::check_connect(&record.name, &record.attachments, network)?;
                Granted::default()
            }
            Place::Cluster => self.reserve_more(&record, &spec).await?,
        };
        let reserved: Vec<EndpointId> =
            granted.endpoints.iter().chain(&granted.fabric).map(|e| e.id).collect();
        let added = match self.add(id, (place, spec), granted).await {
            Ok(added) => added,
            Err(err) => {
                self.means.outbox.release(&reserved).await;
                return Err(err);
            }
        };
        match self.finish_connect(id, added).await {
            Ok(record) => Ok(record),
            Err(err) => {
                // What the kernel may still have is released as an orphan, once it has not.
                if let Err(left) = self.take_away(id, &reserved, added.0).await {
                    tracing::warn!(err = %chain(&left), "not all of a network was taken away again");
                }
                Err(err)
            }
        }
    }

    /// A sandbox that nothing else is happening to.
    fn settled(&self, id: SandboxId) -> Result<Arc<SandboxRecord>, LocalError> {
        let record = self.means.store.sandbox(id)?;
        match record.state {
            SandboxState::Leaving => Err(LocalError::Leaving { sandbox: record.name.clone() }),
            SandboxState::Attaching | SandboxState::Ready => Ok(record),
        }
    }

    async fn reserve_more(
        &self,
        record: &SandboxRecord,
        spec: &AttachmentSpec,
    ) -> Result<Granted, LocalError> {
        for driver in record.attachments.iter().map(|a| a.network.spec.driver) {
            match driver {
                Driver::Host => return Err(LocalError::HostShared),
                Driver::None => return Err(LocalError::NoneMode),
                Driver::Bridge | Driver::Overlay => {}
            }
        }
        let reservation = Reservation {
            sandbox: record.id,
            name: record.name.clone(),
            hostname: record.hostname.to_string(),
            service: record.service_name.clone(),
            attachments: vec![spec.clone()],
            existing: record.cluster_endpoints().next().is_some(),
        };
        self.means.cluster.attach(&reservation).await
    }

    /// Records the new attachment; answers its endpoint and the generation to wait for.
    async fn add(
        &self,
        id: SandboxId,
        (place, spec): (Place, AttachmentSpec),
        granted: Granted,
    ) -> Result<(EndpointId, u64), LocalError> {
        let node = self.means.cluster.standing().map_or(NodeId::default(), |s| s.node);
        self.means.store.change(|draft| append(draft, id, (place, spec), (granted, node))).await
    }

    async fn finish_connect(
        &self,
        id: SandboxId,
        (endpoint, generation): (EndpointId, u64),
    ) -> Result<Arc<SandboxRecord>, LocalError> {
        self.built(id, generation).await?;
        let record = self.means.store.sandbox(id)?;
        self.write_files(&record).await?;
        let now: Vec<_> = record
            .cluster_endpoints()
            .filter(|e| e.condition == Condition::Starting)
            .map(|e| (e.id, Condition::Ready))
            .collect();
        // A sandbox whose process has ended is not made ready by one network more.
        if record.attachments.iter().any(|a| a.endpoint.condition == Condition::Draining) {
            return Ok(record);
        }
        if now.iter().any(|(e, _)| *e == endpoint) {
            self.means.cluster.report(&now).await?;
        }
        self.means
            .store
            .change_sandbox(id, |record| {
                record.set_condition(Condition::Ready);
                Ok(())
            })
            .await?;
        self.means.store.sandbox(id)
    }

    /// Takes a network away from a sandbox.
    ///
    /// # Errors
    /// `sw:C25`, `C27`, `C28`.
    pub async fn disconnect(
        &self,
        id: SandboxId,
        network: &str,
    ) -> Result<Arc<SandboxRecord>, LocalError> {
        let _turn = self.locks.take(id).await;
        let record = self.settled(id)?;
        let attachment = find(&record, network)?;
        if attachment.network.spec.driver == Driver::Host {
            return Err(LocalError::HostDisconnect);
        }
        let endpoint = attachment.endpoint.id;
        let mut released = Vec::new();
        if attachment.network.spec.scope == Scope::Cluster {
            released.push(endpoint);
            // The fabric's address goes with the last network that needs it.
            let others = |a: &&Attachment| {
                a.endpoint.id != endpoint && a.network.spec.scope == Scope::Cluster
            };
            if record.service.is_none() && record.attachments.iter().find(others).is_none() {
                released.extend(record.fabric.as_ref().map(|e| e.id));
            }
        }
        self.take_away(id, &released, endpoint).await?;
        let record = self.means.store.sandbox(id)?;
        self.write_files(&record).await?;
        Ok(record)
    }

    /// Takes out of the record and the kernel, then releases: an address that the cluster may give away is held nowhere. A crash in
    /// between leaves endpoints that no record holds, and those are released as orphans.
    async fn take_away(
        &self,
        id: SandboxId,
        released: &[EndpointId],
        endpoint: EndpointId,
    ) -> Result<(), LocalError> {
        let ((), generation) = self
            .means
            .store
            .change_sandbox(id, |record| {
                record.attachments.retain(|a| a.endpoint.id != endpoint);
                record.fabric.take_if(|e| released.contains(&e.id));
                Ok(())
            })
            .await?;
        self.built(id, generation).await?;
        self.means.outbox.release(released).await;
        self.means.outbox.settle(released, super::RELEASE_PATIENCE).await;
        Ok(())
    }
}

fn append(
    draft: &mut Draft,
    id: SandboxId,
    (place, spec): (Place, AttachmentSpec),
    (granted, node): (Granted, NodeId),
) -> Result<EndpointId, LocalError> {
    let mut record = match draft.objects.sandboxes.get(&id) {
        Some(record) => (**record).clone(),
        None => return Err(LocalError::NoSandbox { text: id.short() }),
    };
    let (endpoint, network): (_, Network) = match place {
        Place::Local(network) => {
            (local_endpoint(draft, &record, (&network, &spec), node)?, network)
        }
        Place::Cluster => {
            let endpoint = granted.endpoints.into_iter().next().expect("checked on arrival");
            let network = network_of(&granted.networks, &endpoint);
            (endpoint, network)
        }
    };
    plan::check_connect(&record.name, &record.attachments, &network)?;
    let ifname = plan::ifname(&record.name, &record.attachments, &spec, &network)?;
    let added = endpoint.id;
    record.attachments.push(Attachment { spec, endpoint, network, ifname });
    if granted.fabric.is_some() {
        record.fabric = granted.fabric;
    }
    if let Some(service) = granted.service {
        record.service = Some(service.id);
    }
    draft.objects.sandboxes.insert(id, Arc::new(record));
    Ok(added)
}

/// The attachment a user means: by id, name or prefix among the sandbox's own networks.
fn find<'a>(record: &'a SandboxRecord, text: &str) -> Result<&'a Attachment, LocalError> {
    let grade = |a: &Attachment| {
        let id = a.network.id.to_string();
        if id == text {
            Some(lookup::Match::Id)
        } else if a.network.spec.name.as_str() == text {
            Some(lookup::Match::Name)
        } else if !text.is_empty() && id.starts_with(text) {
            Some(lookup::Match::Prefix)
        } else {
            None
        }
    };
    let graded: Vec<_> = record.attachments.iter().map(|a| (grade(a), a)).collect();
    let best = graded.iter().filter_map(|(how, _)| *how).max();
    let mut found = graded.into_iter().filter(|(how, _)| how.is_some() && *how == best);
    match (found.next(), found.next()) {
        (Some((_, one)), None) => Ok(one),
        (Some((_, one)), Some((_, other))) => Err(LocalError::AmbiguousNetwork {
            text: text.to_owned(),
            matches: vec![one.network.id, other.network.id],
        }),
        (None, _) => {
            Err(LocalError::NotConnected { sandbox: record.name.clone(), network: text.to_owned() })
        }
    }
}
