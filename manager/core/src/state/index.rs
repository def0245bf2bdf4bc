//! What follows from the tables: who uses which address, port, name and network. Never serialized; kept up with each change of
//! one object and equal at any time to what [`Index::of`] computes afresh.

use std::collections::{BTreeMap, BTreeSet};

use swarmnet_ipam::{Spans, number, subnet};
use swarmnet_types::{
    DualStack, Endpoint, EndpointId, Mac, Name, Network, NetworkId, Node, NodeId, Protocol,
    SandboxId, Service, ServiceId,
};

use super::tables::Tables;

/// Empty entries are dropped, so that two indexes of equal tables are equal.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Index {
    pub(crate) network_names: BTreeMap<Name, NetworkId>,
    pub(crate) service_names: BTreeMap<Name, ServiceId>,
    pub(crate) ingress: Option<NetworkId>,
    pub(crate) vnis: Spans,
    pub(crate) networks: BTreeMap<NetworkId, NetworkUse>,
    /// Node → network → its endpoints there, the ingress network included.
    pub(crate) nodes: BTreeMap<NodeId, BTreeMap<NetworkId, BTreeSet<EndpointId>>>,
    pub(crate) services: BTreeMap<ServiceId, ServiceUse>,
    pub(crate) sandboxes: BTreeMap<(NodeId, SandboxId), BTreeSet<EndpointId>>,
    pub(crate) sandbox_names: BTreeMap<(NodeId, Name), SandboxId>,
    /// Published port → the services that publish it (several by host mode, address or node label).
    pub(crate) ports: BTreeMap<(Protocol, u16), BTreeSet<ServiceId>>,
    /// Services with a publication.
    pub(crate) published: BTreeSet<ServiceId>,
}

/// Who is on one network.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct NetworkUse {
    pub(crate) endpoints: BTreeSet<EndpointId>,
    /// Node → how many of the endpoints are its own.
    pub(crate) nodes: BTreeMap<NodeId, u32>,
    pub(crate) services: BTreeSet<ServiceId>,
    /// Addresses nobody may be given: reserved, endpoints', virtual, nodes' own on the ingress.
    pub(crate) ipv4: Spans,
    pub(crate) ipv6: Spans,
    pub(crate) macs: BTreeSet<Mac>,
}

impl NetworkUse {
    pub(crate) fn taken(&self, ipv6: bool) -> &Spans {
        if ipv6 { &self.ipv6 } else { &self.ipv4 }
    }

    fn set(&mut self, addrs: DualStack, taken: bool) {
        for addr in addrs.iter() {
            let spans = if addr.is_ipv6() { &mut self.ipv6 } else { &mut self.ipv4 };
            if taken {
                spans.insert(number(addr));
            } else {
                spans.remove(number(addr));
            }
        }
    }
}

/// Who is behind one service.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct ServiceUse {
    pub(crate) endpoints: BTreeSet<EndpointId>,
    /// Slot → how many endpoints of its one sandbox have it.
    pub(crate) slots: BTreeMap<u32, u32>,
}

impl Index {
    /// From nothing. Networks come first: nodes' fabric addresses lie in the ingress network.
    pub(crate) fn of(tables: &Tables) -> Self {
        let mut index = Self::default();
        tables.networks.values().for_each(|n| index.network(None, Some(n)));
        tables.nodes.values().for_each(|n| index.node(None, Some(n)));
        tables.services.values().for_each(|s| index.service(None, Some(&s.service)));
        tables.endpoints.values().for_each(|e| index.endpoint(None, Some(e)));
        index
    }

    /// Does the node have an endpoint on the network?
    pub(crate) fn present(&self, node: NodeId, network: NetworkId) -> bool {
        self.networks.get(&network).is_some_and(|n| n.nodes.contains_key(&node))
    }

    pub(crate) fn is_published(&self, service: Option<ServiceId>) -> bool {
        service.is_some_and(|s| self.published.contains(&s))
    }

    fn on(&mut self, network: NetworkId, change: impl FnOnce(&mut NetworkUse)) {
        let entry = self.networks.entry(network).or_default();
        change(entry);
        if *entry == NetworkUse::default() {
            self.networks.remove(&network);
        }
    }

    pub(crate) fn network(&mut self, old: Option<&Network>, new: Option<&Network>) {
        if let Some(old) = old {
            self.network_names.remove(&old.spec.name);
            self.ingress = self.ingress.filter(|i| *i != old.id);
            self.reserve(old, false);
        }
        if let Some(new) = new {
            self.network_names.insert(new.spec.name.clone(), new.id);
            if new.spec.ingress {
                self.ingress = Some(new.id);
            }
            self.reserve(new, true);
        }
    }

    fn reserve(&mut self, network: &Network, taken: bool) {
        if let Some(vni) = network.vni {
            let n = u128::from(vni.get());
            if taken {
                self.vnis.insert(n)
            } else {
                self.vnis.remove(n)
            };
        }
        self.on(network.id, |entry| {
            for spec in &network.subnets {
                let spans = if spec.subnet.is_ipv6() { &mut entry.ipv6 } else { &mut entry.ipv4 };
                for n in subnet::reserved_set(spec).iter() {
                    if taken {
                        spans.insert(n)
                    } else {
                        spans.remove(n)
                    };
                }
            }
        });
    }

    pub(crate) fn node(&mut self, old: Option<&Node>, new: Option<&Node>) {
        let Some(ingress) = self.ingress else { return };
        self.on(ingress, |entry| {
            if let Some(old) = old {
                entry.set(old.fabric, false);
            }
            if let Some(new) = new {
                entry.set(new.fabric, true);
            }
        });
    }

    pub(crate) fn service(&mut self, old: Option<&Service>, new: Option<&Service>) {
        if let Some(old) = old {
            self.service_names.remove(&old.name);
            self.published.remove(&old.id);
            for (network, vip) in &old.vips {
                self.on(*network, |entry| {
                    entry.services.remove(&old.id);
                    entry.set(*vip, false);
                });
            }
            for p in &old.publications {
                remove_from(&mut self.ports, &(p.protocol, p.published), &old.id);
            }
        }
        if let Some(new) = new {
            self.service_names.insert(new.name.clone(), new.id);
            if !new.publications.is_empty() {
                self.published.insert(new.id);
            }
            for (network, vip) in &new.vips {
                self.on(*network, |entry| {
                    entry.services.insert(new.id);
                    entry.set(*vip, true);
                });
            }
            for p in &new.publications {
                self.ports.entry((p.protocol, p.published)).or_default().insert(new.id);
            }
        }
    }

    pub(crate) fn endpoint(&mut self, old: Option<&Endpoint>, new: Option<&Endpoint>) {
        if let (Some(old), Some(new)) = (old, new)
            && same_place(old, new)
        {
            return;
        }
        if let Some(old) = old {
            self.forget_endpoint(old);
        }
        if let Some(new) = new {
            self.learn_endpoint(new);
        }
    }

    fn learn_endpoint(&mut self, new: &Endpoint) {
        self.on(new.network, |entry| {
            entry.endpoints.insert(new.id);
            *entry.nodes.entry(new.node).or_default() += 1;
            entry.set(new.addrs, true);
            entry.macs.insert(new.mac);
        });
        let networks = self.nodes.entry(new.node).or_default();
        networks.entry(new.network).or_default().insert(new.id);
        self.sandboxes.entry((new.node, new.sandbox)).or_default().insert(new.id);
        self.sandbox_names.insert((new.node, new.name.clone()), new.sandbox);
        if let Some(service) = new.service {
            let entry = self.services.entry(service).or_default();
            entry.endpoints.insert(new.id);
            if let Some(slot) = new.slot {
                *entry.slots.entry(slot).or_default() += 1;
            }
        }
    }

    fn forget_endpoint(&mut self, old: &Endpoint) {
        self.on(old.network, |entry| {
            entry.endpoints.remove(&old.id);
            count_down(&mut entry.nodes, &old.node);
            entry.set(old.addrs, false);
            entry.macs.remove(&old.mac);
        });
        if let Some(networks) = self.nodes.get_mut(&old.node) {
            remove_from(networks, &old.network, &old.id);
            if networks.is_empty() {
                self.nodes.remove(&old.node);
            }
        }
        let sandbox = (old.node, old.sandbox);
        remove_from(&mut self.sandboxes, &sandbox, &old.id);
        if !self.sandboxes.contains_key(&sandbox) {
            self.sandbox_names.remove(&(old.node, old.name.clone()));
        }
        if let Some(service) = old.service
            && let Some(entry) = self.services.get_mut(&service)
        {
            entry.endpoints.remove(&old.id);
            if let Some(slot) = old.slot {
                count_down(&mut entry.slots, &slot);
            }
            if entry.endpoints.is_empty() {
                self.services.remove(&service);
            }
        }
    }
}

/// Equal in all that is indexed: a change of condition, the frequent one, costs nothing here.
fn same_place(a: &Endpoint, b: &Endpoint) -> bool {
    let place = |e: &Endpoint| (e.network, e.node, e.sandbox, e.addrs, e.mac, e.service, e.slot);
    place(a) == place(b) && a.name == b.name
}

fn remove_from<K: Ord, V: Ord>(map: &mut BTreeMap<K, BTreeSet<V>>, key: &K, value: &V) {
    if let Some(set) = map.get_mut(key) {
        set.remove(value);
        if set.is_empty() {
            map.remove(key);
        }
    }
}

fn count_down<K: Ord>(map: &mut BTreeMap<K, u32>, key: &K) {
    if let Some(count) = map.get_mut(key) {
        *count -= 1;
        if *count == 0 {
            map.remove(key);
        }
    }
}
