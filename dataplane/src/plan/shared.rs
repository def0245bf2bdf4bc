//! Two owners of one address, between two wishes.
//!
//! A node builds what its own sandboxes need before its view has heard that an address' last owner, a task elsewhere, is gone; and a
//! view may show the next owner of an address before the sandbox that had it is gone here. For a while the wish has both, and both are
//! known by the same neighbour entry, route or element. When one of them comes or goes, an update that knows only what differs would put
//! its own in that place or take it along: so it is told of the other, too.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use swarmnet_types::DualStack;

use crate::desired::{Desired, Fabric, Network, Overlay, Sandbox};

/// Puts into both parts what is equal in both wishes and shares an address with what differs.
pub(super) fn keep(
    (old, new): (&Desired, &Desired),
    (before, after): (&mut Desired, &mut Desired),
) {
    let differs_here: BTreeSet<IpAddr> = here(before).chain(here(after)).collect();
    let mut differs: BTreeSet<IpAddr> = elsewhere(before).chain(elsewhere(after)).collect();
    differs.extend(&differs_here);
    for (id, sandbox) in &old.sandboxes {
        let equal = !before.sandboxes.contains_key(id);
        if let Some(next) = new.sandboxes.get(id)
            && equal
            && addrs(sandbox).any(|a| differs.contains(&a))
        {
            before.sandboxes.insert(*id, Arc::clone(sandbox));
            after.sandboxes.insert(*id, Arc::clone(next));
        }
    }
    // Two tasks elsewhere never have one address in the same view.
    if differs_here.is_empty() {
        return;
    }
    let shared = |addrs: &DualStack| addrs.iter().any(|a| differs_here.contains(&a));
    for (id, network) in &old.networks {
        let Network::Overlay(all) = network else { continue };
        let parts = (before.networks.get_mut(id), after.networks.get_mut(id));
        if let (Some(Network::Overlay(before)), Some(Network::Overlay(after))) = parts {
            keep_remotes(all, before, after, shared);
        }
    }
    if let (Some(all), Some(before), Some(after)) =
        (&old.fabric, &mut before.fabric, &mut after.fabric)
    {
        keep_tasks(all, before, after, shared);
    }
}

fn keep_remotes(
    old: &Overlay,
    before: &mut Overlay,
    after: &mut Overlay,
    shared: impl Fn(&DualStack) -> bool,
) {
    let sharers = old.remotes.iter().filter(|(_, remote)| shared(&remote.addrs));
    for (id, remote) in sharers {
        if !before.remotes.contains_key(id) {
            Arc::make_mut(&mut before.remotes).insert(*id, remote.clone());
            Arc::make_mut(&mut after.remotes).insert(*id, remote.clone());
        }
    }
}

/// With the peers that they hang on, which are equal where a task is.
fn keep_tasks(
    old: &Fabric,
    before: &mut Fabric,
    after: &mut Fabric,
    shared: impl Fn(&DualStack) -> bool,
) {
    let sharers = old.tasks.iter().filter(|(_, task)| shared(&task.addrs));
    for (id, task) in sharers {
        if before.tasks.contains_key(id) {
            continue;
        }
        for part in [&mut *before, &mut *after] {
            Arc::make_mut(&mut part.tasks).insert(*id, task.clone());
            let peer = old.peers.get(&task.node).cloned();
            Arc::make_mut(&mut part.peers).extend(peer.map(|peer| (task.node, peer)));
        }
    }
}

/// All addresses of a sandbox: on networks and in the ingress fabric.
fn addrs(sandbox: &Sandbox) -> impl Iterator<Item = IpAddr> {
    let link = sandbox.node_link.iter().flat_map(|link| link.addrs.iter());
    link.chain(sandbox.endpoints.values().flat_map(|e| e.addrs.iter().map(IpNet::addr)))
}

fn here(part: &Desired) -> impl Iterator<Item = IpAddr> {
    part.sandboxes.values().flat_map(|sandbox| addrs(sandbox))
}

fn elsewhere(part: &Desired) -> impl Iterator<Item = IpAddr> {
    let overlays = part.networks.values().filter_map(|network| match network {
        Network::Overlay(overlay) => Some(overlay),
        _ => None,
    });
    let remotes = overlays.flat_map(|overlay| overlay.remotes.values()).map(|r| &r.addrs);
    let tasks = part.fabric.iter().flat_map(|f| f.tasks.values()).map(|t| &t.addrs);
    remotes.chain(tasks).flat_map(DualStack::iter)
}
