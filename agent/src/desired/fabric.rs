//! This node in the underlay and the ingress fabric.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use swarmnet_dataplane::desired::{Fabric, FabricTask, Peer};
use swarmnet_types::{EndpointId, Node, NodeIndex, Protocol};

use super::keep_if_equal;
use super::scene::{Cluster, Scene};

pub(super) fn of(scene: &Scene<'_>, last: Option<&Fabric>) -> Option<Fabric> {
    let cluster = scene.cluster.as_ref()?;
    let me = cluster.me;
    let peers = peers(scene, cluster);
    let tasks = tasks(scene, cluster);
    Some(Fabric {
        index: me.index,
        addrs: me.fabric,
        vtep: me.data_path,
        vxlan_port: cluster.view.cluster.data_path_port,
        underlay_mtu_bytes: scene.inputs.underlay.mtu_bytes(me.data_path),
        peers: keep_if_equal(last.map(|f| &f.peers), peers),
        tasks: keep_if_equal(last.map(|f| &f.tasks), tasks),
        node_addrs: node_addrs(scene, cluster),
        control_ports: control_ports(cluster),
    })
}

/// Where a node's VTEP is: what its agent says of itself by gossip wins over the state, which follows (C12).
pub(crate) fn vtep(scene: &Scene<'_>, node: &Node) -> IpAddr {
    scene.inputs.liveness.get(&node.id).map_or(node.data_path, |state| state.addr)
}

fn peers(scene: &Scene<'_>, cluster: &Cluster<'_>) -> BTreeMap<NodeIndex, Peer> {
    let others = cluster.view.nodes.values().filter(|n| n.id != cluster.me.id);
    others.map(|n| (n.index, Peer { vtep: vtep(scene, n), fabric: n.fabric })).collect()
}

fn tasks(scene: &Scene<'_>, cluster: &Cluster<'_>) -> BTreeMap<EndpointId, FabricTask> {
    let Some(ingress) = cluster.ingress else { return BTreeMap::new() };
    let remote = cluster.endpoints(ingress.id).iter().filter(|e| scene.is_remote(e));
    let task = |node: &Node, addrs| FabricTask { addrs, node: node.index };
    remote.filter_map(|e| Some((e.id, task(cluster.view.nodes.get(&e.node)?, e.addrs)))).collect()
}

/// As clients they get the entry node's fabric address; this node's further addresses count too.
fn node_addrs(scene: &Scene<'_>, cluster: &Cluster<'_>) -> BTreeSet<IpAddr> {
    let told = cluster.view.nodes.values();
    told.flat_map(|n| [n.addr.ip(), n.data_path, vtep(scene, n)])
        .chain(scene.inputs.underlay.addrs())
        .collect()
}

/// Gossip is UDP on the number of the control port.
fn control_ports(cluster: &Cluster<'_>) -> BTreeSet<(Protocol, u16)> {
    let ports = cluster.view.nodes.values().map(|n| n.addr.port());
    ports.flat_map(|p| [(Protocol::Tcp, p), (Protocol::Udp, p)]).collect()
}
