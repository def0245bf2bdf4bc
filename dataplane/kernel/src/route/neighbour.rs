//! Permanent neighbours: of links, and of VXLAN devices, which answer ARP and neighbour solicitations from them (`proxy`).

use std::net::IpAddr;

use rtnetlink::packet_core::{NLM_F_CREATE, NLM_F_REPLACE, ParseableParametrized};
use rtnetlink::packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourHeader, NeighbourMessage,
    NeighbourState,
};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};
use swarmnet_dataplane::LinkName;
use swarmnet_dataplane::nft::key;
use swarmnet_types::Mac;

use super::wire::{attributes, family};
use super::{Links, Route};
use crate::error::KernelError;

impl Route {
    /// Creates or replaces.
    pub fn put_neighbour(
        &mut self,
        link: &LinkName,
        addr: IpAddr,
        mac: Mac,
    ) -> Result<(), KernelError> {
        let index = self.index_of(link)?;
        let put = RouteNetlinkMessage::NewNeighbour(permanent(index, addr, mac));
        let what = format!("put neighbour {addr} on {link}");
        self.request(&what, NLM_F_CREATE | NLM_F_REPLACE, put)
    }

    pub fn del_neighbour(&mut self, link: &LinkName, addr: IpAddr) -> Result<(), KernelError> {
        let kind = (NeighbourState::None, NeighbourFlags::empty());
        let mut del = message(family(addr.is_ipv6()), self.index_of(link)?, kind);
        del.attributes.push(NeighbourAttribute::Destination(addr.into()));
        let del = RouteNetlinkMessage::DelNeighbour(del);
        self.request(&format!("delete neighbour {addr} of {link}"), 0, del)
    }

    /// Permanent ones of the namespace.
    pub fn neighbours(
        &mut self,
        links: &Links,
    ) -> Result<Vec<(LinkName, IpAddr, Mac)>, KernelError> {
        self.list_families("list neighbours", list, |body| {
            let seen = Entry::decode(body)?;
            let name = links.name(seen.index).filter(|_| seen.is(NeighbourState::Permanent))?;
            Some((name.clone(), seen.dst?, seen.mac?))
        })
    }
}

pub(super) fn list(family: AddressFamily) -> RouteNetlinkMessage {
    let kind = (NeighbourState::None, NeighbourFlags::empty());
    RouteNetlinkMessage::GetNeighbour(message(family, 0, kind))
}

pub(super) fn permanent(index: u32, addr: IpAddr, mac: Mac) -> NeighbourMessage {
    let kind = (NeighbourState::Permanent, NeighbourFlags::empty());
    let mut put = message(family(addr.is_ipv6()), index, kind);
    put.attributes.push(NeighbourAttribute::Destination(addr.into()));
    put.attributes.push(NeighbourAttribute::LinkLayerAddress(mac.0.into()));
    put
}

pub(super) fn message(
    family: AddressFamily,
    index: u32,
    (state, flags): (NeighbourState, NeighbourFlags),
) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = family;
    message.header.ifindex = index;
    message.header.state = state;
    message.header.flags = flags;
    message
}

/// A neighbour or forwarding entry, of a dump or a notice.
pub(super) struct Entry {
    pub(super) family: AddressFamily,
    pub(super) index: u32,
    state: NeighbourState,
    pub(super) flags: NeighbourFlags,
    pub(super) mac: Option<Mac>,
    pub(super) dst: Option<IpAddr>,
    /// Of a bridge.
    pub(super) has_master: bool,
}

impl Entry {
    pub(super) fn decode(body: &[u8]) -> Option<Self> {
        let header = NeighbourHeader::parse(body).ok()?;
        let NeighbourHeader { family, ifindex, state, flags, .. } = header;
        let (mut mac, mut dst, mut has_master) = (None, None, false);
        let parse = |attribute: &_| NeighbourAttribute::parse_with_param(attribute, header.family);
        for attribute in attributes(body, &header, parse) {
            match attribute {
                NeighbourAttribute::LinkLayerAddress(bytes) => mac = bytes.try_into().ok().map(Mac),
                NeighbourAttribute::Destination(addr) => dst = address(&addr),
                NeighbourAttribute::Controller(_) => has_master = true,
                _ => {}
            }
        }
        Some(Self { family, index: ifindex, state, flags, mac, dst, has_master })
    }

    /// States are bits: `ip` and `bridge` set several.
    pub(super) fn is(&self, state: NeighbourState) -> bool {
        u16::from(self.state) & u16::from(state) != 0
    }
}

fn address(addr: &NeighbourAddress) -> Option<IpAddr> {
    match addr {
        NeighbourAddress::Inet(v4) => Some((*v4).into()),
        NeighbourAddress::Inet6(v6) => Some((*v6).into()),
        // Of a forwarding entry.
        NeighbourAddress::Other(bytes) => key::read_ip(bytes),
        _ => None,
    }
}
