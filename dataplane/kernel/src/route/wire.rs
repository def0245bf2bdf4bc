//! Numbers and fixed headers of rtnetlink, as far as more than one file uses them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

pub(super) const AF_UNSPEC: u8 = 0;
pub(super) const AF_BRIDGE: u8 = 7;

pub(super) const NEWLINK: u16 = 16;
pub(super) const DELLINK: u16 = 17;
pub(super) const GETLINK: u16 = 18;
pub(super) const SETLINK: u16 = 19;
pub(super) const NEWADDR: u16 = 20;
pub(super) const DELADDR: u16 = 21;
pub(super) const GETADDR: u16 = 22;
pub(super) const NEWROUTE: u16 = 24;
pub(super) const DELROUTE: u16 = 25;
pub(super) const GETROUTE: u16 = 26;
pub(super) const NEWNEIGH: u16 = 28;
pub(super) const DELNEIGH: u16 = 29;
pub(super) const GETNEIGH: u16 = 30;
pub(super) const NEWRULE: u16 = 32;
pub(super) const DELRULE: u16 = 33;
pub(super) const GETRULE: u16 = 34;
pub(super) const NEWNEXTHOP: u16 = 104;
pub(super) const DELNEXTHOP: u16 = 105;
pub(super) const GETNEXTHOP: u16 = 106;

/// Length of `struct ifinfomsg`.
pub(super) const IFINFO_LEN: usize = 16;
/// Length of `struct ifaddrmsg`, and of `struct nhmsg`.
pub(super) const IFADDR_LEN: usize = 8;
/// Length of `struct rtmsg`, `ndmsg` and `fib_rule_hdr`.
pub(super) const RTM_LEN: usize = 12;

/// `AF_INET`, `AF_INET6`.
pub(super) const fn family(ipv6: bool) -> u8 {
    if ipv6 { 10 } else { 2 }
}

/// Whether a family number is IPv6; `None` for others.
pub(super) const fn is_ipv6(family: u8) -> Option<bool> {
    match family {
        2 => Some(false),
        10 => Some(true),
        _ => None,
    }
}

pub(super) fn octets(addr: IpAddr) -> Vec<u8> {
    match addr {
        IpAddr::V4(addr) => addr.octets().to_vec(),
        IpAddr::V6(addr) => addr.octets().to_vec(),
    }
}

/// Four or sixteen bytes.
pub(super) fn ip(bytes: &[u8]) -> Option<IpAddr> {
    if let Ok(v4) = <[u8; 4]>::try_from(bytes) {
        return Some(Ipv4Addr::from(v4).into());
    }
    <[u8; 16]>::try_from(bytes).ok().map(|v6| Ipv6Addr::from(v6).into())
}

/// `struct ifinfomsg`.
pub(super) fn ifinfomsg(family: u8, index: u32, flags: u32, change: u32) -> [u8; IFINFO_LEN] {
    let mut header = [0; IFINFO_LEN];
    header[0] = family;
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    header[8..12].copy_from_slice(&flags.to_ne_bytes());
    header[12..16].copy_from_slice(&change.to_ne_bytes());
    header
}

/// `struct ndmsg`.
pub(super) fn ndmsg(family: u8, index: u32, state: u16, flags: u8) -> [u8; RTM_LEN] {
    let mut header = [0; RTM_LEN];
    header[0] = family;
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    header[8..10].copy_from_slice(&state.to_ne_bytes());
    header[10] = flags;
    header
}
