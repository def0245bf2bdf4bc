//! Addresses: subnets of either family, MAC addresses, VXLAN network identifiers, and a pair of addresses of both families.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// What is wrong with a subnet, MAC or VNI that a user or a peer wrote.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum AddrError {
    /// Docker's words (`sw:C3`).
    #[error("invalid subnet: invalid CIDR address: {text}")]
    Cidr { text: String },
    /// Docker's words (`sw:C15`).
    #[error("invalid subnet {text}: it should be {should}")]
    HostBits { text: String, should: IpNet },
    #[error("{text} is not a valid mac address")]
    Mac { text: String },
    #[error("invalid VXLAN network identifier {vni}: want 1 to 16777215")]
    Vni { vni: u32 },
}

/// A subnet without host bits, of either family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Subnet(IpNet);

impl Subnet {
    /// # Errors
    /// [`AddrError::HostBits`] when bits are set behind the prefix.
    pub fn new(net: IpNet) -> Result<Self, AddrError> {
        if net.trunc() == net {
            Ok(Self(net))
        } else {
            Err(AddrError::HostBits { text: net.to_string(), should: net.trunc() })
        }
    }

    pub fn net(&self) -> IpNet {
        self.0
    }

    pub fn prefix_len(&self) -> u8 {
        self.0.prefix_len()
    }

    pub fn is_ipv6(&self) -> bool {
        matches!(self.0, IpNet::V6(_))
    }

    pub fn contains(&self, addr: IpAddr) -> bool {
        self.0.contains(&addr)
    }

    pub fn overlaps(&self, other: &Self) -> bool {
        self.0.contains(&other.0.network()) || other.0.contains(&self.0.network())
    }

    /// The first address and, for IPv4, the last one: no host may have them. Subnets of one or two addresses have no edges
    /// (RFC 3021; RFC 4291 §2.6.1 for the subnet-router anycast address, RFC 6164 for /127).
    pub fn is_edge(&self, addr: IpAddr) -> bool {
        match self.0 {
            IpNet::V4(net) => {
                net.prefix_len() < 31
                    && (addr == IpAddr::V4(net.network()) || addr == IpAddr::V4(net.broadcast()))
            }
            IpNet::V6(net) => net.prefix_len() < 127 && addr == IpAddr::V6(net.network()),
        }
    }

    /// `addr` with this subnet's prefix length, as interfaces and Docker's JSON want it.
    ///
    /// # Panics
    /// When `addr` is of the other family.
    pub fn with_host(&self, addr: IpAddr) -> IpNet {
        assert_eq!(addr.is_ipv6(), self.is_ipv6(), "one family");
        IpNet::new(addr, self.prefix_len()).expect("the prefix length fits its own family")
    }
}

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Subnet {
    type Err = AddrError;

    fn from_str(text: &str) -> Result<Self, AddrError> {
        Self::new(text.parse().map_err(|_| AddrError::Cidr { text: text.to_owned() })?)
    }
}

/// A 48-bit Ethernet address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// The address that follows from an IPv4 address, as Docker's does: `02:42:` and its four bytes. A task that moves with
    /// its address therefore keeps its MAC.
    pub const fn from_ipv4(addr: Ipv4Addr) -> Self {
        let [a, b, c, d] = addr.octets();
        Self([0x02, 0x42, a, b, c, d])
    }

    /// For endpoints without IPv4: `02:42:` and the last four bytes of the IPv6 address. Unique as long as a network's
    /// allocator does not give two addresses with equal low 32 bits, which it refuses.
    pub const fn from_ipv6(addr: Ipv6Addr) -> Self {
        let o = addr.octets();
        Self([0x02, 0x42, o[12], o[13], o[14], o[15]])
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = self.0.map(|byte| format!("{byte:02x}"));
        f.write_str(&parts.join(":"))
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Mac {
    type Err = AddrError;

    fn from_str(text: &str) -> Result<Self, AddrError> {
        let err = || AddrError::Mac { text: text.to_owned() };
        let mut bytes = [0; 6];
        let mut parts = text.split([':', '-']);
        for byte in &mut bytes {
            let part = parts.next().filter(|p| p.len() == 2).ok_or_else(err)?;
            *byte = u8::from_str_radix(part, 16).map_err(|_| err())?;
        }
        if parts.next().is_some() { Err(err()) } else { Ok(Self(bytes)) }
    }
}

/// A VXLAN network identifier: 24 bits, not zero (RFC 7348 §5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Vni(u32);

impl Vni {
    pub const MAX: u32 = (1 << 24) - 1;
    /// The ingress fabric's, and the first of those the cluster gives out.
    pub const INGRESS: Self = Self(4096);

    /// # Errors
    /// [`AddrError::Vni`] when out of range.
    pub const fn new(vni: u32) -> Result<Self, AddrError> {
        if vni == 0 || vni > Self::MAX { Err(AddrError::Vni { vni }) } else { Ok(Self(vni)) }
    }

    pub const fn get(self) -> u32 {
        self.0
    }
}

impl fmt::Display for Vni {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// At most one address of each family.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub struct DualStack {
    pub v4: Option<Ipv4Addr>,
    pub v6: Option<Ipv6Addr>,
}

impl DualStack {
    pub const fn new(v4: Option<Ipv4Addr>, v6: Option<Ipv6Addr>) -> Self {
        Self { v4, v6 }
    }

    pub const fn is_empty(&self) -> bool {
        self.v4.is_none() && self.v6.is_none()
    }

    /// IPv4 first.
    pub fn iter(&self) -> impl Iterator<Item = IpAddr> {
        self.v4.map(IpAddr::V4).into_iter().chain(self.v6.map(IpAddr::V6))
    }

    pub fn contains(&self, addr: IpAddr) -> bool {
        self.iter().any(|a| a == addr)
    }

    /// The MAC that follows from these addresses; `None` when there are none.
    pub fn mac(&self) -> Option<Mac> {
        self.v4.map(Mac::from_ipv4).or_else(|| self.v6.map(Mac::from_ipv6))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subnet_refuses_host_bits_with_dockers_words() {
        let err = "10.0.0.1/24".parse::<Subnet>().expect_err("host bits");
        assert_eq!(err.to_string(), "invalid subnet 10.0.0.1/24: it should be 10.0.0.0/24");
        assert!("10.0.0.0".parse::<Subnet>().is_err());
        assert!("fd00::/64".parse::<Subnet>().is_ok_and(|s| s.is_ipv6()));
    }

    #[test]
    fn overlap_is_symmetric_and_by_family() {
        let s = |t: &str| t.parse::<Subnet>().expect("valid");
        assert!(s("10.0.0.0/8").overlaps(&s("10.1.0.0/16")));
        assert!(s("10.1.0.0/16").overlaps(&s("10.0.0.0/8")));
        assert!(!s("10.1.0.0/16").overlaps(&s("10.2.0.0/16")));
        assert!(!s("0.0.0.0/0").overlaps(&s("::/0")));
    }

    #[test]
    fn mac_follows_from_the_address() {
        assert_eq!(Mac::from_ipv4(Ipv4Addr::new(10, 0, 0, 5)).to_string(), "02:42:0a:00:00:05");
        assert_eq!("02:42:0a:00:00:05".parse(), Ok(Mac::from_ipv4(Ipv4Addr::new(10, 0, 0, 5))));
        for bad in
            ["02:42:0a:00:00", "02:42:0a:00:00:05:06", "2:42:0a:00:00:05", "zz:42:0a:00:00:05"]
        {
            assert!(bad.parse::<Mac>().is_err(), "{bad}");
        }
    }
}
