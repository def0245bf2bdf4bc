//! The ingress fabric: one VXLAN device in the node's own namespace, no bridge, and the way back to the entry node.
//!
//! Scale, per node: 1 rule and 1 table for each family whatever the number of nodes; per peer 1 FDB entry and, for each family,
//! 1 neighbour, 1 nexthop and 1 route; per task on another node 1 route for each family. A task that moves changes one route.
//!
//! A packet of a client leaves the entry node through `swing` with that node's MAC as source. The task's node keeps the last
//! four bytes as connection mark ([`super::node_table`]); replies carry it as packet mark, which leads them by our rule to the
//! return next hop, whose MAC is rewritten to the entry node's at egress ([`super::guard`]).

use std::net::IpAddr;

use crate::desired::{Fabric, FabricTask, Host, Peer};
use crate::mtu::vxlan_mtu_bytes;
use crate::names::{self, host};
use crate::object::{FdbTo, Link, LinkKind, Nexthop, Ns, RouteKey, RouteRule, RouteTo, Vxlan};
use swarmnet_types::{NodeIndex, Vni};

use super::{Target, everywhere};
use crate::actual::NsState;

/// Metric of the `::1` route by `swing`; those of other links are above 2^31.
const LOOPBACK_METRIC: u32 = 0x5300;

pub(crate) fn render(fabric: &Fabric, host: &Host, target: &mut Target) {
    let node = target.ns(Ns::Node);
    device(fabric, host, node);
    return_path(fabric, node);
    for (index, peer) in fabric.peers.iter() {
        render_peer(fabric, *index, peer, node);
    }
    for task in fabric.tasks.values().filter(|t| fabric.peers.contains_key(&t.node)) {
        render_task(fabric, task, node);
    }
}

impl Fabric {
    /// Largest layer-3 packet on `swing` and the node links.
    pub(crate) fn mtu_bytes(&self) -> u32 {
        vxlan_mtu_bytes(self.underlay_mtu_bytes, self.vtep)
    }

    fn has(&self, ipv6: bool) -> bool {
        if ipv6 { self.addrs.v6.is_some() } else { self.addrs.v4.is_some() }
    }
}

impl Host {
    /// The effective value is the larger of the device's and that of `all`, so where `all` is strict (1), only loose (2) on the
    /// device lets clients in that are routed elsewhere.
    pub(crate) const fn rp_filter(&self) -> u8 {
        if self.strict_rp_filter { 2 } else { 0 }
    }

    /// Turns forwarding on without losing routes that the host has by router advertisement.
    pub(crate) fn forwarding(&self, ipv6: bool, node: &mut NsState) {
        node.sysctls.insert("net/ipv4/ip_forward".to_owned(), "1".to_owned());
        if ipv6 {
            node.sysctls.insert("net/ipv6/conf/all/forwarding".to_owned(), "1".to_owned());
            for link in &self.accept_ra_links {
                node.link_sysctl("ipv6", link, "accept_ra", 2);
            }
        }
    }
}

fn device(fabric: &Fabric, host_setup: &Host, node: &mut NsState) {
    let swing = names::swing();
    let vxlan =
        Vxlan { vni: Vni::INGRESS, local: fabric.vtep, port: fabric.vxlan_port, proxy: false };
    let mut link = Link::up(LinkKind::Vxlan(vxlan), names::alias("fabric", &fabric.index));
    link.mac = Some(names::fabric_mac(fabric.index));
    link.mtu_bytes = Some(fabric.mtu_bytes());
    node.links.insert(swing.clone(), link);
    for addr in fabric.addrs.iter() {
        node.address(&swing, host(addr));
    }
    node.link_sysctl("ipv4", &swing, "rp_filter", host_setup.rp_filter());
    // Replies to 127.0.0.1 arrive here; the node table drops what comes from outside for 127/8 (CVE-2020-8558).
    node.link_sysctl("ipv4", &swing, "route_localnet", 1);
    node.link_sysctl("ipv6", &swing, "accept_ra", 0);
    node.ipv6_only_if(&swing, fabric.addrs.v6.is_some());
    if fabric.addrs.v6.is_some() {
        node.loopback_v6(&swing, LOOPBACK_METRIC);
    }
    host_setup.forwarding(fabric.addrs.v6.is_some(), node);
}

fn return_path(fabric: &Fabric, node: &mut NsState) {
    let swing = names::swing();
    let gateways = [IpAddr::V4(names::RETURN_GATEWAY_V4), IpAddr::V6(names::RETURN_GATEWAY_V6)];
    for gateway in gateways.into_iter().filter(|g| fabric.has(g.is_ipv6())) {
        let ipv6 = gateway.is_ipv6();
        node.neighbour(&swing, gateway, names::RETURN_MAC);
        node.route(
            RouteKey::new(names::RETURN_TABLE, everywhere(ipv6)),
            RouteTo::Via { gateway, link: swing.clone() },
        );
        node.rules.insert(RouteRule {
            ipv6,
            pref: names::RULE_PREF,
            fwmark: Some((names::MARK_VALUE, names::MARK_MASK)),
            from: None,
            table: names::RETURN_TABLE,
        });
    }
}

fn render_peer(fabric: &Fabric, index: NodeIndex, peer: &Peer, node: &mut NsState) {
    let swing = names::swing();
    let mac = names::fabric_mac(index);
    node.forward_to(&swing, mac, FdbTo::Vtep(peer.vtep));
    for addr in peer.fabric.iter().filter(|a| fabric.has(a.is_ipv6())) {
        // 169.254/16 has 16 bits, an index 24: the IPv4 next hop is the peer's own fabric address, on-link by decree.
        let gateway = match addr {
            IpAddr::V4(_) => addr,
            IpAddr::V6(_) => IpAddr::V6(names::fabric_link_local(index)),
        };
        let id = names::nexthop_id(index, addr.is_ipv6());
        node.neighbour(&swing, gateway, mac);
        node.nexthops.insert(id, Nexthop { gateway, link: swing.clone() });
        node.route(RouteKey::new(RouteKey::MAIN, host(addr)), RouteTo::Nexthop(id));
    }
}

fn render_task(fabric: &Fabric, task: &FabricTask, node: &mut NsState) {
    let peer = &fabric.peers[&task.node];
    for addr in task.addrs.iter().filter(|a| fabric.has(a.is_ipv6())) {
        if peer.fabric.iter().any(|p| p.is_ipv6() == addr.is_ipv6()) {
            let id = names::nexthop_id(task.node, addr.is_ipv6());
            node.route(RouteKey::new(RouteKey::MAIN, host(addr)), RouteTo::Nexthop(id));
        }
    }
}
