//! Local networks: the predefined ones, what a wished one is granted, and who keeps one from being removed.
//!
//! Pure: routes and identifiers come in, a granted [`Network`] goes out. Only `bridge`, `host` and `none` are local drivers.

use std::collections::BTreeMap;
use std::net::Ipv6Addr;
use std::sync::Arc;

use ipnet::{IpNet, Ipv6Net};
use swarmnet_ipam::{pool, subnet};
use swarmnet_types::network::{PREDEFINED, option};
use swarmnet_types::{
    Driver, Name, Network, NetworkId, NetworkSpec, Revision, StringMap, Subnet, SubnetSpec, check,
};

use super::error::{Holder, LocalError};
use super::objects::LocalObjects;

/// Interface of the default bridge.
pub const DEFAULT_BRIDGE: &str = "swarmnet0";
/// Docker's local pools (`sw:§3.7`): each with the prefix length of what is cut from it. 172.17 to 172.31 as three aligned blocks
/// and one; then 192.168/16.
const POOLS_V4: [(&str, u8); 5] = [
    ("172.17.0.0/16", 16),
    ("172.18.0.0/15", 16),
    ("172.20.0.0/14", 16),
    ("172.24.0.0/13", 16),
    ("192.168.0.0/16", 20),
];
/// `IFNAMSIZ` less the final zero.
const IFNAME_LEN_MAX: usize = 15;

/// What the machine tells: subnets it has routes to, which no new network may overlap.
#[derive(Debug, Clone, Default)]
pub struct Routes(pub Vec<Subnet>);

/// The networks every node has from the start, those of them that are missing.
///
/// # Errors
/// [`LocalError::PoolsExhausted`] when the host's routes leave nothing for the default bridge.
pub fn predefined(
    objects: &LocalObjects,
    ids: [NetworkId; 3],
    now_ms: u64,
    routes: &Routes,
) -> Result<Vec<Network>, LocalError> {
    let mut missing = Vec::new();
    for (name, id) in PREDEFINED.into_iter().zip(ids) {
        if objects.networks.values().any(|n| n.spec.name.as_str() == name) {
            continue;
        }
        let name = Name::new(name).expect("predefined names are names");
        let driver = name.as_str().parse().expect("predefined names are drivers' names");
        let mut options = StringMap::new();
        if driver == Driver::Bridge {
            options.insert(option::BRIDGE_NAME[1].to_owned(), DEFAULT_BRIDGE.to_owned());
        }
        let spec = NetworkSpec { options, ..NetworkSpec::named(name, driver) };
        missing.push(allocate(objects, spec, id, (now_ms, routes))?);
    }
    Ok(missing)
}

/// A wished local network as granted.
///
/// # Errors
/// Docker's refusals `sw:C8`, `C9`, `C15`, `C17`, `C18`.
pub fn grant(
    objects: &LocalObjects,
    spec: NetworkSpec,
    id: NetworkId,
    now: (u64, &Routes),
) -> Result<Network, LocalError> {
    check::network(&spec).map_err(LocalError::Spec)?;
    if objects.networks.values().any(|n| n.spec.name == spec.name) {
        return Err(LocalError::NetworkExists { name: spec.name });
    }
    if matches!(spec.driver, Driver::Host | Driver::None) {
        return Err(LocalError::OneInstance { driver: spec.driver });
    }
    spec.mtu_bytes().map_err(LocalError::Option)?;
    spec.flag(option::ICC, true).map_err(LocalError::Option)?;
    spec.flag(option::MASQUERADE, true).map_err(LocalError::Option)?;
    bridge_name(objects, &spec)?;
    allocate(objects, spec, id, now)
}

fn bridge_name(objects: &LocalObjects, spec: &NetworkSpec) -> Result<(), LocalError> {
    let Some(bridge) = spec.bridge_name() else { return Ok(()) };
    let bad = |c: char| c == '/' || c == ':' || c.is_whitespace() || c.is_control();
    if bridge.len() > IFNAME_LEN_MAX || bridge.contains(bad) || matches!(bridge, "." | "..") {
        return Err(LocalError::BridgeNameInvalid { name: bridge.to_owned() });
    }
    match objects.networks.values().find(|n| n.spec.bridge_name() == Some(bridge)) {
        None => Ok(()),
        Some(other) => Err(LocalError::BridgeName {
            network: spec.name.clone(),
            bridge: bridge.to_owned(),
            other: other.spec.name.clone(),
        }),
    }
}

fn allocate(
    objects: &LocalObjects,
    spec: NetworkSpec,
    id: NetworkId,
    (now_ms, routes): (u64, &Routes),
) -> Result<Network, LocalError> {
    let subnets = match spec.driver {
        Driver::Bridge => subnets(objects, &spec, id, routes)?,
        Driver::Host | Driver::None | Driver::Overlay => Vec::new(),
    };
    Ok(Network {
        id,
        spec,
        subnets,
        vni: None,
        created_ms: now_ms,
        created: Revision::default(),
        changed: Revision::default(),
    })
}

/// One subnet of each wanted family: the user's, or the next of the pools.
fn subnets(
    objects: &LocalObjects,
    spec: &NetworkSpec,
    id: NetworkId,
    routes: &Routes,
) -> Result<Vec<SubnetSpec>, LocalError> {
    let mut granted = Vec::new();
    for (ipv6, wanted) in [(false, spec.ipv4), (true, spec.ipv6)] {
        let mut given = spec.subnets.iter().filter(|s| s.subnet.is_ipv6() == ipv6);
        let subnet = match (given.next(), given.next()) {
            (Some(_), Some(_)) => return Err(LocalError::BridgeSubnets),
            (Some(one), None) => {
                overlaps(objects, one.subnet, routes)?;
                one.clone()
            }
            (None, _) if wanted => SubnetSpec::plain(from_pools(objects, ipv6, id, routes)?),
            (None, _) => continue,
        };
        granted.push(with_gateway(subnet)?);
    }
    Ok(granted)
}

fn with_gateway(mut spec: SubnetSpec) -> Result<SubnetSpec, LocalError> {
    if spec.gateway.is_none() {
        spec.gateway = subnet::default_gateway(&spec);
    }
    if spec.gateway.is_none() {
        return Err(LocalError::NoGateway { subnet: spec.subnet });
    }
    Ok(spec)
}

/// Local networks share the node's routing table: no two may overlap, and none may hide a route of the host.
fn overlaps(objects: &LocalObjects, subnet: Subnet, routes: &Routes) -> Result<(), LocalError> {
    for network in objects.networks.values() {
        if let Some(other) = network.subnets.iter().find(|s| s.subnet.overlaps(&subnet)) {
            let (other, network) = (other.subnet, network.spec.name.clone());
            return Err(LocalError::SubnetOverlap { subnet, other, network });
        }
    }
    match routes.0.iter().find(|r| r.overlaps(&subnet)) {
        Some(route) => Err(LocalError::RouteOverlap { subnet, route: *route }),
        None => Ok(()),
    }
}

fn from_pools(
    objects: &LocalObjects,
    ipv6: bool,
    id: NetworkId,
    routes: &Routes,
) -> Result<Subnet, LocalError> {
    let held = objects.networks.values().flat_map(|n| &n.subnets).map(|s| &s.subnet);
    let busy = pool::busy(held.chain(&routes.0), ipv6);
    let pools: Vec<(Subnet, u8)> = if ipv6 {
        vec![(unique_local(objects, id), pool::IPV6_MASK_LEN)]
    } else {
        let parse = |t: &str| t.parse().expect("a subnet literal");
        POOLS_V4.iter().map(|(text, mask_len)| (parse(text), *mask_len)).collect()
    };
    pools
        .into_iter()
        .find_map(|(from, mask_len)| pool::cut(from, mask_len, None, &busy))
        .ok_or(LocalError::PoolsExhausted)
}

/// The node's own unique local /48 (RFC 4193 §3.2): its 40 random bits are those of the default bridge's id, which is drawn once
/// and kept; of the new network's own before there is one.
fn unique_local(objects: &LocalObjects, id: NetworkId) -> Subnet {
    let bridge = objects.networks.values().find(|n| n.spec.name.as_str() == PREDEFINED[0]);
    let random = *bridge.map_or(id, |n| n.id).as_bytes();
    let mut octets = [0; 16];
    octets[0] = 0xfd;
    octets[1..6].copy_from_slice(&random[..5]);
    let net = Ipv6Net::new(Ipv6Addr::from(octets), 48).expect("48 <= 128");
    Subnet::new(IpNet::V6(net)).expect("nothing is set behind 48 bits")
}

/// # Errors
/// `sw:C33`, `sw:C34`.
pub fn check_removal(objects: &LocalObjects, network: &Network) -> Result<(), LocalError> {
    if PREDEFINED.contains(&network.spec.name.as_str()) {
        return Err(LocalError::Predefined { name: network.spec.name.clone() });
    }
    let holders = holders(objects, network.id);
    if holders.is_empty() {
        Ok(())
    } else {
        Err(LocalError::InUse { name: network.spec.name.clone(), holders })
    }
}

fn holders(objects: &LocalObjects, network: NetworkId) -> Vec<Holder> {
    let on = |s: &&Arc<super::SandboxRecord>| s.attachments.iter().any(|a| a.network.id == network);
    let holder = |s: &Arc<super::SandboxRecord>| Holder { name: s.name.clone(), id: s.id.short() };
    objects.sandboxes.values().filter(on).map(holder).collect()
}

/// Addresses of a local network's subnets that are in use and free, the reserved ones in use.
pub fn usage(objects: &LocalObjects, network: &Network) -> BTreeMap<Subnet, (u128, u128)> {
    network
        .subnets
        .iter()
        .map(|spec| {
            let taken = super::addresses::taken(objects, network.id, spec);
            let (first, last) = swarmnet_ipam::bounds(spec.subnet);
            let used = taken.count(first, last);
            (spec.subnet, (used, (last - first - used).saturating_add(1)))
        })
        .collect()
}

#[cfg(test)]
mod tests;
