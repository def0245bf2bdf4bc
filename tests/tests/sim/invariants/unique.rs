//! No address (of an endpoint, a VIP, a node in the fabric, a gateway), no MAC on a network, no VNI, no published port and no slot of
//! a service is given twice.
//!
//! Two holders of one address or VNI take each other's traffic, and nothing else in the system would notice.

use std::collections::BTreeSet;
use std::fmt::Debug;

use swarmnet_manager_core::State;
use swarmnet_types::{DualStack, Network, PublishMode};

pub(crate) const NAME: &str = "unique";

pub(crate) fn check(state: &State) -> Result<(), String> {
    for network in state.networks() {
        addresses(state, network)?;
    }
    distinct("VNI", state.networks().filter_map(|n| n.vni))?;
    distinct("name of a network", state.networks().map(|n| &n.spec.name))?;
    distinct("name of a service", state.services().map(|s| &s.name))?;
    distinct("number of a node", state.nodes().map(|n| n.index))?;
    for service in state.services() {
        let tasks: BTreeSet<_> =
            state.tasks_of(service.id).map(|e| (e.slot, e.node, e.sandbox)).collect();
        distinct("slot of a service", tasks.into_iter().map(|t| t.0))?;
    }
    ports(state)
}

fn addresses(state: &State, network: &Network) -> Result<(), String> {
    let id = network.id;
    let fabric = state.nodes().filter(|_| network.spec.ingress).map(|n| n.fabric);
    let vips = state.services_on(id).filter_map(|s| s.vips.get(&id).copied());
    let endpoints = state.endpoints_on(id).map(|e| e.addrs);
    let held = fabric.chain(vips).chain(endpoints);
    let held: Vec<_> = held.flat_map(|d: DualStack| d.iter().collect::<Vec<_>>()).collect();
    let reserved = network.subnets.iter().filter_map(|s| s.gateway);
    distinct("address", held.iter().copied().chain(reserved))?;
    if let Some(outside) = held.iter().find(|a| !network.contains(**a)) {
        return Err(format!("{outside} is not of network {}", network.spec.name));
    }
    distinct("MAC", state.endpoints_on(id).map(|e| e.mac))
}

fn ports(state: &State) -> Result<(), String> {
    let all: Vec<_> =
        state.services().flat_map(|s| s.publications.iter().map(move |p| (s, p))).collect();
    for (at, (service, publication)) in all.iter().enumerate() {
        for (other, further) in &all[at + 1..] {
            // In host mode two services may take turns on different nodes.
            let host = publication.mode == PublishMode::Host && further.mode == PublishMode::Host;
            let apart = host && service.id != other.id;
            if !apart && publication.conflicts(further) {
                return Err(format!(
                    "{} and {} both publish {publication}",
                    service.name, other.name
                ));
            }
        }
    }
    Ok(())
}

fn distinct<T: Ord + Debug>(what: &str, all: impl Iterator<Item = T>) -> Result<(), String> {
    let mut seen = BTreeSet::new();
    for one in all {
        if let Some(twice) = seen.replace(one) {
            return Err(format!("{what} {twice:?} is given twice"));
        }
    }
    Ok(())
}
