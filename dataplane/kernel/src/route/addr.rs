//! Addresses of links.

use ipnet::IpNet;
use rtnetlink::packet_core::{NLM_F_CREATE, NLM_F_EXCL, Parseable};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::address::{
    AddressAttribute, AddressFlags, AddressHeader, AddressMessage,
};
use swarmnet_dataplane::LinkName;

use super::wire::{attributes, family};
use super::{Links, Route};
use crate::error::KernelError;

impl Route {
    /// # Errors
    /// EEXIST ([`KernelError::is_stale`]) when the link has the address already.
    pub fn add_addr(&mut self, link: &LinkName, addr: IpNet) -> Result<(), KernelError> {
        let mut add = message(self.index_of(link)?, addr);
        if matches!(addr, IpNet::V6(_)) {
            // No duplicate address detection: addresses are allocated, and must work at once.
            add.attributes.push(AddressAttribute::Flags(AddressFlags::Nodad));
        }
        let add = RouteNetlinkMessage::NewAddress(add);
        self.request(&format!("add address {addr} to {link}"), NLM_F_CREATE | NLM_F_EXCL, add)
    }

    pub fn del_addr(&mut self, link: &LinkName, addr: IpNet) -> Result<(), KernelError> {
        let del = message(self.index_of(link)?, addr);
        let del = RouteNetlinkMessage::DelAddress(del);
        self.request(&format!("delete address {addr} of {link}"), 0, del)
    }

    /// All addresses of the namespace, with their links.
    pub fn addrs(&mut self, links: &Links) -> Result<Vec<(LinkName, IpNet)>, KernelError> {
        let list = RouteNetlinkMessage::GetAddress(AddressMessage::default());
        self.list("list addresses", list, |body| {
            let (index, addr) = decode(body)?;
            Some((links.name(index)?.clone(), addr))
        })
    }
}

fn message(index: u32, addr: IpNet) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.family = family(matches!(addr, IpNet::V6(_)));
    message.header.prefix_len = addr.prefix_len();
    message.header.index = index;
    // Not the library's builder: it would give IPv4 addresses a broadcast address.
    message.attributes =
        vec![AddressAttribute::Local(addr.addr()), AddressAttribute::Address(addr.addr())];
    message
}

/// Index of the link, and the address.
pub(super) fn decode(body: &[u8]) -> Option<(u32, IpNet)> {
    let header = AddressHeader::parse(body).ok()?;
    let (mut local, mut address) = (None, None);
    for attribute in attributes(body, &header, AddressAttribute::parse) {
        match attribute {
            AddressAttribute::Local(addr) => local = Some(addr),
            AddressAttribute::Address(addr) => address = Some(addr),
            _ => {}
        }
    }
    // Of a point-to-point link IFA_ADDRESS is the other end.
    Some((header.index, IpNet::new(local.or(address)?, header.prefix_len).ok()?))
}
