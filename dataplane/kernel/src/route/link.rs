//! Links: made, changed, removed.
//!
//! What cannot be given at creation (alias, address generation) is set by a second message before anything brings the link up;
//! when that fails the link is removed again, so a link is whole or absent.

use std::net::IpAddr;

use rtnetlink::packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::link::{
    AfSpecInet6, AfSpecUnspec, BridgeStpState, In6AddrGenMode, InfoData, InfoVeth, LinkAttribute,
    LinkHeader, LinkMessage,
};
use rtnetlink::{LinkBridge, LinkBridgePort, LinkMessageBuilder, LinkUnspec, LinkVeth, LinkVxlan};
use swarmnet_dataplane::{LinkChange, LinkName, PortFlags, Vxlan};
use swarmnet_types::Mac;

use super::Route;
use crate::error::KernelError;
use crate::netlink::Message;
use crate::netns::Netns;

/// Centiseconds; Linux' own default.
const AGEING_DEFAULT: u32 = 30_000;
/// Hops an outer packet may take: more than any underlay has.
const VXLAN_TTL: u8 = 64;

/// What is set at a link's birth.
#[derive(Debug, Clone, Copy)]
pub struct NewLink<'a> {
    pub name: &'a LinkName,
    pub mac: Option<Mac>,
    pub mtu_bytes: Option<u32>,
    pub alias: &'a str,
    pub no_link_local: bool,
}

impl Route {
    /// # Errors
    /// [`KernelError::NoLink`].
    pub fn index_of(&mut self, link: &LinkName) -> Result<u32, KernelError> {
        let get = RouteNetlinkMessage::GetLink(named(link).build());
        match self.socket.get(&format!("get link {link}"), Message::route(0, get)) {
            Ok(body) => Ok(LinkHeader::parse(&body).unwrap_or_default().index),
            Err(err) if err.is_gone() => Err(KernelError::NoLink { name: link.to_string() }),
            Err(err) => Err(err),
        }
    }

    /// A bridge without spanning tree and multicast snooping; without `ageing` it never learns.
    pub fn add_bridge(&mut self, new: &NewLink<'_>, ageing: bool) -> Result<(), KernelError> {
        // The MTU comes with the second message: given here it would be overridden when the first port joins.
        let bridge = LinkMessageBuilder::<LinkBridge>::new(new.name.as_str());
        let add = birth(bridge, &NewLink { mtu_bytes: None, ..*new })
            .ageing_time(if ageing { AGEING_DEFAULT } else { 0 })
            .stp_state(BridgeStpState::Disabled)
            .mcast_snooping(false);
        self.add_link(&format!("add bridge {}", new.name), add.build())?;
        self.finish_link(new)
    }

    /// A VXLAN device that is born in `home`'s namespace while its UDP socket is in this one.
    pub fn add_vxlan(
        &mut self,
        new: &NewLink<'_>,
        vxlan: &Vxlan,
        home: Option<(&Netns, &mut Route)>,
    ) -> Result<(), KernelError> {
        let mut add = birth(LinkVxlan::new(new.name.as_str(), vxlan.vni.get()), new)
            .port(vxlan.port)
            .ttl(VXLAN_TTL)
            .learning(false)
            .proxy(vxlan.proxy)
            .udp_csum(true)
            // Peers may leave the outer checksum out over IPv6 (RFC 6935); the inner ones protect the payload.
            .udp_zero_csum6_rx(true);
        add = match vxlan.local {
            IpAddr::V4(local) => add.local(local),
            IpAddr::V6(local) => add.local6(local),
        };
        if let Some((netns, _)) = &home {
            add = add.setns_by_fd(netns.raw_fd());
        }
        self.add_link(&format!("add vxlan {} ({})", new.name, vxlan.vni), add.build())?;
        match home {
            Some((_, home)) => home.finish_link(new),
            None => self.finish_link(new),
        }
    }

    /// A pair; the second end is born in `peer_netns`, and `peer_route` is a handle there.
    pub fn add_veth(
        &mut self,
        new: &NewLink<'_>,
        peer: &NewLink<'_>,
        peer_netns: &Netns,
        peer_route: &mut Route,
    ) -> Result<(), KernelError> {
        let end = birth(named(peer.name), peer).setns_by_fd(peer_netns.raw_fd()).build();
        // The builder's own peer is a name alone.
        let add = birth(LinkVeth::new(new.name.as_str(), peer.name.as_str()), new)
            .set_info_data(InfoData::Veth(InfoVeth::Peer(end)));
        self.add_link(&format!("add veth {} and {}", new.name, peer.name), add.build())?;
        // Removing either end removes both.
        peer_route.finish_link(peer)?;
        self.finish_link(new)
    }

    fn add_link(&mut self, what: &str, add: LinkMessage) -> Result<(), KernelError> {
        self.request(what, NLM_F_CREATE | NLM_F_EXCL, RouteNetlinkMessage::NewLink(add))
    }

    /// Sets what creation cannot; removes the link when that fails.
    fn finish_link(&mut self, new: &NewLink<'_>) -> Result<(), KernelError> {
        let mut set = named(new.name).alias(new.alias);
        if let Some(mtu) = new.mtu_bytes {
            set = set.mtu(mtu);
        }
        let set = RouteNetlinkMessage::SetLink(set.build());
        let mut done = self.request(&format!("set up link {}", new.name), 0, set);
        if done.is_ok() && new.no_link_local {
            done = self.set_no_link_local(new.name);
        }
        done.inspect_err(|_| {
            // The error that is returned says what happened; this only takes the half-made link away.
            let _ = self.del_link(new.name);
        })
    }

    /// `addrgenmode none`. A namespace without IPv6 has none anyway.
    fn set_no_link_local(&mut self, link: &LinkName) -> Result<(), KernelError> {
        let none = AfSpecInet6::AddrGenMode(In6AddrGenMode::None);
        let spec = LinkAttribute::AfSpecUnspec(vec![AfSpecUnspec::Inet6(vec![none])]);
        let set = RouteNetlinkMessage::SetLink(named(link).append_extra_attribute(spec).build());
        match self.request(&format!("set link {link} addrgenmode none"), 0, set) {
            Err(err) if err.errno() == Some(libc::EAFNOSUPPORT) => Ok(()),
            other => other,
        }
    }

    /// Brings up, moves, renames nothing: one attribute at a time.
    pub fn set_link(&mut self, link: &LinkName, change: &LinkChange) -> Result<(), KernelError> {
        let index = self.index_of(link)?;
        let set = LinkUnspec::new_with_index(index);
        let set = match change {
            LinkChange::Mac(mac) => set.address(mac.0.into()),
            LinkChange::MtuBytes(mtu) => set.mtu(*mtu),
            LinkChange::Up => set.up(),
            LinkChange::Master(None) => set.nocontroller(),
            LinkChange::Master(Some(master)) => set.controller(self.index_of(master)?),
            LinkChange::Port(flags) => {
                // Data of the master's kind is read in this message only; without CREATE it makes nothing.
                let set = RouteNetlinkMessage::NewLink(port(index, *flags).build());
                return self.request(&format!("set link {link} {change}"), 0, set);
            }
            LinkChange::Alias(alias) => set.alias(alias),
        };
        let set = RouteNetlinkMessage::SetLink(set.build());
        self.request(&format!("set link {link} {change}"), 0, set)
    }

    /// With all that hangs on it.
    pub fn del_link(&mut self, link: &LinkName) -> Result<(), KernelError> {
        let del = RouteNetlinkMessage::DelLink(named(link).build());
        self.request(&format!("delete link {link}"), 0, del)
    }
}

fn named(link: &LinkName) -> LinkMessageBuilder<LinkUnspec> {
    LinkUnspec::new_with_name(link.as_str())
}

fn birth<T>(mut link: LinkMessageBuilder<T>, new: &NewLink<'_>) -> LinkMessageBuilder<T> {
    if let Some(mac) = new.mac {
        link = link.address(mac.0.into());
    }
    if let Some(mtu) = new.mtu_bytes {
        link = link.mtu(mtu);
    }
    link
}

fn port(index: u32, flags: PortFlags) -> LinkMessageBuilder<LinkBridgePort> {
    LinkBridgePort::new(index)
        .learning(flags.learning)
        .flood(flags.flood)
        .mcast_flood(flags.mcast_flood)
        .bcast_flood(flags.bcast_flood)
        .isolated(flags.isolated)
        .hairpin(flags.hairpin)
}
