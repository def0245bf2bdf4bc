//! Sandboxes of this node: their endpoints, their link to the node, their way out.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use swarmnet_dataplane::desired::{self, DefaultRoute, Endpoint, NodeLink, Sandbox};
use swarmnet_dataplane::{LinkName, Netns};
use swarmnet_types::{Driver, EndpointId, NetworkId, SandboxId};

use super::DNS_PORT;
use super::scene::Scene;
use crate::local::{Attachment, SandboxRecord};

/// Name of the node link inside a sandbox: none that a user would choose.
const NODE_LINK: &str = "swarmnet-node";

pub(super) fn of(
    scene: &Scene<'_>,
    networks: &BTreeMap<NetworkId, desired::Network>,
) -> BTreeMap<SandboxId, Sandbox> {
    scene.sandboxes().map(|record| (record.id, sandbox(scene, networks, record))).collect()
}

fn sandbox(
    scene: &Scene<'_>,
    networks: &BTreeMap<NetworkId, desired::Network>,
    record: &SandboxRecord,
) -> Sandbox {
    let built = |a: &&Attachment| networks.contains_key(&a.endpoint.network);
    let attachments: Vec<&Attachment> = record.attachments.iter().filter(built).collect();
    let endpoints = attachments.iter().filter_map(|a| endpoint(scene, a));
    let node_link = node_link(scene, record);
    Sandbox {
        // Made and removed by whoever keeps the record.
        netns: Netns { path: record.netns.clone(), ours: false },
        endpoints: endpoints.collect(),
        default_v4: default_route(scene, &attachments, node_link.as_ref(), false),
        default_v6: default_route(scene, &attachments, node_link.as_ref(), true),
        node_link,
        dns_port: record.resolves_names().then_some(DNS_PORT),
    }
}

fn endpoint(scene: &Scene<'_>, attachment: &Attachment) -> Option<(EndpointId, Endpoint)> {
    let network = scene.network(attachment);
    if !scene.is_built(network) {
        return None;
    }
    let granted = &attachment.endpoint;
    let addrs = granted.addrs.iter();
    let with_prefix = addrs.filter_map(|a| Some(network.subnet_of(a)?.subnet.with_host(a)));
    let endpoint = Endpoint {
        network: granted.network,
        ifname: LinkName::new(attachment.ifname.clone())?,
        addrs: with_prefix.collect(),
        mac: granted.mac,
    };
    Some((granted.id, endpoint))
}

/// Only in a cluster that granted the sandbox an address in the ingress fabric.
fn node_link(scene: &Scene<'_>, record: &SandboxRecord) -> Option<NodeLink> {
    scene.cluster.as_ref()?;
    let fabric = record.fabric.as_ref()?;
    let leads_out = |a: &Attachment| {
        let spec = &scene.network(a).spec;
        spec.driver == Driver::Overlay && !spec.internal
    };
    Some(NodeLink {
        ifname: LinkName::new(NODE_LINK).expect("13 bytes without a slash"),
        addrs: fabric.addrs,
        egress: record.attachments.iter().any(leads_out),
    })
}

/// By the attachment of that family that leads out and has the highest priority; of equals the network whose name comes first,
/// as Docker chooses.
fn default_route(
    scene: &Scene<'_>,
    attachments: &[&Attachment],
    node_link: Option<&NodeLink>,
    ipv6: bool,
) -> Option<DefaultRoute> {
    let mut ordered: Vec<_> = attachments.iter().map(|a| (*a, scene.network(a))).collect();
    ordered.sort_by_key(|(a, n)| (Reverse(a.spec.gw_priority), n.spec.name.clone()));
    ordered.into_iter().find_map(|(attachment, network)| {
        let addr = attachment.endpoint.addrs.iter().find(|a| a.is_ipv6() == ipv6)?;
        if network.spec.internal {
            return None;
        }
        match network.spec.driver {
            Driver::Bridge => Some(DefaultRoute::Gateway {
                gateway: network.subnet_of(addr)?.gateway?,
                ifname: LinkName::new(attachment.ifname.clone())?,
            }),
            Driver::Overlay => {
                let reachable = node_link?.addrs.iter().any(|a| a.is_ipv6() == ipv6);
                reachable.then_some(DefaultRoute::NodeLink)
            }
            Driver::Host | Driver::None => None,
        }
    })
}
