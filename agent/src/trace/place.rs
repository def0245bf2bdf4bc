//! What an address is, seen from one sandbox.

use std::net::IpAddr;

use swarmnet_dataplane::desired::PublicationKey;
use swarmnet_types::{Endpoint, Network, Node, Service};

use super::{Evidence, Question};
use crate::desired::fabric::vtep;
use crate::desired::scene::Scene;
use crate::local::{Attachment, SandboxRecord};

/// See the module.
#[derive(Debug)]
pub(super) enum Place<'a> {
    /// The sandbox itself.
    Own,
    /// The virtual address of a service on a network that the sandbox is on.
    Vip(&'a Network, &'a Service),
    /// An endpoint on such a network.
    Endpoint(Spot<'a>),
    /// A published port of this node.
    Port(Port<'a>),
    /// A published port of another node: balanced there.
    PortElsewhere(&'a Node, &'a Service),
    /// An address of a node, this one included (`None` outside a cluster), without such a port.
    Node(Option<&'a Node>),
    /// Somebody, on networks that the sandbox is not on.
    OtherNetwork(String, &'a Network),
    /// In a subnet of the sandbox's network, but nobody has it.
    Nobody(&'a Network),
    Outside,
}

/// An endpoint with its network.
#[derive(Debug, Clone, Copy)]
pub(super) struct Spot<'a> {
    pub(super) network: &'a Network,
    pub(super) endpoint: &'a Endpoint,
}

/// A port of this node that somebody asked to be published.
#[derive(Debug)]
pub(super) struct Port<'a> {
    pub(super) key: PublicationKey,
    /// `None`: a sandbox's own port map.
    pub(super) service: Option<&'a Service>,
}

impl<'a> Place<'a> {
    pub(super) fn of(
        scene: &Scene<'a>,
        evidence: &'a Evidence,
        (addr, question): (IpAddr, &Question),
    ) -> Self {
        let record = &*evidence.record;
        let own_node = is_own_node(scene, record, addr);
        if own_node && let Some(port) = port(scene, evidence, (addr, question)) {
            return Self::Port(port);
        }
        if addr.is_loopback() || is_own(record, addr) {
            return Self::Own;
        }
        let on = || scene.networks_of(record);
        // Of two networks with the same virtual address the one with the lower id wins, as in the table.
        let mut networks: Vec<&Network> = on().collect();
        networks.sort_by_key(|n| n.id);
        for network in networks {
            if let Some(service) = vip(scene, network, addr) {
                return Self::Vip(network, service);
            }
        }
        if let Some(spot) = on().find_map(|network| spot(scene, network, addr)) {
            return Self::Endpoint(spot);
        }
        if own_node {
            return Self::Node(scene.cluster.as_ref().map(|c| c.me));
        }
        if let Some(node) = node(scene, addr) {
            let by = published(scene, addr, question).map(|(_, service)| service);
            return by.map_or(Self::Node(Some(node)), |s| Self::PortElsewhere(node, s));
        }
        elsewhere(scene, addr)
            .or_else(|| on().find(|n| holds(n, addr)).map(Self::Nobody))
            .unwrap_or(Self::Outside)
    }

    /// A probe may have an answer.
    pub(super) const fn may_be_reached(&self) -> bool {
        !matches!(self, Self::OtherNetwork(..) | Self::Nobody(_))
    }
}

fn is_own(record: &SandboxRecord, addr: IpAddr) -> bool {
    let fabric = record.fabric.as_ref().is_some_and(|e| e.addrs.contains(addr));
    fabric || record.addrs().any(|own| own == addr)
}

/// An address of this node: of its underlay, a gateway of its bridges, and loopback for those who share its stack.
fn is_own_node(scene: &Scene<'_>, record: &SandboxRecord, addr: IpAddr) -> bool {
    let loopback = addr.is_loopback() && record.shares_host_stack();
    let me = scene.cluster.as_ref().is_some_and(|c| has(c.me, addr));
    let mut bridges = scene.inputs.local.networks.values();
    let gateway = bridges.any(|n| n.subnets.iter().any(|s| s.gateway == Some(addr)));
    loopback || me || gateway || scene.inputs.underlay.addrs().any(|own| own == addr)
}

fn has(node: &Node, addr: IpAddr) -> bool {
    node.addr.ip() == addr || node.data_path == addr || node.fabric.contains(addr)
}

fn node<'a>(scene: &Scene<'a>, addr: IpAddr) -> Option<&'a Node> {
    scene.cluster.as_ref()?.view.nodes.values().find(|n| has(n, addr) || vtep(scene, n) == addr)
}

fn vip<'a>(scene: &Scene<'a>, network: &Network, addr: IpAddr) -> Option<&'a Service> {
    let services = scene.cluster.as_ref()?.view.services.values();
    let mut there = services.filter(|s| s.vips.contains_key(&network.id));
    there.find(|s| s.vips[&network.id].contains(addr))
}

/// Who has the address on a network.
pub(super) fn spot<'a>(scene: &Scene<'a>, network: &'a Network, addr: IpAddr) -> Option<Spot<'a>> {
    let of_cluster = scene.cluster.iter().flat_map(|c| c.endpoints(network.id)).copied();
    let records = scene.inputs.local.sandboxes.values();
    let here = records.flat_map(|r| &r.attachments).map(|a: &Attachment| &a.endpoint);
    let mut all = of_cluster.chain(here).filter(|e| e.network == network.id);
    all.find(|e| e.addrs.contains(addr)).map(|endpoint| Spot { network, endpoint })
}

/// The service that publishes the port that is asked for, on an address of a node.
fn published<'a>(
    scene: &Scene<'a>,
    addr: IpAddr,
    question: &Question,
) -> Option<(PublicationKey, &'a Service)> {
    let services = scene.cluster.as_ref()?.view.services.values();
    services.flat_map(|s| s.publications.iter().map(move |p| (p, s))).find_map(|(p, service)| {
        let fits = Some(p.published) == question.port
            && p.protocol == question.protocol
            && p.ip.is_none_or(|ip| ip == addr || ip.is_unspecified());
        let key = PublicationKey { ip: p.ip, protocol: p.protocol, port: p.published };
        fits.then_some((key, service))
    })
}

fn port<'a>(
    scene: &Scene<'a>,
    evidence: &Evidence,
    (addr, question): (IpAddr, &Question),
) -> Option<Port<'a>> {
    let wished = evidence.wish.desired.publications.keys().find(|key| {
        Some(key.port) == question.port
            && key.protocol == question.protocol
            && key.ip.is_none_or(|ip| ip == addr || ip.is_unspecified())
    });
    let of_service = published(scene, addr, question);
    let mapped = |k: &PublicationKey| {
        let ports = scene.inputs.local.sandboxes.values().flat_map(|r| &r.ports);
        let key = (k.ip, k.protocol, k.port);
        ports.into_iter().any(|map| (map.host_ip, map.protocol, map.host_port) == key)
    };
    // A sandbox's own port map goes before a publication.
    let service = of_service.map(|(_, service)| service).filter(|_| !wished.is_some_and(mapped));
    let key = wished.copied().or(of_service.map(|(key, _)| key))?;
    Some(Port { key, service })
}

fn elsewhere<'a>(scene: &Scene<'a>, addr: IpAddr) -> Option<Place<'a>> {
    let view = scene.cluster.as_ref().map(|c| c.view);
    let networks = view.iter().flat_map(|v| v.networks.values());
    let local = scene.inputs.local.networks.values().map(AsRef::as_ref);
    networks.chain(local).find_map(|network| {
        let service = vip(scene, network, addr).map(|s| format!("service {}", s.name));
        let who = service
            .or_else(|| spot(scene, network, addr).map(|spot| spot.endpoint.name.to_string()))?;
        Some(Place::OtherNetwork(who, network))
    })
}

fn holds(network: &Network, addr: IpAddr) -> bool {
    network.subnets.iter().any(|s| s.subnet.contains(addr))
}
