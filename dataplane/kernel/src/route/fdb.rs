//! Forwarding entries: of bridges (which port a MAC is behind) and of VXLAN devices (which VTEP).
//!
//! Scale: one entry for each remote endpoint of a network on its VXLAN device, one for each local one on the bridge.

use std::collections::BTreeSet;
use std::net::IpAddr;

use rtnetlink::packet_core::{NLM_F_APPEND, NLM_F_CREATE, NLM_F_REPLACE};
use rtnetlink::packet_route::neighbour::{
    NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};
use swarmnet_dataplane::{FdbTo, LinkName};
use swarmnet_types::Mac;

use super::neighbour::{Entry, list, message};
use super::{Links, Route};
use crate::error::{KernelError, gone_is_done};

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
        let message = match to {
            // Static in a bridge: neither aged nor a MAC of the bridge's own.
            FdbTo::Port => {
                entry(index, (NeighbourState::Noarp, NeighbourFlags::Controller), mac, None)
            }
            FdbTo::Vtep(vtep) => of_vxlan(index, mac, *vtep),
            FdbTo::Flood(vteps) => return self.put_flood(link, index, mac, vteps),
        };
        let put = RouteNetlinkMessage::NewNeighbour(message);
        self.request(&what, NLM_F_CREATE | NLM_F_REPLACE, put)
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
            let add = RouteNetlinkMessage::NewNeighbour(of_vxlan(index, mac, *vtep));
            let what = format!("append fdb {mac} on {link} dst {vtep}");
            self.request(&what, NLM_F_CREATE | NLM_F_APPEND, add)?;
        }
        for vtep in present.difference(wanted) {
            let del = entry(index, (NeighbourState::None, NeighbourFlags::Own), mac, Some(*vtep));
            let what = format!("delete fdb {mac} on {link} dst {vtep}");
            gone_is_done(self.request(&what, 0, RouteNetlinkMessage::DelNeighbour(del)))?;
        }
        Ok(())
    }

    /// Deletes the MAC's entry, or all of its list.
    pub fn del_fdb(&mut self, link: &LinkName, mac: Mac, to: &FdbTo) -> Result<(), KernelError> {
        let index = self.index_of(link)?;
        let flags = match to {
            FdbTo::Port => NeighbourFlags::Controller,
            FdbTo::Vtep(_) | FdbTo::Flood(_) => NeighbourFlags::Own,
        };
        let del = entry(index, (NeighbourState::None, flags), mac, None);
        let del = RouteNetlinkMessage::DelNeighbour(del);
        self.request(&format!("delete fdb {mac} of {link}"), 0, del)
    }

    /// Static and permanent entries, without those the kernel makes for its own addresses and for multicast groups.
    pub fn fdb(&mut self, links: &Links) -> Result<Vec<FdbEntry>, KernelError> {
        self.list("list fdb", list(AddressFamily::Bridge), |body| decode(body, links))
    }
}

pub(super) fn of_vxlan(index: u32, mac: Mac, vtep: IpAddr) -> NeighbourMessage {
    entry(index, (NeighbourState::Permanent, NeighbourFlags::Own), mac, Some(vtep))
}

fn entry(
    index: u32,
    kind: (NeighbourState, NeighbourFlags),
    mac: Mac,
    vtep: Option<IpAddr>,
) -> NeighbourMessage {
    let mut message = message(AddressFamily::Bridge, index, kind);
    message.attributes.push(NeighbourAttribute::LinkLayerAddress(mac.0.into()));
    message.attributes.extend(vtep.map(|vtep| NeighbourAttribute::Destination(vtep.into())));
    message
}

fn is_of_vxlan(seen: &Entry) -> bool {
    seen.flags.contains(NeighbourFlags::Own) && seen.dst.is_some()
}

/// Whether it is one that we could have made.
pub(super) fn is_of_our_kind(seen: &Entry) -> bool {
    let in_bridge = !seen.flags.contains(NeighbourFlags::Own) && seen.has_master;
    // In a bridge "permanent" is an address of the bridge's own; ours are "static".
    is_of_vxlan(seen) && seen.is(NeighbourState::Permanent)
        || in_bridge && seen.is(NeighbourState::Noarp)
}

fn decode(body: &[u8], links: &Links) -> Option<FdbEntry> {
    let seen = Entry::decode(body).filter(is_of_our_kind)?;
    let link = links.name(seen.index)?.clone();
    Some(FdbEntry { link, mac: seen.mac?, vtep: seen.dst.filter(|_| is_of_vxlan(&seen)) })
}
