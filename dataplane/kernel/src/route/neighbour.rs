//! Permanent neighbours: of links, and of VXLAN devices, which answer ARP and neighbour solicitations from them (`proxy`).

use std::net::IpAddr;

use swarmnet_dataplane::LinkName;
use swarmnet_types::Mac;

use super::wire::{DELNEIGH, GETNEIGH, NEWNEIGH, RTM_LEN, family, ip, ndmsg, octets};
use super::{Links, Route};
use crate::error::KernelError;
use crate::netlink::{Attrs, Message, flag, ne32};

pub(super) const NDA_DST: u16 = 1;
pub(super) const NDA_LLADDR: u16 = 2;
pub(super) const NDA_MASTER: u16 = 9;
pub(super) const NUD_PERMANENT: u16 = 0x80;

impl Route {
    /// Creates or replaces.
    pub fn put_neighbour(
        &mut self,
        link: &LinkName,
        addr: IpAddr,
        mac: Mac,
    ) -> Result<(), KernelError> {
        let index = self.index_of(link)?;
        let header = ndmsg(family(addr.is_ipv6()), index, NUD_PERMANENT, 0);
        let mut put = Message::new(NEWNEIGH, flag::CREATE | flag::REPLACE, &header);
        put.bytes(NDA_DST, &octets(addr)).bytes(NDA_LLADDR, &mac.0);
        self.socket.request(&format!("put neighbour {addr} on {link}"), put)
    }

    pub fn del_neighbour(&mut self, link: &LinkName, addr: IpAddr) -> Result<(), KernelError> {
        let index = self.index_of(link)?;
        let mut del = Message::new(DELNEIGH, 0, &ndmsg(family(addr.is_ipv6()), index, 0, 0));
        del.bytes(NDA_DST, &octets(addr));
        self.socket.request(&format!("delete neighbour {addr} of {link}"), del)
    }

    /// Permanent ones of the namespace.
    pub fn neighbours(
        &mut self,
        links: &Links,
    ) -> Result<Vec<(LinkName, IpAddr, Mac)>, KernelError> {
        let mut all = Vec::new();
        for ipv6 in [false, true] {
            let list = Message::new(GETNEIGH, 0, &ndmsg(family(ipv6), 0, 0, 0));
            let some: Vec<_> =
                self.socket.dump("list neighbours", &list, |found: &mut Vec<_>, _, body| {
                    found.extend(decode(body, links));
                })?;
            all.extend(some);
        }
        Ok(all)
    }
}

fn decode(body: &[u8], links: &Links) -> Option<(LinkName, IpAddr, Mac)> {
    let (index, state, _) = decode_ndmsg(body)?;
    if state & NUD_PERMANENT == 0 {
        return None;
    }
    let attrs = Attrs(&body[RTM_LEN..]);
    let mac = attrs.get(NDA_LLADDR)?.try_into().ok()?;
    Some((links.name(index)?.clone(), attrs.get(NDA_DST).and_then(ip)?, Mac(mac)))
}

/// Interface index, state, flags.
pub(super) fn decode_ndmsg(body: &[u8]) -> Option<(u32, u16, u8)> {
    let header = body.first_chunk::<RTM_LEN>()?;
    let index = ne32(&header[4..])?;
    Some((index, u16::from_ne_bytes([header[8], header[9]]), header[10]))
}
