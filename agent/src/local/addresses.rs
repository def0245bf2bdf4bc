//! Addresses of endpoints on local networks: the user's wish checked, or the next free one of each family.
//!
//! Pure. What is taken follows from the sandboxes, so nothing can leak; only cursors are kept beside.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use swarmnet_ipam::{Spans, number, subnet};
use swarmnet_types::network::PREDEFINED;
use swarmnet_types::{AttachmentSpec, DualStack, Mac, Network, NetworkId, Subnet, SubnetSpec};

use super::error::LocalError;
use super::objects::{LocalObjects, SandboxRecord};

/// Where allocation goes on: (network, subnet) → address given last.
pub type AddrCursors = BTreeMap<(NetworkId, Subnet), IpAddr>;

/// Every address of the subnet that cannot be given: reserved or held by an endpoint.
pub fn taken(objects: &LocalObjects, network: NetworkId, spec: &SubnetSpec) -> Spans {
    let mut spans = subnet::reserved_set(spec);
    for addr in held(objects, network).filter(|a| spec.subnet.contains(*a)) {
        spans.insert(number(addr));
    }
    spans
}

fn held(objects: &LocalObjects, network: NetworkId) -> impl Iterator<Item = IpAddr> {
    let all = objects.sandboxes.values().flat_map(|s| &s.attachments);
    all.filter(move |a| a.network.id == network).flat_map(|a| {
        let DualStack { v4, v6 } = a.endpoint.addrs;
        v4.map(IpAddr::V4).into_iter().chain(v6.map(IpAddr::V6))
    })
}

/// Grants the addresses and the MAC of one endpoint on a local network.
///
/// # Errors
/// `sw:C20`, `C22`, `C23`, `R4`.
pub fn grant(
    objects: &LocalObjects,
    network: &Network,
    wish: &AttachmentSpec,
    cursors: &mut AddrCursors,
) -> Result<(DualStack, Mac), LocalError> {
    let predefined = PREDEFINED.contains(&network.spec.name.as_str());
    if predefined && (wish.ipv4.is_some() || wish.ipv6.is_some()) {
        return Err(LocalError::StaticOnDefault);
    }
    if predefined && !wish.aliases.is_empty() {
        return Err(LocalError::AliasOnDefault);
    }
    let v4 = one(objects, network, (false, wish.ipv4.map(IpAddr::V4)), cursors)?;
    let v6 = one(objects, network, (true, wish.ipv6.map(IpAddr::V6)), cursors)?;
    let addrs = DualStack { v4: v4.and_then(as_v4), v6: v6.and_then(as_v6) };
    Ok((addrs, mac(objects, network, wish, addrs)?))
}

fn as_v4(addr: IpAddr) -> Option<Ipv4Addr> {
    match addr {
        IpAddr::V4(addr) => Some(addr),
        IpAddr::V6(_) => None,
    }
}

fn as_v6(addr: IpAddr) -> Option<Ipv6Addr> {
    match addr {
        IpAddr::V6(addr) => Some(addr),
        IpAddr::V4(_) => None,
    }
}

/// The address of one family; `None` when the network has none of it and none was asked for.
fn one(
    objects: &LocalObjects,
    network: &Network,
    (ipv6, wish): (bool, Option<IpAddr>),
    cursors: &mut AddrCursors,
) -> Result<Option<IpAddr>, LocalError> {
    let name = || network.spec.name.clone();
    if let Some(addr) = wish {
        let spec = network.subnet_of(addr).ok_or(LocalError::NoSubnet { addr })?;
        if let Some(what) = subnet::reserved(spec, addr) {
            return Err(LocalError::AddressReserved { addr, what, network: name() });
        }
        if held(objects, network.id).any(|a| a == addr) {
            return Err(LocalError::AddressTaken { addr, network: name() });
        }
        return Ok(Some(addr));
    }
    let specs: Vec<&SubnetSpec> =
        network.subnets.iter().filter(|s| s.subnet.is_ipv6() == ipv6).collect();
    if specs.is_empty() {
        return Ok(None);
    }
    // An endpoint without IPv4 has the low 32 bits of its IPv6 address in its MAC: no two with equal ones.
    let low: Vec<u128> = held(objects, network.id).filter(IpAddr::is_ipv6).map(number).collect();
    let low_bits = |n: u128| n & u128::from(u32::MAX);
    let distinct =
        |addr: IpAddr| !ipv6 || low.iter().all(|n| low_bits(*n) != low_bits(number(addr)));
    for spec in specs {
        let taken = taken(objects, network.id, spec);
        let key = (network.id, spec.subnet);
        if let Some(addr) = subnet::next(spec, &taken, cursors.get(&key).copied(), distinct) {
            cursors.insert(key, addr);
            return Ok(Some(addr));
        }
    }
    Err(LocalError::AddressesExhausted { network: name(), id: network.id, ipv6 })
}

fn mac(
    objects: &LocalObjects,
    network: &Network,
    wish: &AttachmentSpec,
    addrs: DualStack,
) -> Result<Mac, LocalError> {
    let Some(mac) = wish.mac else { return Ok(addrs.mac().unwrap_or(Mac([0; 6]))) };
    if mac.0[0] & 1 == 1 || mac.0 == [0; 6] {
        return Err(LocalError::Mac { mac: mac.to_string() });
    }
    let on = |s: &SandboxRecord| {
        s.attachments.iter().any(|a| a.network.id == network.id && a.endpoint.mac == mac)
    };
    if objects.sandboxes.values().any(|s| on(s)) {
        let network = network.spec.name.clone();
        return Err(LocalError::MacTaken { mac: mac.to_string(), network });
    }
    Ok(mac)
}
