//! The names of each network that a sandbox of this node is on.
//!
//! A zone is built again only when something it is made of has changed: the cache keeps, beside each zone, the list of its
//! parts with their revisions. Scale: one zone for each network here; one part for each endpoint and service on it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use swarmnet_dns::{Zone, ZoneBuilder, ZoneNameError};
use swarmnet_types::{
    DualStack, Endpoint, EndpointId, EndpointMode, Name, Network, NetworkId, Revision, SandboxId,
    Service, ServiceId, Subnet,
};

use super::names::{ForwardWish, NamesWish};
use super::scene::{Cluster, Scene, Shown};
use crate::local::{Attachment, SandboxRecord, SandboxState};

/// Zones as they were built last.
#[derive(Debug, Default)]
pub(super) struct Cache {
    zones: BTreeMap<NetworkId, (Parts, Arc<Zone>)>,
}

/// What a zone follows from.
#[derive(Debug, PartialEq, Eq)]
struct Parts {
    network: Name,
    subnets: Vec<Subnet>,
    /// With its revision, and whether its address is told.
    endpoints: Vec<(EndpointId, Revision, bool)>,
    services: Vec<(ServiceId, Revision)>,
    /// Tasks that services are answered by.
    tasks: BTreeSet<EndpointId>,
}

impl Cache {
    pub(super) fn wishes(&mut self, scene: &Scene<'_>) -> BTreeMap<SandboxId, NamesWish> {
        let mut zones: BTreeMap<NetworkId, Arc<Zone>> = BTreeMap::new();
        let mut wishes = BTreeMap::new();
        for record in scene.sandboxes().filter(|r| r.resolves_names()) {
            let mut seen = Vec::new();
            for attachment in &record.attachments {
                let network = scene.network(attachment);
                if !network.resolves_names() || !scene.is_built(network) {
                    continue;
                }
                let zone = zones.entry(network.id).or_insert_with(|| self.zone(scene, network));
                seen.push(Arc::clone(zone));
            }
            let wish = NamesWish {
                netns: record.netns.clone(),
                zones: seen,
                forward: forward(scene, record),
            };
            wishes.insert(record.id, wish);
        }
        self.zones.retain(|id, _| zones.contains_key(id));
        wishes
    }

    fn zone(&mut self, scene: &Scene<'_>, network: &Network) -> Arc<Zone> {
        let content = Content::of(scene, network);
        let parts = content.parts(network);
        if let Some((known, zone)) = self.zones.get(&network.id)
            && *known == parts
        {
            return Arc::clone(zone);
        }
        let zone = match content.build(network) {
            Ok(zone) => Arc::new(zone),
            // Only the network's own name can fail here, and a name of ours is one DNS label.
            Err(err) => {
                tracing::error!(network = %network.spec.name, %err, "a network without names");
                let empty = ZoneBuilder::new("invalid", &[]).expect("a DNS name");
                Arc::new(empty.build())
            }
        };
        self.zones.insert(network.id, (parts, Arc::clone(&zone)));
        zone
    }
}

fn forward(scene: &Scene<'_>, record: &SandboxRecord) -> ForwardWish {
    let internal = |a: &Attachment| scene.network(a).spec.internal;
    if record.attachments.iter().all(internal) {
        ForwardWish::Never
    } else if record.dns.servers.is_empty() {
        ForwardWish::Node
    } else {
        ForwardWish::Own(record.dns.servers.clone())
    }
}

/// What is on one network.
struct Content<'a> {
    /// With whether its address is told.
    endpoints: Vec<(&'a Endpoint, bool)>,
    /// With the addresses that its tasks are answered by.
    services: Vec<(&'a Service, Vec<&'a Endpoint>)>,
}

impl<'a> Content<'a> {
    fn of(scene: &Scene<'a>, network: &Network) -> Self {
        match &scene.cluster {
            Some(cluster) if cluster.view.networks.contains_key(&network.id) => {
                Self::of_cluster(scene, cluster, network.id)
            }
            _ => Self::of_node(scene, network.id),
        }
    }

    fn of_cluster(scene: &Scene<'a>, cluster: &Cluster<'a>, network: NetworkId) -> Self {
        let told = |e: &'a Endpoint| (e, scene.shown(e) != Shown::Hidden);
        let endpoints = cluster.endpoints(network).iter().map(|e| told(e)).collect();
        let services = cluster.services_on(network);
        let tasks = |s: &Service| scene.balanced(cluster.tasks(network, s.id));
        Self { endpoints, services: services.map(|s| (s, tasks(s))).collect() }
    }

    fn of_node(scene: &Scene<'a>, network: NetworkId) -> Self {
        let records = scene.inputs.local.sandboxes.values();
        let on_it = records.flat_map(|r| r.attachments.iter().map(move |a| (r, a)));
        let endpoints = on_it
            .filter(|(_, a)| a.endpoint.network == network)
            .map(|(r, a)| (&a.endpoint, r.state != SandboxState::Leaving))
            .collect();
        Self { endpoints, services: Vec::new() }
    }

    fn parts(&self, network: &Network) -> Parts {
        Parts {
            network: network.spec.name.clone(),
            subnets: network.subnets.iter().map(|s| s.subnet).collect(),
            endpoints: self.endpoints.iter().map(|(e, told)| (e.id, e.changed, *told)).collect(),
            services: self.services.iter().map(|(s, _)| (s.id, s.changed)).collect(),
            tasks: self.services.iter().flat_map(|(_, t)| t.iter().map(|e| e.id)).collect(),
        }
    }

    fn build(&self, network: &Network) -> Result<Zone, ZoneNameError> {
        let subnets: Vec<Subnet> = network.subnets.iter().map(|s| s.subnet).collect();
        let mut zone = ZoneBuilder::new(network.spec.name.as_str(), &subnets)?;
        for (endpoint, told) in &self.endpoints {
            let addrs = if *told { endpoint.addrs } else { DualStack::default() };
            add_endpoint(&mut zone, endpoint, addrs);
        }
        for (service, tasks) in &self.services {
            let vip = service.vips.get(&network.id).copied().unwrap_or_default();
            add_service(&mut zone, service, vip, tasks);
        }
        Ok(zone.build())
    }
}

fn add_endpoint(zone: &mut ZoneBuilder, endpoint: &Endpoint, addrs: DualStack) {
    log(zone.primary(endpoint.name.as_str(), addrs));
    log(zone.further(&endpoint.sandbox.short(), addrs));
    if !endpoint.hostname.is_empty() && endpoint.hostname != endpoint.name.as_str() {
        log(zone.further(&endpoint.hostname, addrs));
    }
    for alias in &endpoint.aliases {
        log(zone.further(alias.as_str(), addrs));
    }
}

/// `tasks.<service>` and `<slot>.<service>` are the tasks, whatever the mode; the plain name is the VIP, or the tasks.
fn add_service(zone: &mut ZoneBuilder, service: &Service, vip: DualStack, tasks: &[&Endpoint]) {
    let name = service.name.as_str();
    let all = format!("tasks.{name}");
    let balanced = service.endpoint_mode == EndpointMode::Vip;
    log(zone.primary(name, if balanced { vip } else { DualStack::default() }));
    log(zone.further(&all, DualStack::default()));
    for task in tasks {
        log(zone.further(&all, task.addrs));
        if let Some(slot) = task.slot {
            log(zone.further(&format!("{slot}.{name}"), task.addrs));
        }
        if !balanced {
            log(zone.further(name, task.addrs));
        }
    }
    for external in &service.externals {
        let addrs = match external.addr {
            IpAddr::V4(addr) => DualStack::new(Some(addr), None),
            IpAddr::V6(addr) => DualStack::new(None, Some(addr)),
        };
        log(zone.further(&all, addrs));
        if !balanced {
            log(zone.further(name, addrs));
        }
    }
}

/// A host name is free text: what is no DNS name has no name here, and the rest goes on.
fn log(added: Result<&mut ZoneBuilder, ZoneNameError>) {
    if let Err(err) = added {
        tracing::debug!(%err, "a name that cannot be answered");
    }
}
