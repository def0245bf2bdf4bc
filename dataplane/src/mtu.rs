//! How large a packet fits into a VXLAN tunnel.

use std::net::IpAddr;

/// Inner Ethernet 14 + outer IPv4 20 + UDP 8 + VXLAN 8 (RFC 7348 §5).
pub const VXLAN_OVERHEAD_V4_BYTES: u32 = 14 + 20 + 8 + 8;
/// The same with an outer IPv6 header of 40.
pub const VXLAN_OVERHEAD_V6_BYTES: u32 = 14 + 40 + 8 + 8;
/// Least MTU of a link that carries IPv6 (RFC 8200 §5).
pub const IPV6_MIN_MTU_BYTES: u32 = 1280;

/// Largest layer-3 packet inside the tunnel, of an underlay that carries `underlay_mtu_bytes` and whose VTEPs are of `vtep`'s
/// family.
pub const fn vxlan_mtu_bytes(underlay_mtu_bytes: u32, vtep: IpAddr) -> u32 {
    underlay_mtu_bytes.saturating_sub(match vtep {
        IpAddr::V4(_) => VXLAN_OVERHEAD_V4_BYTES,
        IpAddr::V6(_) => VXLAN_OVERHEAD_V6_BYTES,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overhead_is_fifty_and_seventy() {
        assert_eq!(vxlan_mtu_bytes(1500, IpAddr::from([10, 0, 0, 1])), 1450);
        assert_eq!(vxlan_mtu_bytes(1500, IpAddr::from([0u16; 8])), 1430);
        assert_eq!(vxlan_mtu_bytes(9000, IpAddr::from([10, 0, 0, 1])), 8950);
    }
}
