//! The underlay of a lab: one bridge in a namespace of its own, one port for each node, and the cuts between nodes.
//!
//! Kernel objects: bridge `underlay`, veth pairs `p-<node>` / `eth0`, table `netdev lab` with one ingress chain for each port that
//! something is cut from. Cuts scale with pairs: one set element on each side.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use swarmnet_dataplane::nft::{
    self, Datatype, Elem, ElemData, Elems, Family, Hook, HookPoint, Load, MapSpec, NftOp, Rule,
    Table,
};
use swarmnet_dataplane::object::{LinkChange, LinkName, RouteKey, RouteTo};
use swarmnet_kernel::nft::Nft;
use swarmnet_kernel::route::{NewLink, Route};
use swarmnet_kernel::{KernelError, Netns, sysctl};

use super::layout::{Node, Underlay};
use super::record::{Cuts, Lab, Process};
use crate::error::CliError;

const BRIDGE: &str = "underlay";
const ETH0: &str = "eth0";

impl From<KernelError> for CliError {
    fn from(err: KernelError) -> Self {
        Self::failure(err)
    }
}

fn link(name: impl Into<String>) -> LinkName {
    LinkName::new(name).expect("names of a lab are short and plain")
}

fn netns(holder: Process) -> Result<Netns, CliError> {
    Ok(Netns::of_process(holder.pid)?)
}

/// Makes the bridge in the namespace that `holder` holds.
pub(super) fn make(holder: Process, underlay: &Underlay) -> Result<(), CliError> {
    let ns = netns(holder)?;
    let mut route = Route::open(&ns)?;
    let bridge = link(BRIDGE);
    route.set_link(&LinkName::loopback(), &LinkChange::Up)?;
    let new = NewLink {
        name: &bridge,
        mac: None,
        mtu_bytes: Some(underlay.mtu_bytes),
        alias: "",
        no_link_local: false,
    };
    route.add_bridge(&new, true)?;
    for addr in underlay.gateways() {
        route.add_addr(&bridge, addr)?;
    }
    route.set_link(&bridge, &LinkChange::Up)?;
    for key in ["net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"] {
        sysctl::set(&ns, key, "1")?;
    }
    Ok(())
}

/// Plugs a node in: its `eth0`, addresses, loopback and default routes.
pub(super) fn plug(lab: &Lab, node: &Node, holder: Process) -> Result<(), CliError> {
    let (wire_ns, node_ns) = (netns(lab.wire)?, netns(holder)?);
    let (mut wire, mut inside) = (Route::open(&wire_ns)?, Route::open(&node_ns)?);
    let (port, eth0) = (link(node.port()), link(ETH0));
    // A crashed node's port goes with its namespace, which the kernel may still be taking down.
    match wire.del_link(&port) {
        Err(err) if !err.is_gone() => return Err(err.into()),
        _ => {}
    }
    let mtu_bytes = Some(lab.underlay.mtu_bytes);
    let outer = NewLink { name: &port, mac: None, mtu_bytes, alias: "", no_link_local: true };
    let inner =
        NewLink { name: &eth0, mac: Some(node.mac()), mtu_bytes, alias: "", no_link_local: false };
    wire.add_veth(&outer, &inner, &node_ns, &mut inside)?;
    wire.set_link(&port, &LinkChange::Master(Some(link(BRIDGE))))?;
    wire.set_link(&port, &LinkChange::Up)?;
    inside.set_link(&LinkName::loopback(), &LinkChange::Up)?;
    for addr in node.addrs() {
        inside.add_addr(&eth0, addr)?;
    }
    inside.set_link(&eth0, &LinkChange::Up)?;
    for gateway in lab.underlay.gateways() {
        inside.put_route(
            &default_route(gateway.addr()),
            &RouteTo::Via { gateway: gateway.addr(), link: eth0.clone() },
        )?;
    }
    Ok(())
}

fn default_route(gateway: IpAddr) -> RouteKey {
    let any: IpNet = if gateway.is_ipv6() { "::/0" } else { "0.0.0.0/0" }.parse().expect("literal");
    RouteKey::new(RouteKey::MAIN, any)
}

// === cuts ===

/// Makes the wire carry everything but the lab's cuts. A wire without cuts has no table.
pub(super) fn apply_cuts(lab: &Lab) -> Result<(), CliError> {
    let mut nft = Nft::open(&netns(lab.wire)?)?;
    let desired = cut_table(&lab.nodes.iter().map(|n| &n.node).collect::<Vec<_>>(), &lab.cuts);
    let actual = nft.observe(&desired.id)?;
    let ops = match (&actual, lab.cuts.is_empty()) {
        (None, true) => Vec::new(),
        (Some(_), true) => vec![NftOp::DelTable],
        (actual, false) => nft::diff(actual.as_ref(), &desired),
    };
    Ok(nft.commit(&desired.id, &ops, None)?)
}

fn cut_table(nodes: &[&Node], cuts: &Cuts) -> Table {
    let mut table = Table::new(Family::Netdev, "lab");
    let find = |name: &str| nodes.iter().find(|n| n.name == name).copied();
    let mut unheard: BTreeMap<&str, Elems> = BTreeMap::new();
    for (a, b) in cuts {
        if let (Some(a), Some(b)) = (find(a), find(b)) {
            let elem = || Elem { end: None, data: ElemData::None };
            unheard.entry(&a.name).or_default().insert(nft::key::mac(b.mac()), elem());
            unheard.entry(&b.name).or_default().insert(nft::key::mac(a.mac()), elem());
        }
    }
    for (name, macs) in unheard {
        let set = format!("unheard-{name}");
        table.map(&set, MapSpec::set(&[Datatype::Ether]), macs);
        let rule = Rule::netdev_builder(format!("cut from {name}"))
            .in_set(&[Load::EtherDaddr], &set)
            .drop()
            .build();
        let hook = Hook::device(HookPoint::Ingress, format!("p-{name}"), 0);
        table.base_chain(format!("from-{name}"), hook, vec![rule]);
    }
    table
}
