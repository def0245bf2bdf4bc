//! Addresses of links.

use std::net::IpAddr;

use ipnet::IpNet;
use swarmnet_dataplane::LinkName;

use super::wire::{AF_UNSPEC, DELADDR, GETADDR, IFADDR_LEN, NEWADDR, family, ip, octets};
use super::{Links, Route};
use crate::error::KernelError;
use crate::netlink::{Attrs, Message, flag, ne32};

const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_FLAGS: u16 = 8;
/// No duplicate address detection: addresses are allocated, and must work at once.
const IFA_F_NODAD: u32 = 2;

impl Route {
    /// # Errors
    /// EEXIST ([`KernelError::is_stale`]) when the link has the address already.
    pub fn add_addr(&mut self, link: &LinkName, addr: IpNet) -> Result<(), KernelError> {
        let index = self.index_of(link)?;
        let mut add = message(NEWADDR, flag::CREATE | flag::EXCL, index, addr);
        if matches!(addr, IpNet::V6(_)) {
            add.u32(IFA_FLAGS, IFA_F_NODAD);
        }
        self.socket.request(&format!("add address {addr} to {link}"), add)
    }

    pub fn del_addr(&mut self, link: &LinkName, addr: IpNet) -> Result<(), KernelError> {
        let index = self.index_of(link)?;
        let del = message(DELADDR, 0, index, addr);
        self.socket.request(&format!("delete address {addr} of {link}"), del)
    }

    /// All addresses of the namespace, with their links.
    pub fn addrs(&mut self, links: &Links) -> Result<Vec<(LinkName, IpNet)>, KernelError> {
        let list = Message::new(GETADDR, 0, &ifaddrmsg(AF_UNSPEC, 0, 0));
        self.socket.dump("list addresses", &list, |addrs: &mut Vec<_>, _, body| {
            addrs.extend(
                decode(body).and_then(|(index, addr)| Some((links.name(index)?.clone(), addr))),
            );
        })
    }
}

fn ifaddrmsg(family: u8, prefix_len: u8, index: u32) -> [u8; IFADDR_LEN] {
    let mut header = [0; IFADDR_LEN];
    header[0] = family;
    header[1] = prefix_len;
    header[4..].copy_from_slice(&index.to_ne_bytes());
    header
}

fn message(kind: u16, flags: u16, index: u32, addr: IpNet) -> Message {
    let ipv6 = matches!(addr, IpNet::V6(_));
    let header = ifaddrmsg(family(ipv6), addr.prefix_len(), index);
    let bytes = octets(addr.addr());
    let mut message = Message::new(kind, flags, &header);
    message.bytes(IFA_LOCAL, &bytes).bytes(IFA_ADDRESS, &bytes);
    message
}

fn decode(body: &[u8]) -> Option<(u32, IpNet)> {
    let prefix_len = *body.get(1)?;
    let index = body.get(4..).and_then(ne32)?;
    let attrs = Attrs(body.get(IFADDR_LEN..)?);
    // Of a point-to-point link IFA_ADDRESS is the other end.
    let addr: IpAddr = attrs.get(IFA_LOCAL).or_else(|| attrs.get(IFA_ADDRESS)).and_then(ip)?;
    Some((index, IpNet::new(addr, prefix_len).ok()?))
}
