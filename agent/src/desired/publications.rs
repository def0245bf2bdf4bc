//! Ports of this node: publications of services, and port maps of its own sandboxes.
//!
//! One owner for each port. A port map wins over a publication (whoever made it chose this node), a foreign program over both:
//! no rule is made for what it listens on, and the loss is said as a problem.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use swarmnet_dataplane::desired::{Publication, PublicationKey};
use swarmnet_types::{Algorithm, Driver, PublishMode, Service};

use super::PortWitness;
use super::scene::{Cluster, Scene};
use crate::local::{PortMap, SandboxRecord};

pub(super) fn of(
    scene: &Scene<'_>,
    witness: &mut impl PortWitness,
    problems: &mut Vec<String>,
) -> BTreeMap<PublicationKey, Publication> {
    let mut wanted = BTreeMap::new();
    for record in scene.sandboxes() {
        port_maps(scene, record, &mut wanted);
    }
    if let Some(cluster) = &scene.cluster {
        for service in cluster.view.services.values() {
            published(scene, cluster, service, (&mut wanted, problems));
        }
    }
    let keys: BTreeSet<PublicationKey> = wanted.keys().copied().collect();
    for (key, by) in witness.foreign(&keys) {
        wanted.remove(&key);
        let host = SocketAddr::new(key.ip.unwrap_or(IpAddr::from([0; 4])), key.port);
        problems.push(format!(
            "port {}/{}: failed to bind host port {host}/{}: address already in use by {by}",
            key.port, key.protocol, key.protocol
        ));
    }
    wanted
}

fn port_maps(
    scene: &Scene<'_>,
    record: &SandboxRecord,
    wanted: &mut BTreeMap<PublicationKey, Publication>,
) {
    let addrs = reached_at(scene, record);
    for map in &record.ports {
        let PortMap { host_ip, host_port, port, protocol } = *map;
        let key = PublicationKey { ip: host_ip, protocol, port: host_port };
        let family = |a: &&IpAddr| host_ip.is_none_or(|ip| ip.is_ipv6() == a.is_ipv6());
        let backends = addrs.iter().filter(family).map(|a| SocketAddr::new(*a, port)).collect();
        let allow_from = BTreeSet::new();
        wanted.insert(key, Publication { algorithm: Algorithm::Random, backends, allow_from });
    }
}

/// Where the node reaches a sandbox: on a bridge that leads out, else by its node link.
fn reached_at(scene: &Scene<'_>, record: &SandboxRecord) -> Vec<IpAddr> {
    let bridge = record.attachments.iter().find(|a| {
        let spec = &scene.network(a).spec;
        spec.driver == Driver::Bridge && !spec.internal
    });
    let fabric = record.fabric.as_ref().filter(|_| scene.cluster.is_some());
    let endpoint = bridge.map(|a| &a.endpoint).or(fabric);
    endpoint.map(|e| e.addrs.iter().collect()).unwrap_or_default()
}

fn published(
    scene: &Scene<'_>,
    cluster: &Cluster<'_>,
    service: &Service,
    (wanted, problems): (&mut BTreeMap<PublicationKey, Publication>, &mut Vec<String>),
) {
    for publication in &service.publications {
        let selected = publication
            .nodes
            .as_ref()
            .is_none_or(|s| cluster.me.labels.get(&s.label) == Some(&s.value));
        let backends = backends(scene, cluster, service, (publication.mode, publication.target));
        // In host mode a node without a task does not answer at all.
        if !selected || (publication.mode == PublishMode::Host && backends.is_empty()) {
            continue;
        }
        let key = PublicationKey {
            ip: publication.ip,
            protocol: publication.protocol,
            port: publication.published,
        };
        if wanted.keys().any(|taken| overlap(taken, &key)) {
            problems.push(format!(
                "port {}/{} of service {}: port is already allocated by a sandbox of this node",
                key.port, key.protocol, service.name
            ));
            continue;
        }
        let entry = Publication {
            algorithm: service.algorithm,
            backends,
            allow_from: publication.allow_from.iter().copied().collect(),
        };
        wanted.insert(key, entry);
    }
}

/// Would one packet be for both?
fn overlap(a: &PublicationKey, b: &PublicationKey) -> bool {
    let ips = match (a.ip, b.ip) {
        (Some(a), Some(b)) => a == b,
        _ => true,
    };
    ips && a.protocol == b.protocol && a.port == b.port
}

fn backends(
    scene: &Scene<'_>,
    cluster: &Cluster<'_>,
    service: &Service,
    (mode, target): (PublishMode, u16),
) -> BTreeSet<SocketAddr> {
    let tasks = cluster.ingress.map_or(&[][..], |n| cluster.tasks(n.id, service.id));
    let here: Vec<_> = tasks.iter().filter(|e| e.node == cluster.me.id).copied().collect();
    let (tasks, externals) = match mode {
        PublishMode::Ingress => (scene.balanced(tasks), &service.externals[..]),
        PublishMode::Host => (scene.balanced(&here), &[][..]),
    };
    let addrs = tasks.into_iter().flat_map(|e| e.addrs.iter().collect::<Vec<_>>());
    let addrs = addrs.chain(externals.iter().map(|e| e.addr));
    addrs.map(|addr| SocketAddr::new(addr, target)).collect()
}
