//! Forwarding entries: of bridges (which port a MAC is behind) and of VXLAN devices (which VTEP).
//!
//! Scale: one entry for each remote endpoint of a network on its VXLAN device, one for each local one on the bridge.

use std::collections::BTreeSet;
use std::net::IpAddr;

use swarmnet_dataplane::{FdbTo, LinkName};
use swarmnet_types::Mac;

use super::neighbour::{NDA_DST, NDA_LLADDR, NDA_MASTER, NUD_PERMANENT, decode_ndmsg};
use super::wire::{AF_BRIDGE, DELNEIGH, GETNEIGH, NEWNEIGH, RTM_LEN, ip, ndmsg, octets};
use super::{Links, Route};
use crate::error::{KernelError, gone_is_done};
use crate::netlink::{Attrs, Message, flag};

/// Static in a bridge: neither aged nor a MAC of the bridge's own.
const NUD_NOARP: u16 = 0x40;
const NTF_SELF: u8 = 2;
const NTF_MASTER: u8 = 4;

/// One entry; several of one MAC are a flood list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FdbEntry {
    pub link: LinkName,
    pub mac: Mac,
    /// `None`: behind this bridge port.
    pub vtep: Option<IpAddr>,
}

impl Route {
    /// Afterwards exactly `to` is there for the MAC on this link.
    pub fn put_fdb(&mut self, link: &LinkName, mac: Mac, to: &FdbTo) -> Result<(), KernelError> {
        let index = self.index_of(link)?;
        let what = format!("put fdb {mac} on {link} {to}");
        let put = flag::CREATE | flag::REPLACE;
        match to {
            FdbTo::Port => {
                let message = entry((NEWNEIGH, put), index, (NUD_NOARP, NTF_MASTER), mac, None);
                self.socket.request(&what, message)
            }
            FdbTo::Vtep(vtep) => self.socket.request(&what, self_entry(put, index, mac, *vtep)),
            FdbTo::Flood(vteps) => self.put_flood(link, index, mac, vteps),
        }
    }

    /// The kernel cannot replace a list of destinations: what is missing is appended, what is too much deleted.
    fn put_flood(
        &mut self,
        link: &LinkName,
        index: u32,
        mac: Mac,
        wanted: &BTreeSet<IpAddr>,
    ) -> Result<(), KernelError> {
        let links = self.links()?;
        let present: BTreeSet<IpAddr> = self
            .fdb(&links)?
            .into_iter()
            .filter(|e| e.link == *link && e.mac == mac)
            .filter_map(|e| e.vtep)
            .collect();
        for vtep in wanted.difference(&present) {
            let add = self_entry(flag::CREATE | flag::APPEND, index, mac, *vtep);
            self.socket.request(&format!("append fdb {mac} on {link} dst {vtep}"), add)?;
        }
        for vtep in present.difference(wanted) {
            let del = entry((DELNEIGH, 0), index, (0, NTF_SELF), mac, Some(*vtep));
            let what = format!("delete fdb {mac} on {link} dst {vtep}");
            gone_is_done(self.socket.request(&what, del))?;
        }
        Ok(())
    }

    /// Deletes the MAC's entry, or all of its list.
    pub fn del_fdb(&mut self, link: &LinkName, mac: Mac, to: &FdbTo) -> Result<(), KernelError> {
        let index = self.index_of(link)?;
        let flags = if matches!(to, FdbTo::Port) { NTF_MASTER } else { NTF_SELF };
        let del = entry((DELNEIGH, 0), index, (0, flags), mac, None);
        self.socket.request(&format!("delete fdb {mac} of {link}"), del)
    }

    /// Static and permanent entries, without those the kernel makes for its own addresses and for multicast groups.
    pub fn fdb(&mut self, links: &Links) -> Result<Vec<FdbEntry>, KernelError> {
        let list = Message::new(GETNEIGH, 0, &ndmsg(AF_BRIDGE, 0, 0, 0));
        self.socket.dump("list fdb", &list, |found: &mut Vec<_>, _, body| {
            found.extend(decode(body, links));
        })
    }
}

fn self_entry(flags: u16, index: u32, mac: Mac, vtep: IpAddr) -> Message {
    entry((NEWNEIGH, flags), index, (NUD_PERMANENT, NTF_SELF), mac, Some(vtep))
}

fn entry(
    (kind, message_flags): (u16, u16),
    index: u32,
    (state, flags): (u16, u8),
    mac: Mac,
    vtep: Option<IpAddr>,
) -> Message {
    let mut message = Message::new(kind, message_flags, &ndmsg(AF_BRIDGE, index, state, flags));
    message.bytes(NDA_LLADDR, &mac.0);
    if let Some(vtep) = vtep {
        message.bytes(NDA_DST, &octets(vtep));
    }
    message
}

fn decode(body: &[u8], links: &Links) -> Option<FdbEntry> {
    let (index, state, flags) = decode_ndmsg(body)?;
    let attrs = Attrs(&body[RTM_LEN..]);
    let vtep = attrs.get(NDA_DST).and_then(ip);
    let of_vxlan = flags & NTF_SELF != 0 && vtep.is_some();
    let of_bridge = attrs.get(NDA_MASTER).is_some() && flags & NTF_SELF == 0;
    // In a bridge "permanent" is an address of the bridge's own; ours are "static".
    let lasting = if of_vxlan { NUD_PERMANENT } else { NUD_NOARP };
    if !(of_vxlan || of_bridge) || state & lasting == 0 {
        return None;
    }
    let mac = Mac(attrs.get(NDA_LLADDR)?.try_into().ok()?);
    let vtep = if of_vxlan { vtep } else { None };
    Some(FdbEntry { link: links.name(index)?.clone(), mac, vtep })
}
