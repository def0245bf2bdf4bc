//! The kernel of a node reaches every endpoint that its view shows on its networks, but those on nodes that gossip holds for dead; a
//! round without complaint leaves nothing to do; and while the node has no view at all, nothing is changed.
//!
//! What is dead is hidden, not forgotten; what is not known is not removed.

use std::collections::BTreeSet;

use swarmnet_agent::desired::{Inputs, Wish};
use swarmnet_dataplane::Actual;
use swarmnet_dataplane::desired::Network;
use swarmnet_gossip::Condition;
use swarmnet_types::EndpointId;

pub(crate) const NAME: &str = "plane";

pub(crate) fn untouched(agent: usize, before: &Actual, after: &Actual) -> Result<(), String> {
    if before == after {
        return Ok(());
    }
    Err(format!("agent {agent} changed its kernel without a view"))
}

pub(crate) fn follows(agent: usize, inputs: &Inputs, wish: &Wish) -> Result<(), String> {
    let Some(view) = inputs.view.as_deref().filter(|v| v.nodes.contains_key(&v.me)) else {
        return Ok(());
    };
    let is_dead = |node| inputs.liveness.get(&node).is_some_and(|s| s.condition == Condition::Dead);
    for (id, network) in &wish.desired.networks {
        let Network::Overlay(overlay) = network else { continue };
        let shown = view
            .endpoints
            .values()
            .filter(|e| e.network == *id && e.node != view.me && !is_dead(e.node));
        let wanted: BTreeSet<EndpointId> = shown.map(|e| e.id).collect();
        let found: BTreeSet<EndpointId> = overlay.remotes.keys().copied().collect();
        if wanted != found {
            return Err(format!(
                "agent {agent} reaches {} endpoints on network {}, its view has {}",
                found.len(),
                id.short(),
                wanted.len()
            ));
        }
    }
    Ok(())
}

pub(crate) fn whole(agent: usize, undone: &[String]) -> Result<(), String> {
    match undone.first() {
        None => Ok(()),
        Some(first) => Err(format!("agent {agent} left {} undone, such as {first}", undone.len())),
    }
}
