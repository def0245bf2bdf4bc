//! A sandbox that lives has, in the replicated state, what it was granted, until its own node gives it back; and no two living
//! sandboxes have the same address on a network, whatever the state says.
//!
//! The state may be free of doubles while two machines use one address: when it took an address back that is in use.

use std::collections::BTreeMap;

use swarmnet_agent::local::{SandboxRecord, SandboxState};
use swarmnet_manager_core::State;

pub(crate) const NAME: &str = "held";

pub(crate) fn check<'a>(
    state: &State,
    records: impl Iterator<Item = (usize, &'a SandboxRecord)>,
) -> Result<(), String> {
    let mut holders = BTreeMap::new();
    for (agent, record) in records.filter(|(_, r)| r.state != SandboxState::Leaving) {
        for endpoint in record.cluster_endpoints() {
            let known = state.endpoint(endpoint.id);
            if known.is_none_or(|k| k.addrs != endpoint.addrs || k.sandbox != record.id) {
                return Err(format!(
                    "{} on agent {agent} lives with {:?}, the state has {:?} for it",
                    record.name,
                    endpoint.addrs,
                    known.map(|k| k.addrs)
                ));
            }
            for addr in endpoint.addrs.iter() {
                let name = (agent, &record.name);
                if let Some(other) = holders.insert((endpoint.network, addr), name) {
                    return Err(format!("{addr} is in use by {other:?} and {name:?}"));
                }
            }
        }
    }
    Ok(())
}
