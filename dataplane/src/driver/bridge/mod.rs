//! The bridge driver: a Linux bridge in the node's own namespace, visible to `ip link` and `brctl`, with the gateway on it.
//!
//! Scale: per network 1 bridge, 1 address for each subnet; per endpoint 1 pair. Masquerade, isolation from other networks and
//! port maps are rules of the node table ([`crate::render`]), which knows bridges by name.

use swarmnet_types::{NetworkId, Subnet};

use crate::actual::NsState;
use crate::desired::{Bridge, Desired};
use crate::names::{self, host};
use crate::object::{Link, LinkKind, Ns, PortFlags, RouteKey, RouteRule, RouteTo};
use crate::render::sandbox::loopback_metric;
use crate::render::{Target, everywhere};

use super::{Attachment, NetworkDriver};

impl Bridge {
    /// As a port of any bridge, but without talk among endpoints when `icc` is off.
    const fn port(&self) -> PortFlags {
        PortFlags {
            learning: true,
            flood: true,
            mcast_flood: true,
            bcast_flood: true,
            isolated: !self.icc,
            hairpin: false,
        }
    }

    fn has_ipv6(&self) -> bool {
        self.subnets.iter().any(|s| s.subnet.is_ipv6())
    }

    /// Replies leave by the network their address is of, also when the default route is another: port maps lead here.
    fn source_route(&self, inside: &mut NsState, at: &Attachment<'_>) {
        // One table for each endpoint, after the node link's own. A sandbox has few endpoints: 32 bits are enough.
        let table = names::RETURN_TABLE + 1 + at.order as u32;
        for addr in &at.endpoint.addrs {
            let of = |s: &Subnet| s.contains(addr.addr());
            let Some(subnet) = self.subnets.iter().find(|s| of(&s.subnet)) else { continue };
            let ipv6 = addr.addr().is_ipv6();
            let link = at.endpoint.ifname.clone();
            let to = RouteTo::Via { gateway: subnet.gateway, link };
            inside.route(RouteKey::new(table, everywhere(ipv6)), to);
            inside.route(
                RouteKey::new(table, subnet.subnet.net()),
                RouteTo::Link(at.endpoint.ifname.clone()),
            );
            inside.rules.insert(RouteRule {
                ipv6,
                pref: names::RULE_PREF + 1,
                fwmark: None,
                from: Some(host(addr.addr())),
                table,
            });
        }
    }
}

impl NetworkDriver for Bridge {
    fn network(&self, target: &mut Target, id: NetworkId, desired: &Desired) {
        let node = target.ns(Ns::Node);
        let mut link = Link::up(LinkKind::Bridge { ageing: true }, names::alias("bridge", &id));
        link.mtu_bytes = Some(self.mtu_bytes);
        node.links.insert(self.name.clone(), link);
        for subnet in &self.subnets {
            node.address(&self.name, subnet.subnet.with_host(subnet.gateway));
        }
        node.ipv6_only_if(&self.name, self.has_ipv6());
        node.link_sysctl("ipv6", &self.name, "accept_ra", 0);
        node.link_sysctl("ipv4", &self.name, "route_localnet", 1);
        desired.host.forwarding(self.has_ipv6(), node);
        if self.has_ipv6() {
            node.loopback_v6(&self.name, loopback_metric(*id.as_bytes()));
        }
    }

    fn endpoint(&self, target: &mut Target, at: &Attachment<'_>) {
        let mut outer = at.outer(self.name.clone(), self.mtu_bytes);
        outer.port = Some(self.port());
        let port = at.join(target, Ns::Node, outer, self.mtu_bytes);
        target.ns(Ns::Node).ipv6_only_if(&port, false);
        if !self.internal {
            self.source_route(target.ns(Ns::Sandbox(at.sandbox)), at);
        }
    }

    fn port_ns(&self) -> Option<Ns> {
        Some(Ns::Node)
    }
}
