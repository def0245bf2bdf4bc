//! Which nodes a lab has, and with which names, addresses, links and folders. Pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};
use swarmnet_types::Mac;

/// What a node of a lab is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    Manager,
    Agent,
    /// An outsider: an address on the underlay, no daemon.
    Client,
}

impl Kind {
    /// First letter of its nodes' names.
    const fn letter(self) -> char {
        match self {
            Self::Manager => 'm',
            Self::Agent => 'a',
            Self::Client => 'c',
        }
    }

    /// Last octet of the first one's address; the next have the next.
    const fn first_host(self) -> u8 {
        match self {
            Self::Manager => 11,
            Self::Agent => 51,
            Self::Client => 101,
        }
    }

    /// How many fit between its first address and the next kind's, or the end of a /24.
    pub(crate) const fn count_max(self) -> u8 {
        match self {
            Self::Manager => 40,
            Self::Agent => 50,
            Self::Client => 150,
        }
    }

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Manager => "manager",
            Self::Agent => "agent",
            Self::Client => "client",
        }
    }

    pub(crate) const fn has_daemon(self) -> bool {
        !matches!(self, Self::Client)
    }
}

/// One node: a name and its place on the underlay.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Node {
    pub(crate) name: String,
    pub(crate) kind: Kind,
    pub(crate) ipv4: Ipv4Addr,
    pub(crate) ipv6: Option<Ipv6Addr>,
}

/// The wire between the nodes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Underlay {
    pub(crate) ipv4: Ipv4Net,
    pub(crate) ipv6: Option<Ipv6Net>,
    pub(crate) mtu_bytes: u32,
}

/// Why an underlay cannot be what was asked for.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LayoutError {
    #[error("invalid underlay {net}: want a /24 without host bits, such as 192.0.2.0/24")]
    Underlay { net: Ipv4Net },
    #[error("invalid MTU {mtu}: want 576 to 65535, and at least 1280 with --ipv6")]
    Mtu { mtu: u32 },
    #[error("too many {kind}s: at most {max} fit the underlay")]
    TooMany { kind: &'static str, max: u8 },
}

impl Underlay {
    pub(crate) fn new(ipv4: Ipv4Net, ipv6: bool, mtu_bytes: u32) -> Result<Self, LayoutError> {
        if ipv4.prefix_len() != 24 || ipv4.trunc() != ipv4 {
            return Err(LayoutError::Underlay { net: ipv4 });
        }
        // RFC 791: every host takes 576 bytes; RFC 8200 §5: IPv6 needs 1280.
        if !(576..=65_535).contains(&mtu_bytes) || (ipv6 && mtu_bytes < 1_280) {
            return Err(LayoutError::Mtu { mtu: mtu_bytes });
        }
        // A unique local prefix (RFC 4193) that shows the IPv4 network it stands beside.
        let [a, b, c, _] = ipv4.network().octets();
        let prefix =
            Ipv6Addr::new(0xfd5a, u16::from_be_bytes([a, b]), u16::from(c) << 8, 0, 0, 0, 0, 0);
        let ipv6 = ipv6.then(|| Ipv6Net::new_assert(prefix, 64));
        Ok(Self { ipv4, ipv6, mtu_bytes })
    }

    /// The addresses of host `number`; in IPv6 the number is written with the same digits.
    fn host(&self, number: u8) -> (Ipv4Addr, Option<Ipv6Addr>) {
        let [a, b, c, _] = self.ipv4.network().octets();
        let digits = u16::from_str_radix(&number.to_string(), 16).expect("decimal digits are hex");
        let ipv6 = self.ipv6.map(|net| {
            let mut segments = net.network().segments();
            segments[7] = digits;
            Ipv6Addr::from(segments)
        });
        (Ipv4Addr::new(a, b, c, number), ipv6)
    }

    /// The underlay's own addresses: the way out of every node.
    pub(crate) fn gateways(&self) -> Vec<IpNet> {
        let (v4, v6) = self.host(1);
        with_prefix(v4, v6)
    }
}

/// Addresses of a /24 and a /64.
fn with_prefix(v4: Ipv4Addr, v6: Option<Ipv6Addr>) -> Vec<IpNet> {
    let v6 = v6.map(|v6| IpNet::V6(Ipv6Net::new_assert(v6, 64)));
    std::iter::once(IpNet::V4(Ipv4Net::new_assert(v4, 24))).chain(v6).collect()
}

impl Node {
    /// The `ordinal`-th of its kind, from 1.
    pub(crate) fn new(kind: Kind, ordinal: u8, underlay: &Underlay) -> Result<Self, LayoutError> {
        let max = kind.count_max();
        if ordinal == 0 || ordinal > max {
            return Err(LayoutError::TooMany { kind: kind.as_str(), max });
        }
        let (ipv4, ipv6) = underlay.host(kind.first_host() + (ordinal - 1));
        Ok(Self { name: format!("{}{ordinal}", kind.letter()), kind, ipv4, ipv6 })
    }

    /// Its addresses with prefix length.
    pub(crate) fn addrs(&self) -> Vec<IpNet> {
        with_prefix(self.ipv4, self.ipv6)
    }

    pub(crate) fn ips(&self) -> impl Iterator<Item = IpAddr> {
        std::iter::once(IpAddr::V4(self.ipv4)).chain(self.ipv6.map(IpAddr::V6))
    }

    /// `02:4c:…` (L for lab) and the IPv4 address.
    pub(crate) fn mac(&self) -> Mac {
        let [a, b, c, d] = self.ipv4.octets();
        Mac([0x02, 0x4c, a, b, c, d])
    }

    /// Its port on the underlay's bridge.
    pub(crate) fn port(&self) -> String {
        format!("p-{}", self.name)
    }
}

/// The folders of a lab.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Folder(pub(crate) PathBuf);

impl Folder {
    pub(crate) fn record(&self) -> PathBuf {
        self.0.join("lab.json")
    }

    pub(crate) fn node(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub(crate) fn state(&self, name: &str) -> PathBuf {
        self.node(name).join("state")
    }

    pub(crate) fn run(&self, name: &str) -> PathBuf {
        self.node(name).join("run")
    }

    pub(crate) fn log(&self, name: &str) -> PathBuf {
        self.state(name).join("daemon.log")
    }

    pub(crate) fn socket(&self, name: &str) -> PathBuf {
        self.run(name).join("swarmnet.sock")
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn underlay(ipv6: bool) -> Underlay {
        Underlay::new("192.0.2.0/24".parse().expect("valid"), ipv6, 1_500).expect("valid")
    }

    #[test]
    fn addresses_follow_kind_and_number() {
        for (kind, ordinal, name, v4, v6) in [
            (Kind::Manager, 1, "m1", "192.0.2.11", "fd5a:c000:200::11"),
            (Kind::Agent, 3, "a3", "192.0.2.53", "fd5a:c000:200::53"),
            (Kind::Client, 1, "c1", "192.0.2.101", "fd5a:c000:200::101"),
        ] {
            let node = Node::new(kind, ordinal, &underlay(true)).expect("fits");
            assert_eq!(node.name, name);
            assert_eq!(node.ips().map(|ip| ip.to_string()).collect::<Vec<_>>(), [v4, v6]);
        }
        assert!(Node::new(Kind::Agent, 1, &underlay(false)).expect("fits").ipv6.is_none());
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        assert!(Underlay::new("192.0.2.0/25".parse().expect("valid"), false, 1_500).is_err());
        assert!(Underlay::new("192.0.2.1/24".parse().expect("valid"), false, 1_500).is_err());
        assert!(Underlay::new("192.0.2.0/24".parse().expect("valid"), true, 1_279).is_err());
        assert!(Node::new(Kind::Manager, 41, &underlay(false)).is_err());
    }
}
