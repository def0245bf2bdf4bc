//! Routes. Ours carry our protocol number, so others' are never listed as ours nor deleted.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use rtnetlink::packet_core::{NLM_F_CREATE, NLM_F_REPLACE, ParseableParametrized};
use rtnetlink::packet_route::route::{
    RouteAttribute, RouteFlags, RouteHeader, RouteLwEnCapType, RouteMessage, RouteScope, RouteType,
};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};
use swarmnet_dataplane::names::ROUTE_PROTOCOL;
use swarmnet_dataplane::{RouteKey, RouteTo};

use super::wire::{attributes, family, route_ip};
use super::{Links, Route};
use crate::error::KernelError;

/// A route as the kernel holds it, whoever made it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteSeen {
    pub key: RouteKey,
    pub to: RouteTo,
    /// Who made it (`rtm_protocol`).
    pub protocol: u8,
    /// Source address it suggests.
    pub prefsrc: Option<IpAddr>,
}

impl Route {
    /// Creates the route, or replaces the one with the same key.
    pub fn put_route(&mut self, key: &RouteKey, to: &RouteTo) -> Result<(), KernelError> {
        let mut put = message(key);
        put.header.kind = RouteType::Unicast;
        match to {
            RouteTo::Link(link) => {
                put.header.scope = RouteScope::Link;
                put.attributes.push(RouteAttribute::Oif(self.index_of(link)?));
            }
            RouteTo::Local(link) => {
                (put.header.scope, put.header.kind) = (RouteScope::Host, RouteType::Local);
                put.attributes.push(RouteAttribute::Oif(self.index_of(link)?));
            }
            RouteTo::Via { gateway, link } => {
                put.header.flags = RouteFlags::Onlink;
                put.attributes.push(RouteAttribute::Oif(self.index_of(link)?));
                put.attributes.push(RouteAttribute::Gateway((*gateway).into()));
            }
            RouteTo::Nexthop(id) => put.attributes.push(RouteAttribute::NhId(*id)),
        }
        let put = RouteNetlinkMessage::NewRoute(put);
        self.request(&format!("put route {key} {to}"), NLM_F_CREATE | NLM_F_REPLACE, put)
    }

    /// Deletes our route with this key.
    pub fn del_route(&mut self, key: &RouteKey) -> Result<(), KernelError> {
        let mut del = message(key);
        // Any.
        del.header.scope = RouteScope::NoWhere;
        self.request(&format!("delete route {key}"), 0, RouteNetlinkMessage::DelRoute(del))
    }

    /// All routes of one maker (0: of all), both families, all tables.
    pub fn routes(&mut self, protocol: u8, links: &Links) -> Result<Vec<RouteSeen>, KernelError> {
        let list = |family| {
            let mut list = RouteMessage::default();
            list.header.address_family = family;
            list.header.protocol = protocol.into();
            RouteNetlinkMessage::GetRoute(list)
        };
        let mut all = self.list_families("list routes", list, |body| decode(body, links))?;
        // Kernels without strict checking ignore the filter.
        all.retain(|route| protocol == 0 || route.protocol == protocol);
        Ok(all)
    }
}

fn message(key: &RouteKey) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = family(matches!(key.dst, IpNet::V6(_)));
    message.header.destination_prefix_length = key.dst.prefix_len();
    message.header.protocol = ROUTE_PROTOCOL.into();
    // Tables above 255 do not fit the header.
    message.attributes = vec![
        RouteAttribute::Destination(key.dst.network().into()),
        RouteAttribute::Table(key.table),
    ];
    if key.metric != 0 {
        message.attributes.push(RouteAttribute::Priority(key.metric));
    }
    message
}

/// Attributes of a route or of the answer to a lookup.
pub(super) fn route_attributes(
    body: &[u8],
    header: &RouteHeader,
) -> impl Iterator<Item = RouteAttribute> {
    // Routes into tunnels are never ours.
    let kind = (header.address_family, header.kind, RouteLwEnCapType::None);
    attributes(body, header, move |attr| RouteAttribute::parse_with_param(attr, kind))
}

fn decode(body: &[u8], links: &Links) -> Option<RouteSeen> {
    let header = RouteHeader::parse(body).ok()?;
    let any: IpAddr = match header.address_family {
        AddressFamily::Inet => Ipv4Addr::UNSPECIFIED.into(),
        AddressFamily::Inet6 => Ipv6Addr::UNSPECIFIED.into(),
        _ => return None,
    };
    let (mut dst, mut table, mut metric) = (any, u32::from(header.table), 0);
    let (mut oif, mut gateway, mut nexthop, mut prefsrc) = (None, None, None, None);
    for attribute in route_attributes(body, &header) {
        match attribute {
            RouteAttribute::Destination(addr) => dst = route_ip(&addr)?,
            RouteAttribute::Table(id) => table = id,
            RouteAttribute::Priority(value) => metric = value,
            RouteAttribute::Oif(index) => oif = Some(index),
            RouteAttribute::Gateway(addr) => gateway = route_ip(&addr),
            RouteAttribute::NhId(id) => nexthop = Some(id),
            RouteAttribute::PrefSource(addr) => prefsrc = route_ip(&addr),
            _ => {}
        }
    }
    let link = || oif.and_then(|index| links.name(index)).cloned();
    let to = match (nexthop, header.kind, gateway) {
        (Some(id), ..) => RouteTo::Nexthop(id),
        (None, RouteType::Local, _) => RouteTo::Local(link()?),
        (None, RouteType::Unicast, Some(gateway)) => RouteTo::Via { gateway, link: link()? },
        (None, RouteType::Unicast, None) => RouteTo::Link(link()?),
        // Blackholes and the like are never ours.
        _ => return None,
    };
    let dst = IpNet::new(dst, header.destination_prefix_length).ok()?;
    let key = RouteKey { table, dst, metric };
    Some(RouteSeen { key, to, protocol: header.protocol.into(), prefsrc })
}
