//! Nexthop objects (Linux 5.3): a peer of the fabric is one, however many routes lead through it.
//!
//! Written by hand: `rtnetlink` 0.24 has no type for them. Source: `include/uapi/linux/nexthop.h`.

use std::collections::BTreeMap;
use std::net::IpAddr;

use rtnetlink::packet_core::{NLM_F_CREATE, NLM_F_REPLACE};
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::route::RouteFlags;
use swarmnet_dataplane::Nexthop;
use swarmnet_dataplane::names::ROUTE_PROTOCOL;
use swarmnet_dataplane::nft::key;

use super::wire::family;
use super::{Links, Route};
use crate::error::KernelError;
use crate::netlink::{Attrs, Message};

pub(super) const NEWNEXTHOP: u16 = 104;
pub(super) const DELNEXTHOP: u16 = 105;
const GETNEXTHOP: u16 = 106;
/// Length of `struct nhmsg`.
const NHMSG_LEN: usize = 8;
const NHA_ID: u16 = 1;
const NHA_OIF: u16 = 5;
const NHA_GATEWAY: u16 = 6;

/// `struct nhmsg`.
fn nhmsg(family: AddressFamily, protocol: u8, flags: u32) -> [u8; NHMSG_LEN] {
    let mut header = [0; NHMSG_LEN];
    header[0] = family.into();
    header[2] = protocol;
    header[4..].copy_from_slice(&flags.to_ne_bytes());
    header
}

impl Route {
    /// Creates or replaces; routes that use it follow at once.
    pub fn put_nexthop(&mut self, id: u32, nexthop: &Nexthop) -> Result<(), KernelError> {
        let index = self.index_of(&nexthop.link)?;
        let header =
            nhmsg(family(nexthop.gateway.is_ipv6()), ROUTE_PROTOCOL, RouteFlags::Onlink.bits());
        let mut put = Message::new(NEWNEXTHOP, NLM_F_CREATE | NLM_F_REPLACE, &header);
        put.u32(NHA_ID, id).u32(NHA_OIF, index);
        match nexthop.gateway {
            IpAddr::V4(v4) => put.bytes(NHA_GATEWAY, &v4.octets()),
            IpAddr::V6(v6) => put.bytes(NHA_GATEWAY, &v6.octets()),
        };
        self.socket.request(&format!("put nexthop {id} via {}", nexthop.gateway), put)
    }

    /// With the routes that use it.
    pub fn del_nexthop(&mut self, id: u32) -> Result<(), KernelError> {
        let mut del = Message::new(DELNEXTHOP, 0, &nhmsg(AddressFamily::Unspec, 0, 0));
        del.u32(NHA_ID, id);
        self.socket.request(&format!("delete nexthop {id}"), del)
    }

    /// Ours.
    pub fn nexthops(&mut self, links: &Links) -> Result<BTreeMap<u32, Nexthop>, KernelError> {
        let list = Message::new(GETNEXTHOP, 0, &nhmsg(AddressFamily::Unspec, 0, 0));
        self.socket.dump("list nexthops", &list, |all: &mut BTreeMap<_, _>, body| {
            all.extend(decode(body, links));
        })
    }
}

/// Whose it is.
pub(super) fn protocol(body: &[u8]) -> Option<u8> {
    body.get(2).copied()
}

fn decode(body: &[u8], links: &Links) -> Option<(u32, Nexthop)> {
    let attrs = Attrs(body.get(NHMSG_LEN..)?);
    if protocol(body) != Some(ROUTE_PROTOCOL) {
        return None;
    }
    let link = links.name(attrs.u32(NHA_OIF)?)?.clone();
    let gateway = attrs.get(NHA_GATEWAY).and_then(key::read_ip)?;
    Some((attrs.u32(NHA_ID)?, Nexthop { gateway, link }))
}
