//! Which address or subnet comes next: pure, sparse, in turn.
//!
//! Inputs: what is taken, as [`Spans`], and a cursor, the value given last. Output: the next free value. The functions only
//! look; their caller takes. The replicated state gives cluster addresses with them, an agent those of its local networks.
//! Invariants: an address is given again only after every other free one; a /8 or a /64 costs what is used of it.
//!
//! Must never: know who holds an address, or where that is kept.
#![forbid(unsafe_code)]

pub mod pool;
pub mod spans;
pub mod subnet;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};
use swarmnet_types::Subnet;

pub use spans::Spans;

/// An address as a number, within its own family.
pub fn number(addr: IpAddr) -> u128 {
    match addr {
        IpAddr::V4(a) => u128::from(a.to_bits()),
        IpAddr::V6(a) => a.to_bits(),
    }
}

/// The address of a number that [`number`] gave, or that lies in a subnet of that family.
pub fn address(number: u128, ipv6: bool) -> IpAddr {
    if ipv6 {
        Ipv6Addr::from_bits(number).into()
    } else {
        Ipv4Addr::from_bits(number as u32).into()
    }
}

/// First and last number of a subnet.
pub fn bounds(subnet: Subnet) -> (u128, u128) {
    (number(subnet.net().network()), number(subnet.net().broadcast()))
}

/// Why nobody may have an address of a subnet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ReservedAs {
    Gateway,
    /// The network or broadcast address.
    Edge,
    Auxiliary,
}

impl fmt::Display for ReservedAs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Gateway => "the gateway",
            Self::Edge => "the network or broadcast address",
            Self::Auxiliary => "an auxiliary address",
        })
    }
}
