//! Allocators: what is free, and which comes next. They only look; the transaction takes.
//!
//! What is taken follows from the objects (endpoints, virtual addresses, networks, publications) and is kept as [`Spans`] by the
//! index, so nothing can leak. Only cursors are state of their own: each allocator hands out in turn and comes back to a
//! freed value after all the others (`sw:T42`).

pub(crate) mod ipam;
pub(crate) mod pools;
pub(crate) mod ports;
pub(crate) mod spans;

pub(crate) use spans::Spans;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// An address as a number, within its own family.
pub(crate) fn number(addr: IpAddr) -> u128 {
    match addr {
        IpAddr::V4(a) => u128::from(a.to_bits()),
        IpAddr::V6(a) => a.to_bits(),
    }
}

/// The address of a number that [`number`] gave, or that lies in a subnet of that family.
pub(crate) fn address(number: u128, ipv6: bool) -> IpAddr {
    if ipv6 {
        Ipv6Addr::from_bits(number).into()
    } else {
        Ipv4Addr::from_bits(number as u32).into()
    }
}

/// First and last number of a subnet.
pub(crate) fn bounds(subnet: swarmnet_types::Subnet) -> (u128, u128) {
    (number(subnet.net().network()), number(subnet.net().broadcast()))
}
