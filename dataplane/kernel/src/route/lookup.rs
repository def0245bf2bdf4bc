//! The routing decision for one destination, as the kernel takes it.

use std::net::IpAddr;

use ipnet::IpNet;
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::route::{RouteAttribute, RouteHeader, RouteMessage, RouteMetric};

use super::Route;
use super::routes::route_attributes;
use super::wire::{family, route_ip};
use crate::error::KernelError;
use crate::netlink::Message;

/// The answer to a lookup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Found {
    /// Outgoing device.
    pub(crate) index: u32,
    pub(crate) source: Option<IpAddr>,
    /// When the route or a learned path MTU says so.
    pub(crate) mtu_bytes: Option<u32>,
}

impl Route {
    /// `None` when there is no route, or one that refuses.
    pub(crate) fn lookup(&mut self, to: IpAddr) -> Result<Option<Found>, KernelError> {
        let mut get = RouteMessage::default();
        get.header.address_family = family(to.is_ipv6());
        get.header.destination_prefix_length = IpNet::from(to).prefix_len();
        get.attributes.push(RouteAttribute::Destination(to.into()));
        let get = Message::route(0, RouteNetlinkMessage::GetRoute(get));
        let body = match self.socket.get(&format!("route to {to}"), get) {
            Ok(body) => body,
            Err(err)
                if matches!(
                    err.errno(),
                    Some(libc::ENETUNREACH | libc::EHOSTUNREACH | libc::EACCES | libc::EINVAL)
                ) =>
            {
                return Ok(None);
            }
            Err(err) => return Err(err),
        };
        let Ok(header) = RouteHeader::parse(&body) else { return Ok(None) };
        let (mut index, mut source, mut mtu_bytes) = (None, None, None);
        for attribute in route_attributes(&body, &header) {
            match attribute {
                RouteAttribute::Oif(oif) => index = Some(oif),
                RouteAttribute::PrefSource(addr) => source = route_ip(&addr),
                RouteAttribute::Metrics(metrics) => {
                    mtu_bytes = metrics.iter().find_map(|metric| match metric {
                        RouteMetric::Mtu(mtu) if *mtu > 0 => Some(*mtu),
                        _ => None,
                    });
                }
                _ => {}
            }
        }
        Ok(index.map(|index| Found { index, source, mtu_bytes }))
    }
}
