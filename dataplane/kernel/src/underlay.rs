//! What the node's own network looks like: which addresses can be advertised, by which device a peer is reached, and how large a
//! packet may be (C1, N8).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use swarmnet_dataplane::{LinkKind, LinkName};

use crate::error::KernelError;
use crate::netns::Netns;
use crate::route::Route;

/// One network device with its addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    pub name: LinkName,
    pub kind: LinkKind,
    pub mtu_bytes: u32,
    pub up: bool,
    /// Made by us: never an underlay.
    pub ours: bool,
    /// Without link-local ones of IPv6, which cannot be told to others.
    pub addrs: Vec<IpNet>,
}

/// How a destination is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Path {
    pub link: LinkName,
    /// The address packets leave with.
    pub source: IpAddr,
    /// Bytes of the layer-3 packet: the device's, or less when the route says so.
    pub mtu_bytes: u32,
}

/// All devices of the namespace.
pub fn interfaces(netns: &Netns) -> Result<Vec<Interface>, KernelError> {
    let mut route = Route::open(netns)?;
    let links = route.links()?;
    let addrs = route.addrs(&links)?;
    let of = |name: &LinkName| {
        let tellable = |net: &IpNet| !is_link_local_v6(net.addr());
        let mine = addrs.iter().filter(|(link, net)| link == name && tellable(net));
        mine.map(|(_, net)| *net).collect()
    };
    Ok(links
        .iter()
        .map(|seen| Interface {
            name: seen.name.clone(),
            kind: seen.link.kind.clone(),
            mtu_bytes: seen.mtu_bytes,
            up: seen.link.up,
            ours: seen.link.alias.starts_with(swarmnet_dataplane::names::MARKER),
            addrs: of(&seen.name),
        })
        .collect())
}

/// Addresses that can be advertised to other nodes: of devices that are up and neither loopback nor ours. More than one means that
/// the user has to choose.
pub fn candidates(netns: &Netns) -> Result<Vec<(LinkName, IpAddr)>, KernelError> {
    let usable = |i: &Interface| i.up && !i.ours && i.kind != LinkKind::Loopback;
    let all = interfaces(netns)?.into_iter().filter(usable);
    Ok(all.flat_map(|i| i.addrs.into_iter().map(move |net| (i.name.clone(), net.addr()))).collect())
}

/// The device that has this address; `None` when none has.
pub fn interface_of(netns: &Netns, addr: IpAddr) -> Result<Option<Interface>, KernelError> {
    let has = |i: &Interface| i.addrs.iter().any(|net| net.addr() == addr);
    Ok(interfaces(netns)?.into_iter().find(has))
}

/// How `to` is reached; `None` when there is no route.
pub fn path_to(netns: &Netns, to: IpAddr) -> Result<Option<Path>, KernelError> {
    let mut route = Route::open(netns)?;
    let links = route.links()?;
    let Some(found) = route.lookup(to)? else { return Ok(None) };
    let Some(seen) = links.get(found.index) else { return Ok(None) };
    let mtu_bytes = found.mtu_bytes.map_or(seen.mtu_bytes, |mtu| mtu.min(seen.mtu_bytes));
    Ok(found.source.map(|source| Path { link: seen.name.clone(), source, mtu_bytes }))
}

/// How the outside world is reached: the path to an address that no network of the node's holds (documentation ranges, RFC 5737
/// and RFC 3849; nothing is sent).
pub fn default_path(netns: &Netns, ipv6: bool) -> Result<Option<Path>, KernelError> {
    let outside: IpAddr = if ipv6 {
        Ipv6Addr::new(0x2001, 0xdb8, 0xffff, 0xffff, 0, 0, 0, 1).into()
    } else {
        Ipv4Addr::new(203, 0, 113, 254).into()
    };
    path_to(netns, outside)
}

fn is_link_local_v6(addr: IpAddr) -> bool {
    matches!(addr, IpAddr::V6(v6) if v6.is_unicast_link_local())
}
