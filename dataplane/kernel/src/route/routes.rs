//! Routes. Ours carry our protocol number, so others' are never listed as ours nor deleted.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use swarmnet_dataplane::names::ROUTE_PROTOCOL;
use swarmnet_dataplane::{RouteKey, RouteTo};

use super::wire::{DELROUTE, GETROUTE, NEWROUTE, RTM_LEN, family, ip, is_ipv6, octets};
use super::{Links, Route};
use crate::error::KernelError;
use crate::netlink::{Attrs, Message, flag, ne32};

const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_PRIORITY: u16 = 6;
const RTA_PREFSRC: u16 = 7;
const RTA_TABLE: u16 = 15;
const RTA_NH_ID: u16 = 30;

const RT_SCOPE_UNIVERSE: u8 = 0;
const RT_SCOPE_LINK: u8 = 253;
const RT_SCOPE_HOST: u8 = 254;
/// In a deletion: any.
const RT_SCOPE_NOWHERE: u8 = 255;
const RTN_UNICAST: u8 = 1;
const RTN_LOCAL: u8 = 2;
const RTNH_F_ONLINK: u32 = 4;

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
        let (scope, kind) = match to {
            RouteTo::Link(_) => (RT_SCOPE_LINK, RTN_UNICAST),
            RouteTo::Local(_) => (RT_SCOPE_HOST, RTN_LOCAL),
            RouteTo::Via { .. } | RouteTo::Nexthop(_) => (RT_SCOPE_UNIVERSE, RTN_UNICAST),
        };
        let onlink = if matches!(to, RouteTo::Via { .. }) { RTNH_F_ONLINK } else { 0 };
        let mut put = message(NEWROUTE, key, (scope, kind), onlink);
        put.add_flags(flag::CREATE | flag::REPLACE);
        match to {
            RouteTo::Link(link) | RouteTo::Local(link) => {
                let index = self.index_of(link)?;
                put.u32(RTA_OIF, index);
            }
            RouteTo::Via { gateway, link } => {
                let index = self.index_of(link)?;
                put.u32(RTA_OIF, index).bytes(RTA_GATEWAY, &octets(*gateway));
            }
            RouteTo::Nexthop(id) => {
                put.u32(RTA_NH_ID, *id);
            }
        }
        self.socket.request(&format!("put route {key} {to}"), put)
    }

    /// Deletes our route with this key.
    pub fn del_route(&mut self, key: &RouteKey) -> Result<(), KernelError> {
        let del = message(DELROUTE, key, (RT_SCOPE_NOWHERE, 0), 0);
        self.socket.request(&format!("delete route {key}"), del)
    }

    /// All routes of one maker (0: of all), both families, all tables.
    pub fn routes(&mut self, protocol: u8, links: &Links) -> Result<Vec<RouteSeen>, KernelError> {
        let mut all = Vec::new();
        for ipv6 in [false, true] {
            let mut header = [0; RTM_LEN];
            header[0] = family(ipv6);
            header[5] = protocol;
            let list = Message::new(GETROUTE, 0, &header);
            let some: Vec<RouteSeen> =
                self.socket.dump("list routes", &list, |routes: &mut Vec<_>, _, body| {
                    routes.extend(decode(body, links));
                })?;
            all.extend(some);
        }
        // Kernels without strict checking ignore the filter.
        all.retain(|route| protocol == 0 || route.protocol == protocol);
        Ok(all)
    }
}

fn message(kind: u16, key: &RouteKey, (scope, route_type): (u8, u8), flags: u32) -> Message {
    let ipv6 = matches!(key.dst, IpNet::V6(_));
    // Tables above 255 do not fit the header; the attribute is what counts.
    let table = u8::try_from(key.table).unwrap_or(0);
    let mut header = [0; RTM_LEN];
    header[..8].copy_from_slice(&[
        family(ipv6),
        key.dst.prefix_len(),
        0,
        0,
        table,
        ROUTE_PROTOCOL,
        scope,
        route_type,
    ]);
    header[8..].copy_from_slice(&flags.to_ne_bytes());
    let mut message = Message::new(kind, 0, &header);
    message.bytes(RTA_DST, &octets(key.dst.network())).u32(RTA_TABLE, key.table);
    if key.metric != 0 {
        message.u32(RTA_PRIORITY, key.metric);
    }
    message
}

fn decode(body: &[u8], links: &Links) -> Option<RouteSeen> {
    let header = body.first_chunk::<RTM_LEN>()?;
    let ipv6 = is_ipv6(header[0])?;
    let (prefix_len, table, protocol, route_type) = (header[1], header[4], header[5], header[7]);
    let attrs = Attrs(&body[RTM_LEN..]);
    let any: IpAddr =
        if ipv6 { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() };
    let dst = attrs.get(RTA_DST).and_then(ip).unwrap_or(any);
    let metric = attrs.u32(RTA_PRIORITY).unwrap_or_default();
    let key = RouteKey {
        table: attrs.u32(RTA_TABLE).unwrap_or_else(|| u32::from(table)),
        dst: IpNet::new(dst, prefix_len).ok()?,
        metric,
    };
    let link = || attrs.get(RTA_OIF).and_then(ne32).and_then(|i| links.name(i)).cloned();
    let to = match (attrs.u32(RTA_NH_ID), route_type, attrs.get(RTA_GATEWAY).and_then(ip)) {
        (Some(id), ..) => RouteTo::Nexthop(id),
        (None, RTN_LOCAL, _) => RouteTo::Local(link()?),
        (None, RTN_UNICAST, Some(gateway)) => RouteTo::Via { gateway, link: link()? },
        (None, RTN_UNICAST, None) => RouteTo::Link(link()?),
        // Blackholes and the like are never ours.
        _ => return None,
    };
    Some(RouteSeen { key, to, protocol, prefsrc: attrs.get(RTA_PREFSRC).and_then(ip) })
}
