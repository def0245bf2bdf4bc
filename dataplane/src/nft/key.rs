//! Bytes of keys and values, as the kernel holds them.
//!
//! Packet data are in network order, marks and slot numbers in host order. A concatenation pads each field to four bytes; a
//! single field is not padded (`inet_service` alone is two bytes).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use swarmnet_types::{Mac, Protocol, Vni};

use super::table::{Elem, Elems};

/// Longest interface name with its terminating zero (`IFNAMSIZ`).
pub const IFNAME_LEN: usize = 16;

/// Protocol numbers.
pub const TCP: u8 = Protocol::Tcp.number();
pub const UDP: u8 = Protocol::Udp.number();

pub fn ipv4(addr: Ipv4Addr) -> Vec<u8> {
    addr.octets().to_vec()
}

pub fn ipv6(addr: Ipv6Addr) -> Vec<u8> {
    addr.octets().to_vec()
}

pub fn ip(addr: IpAddr) -> Vec<u8> {
    match addr {
        IpAddr::V4(addr) => ipv4(addr),
        IpAddr::V6(addr) => ipv6(addr),
    }
}

/// The address of a value that is one; `None` for any other length.
pub fn read_ip(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)).ok()
}

pub fn mac(mac: Mac) -> Vec<u8> {
    mac.0.to_vec()
}

/// TCP is 6, UDP 17, ICMP 1, ICMPv6 58, SCTP 132.
pub fn l4proto(proto: u8) -> Vec<u8> {
    vec![proto]
}

pub fn port(port: u16) -> Vec<u8> {
    port.to_be_bytes().to_vec()
}

/// A packet or connection mark: host order.
pub fn mark(mark: u32) -> Vec<u8> {
    mark.to_ne_bytes().to_vec()
}

/// A result of numgen or jhash: host order.
pub fn slot(slot: u32) -> Vec<u8> {
    slot.to_ne_bytes().to_vec()
}

/// Bytes 4 to 7 of the VXLAN header: 24 bits of VNI and a reserved byte of zero (RFC 7348 §5). That is bit 96 of the
/// transport header: 64 of UDP and 32 of flags before it.
pub fn vni(vni: Vni) -> Vec<u8> {
    (vni.get() << 8).to_be_bytes().to_vec()
}

/// An interface name, padded with zeros. Longer names than the kernel's are cut, which matches nothing.
pub fn ifname(name: &str) -> Vec<u8> {
    let mut bytes = name.as_bytes().to_vec();
    bytes.truncate(IFNAME_LEN - 1);
    bytes.resize(IFNAME_LEN, 0);
    bytes
}

/// A concatenation: each field padded to a multiple of four bytes.
pub fn concat(fields: &[Vec<u8>]) -> Vec<u8> {
    if let [one] = fields {
        return one.clone();
    }
    let mut key = Vec::with_capacity(fields.iter().map(|f| f.len().next_multiple_of(4)).sum());
    for field in fields {
        key.extend_from_slice(field);
        key.resize(key.len().next_multiple_of(4), 0);
    }
    key
}

/// Elements of an interval set that holds these networks. Ranges of a set must not overlap, so networks inside others are left out
/// and neighbours are joined.
pub fn nets(nets: impl IntoIterator<Item = IpNet>) -> Elems {
    let nets: Vec<IpNet> = nets.into_iter().collect();
    let range = |net: IpNet| (ip(net.network()), Elem::MEMBER.until(ip(net.broadcast())));
    IpNet::aggregate(&nets).into_iter().map(range).collect()
}
