//! The node's own network as the agent found it: devices, addresses, MTU, settings of the host; and the choice of the addresses
//! that a node tells others (`sw:M7`, `sw:M8`).
//!
//! [`discover`] asks the kernel (blocks for about a millisecond); everything else is pure.

mod choose;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use swarmnet_dataplane::desired::Host;
use swarmnet_dataplane::{LinkKind, LinkName};
use swarmnet_kernel::underlay::{self, Interface};
use swarmnet_kernel::{KernelError, Netns, sysctl};

pub use choose::{AddressError, Advertised, advertise, data_path, listen};

/// Of Ethernet (RFC 894); what is taken for a device that is not there.
const ETHERNET_MTU_BYTES: u32 = 1500;

/// What was found. Equal values mean that nothing changed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Underlay {
    pub interfaces: Vec<Interface>,
    pub host: Host,
    /// Of the device that leads out of the node, when one does.
    pub default_mtu_bytes: Option<u32>,
    /// The next hop of the default route: the gossip's witness when only one other node is left.
    pub gateway: Option<IpAddr>,
}

impl Underlay {
    /// Bytes of the largest layer-3 packet that leaves from `addr`.
    pub fn mtu_bytes(&self, addr: IpAddr) -> u32 {
        let has = |i: &&Interface| i.addrs.iter().any(|net| net.addr() == addr);
        let device = self.interfaces.iter().find(has).map(|i| i.mtu_bytes);
        device.unwrap_or_else(|| self.default_mtu_bytes())
    }

    /// Bytes of the largest layer-3 packet towards the outside.
    pub fn default_mtu_bytes(&self) -> u32 {
        self.default_mtu_bytes.unwrap_or(ETHERNET_MTU_BYTES)
    }

    /// Addresses of the node that are not on a device of ours, nor on loopback.
    pub fn addrs(&self) -> impl Iterator<Item = IpAddr> {
        let usable = |i: &&Interface| !i.ours && i.kind != LinkKind::Loopback;
        let addrs = self.interfaces.iter().filter(usable).flat_map(|i| &i.addrs);
        addrs.map(ipnet::IpNet::addr)
    }
}

/// Looks at the node's namespace. `before` are sysctls as they were before this node changed them.
///
/// # Errors
/// When the kernel does not answer; nothing is known then.
pub fn discover(netns: &Netns, before: &BTreeMap<String, String>) -> Result<Underlay, KernelError> {
    let interfaces = underlay::interfaces(netns)?;
    let paths = [underlay::default_path(netns, false)?, underlay::default_path(netns, true)?];
    let host = host(netns, &interfaces, before)?;
    Ok(Underlay {
        default_mtu_bytes: paths.iter().flatten().map(|p| p.mtu_bytes).min(),
        gateway: gateway_v4(netns)?,
        interfaces,
        host,
    })
}

/// What was set before we touched it counts: forwarding makes us raise `accept_ra` from 1 to 2.
fn host(
    netns: &Netns,
    interfaces: &[Interface],
    before: &BTreeMap<String, String>,
) -> Result<Host, KernelError> {
    const STRICT: &str = "net/ipv4/conf/all/rp_filter";
    let accept_ra = |name: &LinkName| format!("net/ipv6/conf/{name}/accept_ra");
    let foreign = interfaces.iter().filter(|i| !i.ours && i.kind != LinkKind::Loopback);
    let links: Vec<&LinkName> = foreign.map(|i| &i.name).collect();
    let mut keys: BTreeSet<String> = links.iter().map(|l| accept_ra(l)).collect();
    keys.insert(STRICT.to_owned());
    let mut values = sysctl::get_all(netns, &keys)?;
    values.extend(before.clone());
    let is_one = |key: &str| values.get(key).is_some_and(|v| v == "1");
    let took_ra = links.into_iter().filter(|l| is_one(&accept_ra(l)));
    Ok(Host { strict_rp_filter: is_one(STRICT), accept_ra_links: took_ra.cloned().collect() })
}

/// From `/proc/net/route`, read inside the namespace: destination and mask zero, the gateway in the byte order of the host.
fn gateway_v4(netns: &Netns) -> Result<Option<IpAddr>, KernelError> {
    let text = netns.run(|| std::fs::read_to_string("/proc/thread-self/net/route"))?;
    Ok(text.ok().and_then(|text| parse_gateway(&text)))
}

fn parse_gateway(text: &str) -> Option<IpAddr> {
    text.lines().skip(1).find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [_, dst, gateway, _, _, _, _, mask, ..] = fields[..] else { return None };
        let gateway = u32::from_str_radix(gateway, 16).ok()?;
        let is_default = dst == "00000000" && mask == "00000000" && gateway != 0;
        is_default.then(|| IpAddr::from(gateway.to_ne_bytes()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gateway_is_that_of_the_default_route() {
        let text = "Iface Destination Gateway Flags RefCnt Use Metric Mask MTU Window IRTT\n\
                    eth0 0002000A 00000000 0001 0 0 0 00FFFFFF 0 0 0\n\
                    eth0 00000000 0102000A 0003 0 0 0 00000000 0 0 0\n";
        #[cfg(target_endian = "little")]
        assert_eq!(parse_gateway(text), Some(IpAddr::from([10, 0, 2, 1])));
        assert_eq!(parse_gateway(""), None);
        assert_eq!(parse_gateway("head\nshort line"), None);
    }
}
