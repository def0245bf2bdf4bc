//! Links: made, changed, removed.
//!
//! What cannot be given at creation (alias, address generation) is set by a second message before anything brings the link up;
//! when that fails the link is removed again, so a link is whole or absent.

use swarmnet_dataplane::{LinkChange, LinkKind, LinkName, PortFlags, Vxlan};
use swarmnet_types::Mac;

use super::Route;
use super::wire::{
    AF_BRIDGE, AF_UNSPEC, DELLINK, GETLINK, IFINFO_LEN, NEWLINK, SETLINK, family, ifinfomsg, octets,
};
use crate::error::KernelError;
use crate::netlink::{Attrs, Message, flag, ne32};
use crate::netns::Netns;

pub(super) mod ifla {
    pub(in crate::route) const ADDRESS: u16 = 1;
    pub(in crate::route) const IFNAME: u16 = 3;
    pub(in crate::route) const MTU: u16 = 4;
    pub(in crate::route) const MASTER: u16 = 10;
    pub(in crate::route) const PROTINFO: u16 = 12;
    pub(in crate::route) const LINKINFO: u16 = 18;
    pub(in crate::route) const IFALIAS: u16 = 20;
    pub(in crate::route) const AF_SPEC: u16 = 26;
    pub(in crate::route) const NET_NS_FD: u16 = 28;
    pub(in crate::route) const EXT_MASK: u16 = 29;
    pub(in crate::route) const INFO_KIND: u16 = 1;
    pub(in crate::route) const INFO_DATA: u16 = 2;
    pub(in crate::route) const INFO_SLAVE_KIND: u16 = 4;
    pub(in crate::route) const INFO_SLAVE_DATA: u16 = 5;
    /// `IFLA_INET6_ADDR_GEN_MODE`; 1 is none.
    pub(in crate::route) const INET6_ADDR_GEN_MODE: u16 = 8;
    pub(in crate::route) const ADDR_GEN_NONE: u8 = 1;
}

pub(super) mod vxlan {
    pub(in crate::route) const ID: u16 = 1;
    pub(in crate::route) const LOCAL: u16 = 4;
    pub(in crate::route) const TTL: u16 = 5;
    pub(in crate::route) const LEARNING: u16 = 7;
    pub(in crate::route) const PROXY: u16 = 11;
    pub(in crate::route) const PORT: u16 = 15;
    pub(in crate::route) const LOCAL6: u16 = 17;
    pub(in crate::route) const UDP_CSUM: u16 = 18;
    pub(in crate::route) const UDP_ZERO_CSUM6_RX: u16 = 20;
}

pub(super) mod bridge {
    pub(in crate::route) const AGEING_TIME: u16 = 4;
    pub(in crate::route) const STP_STATE: u16 = 5;
    pub(in crate::route) const MCAST_SNOOPING: u16 = 23;
    /// Centiseconds; Linux' own default.
    pub(in crate::route) const AGEING_DEFAULT: u32 = 30_000;
}

pub(super) mod port {
    pub(in crate::route) const HAIRPIN: u16 = 4;
    pub(in crate::route) const LEARNING: u16 = 8;
    pub(in crate::route) const FLOOD: u16 = 9;
    pub(in crate::route) const MCAST_FLOOD: u16 = 27;
    pub(in crate::route) const BCAST_FLOOD: u16 = 30;
    pub(in crate::route) const ISOLATED: u16 = 33;
}

/// `VETH_INFO_PEER`.
const VETH_PEER: u16 = 1;
const IFF_UP: u32 = 1;
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
        let mut get = Message::new(GETLINK, 0, &ifinfomsg(AF_UNSPEC, 0, 0, 0));
        get.text(ifla::IFNAME, link.as_str());
        match self.socket.get(&format!("get link {link}"), get) {
            Ok((_, body)) => Ok(body.get(4..).and_then(ne32).unwrap_or_default()),
            Err(err) if err.is_gone() => Err(KernelError::NoLink { name: link.to_string() }),
            Err(err) => Err(err),
        }
    }

    /// A bridge without spanning tree and multicast snooping; without `ageing` it never learns.
    pub fn add_bridge(&mut self, new: &NewLink<'_>, ageing: bool) -> Result<(), KernelError> {
        // The MTU comes with the second message: given here it would be overridden when the first port joins.
        let mut add = birth(&NewLink { mtu_bytes: None, ..*new });
        add.nest(ifla::LINKINFO, |m| {
            m.text(ifla::INFO_KIND, "bridge").nest(ifla::INFO_DATA, |m| {
                m.u32(bridge::AGEING_TIME, if ageing { bridge::AGEING_DEFAULT } else { 0 });
                m.u32(bridge::STP_STATE, 0).u8(bridge::MCAST_SNOOPING, 0);
            });
        });
        self.socket.request(&format!("add bridge {}", new.name), add)?;
        self.finish_link(new)
    }

    /// A VXLAN device that is born in `home`'s namespace while its UDP socket is in this one.
    pub fn add_vxlan(
        &mut self,
        new: &NewLink<'_>,
        vxlan: &Vxlan,
        home: Option<(&Netns, &mut Route)>,
    ) -> Result<(), KernelError> {
        let mut add = birth(new);
        if let Some((netns, _)) = &home {
            add.u32(ifla::NET_NS_FD, netns.raw_fd().cast_unsigned());
        }
        add.nest(ifla::LINKINFO, |m| {
            m.text(ifla::INFO_KIND, "vxlan").nest(ifla::INFO_DATA, |m| vxlan_data(m, vxlan));
        });
        self.socket.request(&format!("add vxlan {} ({})", new.name, vxlan.vni), add)?;
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
        let mut add = birth(new);
        add.nest(ifla::LINKINFO, |m| {
            m.text(ifla::INFO_KIND, "veth").nest(ifla::INFO_DATA, |m| {
                m.nest(VETH_PEER, |m| {
                    m.raw(&ifinfomsg(AF_UNSPEC, 0, 0, 0));
                    identity(m, peer);
                    m.u32(ifla::NET_NS_FD, peer_netns.raw_fd().cast_unsigned());
                });
            });
        });
        self.socket.request(&format!("add veth {} and {}", new.name, peer.name), add)?;
        // Removing either end removes both.
        peer_route.finish_link(peer)?;
        self.finish_link(new)
    }

    /// Sets what creation cannot; removes the link when that fails.
    fn finish_link(&mut self, new: &NewLink<'_>) -> Result<(), KernelError> {
        let mut set = Message::new(SETLINK, 0, &ifinfomsg(AF_UNSPEC, 0, 0, 0));
        set.text(ifla::IFNAME, new.name.as_str()).text(ifla::IFALIAS, new.alias);
        if let Some(mtu) = new.mtu_bytes {
            set.u32(ifla::MTU, mtu);
        }
        let mut done = self.socket.request(&format!("set up link {}", new.name), set);
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
        let mut set = Message::new(SETLINK, 0, &ifinfomsg(AF_UNSPEC, 0, 0, 0));
        set.text(ifla::IFNAME, link.as_str()).nest(ifla::AF_SPEC, |m| {
            m.nest(u16::from(family(true)), |m| {
                m.u8(ifla::INET6_ADDR_GEN_MODE, ifla::ADDR_GEN_NONE);
            });
        });
        match self.socket.request(&format!("set link {link} addrgenmode none"), set) {
            Err(err) if err.errno() == Some(libc::EAFNOSUPPORT) => Ok(()),
            other => other,
        }
    }

    /// Brings up, moves, renames nothing: one attribute at a time.
    pub fn set_link(&mut self, link: &LinkName, change: &LinkChange) -> Result<(), KernelError> {
        let index = self.index_of(link)?;
        let what = format!("set link {link} {change}");
        let plain = |flags| Message::new(SETLINK, 0, &ifinfomsg(AF_UNSPEC, index, flags, flags));
        let mut set = plain(0);
        match change {
            LinkChange::Mac(mac) => {
                set.bytes(ifla::ADDRESS, &mac.0);
            }
            LinkChange::MtuBytes(mtu) => {
                set.u32(ifla::MTU, *mtu);
            }
            LinkChange::Up => set = plain(IFF_UP),
            LinkChange::Master(None) => {
                set.u32(ifla::MASTER, 0);
            }
            LinkChange::Master(Some(master)) => {
                let master = self.index_of(master)?;
                set.u32(ifla::MASTER, master);
            }
            LinkChange::Port(flags) => set = port_message(index, *flags),
            LinkChange::Alias(alias) => {
                set.text(ifla::IFALIAS, alias);
            }
        }
        self.socket.request(&what, set)
    }

    /// With all that hangs on it.
    pub fn del_link(&mut self, link: &LinkName) -> Result<(), KernelError> {
        let mut del = Message::new(DELLINK, 0, &ifinfomsg(AF_UNSPEC, 0, 0, 0));
        del.text(ifla::IFNAME, link.as_str());
        self.socket.request(&format!("delete link {link}"), del)
    }
}

fn identity(m: &mut Message, new: &NewLink<'_>) {
    m.text(ifla::IFNAME, new.name.as_str());
    if let Some(mac) = new.mac {
        m.bytes(ifla::ADDRESS, &mac.0);
    }
    if let Some(mtu) = new.mtu_bytes {
        m.u32(ifla::MTU, mtu);
    }
}

fn birth(new: &NewLink<'_>) -> Message {
    let header = ifinfomsg(AF_UNSPEC, 0, 0, 0);
    let mut add = Message::new(NEWLINK, flag::CREATE | flag::EXCL, &header);
    identity(&mut add, new);
    add
}

fn vxlan_data(m: &mut Message, vxlan: &Vxlan) {
    m.u32(vxlan::ID, vxlan.vni.get());
    let local = if vxlan.local.is_ipv6() { vxlan::LOCAL6 } else { vxlan::LOCAL };
    m.bytes(local, &octets(vxlan.local)).be16(vxlan::PORT, vxlan.port).u8(vxlan::TTL, VXLAN_TTL);
    m.u8(vxlan::LEARNING, 0).u8(vxlan::PROXY, u8::from(vxlan.proxy)).u8(vxlan::UDP_CSUM, 1);
    // Peers may leave the outer checksum out over IPv6 (RFC 6935); the inner ones protect the payload.
    m.u8(vxlan::UDP_ZERO_CSUM6_RX, 1);
}

fn port_message(index: u32, flags: PortFlags) -> Message {
    let mut set = Message::new(SETLINK, 0, &ifinfomsg(AF_BRIDGE, index, 0, 0));
    set.nest(ifla::PROTINFO, |m| {
        m.u8(port::LEARNING, u8::from(flags.learning)).u8(port::FLOOD, u8::from(flags.flood));
        m.u8(port::MCAST_FLOOD, u8::from(flags.mcast_flood));
        m.u8(port::BCAST_FLOOD, u8::from(flags.bcast_flood));
        m.u8(port::ISOLATED, u8::from(flags.isolated)).u8(port::HAIRPIN, u8::from(flags.hairpin));
    });
    set
}

/// What a dumped link is.
pub(super) fn decode_kind(info: Attrs<'_>, is_loopback: bool) -> LinkKind {
    if is_loopback {
        return LinkKind::Loopback;
    }
    let data = info.nested(ifla::INFO_DATA);
    match info.text(ifla::INFO_KIND).as_deref() {
        Some("veth") => LinkKind::Veth,
        Some("bridge") => LinkKind::Bridge { ageing: data.u32(bridge::AGEING_TIME) != Some(0) },
        Some("vxlan") => decode_vxlan(data).map_or(LinkKind::Other, LinkKind::Vxlan),
        _ => LinkKind::Other,
    }
}

fn decode_vxlan(data: Attrs<'_>) -> Option<Vxlan> {
    let local = data.get(vxlan::LOCAL).or_else(|| data.get(vxlan::LOCAL6));
    if data.u8(vxlan::LEARNING) != Some(0) {
        return None; // Somebody else's: ours never learn.
    }
    Some(Vxlan {
        vni: swarmnet_types::Vni::new(data.u32(vxlan::ID)?).ok()?,
        local: local.and_then(super::wire::ip)?,
        port: data.get(vxlan::PORT).and_then(crate::netlink::be16)?,
        proxy: data.u8(vxlan::PROXY) == Some(1),
    })
}

/// What a dumped bridge port does.
pub(super) fn decode_port(info: Attrs<'_>) -> Option<PortFlags> {
    if info.text(ifla::INFO_SLAVE_KIND).as_deref() != Some("bridge") {
        return None;
    }
    let data = info.nested(ifla::INFO_SLAVE_DATA);
    let on = |kind| data.u8(kind) == Some(1);
    Some(PortFlags {
        learning: on(port::LEARNING),
        flood: on(port::FLOOD),
        mcast_flood: on(port::MCAST_FLOOD),
        bcast_flood: on(port::BCAST_FLOOD),
        isolated: on(port::ISOLATED),
        hairpin: on(port::HAIRPIN),
    })
}

/// `ifi_index` and `ifi_flags` of a dumped link.
pub(super) fn decode_header(body: &[u8]) -> Option<(u32, u32)> {
    (body.len() >= IFINFO_LEN).then_some(())?;
    Some((ne32(&body[4..])?, ne32(&body[8..])?))
}
