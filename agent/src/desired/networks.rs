//! Networks that are built here: those with an endpoint on this node, and the bridges its user made, which are to be seen by
//! `ip link` from the start.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use swarmnet_dataplane::desired::{self, Bridge, BridgeSubnet, Overlay, Remote};
use swarmnet_dataplane::mtu::vxlan_mtu_bytes;
use swarmnet_dataplane::{LinkName, names};
use swarmnet_types::network::option;
use swarmnet_types::{Driver, EndpointId, Network, NetworkId, NodeId};

use super::keep_if_equal;
use super::scene::{Cluster, Scene};

/// Broadcast and multicast on an overlay (N7).
const MULTICAST: [&str; 2] = ["multicast", "swarmnet.multicast"];

pub(super) fn of(
    scene: &Scene<'_>,
    last: &BTreeMap<NetworkId, desired::Network>,
) -> BTreeMap<NetworkId, desired::Network> {
    let attached = scene.sandboxes().flat_map(|r| &r.attachments).map(|a| scene.network(a));
    let own = scene.inputs.local.networks.values().map(AsRef::as_ref);
    let own = own.filter(|n| n.spec.driver == Driver::Bridge && n.resolves_names());
    let wanted: BTreeMap<NetworkId, &Network> = attached.chain(own).map(|n| (n.id, n)).collect();
    let built = wanted.into_iter();
    built.filter_map(|(id, n)| Some((id, network(scene, n, last.get(&id))?))).collect()
}

fn network(
    scene: &Scene<'_>,
    network: &Network,
    last: Option<&desired::Network>,
) -> Option<desired::Network> {
    match network.spec.driver {
        Driver::Overlay => {
            let overlay = overlay(scene, scene.cluster.as_ref()?, network, last)?;
            Some(desired::Network::Overlay(overlay))
        }
        Driver::Bridge => Some(desired::Network::Bridge(bridge(scene, network))),
        Driver::Host => Some(desired::Network::Host),
        Driver::None => Some(desired::Network::None),
    }
}

fn overlay(
    scene: &Scene<'_>,
    cluster: &Cluster<'_>,
    network: &Network,
    last: Option<&desired::Network>,
) -> Option<Overlay> {
    let last = match last {
        Some(desired::Network::Overlay(overlay)) => Some(overlay),
        _ => None,
    };
    let underlay_mtu_bytes = scene.inputs.underlay.mtu_bytes(cluster.me.data_path);
    let found = vxlan_mtu_bytes(underlay_mtu_bytes, cluster.me.data_path);
    Some(Overlay {
        vni: network.vni?,
        mtu_bytes: wished_mtu_bytes(network).unwrap_or(found),
        multicast: network.spec.flag(MULTICAST, false).unwrap_or(false),
        remotes: keep_if_equal(last.map(|o| &o.remotes), remotes(scene, cluster, network.id)),
        vteps: keep_if_equal(last.map(|o| &o.vteps), vteps(scene, cluster, network.id)),
    })
}

/// What was refused at creation was checked there; nothing else is stored.
fn wished_mtu_bytes(network: &Network) -> Option<u32> {
    network.spec.mtu_bytes().ok().flatten().map(u32::from)
}

fn remotes(
    scene: &Scene<'_>,
    cluster: &Cluster<'_>,
    network: NetworkId,
) -> BTreeMap<EndpointId, Remote> {
    let remote = cluster.endpoints(network).iter().filter(|e| scene.is_remote(e));
    remote
        .filter_map(|e| {
            let node = cluster.view.nodes.get(&e.node)?;
            let vtep = super::fabric::vtep(scene, node);
            Some((e.id, Remote { addrs: e.addrs, mac: e.mac, vtep }))
        })
        .collect()
}

/// A node is among them from the moment its first endpoint is reserved, well before that can send.
fn vteps(scene: &Scene<'_>, cluster: &Cluster<'_>, network: NetworkId) -> BTreeSet<IpAddr> {
    let nodes = cluster.endpoints(network).iter().map(|e| e.node);
    let others: BTreeSet<NodeId> = nodes.filter(|node| *node != cluster.me.id).collect();
    let known = others.iter().filter_map(|node| cluster.view.nodes.get(node));
    known.map(|node| super::fabric::vtep(scene, node)).collect()
}

fn bridge(scene: &Scene<'_>, network: &Network) -> Bridge {
    let wished = network.spec.bridge_name().and_then(LinkName::new);
    let subnets = network.subnets.iter().filter_map(|s| {
        let gateway = s.gateway?;
        Some(BridgeSubnet { subnet: s.subnet, gateway })
    });
    let underlay = scene.inputs.underlay.default_mtu_bytes();
    Bridge {
        name: wished.unwrap_or_else(|| names::bridge(network.id)),
        subnets: subnets.collect(),
        mtu_bytes: wished_mtu_bytes(network).unwrap_or(underlay),
        masquerade: network.spec.flag(option::MASQUERADE, true).unwrap_or(true),
        icc: network.spec.flag(option::ICC, true).unwrap_or(true),
        internal: network.spec.internal,
    }
}
