//! A sandbox's names answer with addresses of its own networks only, and each endpoint there that is ready and not on a dead node
//! is found by its name.
//!
//! Networks are kept apart by their names as well: one that answers for another's leads traffic to where no way is, or to a stranger
//! of the same address.

use std::collections::BTreeSet;
use std::net::IpAddr;

use swarmnet_agent::desired::{Inputs, Wish};
use swarmnet_agent::local::SandboxState;
use swarmnet_dns::{Forward, Lookup, RecordKind, SandboxNames, WireName};
use swarmnet_gossip::Condition as NodeCondition;
use swarmnet_types::{Condition, DualStack, Endpoint, NetworkId, NodeView};

pub(crate) const NAME: &str = "names";

pub(crate) fn check(agent: usize, inputs: &Inputs, wish: &Wish) -> Result<(), String> {
    let Some(view) = inputs.view.as_deref().filter(|v| v.nodes.contains_key(&v.me)) else {
        return Ok(());
    };
    for (id, names) in wish.names.iter() {
        let Some(record) = inputs.local.sandboxes.get(id) else { continue };
        let own: BTreeSet<_> = record.attachments.iter().map(|a| a.endpoint.network).collect();
        let here = addresses(view, &own);
        let resolver = SandboxNames::new(names.zones.clone(), Forward::Never);
        let living = view.endpoints.values().filter(|e| {
            own.contains(&e.network) && e.condition == Condition::Ready && lives(inputs, e)
        });
        for endpoint in living {
            let answers = ask(&resolver, endpoint.name.as_str());
            if !endpoint.addrs.iter().any(|a| answers.contains(&a)) {
                return Err(format!(
                    "agent {agent}: {} does not find {}",
                    record.name, endpoint.name
                ));
            }
        }
        for asked in
            view.endpoints.values().map(|e| &e.name).chain(view.services.values().map(|s| &s.name))
        {
            let answers = ask(&resolver, asked.as_str());
            if let Some(foreign) = answers.iter().find(|a| !here.contains(a)) {
                return Err(format!("agent {agent}: {} hears {foreign} for {asked}", record.name));
            }
        }
    }
    Ok(())
}

/// Not on a dead node, and not of a sandbox here that goes.
fn lives(inputs: &Inputs, endpoint: &Endpoint) -> bool {
    let verdict = inputs.liveness.get(&endpoint.node);
    let dead = verdict.is_some_and(|s| s.condition == NodeCondition::Dead);
    let here = inputs.view.as_ref().is_some_and(|v| v.me == endpoint.node);
    let record = inputs.local.sandboxes.get(&endpoint.sandbox);
    let gone = here && record.is_none_or(|r| r.state == SandboxState::Leaving);
    !dead && !gone
}

/// Of all that has a name on these networks. A service may be on more networks than its tasks here.
fn addresses(view: &NodeView, networks: &BTreeSet<NetworkId>) -> BTreeSet<IpAddr> {
    let endpoints = view.endpoints.values().filter(|e| networks.contains(&e.network));
    let vips = view.services.values().flat_map(|s| &s.vips);
    let vips = vips.filter(|(network, _)| networks.contains(network)).map(|(_, vip)| *vip);
    let all = endpoints.map(|e| e.addrs).chain(vips);
    all.flat_map(|d: DualStack| d.iter().collect::<Vec<_>>()).collect()
}

fn ask(resolver: &SandboxNames, name: &str) -> Vec<IpAddr> {
    let name = WireName::from_text(name).expect("names of ours are DNS labels");
    let kinds = [RecordKind::A, RecordKind::Aaaa];
    let answers = kinds.into_iter().flat_map(|kind| match resolver.lookup(&name, kind) {
        Lookup::V4(all) => all.iter().map(|a| IpAddr::from(*a)).collect(),
        Lookup::V6(all) => all.iter().map(|a| IpAddr::from(*a)).collect(),
        Lookup::Pointer(_) | Lookup::NoData | Lookup::NoName | Lookup::NotOurs => Vec::new(),
    });
    answers.collect()
}
