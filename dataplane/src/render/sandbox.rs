//! A sandbox: its namespace, loopback, node link, default routes; its endpoints are their drivers' business.
//!
//! Scale, per sandbox with a node link: on the node 1 link, and for each family 1 route, 1 neighbour (and 1 local route for
//! `::1`); inside 1 link and for each family 1 address, 1 neighbour, 1 rule and at most 2 routes.
//!
//! Replies from the sandbox's fabric address always leave by the node link, whatever its default route: a rule by source leads
//! them there. Nothing in the sandbox knows of entry nodes.

use std::net::IpAddr;

use swarmnet_types::{Mac, SandboxId};

use crate::actual::NsState;
use crate::desired::{DefaultRoute, Desired, Fabric, NodeLink, Sandbox};
use crate::driver::{self, Attachment};
use crate::names::{self, host};
use crate::object::{Link, LinkKind, LinkName, Ns, RouteKey, RouteRule, RouteTo};

use super::{End, Target, everywhere};

pub(crate) fn render(desired: &Desired, id: SandboxId, sandbox: &Sandbox, target: &mut Target) {
    let inside = target.ns(Ns::Sandbox(id));
    inside.netns = Some(sandbox.netns.clone());
    inside.links.insert(LinkName::loopback(), Link::up(LinkKind::Loopback, String::new()));
    for (order, (endpoint_id, endpoint)) in sandbox.endpoints.iter().enumerate() {
        if let Some(network) = desired.networks.get(&endpoint.network) {
            let at = Attachment { sandbox: id, id: *endpoint_id, endpoint, order };
            driver::of(network).endpoint(target, &at);
        }
    }
    let node_link = desired.fabric.as_ref().zip(sandbox.node_link.as_ref());
    if let Some((fabric, link)) = node_link {
        node_side(desired, fabric, (id, link), target);
        sandbox_side(id, link, target.ns(Ns::Sandbox(id)));
    }
    default_routes(sandbox, node_link.map(|(_, link)| link), target.ns(Ns::Sandbox(id)));
}

impl NodeLink {
    /// The inner end's. Follows from the address; `None` only for a link without any.
    pub(crate) fn mac(&self) -> Option<Mac> {
        self.addrs.mac()
    }
}

/// Metric of a link's `::1` route: as unique as the link's name, which is made of the same bytes.
pub(crate) fn loopback_metric(id: [u8; 16]) -> u32 {
    let [a, b, c, d, ..] = id;
    u32::from_be_bytes([a | 0x80, b, c, d])
}

fn node_side(
    desired: &Desired,
    fabric: &Fabric,
    (id, link): (SandboxId, &NodeLink),
    target: &mut Target,
) {
    let outer_name = names::node_link(id);
    let ipv6 = link.addrs.v6.is_some();
    let alias = names::alias("node-link", &id);
    let mut outer = Link::up(LinkKind::Veth, alias.clone());
    outer.mac = Some(names::NODE_LINK_MAC);
    outer.mtu_bytes = Some(fabric.mtu_bytes());
    let mut inner = Link::up(LinkKind::Veth, alias);
    inner.mac = link.mac();
    inner.mtu_bytes = Some(fabric.mtu_bytes());
    inner.no_link_local = !ipv6;
    target.veth(
        End { ns: Ns::Node, name: outer_name.clone(), link: outer },
        End { ns: Ns::Sandbox(id), name: link.ifname.clone(), link: inner },
    );
    let node = target.ns(Ns::Node);
    node.link_sysctl("ipv4", &outer_name, "rp_filter", desired.host.rp_filter());
    node.link_sysctl("ipv4", &outer_name, "route_localnet", 1);
    node.link_sysctl("ipv6", &outer_name, "accept_ra", 0);
    node.ipv6_only_if(&outer_name, ipv6);
    if ipv6 {
        node.loopback_v6(&outer_name, loopback_metric(*id.as_bytes()));
    }
    for (addr, mac) in link.addrs.iter().filter_map(|a| Some((a, link.mac()?))) {
        let to = RouteTo::Link(outer_name.clone());
        node.route(RouteKey::new(RouteKey::MAIN, host(addr)), to);
        node.neighbour(&outer_name, addr, mac);
    }
}

fn gateway(ipv6: bool) -> IpAddr {
    if ipv6 {
        IpAddr::V6(names::NODE_LINK_GATEWAY_V6)
    } else {
        IpAddr::V4(names::NODE_LINK_GATEWAY_V4)
    }
}

fn sandbox_side(id: SandboxId, link: &NodeLink, inside: &mut NsState) {
    debug_assert!(inside.netns.is_some(), "sandbox {id} is written before its links");
    inside.ipv6_only_if(&link.ifname, link.addrs.v6.is_some());
    for addr in link.addrs.iter() {
        let (ipv6, gateway) = (addr.is_ipv6(), gateway(addr.is_ipv6()));
        inside.address(&link.ifname, host(addr));
        inside.neighbour(&link.ifname, gateway, names::NODE_LINK_MAC);
        inside.route(
            RouteKey::new(names::RETURN_TABLE, everywhere(ipv6)),
            RouteTo::Via { gateway, link: link.ifname.clone() },
        );
        inside.rules.insert(RouteRule {
            ipv6,
            pref: names::RULE_PREF,
            fwmark: None,
            from: Some(host(addr)),
            table: names::RETURN_TABLE,
        });
    }
}

fn default_routes(sandbox: &Sandbox, node_link: Option<&NodeLink>, inside: &mut NsState) {
    for (ipv6, wish) in [(false, &sandbox.default_v4), (true, &sandbox.default_v6)] {
        let to = match (wish, node_link) {
            (Some(DefaultRoute::Gateway { gateway, ifname }), _) => {
                RouteTo::Via { gateway: *gateway, link: ifname.clone() }
            }
            (Some(DefaultRoute::NodeLink), Some(link)) => {
                RouteTo::Via { gateway: gateway(ipv6), link: link.ifname.clone() }
            }
            (Some(DefaultRoute::NodeLink), None) | (None, _) => continue,
        };
        inside.route(RouteKey::new(RouteKey::MAIN, everywhere(ipv6)), to);
    }
}
