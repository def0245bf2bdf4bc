//! What differs between two wishes, as two smaller wishes whose objects can be written down and compared at the cost of the
//! difference.
//!
//! A thing is left out of both when it is equal in both *and* what it hangs on (its network, the fabric device, its peer) is,
//! so that no operation on the rest takes it along.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use swarmnet_types::{DualStack, EndpointId, NetworkId, NodeIndex, SandboxId};

use crate::desired::{Desired, Fabric, FabricTask, Network, Overlay, Peer, Remote, Sandbox};
use crate::object::Ns;
use crate::render::{Shape, balance};

/// `old` and `new` without what is equal and would not be touched.
pub(super) fn differing(old: &Desired, new: &Desired) -> (Desired, Desired) {
    let (mut before, mut after) = (frame(old), frame(new));
    let same_frame = before.fabric == after.fabric && old.host == new.host;
    (before.fabric, after.fabric) = fabric(old, new, same_frame);
    let mut stable = BTreeSet::new();
    for (id, network) in &old.networks {
        if same_frame && before.networks[id].same_frame(after.networks.get(id)) {
            stable.insert(*id);
        } else {
            before.networks.insert(*id, network.clone());
        }
    }
    for (id, network) in &new.networks {
        match (old.networks.get(id), network) {
            (Some(Network::Overlay(a)), Network::Overlay(b)) if stable.contains(id) => {
                let (gone, come) = remotes(a, b);
                let (left, joined) = (&*a.vteps - &*b.vteps, &*b.vteps - &*a.vteps);
                before.networks.insert(*id, Network::Overlay(a.with(gone, left)));
                after.networks.insert(*id, Network::Overlay(b.with(come, joined)));
            }
            _ => drop(after.networks.insert(*id, network.clone())),
        }
    }
    let touched = |s: &Arc<Sandbox>| s.endpoints.values().any(|e| !stable.contains(&e.network));
    let same = |a: &Arc<Sandbox>, b: &Arc<Sandbox>| same_frame && shared(a, b) && !touched(a);
    (before.sandboxes, after.sandboxes) = split(&old.sandboxes, &new.sandboxes, same);
    (before.services, after.services) = split(&old.services, &new.services, shared);
    (before.publications, after.publications) = split(&old.publications, &new.publications, shared);
    super::shared::keep((old, new), (&mut before, &mut after));
    (before, after)
}

/// A wish from which everything in these namespaces can be written down. Of sandboxes alone it is little.
pub(super) fn around<'a>(desired: &'a Desired, within: &BTreeSet<Ns>) -> Cow<'a, Desired> {
    let sandboxes = within.iter().map(|ns| match ns {
        Ns::Sandbox(id) => Some(id),
        Ns::Node | Ns::Overlay => None,
    });
    let Some(sandboxes) = sandboxes.collect::<Option<BTreeSet<_>>>() else {
        return Cow::Borrowed(desired);
    };
    let found = sandboxes.iter().filter_map(|id| desired.sandboxes.get_key_value(id));
    let sandboxes = found.map(|(id, sandbox)| (*id, Arc::clone(sandbox))).collect();
    Cow::Owned(Desired { sandboxes, ..frame(desired) })
}

fn shared<T: PartialEq>(a: &Arc<T>, b: &Arc<T>) -> bool {
    Arc::ptr_eq(a, b) || a == b
}

/// A wish without its many objects.
fn frame(desired: &Desired) -> Desired {
    let networks = desired.networks.iter().map(|(id, network)| {
        let network = match network {
            Network::Overlay(overlay) => {
                Network::Overlay(overlay.with(Remotes::new(), BTreeSet::new()))
            }
            other => other.clone(),
        };
        (*id, network)
    });
    Desired {
        fabric: desired.fabric.as_ref().map(|f| Fabric {
            peers: Arc::default(),
            tasks: Arc::default(),
            addrs: f.addrs,
            node_addrs: f.node_addrs.clone(),
            control_ports: f.control_ports.clone(),
            ..*f
        }),
        host: desired.host.clone(),
        overlay_netns: desired.overlay_netns.clone(),
        networks: networks.collect(),
        options: desired.options.clone(),
        ..Desired::default()
    }
}

/// The entries of two maps without those that are equal in both.
fn split<K: Ord + Clone, V: Clone>(
    old: &BTreeMap<K, V>,
    new: &BTreeMap<K, V>,
    same: impl Fn(&V, &V) -> bool,
) -> (BTreeMap<K, V>, BTreeMap<K, V>) {
    let (mut gone, mut come) = (BTreeMap::new(), BTreeMap::new());
    let (mut left, mut right) = (old.iter().peekable(), new.iter().peekable());
    loop {
        let order = match (left.peek(), right.peek()) {
            (Some((a, _)), Some((b, _))) => a.cmp(b),
            (Some(_), None) => std::cmp::Ordering::Less,
            (None, Some(_)) => std::cmp::Ordering::Greater,
            (None, None) => return (gone, come),
        };
        let (a, b) = (
            order.is_le().then(|| left.next()).flatten(),
            order.is_ge().then(|| right.next()).flatten(),
        );
        if matches!((a, b), (Some((_, a)), Some((_, b))) if same(a, b)) {
            continue;
        }
        gone.extend(a.map(|(k, v)| (k.clone(), v.clone())));
        come.extend(b.map(|(k, v)| (k.clone(), v.clone())));
    }
}

type Remotes = BTreeMap<EndpointId, Remote>;

/// Flooding goes to the VTEPs of all, so a network that floods is compared whole.
fn remotes(old: &Overlay, new: &Overlay) -> (Remotes, Remotes) {
    if Arc::ptr_eq(&old.remotes, &new.remotes) {
        (Remotes::new(), Remotes::new())
    } else if old.multicast {
        ((*old.remotes).clone(), (*new.remotes).clone())
    } else {
        split(&old.remotes, &new.remotes, PartialEq::eq)
    }
}

/// Tasks hang on their node's peer: both are kept when either differs, and so is the peer of every task that is kept.
fn fabric(old: &Desired, new: &Desired, same: bool) -> (Option<Fabric>, Option<Fabric>) {
    let (Some(a), Some(b), true) = (&old.fabric, &new.fabric, same) else {
        return (old.fabric.clone(), new.fabric.clone());
    };
    let peers_same = Arc::ptr_eq(&a.peers, &b.peers);
    let tasks_same = Arc::ptr_eq(&a.tasks, &b.tasks);
    let (gone, come) =
        if peers_same { Default::default() } else { split(&a.peers, &b.peers, Peer::eq) };
    let moved: BTreeSet<NodeIndex> = gone.keys().chain(come.keys()).copied().collect();
    let unmoved = |x: &FabricTask, y: &FabricTask| x == y && !moved.contains(&x.node);
    let (tasks_gone, tasks_come) = if peers_same && tasks_same {
        Default::default()
    } else {
        split(&a.tasks, &b.tasks, unmoved)
    };
    let mut before = a.with(with_peers_of(gone, &tasks_gone, a), tasks_gone);
    let mut after = b.with(with_peers_of(come, &tasks_come, b), tasks_come);
    // A peer that is kept on one side for a task's sake must not look new on the other.
    let (left, right) = (before.peers.clone(), after.peers.clone());
    before.keep_peers(&right, a);
    after.keep_peers(&left, b);
    (Some(before), Some(after))
}

type Peers = BTreeMap<NodeIndex, Peer>;

fn with_peers_of(
    mut peers: Peers,
    tasks: &BTreeMap<EndpointId, FabricTask>,
    all: &Fabric,
) -> Peers {
    for task in tasks.values() {
        peers.extend(all.peers.get_key_value(&task.node).map(|(k, v)| (*k, v.clone())));
    }
    peers
}

impl Fabric {
    fn with(&self, peers: Peers, tasks: BTreeMap<EndpointId, FabricTask>) -> Self {
        Self { peers: Arc::new(peers), tasks: Arc::new(tasks), ..self.clone() }
    }

    fn keep_peers(&mut self, names: &Peers, all: &Self) {
        let peers = Arc::make_mut(&mut self.peers);
        let more = names.keys().filter_map(|k| all.peers.get_key_value(k));
        peers.extend(more.map(|(k, v)| (*k, v.clone())));
    }
}

impl Overlay {
    fn with(&self, remotes: Remotes, vteps: BTreeSet<IpAddr>) -> Self {
        Self { remotes: Arc::new(remotes), vteps: Arc::new(vteps), ..*self }
    }
}

impl Network {
    /// Equal apart from other nodes and their endpoints; asked of frames, which have none.
    fn same_frame(&self, other: Option<&Self>) -> bool {
        Some(self) == other
    }
}

/// Does a part hold the sandbox, on either side?
pub(super) fn holds(before: &Desired, after: &Desired, id: SandboxId) -> bool {
    before.sandboxes.contains_key(&id) || after.sandboxes.contains_key(&id)
}

/// Namespaces whose tables may differ. Sandboxes that go take theirs along.
pub(super) fn with_changed_tables(
    (old, new): (&Desired, &Desired),
    (before, after): (&Desired, &Desired),
    (old_shape, new_shape): (&Shape, &Shape),
) -> BTreeSet<Ns> {
    let mut found = BTreeSet::new();
    let objects = before.fabric != after.fabric
        || before.networks != after.networks
        || before.sandboxes != after.sandboxes;
    if objects || before.publications != after.publications || !old_shape.same_ports(new_shape) {
        found.insert(Ns::Node);
    }
    if objects {
        found.insert(Ns::Overlay);
    }
    let services = before.services.keys().chain(after.services.keys());
    let concerned: BTreeSet<NetworkId> = services.map(|(network, _)| *network).collect();
    for (id, sandbox) in &new.sandboxes {
        let called = balance::networks(sandbox).iter().any(|n| concerned.contains(n));
        if called || holds(before, after, *id) {
            found.insert(Ns::Sandbox(*id));
        }
    }
    let lost =
        old.sandboxes.iter().filter(|(id, s)| !s.netns.ours && !new.sandboxes.contains_key(id));
    found.extend(lost.map(|(id, _)| Ns::Sandbox(*id)));
    found
}

/// Connections to addresses that are gone: on the node those to fabric addresses, in each sandbox those to endpoints of a
/// network whose services it may have called.
pub(super) fn dead_flows(
    before: &Desired,
    after: &Desired,
    new: &Desired,
) -> BTreeSet<(Ns, IpAddr)> {
    let fabric = gone(fabric_addrs(before), fabric_addrs(after));
    let mut flows: BTreeSet<_> = fabric.into_iter().map(|addr| (Ns::Node, addr)).collect();
    let gone: BTreeMap<NetworkId, BTreeSet<IpAddr>> = before
        .networks
        .keys()
        .map(|id| (*id, gone(endpoint_addrs(before, *id), endpoint_addrs(after, *id))))
        .filter(|(_, gone)| !gone.is_empty())
        .collect();
    if gone.is_empty() {
        return flows;
    }
    let served: BTreeSet<NetworkId> = new.services.keys().map(|(network, _)| *network).collect();
    for (id, sandbox) in &new.sandboxes {
        let networks = balance::networks(sandbox);
        let gone = networks.iter().filter(|n| served.contains(n)).filter_map(|n| gone.get(n));
        flows.extend(gone.flatten().map(|addr| (Ns::Sandbox(*id), *addr)));
    }
    flows
}

fn gone(
    before: impl Iterator<Item = IpAddr>,
    after: impl Iterator<Item = IpAddr>,
) -> BTreeSet<IpAddr> {
    let after: BTreeSet<IpAddr> = after.collect();
    before.filter(|addr| !after.contains(addr)).collect()
}

/// See [`super::is_dead_flow`].
pub(super) fn is_dead_flow(desired: &Desired, ns: Ns, addr: IpAddr) -> bool {
    match ns {
        Ns::Node | Ns::Overlay => fabric_addrs(desired).all(|a| a != addr),
        Ns::Sandbox(id) => desired.sandboxes.get(&id).is_some_and(|sandbox| {
            let mut networks = sandbox.endpoints.values().map(|e| e.network);
            networks.all(|n| endpoint_addrs(desired, n).all(|a| a != addr))
        }),
    }
}

fn fabric_addrs(part: &Desired) -> impl Iterator<Item = IpAddr> {
    let tasks = part.fabric.iter().flat_map(|f| f.tasks.values()).map(|t| &t.addrs);
    let links = part.sandboxes.values().filter_map(|s| s.node_link.as_ref()).map(|l| &l.addrs);
    tasks.chain(links).flat_map(DualStack::iter)
}

fn endpoint_addrs(part: &Desired, network: NetworkId) -> impl Iterator<Item = IpAddr> {
    let remotes = match part.networks.get(&network) {
        Some(Network::Overlay(overlay)) => Some(&overlay.remotes),
        _ => None,
    };
    let remotes = remotes.into_iter().flat_map(|r| r.values());
    let here = part.sandboxes.values().flat_map(|s| s.endpoints.values());
    let here = here.filter(move |e| e.network == network);
    remotes
        .flat_map(|r| r.addrs.iter())
        .chain(here.flat_map(|e| e.addrs.iter().map(ipnet::IpNet::addr)))
}
