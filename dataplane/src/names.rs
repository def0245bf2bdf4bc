//! Names, numbers and addresses that mark what is ours in the kernel. They are a contract with earlier and later daemons on the
//! same machine: a changed value orphans what is there.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use swarmnet_types::{EndpointId, Mac, NetworkId, NodeIndex, SandboxId, Vni};

use crate::object::LinkName;

/// How the alias (`ifalias`) of every link of ours begins.
pub const MARKER: &str = "swarmnet:";
/// Our nftables tables, whatever family and namespace.
pub const TABLE: &str = "swarmnet";
/// Comment of our accept rules in other programs' chains.
pub const FORWARD_COMMENT: &str = "swarmnet: forward ours";
/// `rtm_protocol` of our routes and nexthops, `FRA_PROTOCOL` of our rules: 0x53, in the range left to users (`rtnetlink.h`).
pub const ROUTE_PROTOCOL: u8 = 0x53;
/// Routing table of the way back to the entry node, and of a sandbox's replies by its node link.
pub const RETURN_TABLE: u32 = 21_326;
/// Preference of the rules that lead there; below 5210, where Tailscale tests mark bits.
pub const RULE_PREF: u32 = 5_200;

/// The ingress fabric's VXLAN device, in the node's namespace.
pub const SWING: &str = "swing";
/// Every node link on the node's side.
pub const NODE_LINK_GLOB: &str = "snl-*";

/// The marker byte of fabric MACs and marks.
const FABRIC_BYTE: u8 = 0x53;
/// Selects the marker in a mark. A mark is four bytes of a MAC as they lie in memory, so the value depends on the byte order.
pub const MARK_MASK: u32 = u32::from_ne_bytes([0xff, 0, 0, 0]);
/// A packet or connection whose replies go to an entry node.
pub const MARK_VALUE: u32 = u32::from_ne_bytes([FABRIC_BYTE, 0, 0, 0]);
/// Connection mark of what the node table translated, so that our rules touch no other program's translations.
pub const DNAT_MARK: u32 = u32::from_ne_bytes([0x54, 0, 0, 0]);

/// Node side of every node link. Locally administered, the same everywhere.
pub const NODE_LINK_MAC: Mac = Mac([0x02, FABRIC_BYTE, 0xff, 0xff, 0xff, 0xff]);
/// Next hop on a node link, from inside. Link-local, so that it can meet no user's subnet.
pub const NODE_LINK_GATEWAY_V4: Ipv4Addr = Ipv4Addr::new(169, 254, 53, 1);
pub const NODE_LINK_GATEWAY_V6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0x53, 1);
/// Next hop of the way back: its MAC's last four bytes are rewritten at egress to those of the entry node.
pub const RETURN_MAC: Mac = Mac([0x02, FABRIC_BYTE, 0, 0, 0, 0]);
pub const RETURN_GATEWAY_V4: Ipv4Addr = Ipv4Addr::new(169, 254, 53, 254);
pub const RETURN_GATEWAY_V6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0x53fe, 1);

/// `02:53:53:xx:yy:zz`: the last three bytes are the node's index.
pub const fn fabric_mac(index: NodeIndex) -> Mac {
    let [_, x, y, z] = index.get().to_be_bytes();
    Mac([0x02, FABRIC_BYTE, FABRIC_BYTE, x, y, z])
}

/// Link-local address of a peer in the fabric, on `swing` only: `fe80::53:xx:yyzz`.
pub fn fabric_link_local(index: NodeIndex) -> Ipv6Addr {
    let low = index.get();
    Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0x53, (low >> 16) as u16, low as u16)
}

/// Nexthop object of a peer: marker byte by family, then 24 bits of index.
pub const fn nexthop_id(index: NodeIndex, ipv6: bool) -> u32 {
    ((if ipv6 { 0x54 } else { 0x53 }) << 24) | index.get()
}

/// The address of a link by EUI-64 (RFC 4291 appendix A), which the kernel gives to links that carry IPv6.
pub fn link_local(mac: Mac) -> Ipv6Addr {
    let m = mac.0.map(u16::from);
    let (high, middle) = (((m[0] ^ 2) << 8) | m[1], (m[2] << 8) | 0xff);
    Ipv6Addr::new(0xfe80, 0, 0, 0, high, middle, 0xfe00 | m[3], (m[4] << 8) | m[5])
}

/// The first four bytes of an id in hex.
fn hex(id: &[u8; 16]) -> String {
    let [a, b, c, d, ..] = *id;
    format!("{:08x}", u32::from_be_bytes([a, b, c, d]))
}

fn made(name: String) -> LinkName {
    LinkName::new(name).expect("a short prefix and at most 12 hex or 8 decimal digits fit 15 bytes")
}

pub fn swing() -> LinkName {
    made(SWING.to_owned())
}

/// Outer end of an endpoint: in the overlay's namespace or on a bridge of the node.
pub fn endpoint_link(id: EndpointId) -> LinkName {
    made(format!("sn-{}", hex(id.as_bytes())))
}

/// Outer end of a sandbox's node link.
pub fn node_link(id: SandboxId) -> LinkName {
    made(format!("snl-{}", hex(id.as_bytes())))
}

/// Bridge of an overlay, by VNI: unique in the cluster.
pub fn overlay_bridge(vni: Vni) -> LinkName {
    made(format!("br-{vni}"))
}

/// VXLAN device of an overlay.
pub fn overlay_vxlan(vni: Vni) -> LinkName {
    made(format!("vx-{vni}"))
}

/// Bridge of a `bridge` network when the user chose no name: `br-` and 12 hex digits, as Docker's.
pub fn bridge(id: NetworkId) -> LinkName {
    made(format!("br-{}", id.short()))
}

/// Alias of a link: the marker, what it is, and for whom.
pub fn alias(what: &str, whose: &impl std::fmt::Display) -> String {
    format!("{MARKER}{what}:{whose}")
}

/// A single address as a prefix.
pub fn host(addr: IpAddr) -> ipnet::IpNet {
    ipnet::IpNet::from(addr)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fabric_names_carry_the_index() {
        let index = NodeIndex::new(0x0001_0203).expect("24 bits");
        assert_eq!(fabric_mac(index).to_string(), "02:53:53:01:02:03");
        assert_eq!(fabric_link_local(index).to_string(), "fe80::53:1:203");
        assert_eq!(nexthop_id(index, false), 0x5301_0203);
    }

    #[test]
    fn eui64_is_rfc_4291s_example() {
        let mac = Mac([0x34, 0x56, 0x78, 0x9a, 0xbc, 0xde]);
        assert_eq!(link_local(mac).to_string(), "fe80::3656:78ff:fe9a:bcde");
    }
}
