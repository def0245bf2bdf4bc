//! One proposal's change of the state, all or nothing.
//!
//! Each write keeps the index right, notes what it touched for the change log, stamps revisions, and remembers what was there;
//! [`Txn::roll_back`] puts that back. Reads go to the state as changed so far.

mod changed;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::ops::Deref;

use swarmnet_types::{
    Endpoint, EndpointId, Network, NetworkId, Node, NodeId, Revision, Role, Service, ServiceId,
    Subnet, TokenId,
};

use super::State;
use super::tables::{Cluster, FurtherToken, Given, NodeRecord, Revoked, ServiceRow};
use crate::events;
use crate::ids::Ids;
use crate::view::log::Touch;

pub(crate) use changed::Changed;

/// What stood where something was written.
enum Undo {
    Cluster(Option<Box<Cluster>>),
    Node(NodeId, Option<Box<Node>>),
    Revoked(NodeId, Option<Revoked>),
    Record(NodeId, Option<Box<NodeRecord>>),
    Token(TokenId, Option<Box<FurtherToken>>),
    Network(NetworkId, Option<Box<Network>>),
    Service(ServiceId, Option<Box<ServiceRow>>),
    Endpoint(EndpointId, Option<Box<Endpoint>>),
    AddressGiven((NetworkId, Subnet), Option<IpAddr>),
    Given(Box<Given>),
}

pub(crate) struct Txn<'a> {
    state: &'a mut State,
    undo: Vec<Undo>,
    touched: BTreeSet<Touch>,
    revision: Revision,
    pub(crate) now_ms: u64,
    ids: Ids,
}

impl Deref for Txn<'_> {
    type Target = State;

    fn deref(&self) -> &State {
        self.state
    }
}

impl<'a> Txn<'a> {
    pub(crate) fn new(
        state: &'a mut State,
        revision: Revision,
        now_ms: u64,
        seed: &[u8; 32],
    ) -> Self {
        let (undo, touched) = (Vec::new(), BTreeSet::new());
        Self { state, undo, touched, revision, now_ms, ids: Ids::new(seed) }
    }

    pub(crate) fn commit(self) {
        let events = events::of(&self);
        self.state.events.push(events);
        self.state.log.push(self.revision, self.touched);
    }

    pub(crate) fn revision(&self) -> Revision {
        self.revision
    }

    pub(crate) fn roll_back(mut self) {
        while let Some(undo) = self.undo.pop() {
            match undo {
                Undo::Cluster(old) => self.state.tables.cluster = old.map(|b| *b),
                Undo::Node(id, old) => drop(self.state.swap_node(id, old.map(|b| *b))),
                Undo::Network(id, old) => drop(self.state.swap_network(id, old.map(|b| *b))),
                Undo::Service(id, old) => drop(self.state.swap_service(id, old.map(|b| *b))),
                Undo::Endpoint(id, old) => drop(self.state.swap_endpoint(id, old.map(|b| *b))),
                Undo::Revoked(id, old) => drop(set(&mut self.state.tables.revoked, id, old)),
                Undo::Record(id, old) => {
                    set(&mut self.state.tables.records, id, old.map(|b| *b));
                }
                Undo::Token(id, old) => {
                    set(&mut self.state.tables.tokens, id, old.map(|b| *b));
                }
                Undo::AddressGiven(key, old) => {
                    set(&mut self.state.tables.addresses_given, key, old);
                }
                Undo::Given(old) => self.state.tables.given = *old,
            }
        }
    }

    /// A fresh identifier, of which none of the kind exists.
    pub(crate) fn draw<Id>(
        &mut self,
        make: fn([u8; 16]) -> Id,
        exists: impl Fn(&State, &Id) -> bool,
    ) -> Id {
        loop {
            let id = make(self.ids.draw());
            if !exists(self.state, &id) {
                return id;
            }
        }
    }

    pub(crate) fn put_cluster(&mut self, cluster: Cluster) {
        // Nodes are told keys and ports, not tokens and pools.
        let told = |c: &Cluster| (c.id, c.data_path_port, c.gossip_keys.clone());
        let old = self.state.tables.cluster.as_ref();
        if old.map(told) != Some(told(&cluster)) {
            self.touched.insert(Touch::Cluster);
        }
        let old = self.state.tables.cluster.replace(cluster);
        self.undo.push(Undo::Cluster(old.map(Box::new)));
    }

    /// Moves cursors of allocators.
    pub(crate) fn give(&mut self, change: impl FnOnce(&mut Given)) {
        self.undo.push(Undo::Given(Box::new(self.state.tables.given.clone())));
        change(&mut self.state.tables.given);
    }

    pub(crate) fn set_address_given(&mut self, key: (NetworkId, Subnet), addr: Option<IpAddr>) {
        let old = set(&mut self.state.tables.addresses_given, key, addr);
        self.undo.push(Undo::AddressGiven(key, old));
    }

    pub(crate) fn set_revoked(&mut self, node: NodeId, revoked: Option<Revoked>) {
        let old = set(&mut self.state.tables.revoked, node, revoked);
        self.undo.push(Undo::Revoked(node, old));
    }

    pub(crate) fn set_record(&mut self, node: NodeId, record: Option<NodeRecord>) {
        let old = set(&mut self.state.tables.records, node, record);
        self.undo.push(Undo::Record(node, old.map(Box::new)));
    }

    pub(crate) fn set_token(&mut self, id: TokenId, token: Option<FurtherToken>) {
        let old = set(&mut self.state.tables.tokens, id, token);
        self.undo.push(Undo::Token(id, old.map(Box::new)));
    }

    // === nodes ===

    pub(crate) fn put_node(&mut self, mut node: Node) {
        let old = self.state.tables.nodes.get(&node.id);
        (node.created, node.changed) = stamps(old.map(|o| (o.created, o.changed)), self.revision);
        if old == Some(&node) {
            return;
        }
        node.changed = self.revision;
        self.write_node(node.id, Some(node));
    }

    pub(crate) fn remove_node(&mut self, id: NodeId) {
        self.write_node(id, None);
        self.set_record(id, None);
    }

    fn write_node(&mut self, id: NodeId, new: Option<Node>) {
        let address = |n: &Node| (n.role == Role::Manager).then_some(n.addr);
        let manager = new.as_ref().and_then(address);
        let old = self.state.swap_node(id, new);
        if old.as_ref().and_then(address) != manager {
            self.touched.insert(Touch::Cluster);
        }
        self.touched.insert(Touch::Node(id));
        self.undo.push(Undo::Node(id, old.map(Box::new)));
    }

    // === networks ===

    pub(crate) fn put_network(&mut self, mut network: Network) {
        (network.created, network.changed) = (self.revision, self.revision);
        self.write_network(network.id, Some(network));
    }

    pub(crate) fn remove_network(&mut self, id: NetworkId) {
        self.write_network(id, None);
    }

    fn write_network(&mut self, id: NetworkId, new: Option<Network>) {
        let ingress = self.state.index.ingress == Some(id);
        let old = self.state.swap_network(id, new);
        let everyone = ingress || self.state.index.ingress == Some(id);
        self.touched.insert(Touch::Network { id, everyone });
        self.undo.push(Undo::Network(id, old.map(Box::new)));
    }

    // === services ===

    pub(crate) fn put_service(&mut self, mut row: ServiceRow) {
        let service = &mut row.service;
        let old = self.state.tables.services.get(&service.id);
        (service.created, service.changed) =
            stamps(old.map(|o| (o.service.created, o.service.changed)), self.revision);
        if old == Some(&row) {
            return;
        }
        if old.is_none_or(|o| o.service != row.service) {
            row.service.changed = self.revision;
        }
        self.write_service(row.service.id, Some(row));
    }

    pub(crate) fn remove_service(&mut self, id: ServiceId) {
        self.write_service(id, None);
    }

    fn write_service(&mut self, id: ServiceId, new: Option<ServiceRow>) {
        let published = self.state.index.is_published(Some(id));
        if let Some(new) = &new {
            self.touch_service(&new.service);
        }
        let old = self.state.swap_service(id, new);
        if let Some(old) = &old {
            self.touch_service(&old.service);
        }
        if published != self.state.index.is_published(Some(id)) {
            self.touch_fabric_of(id);
        }
        self.undo.push(Undo::Service(id, old.map(Box::new)));
    }

    fn touch_service(&mut self, service: &Service) {
        let id = service.id;
        let named = service.vips.keys().map(|network| Touch::ServiceOn { id, network: *network });
        self.touched.extend(named);
        if !service.publications.is_empty() {
            self.touched.insert(Touch::Service(id));
        }
    }

    /// A service's first publication shows its tasks' ingress endpoints to everyone, its last one hides them.
    fn touch_fabric_of(&mut self, service: ServiceId) {
        let (Some(ingress), Some(tasks)) =
            (self.state.index.ingress, self.state.index.services.get(&service))
        else {
            return;
        };
        let endpoints = &self.state.tables.endpoints;
        let fabric = tasks.endpoints.iter().filter(|e| endpoints[e].network == ingress);
        self.touched.extend(fabric.map(|e| Touch::Endpoint(*e)));
    }

    // === endpoints ===

    pub(crate) fn put_endpoint(&mut self, mut endpoint: Endpoint) {
        let old = self.state.tables.endpoints.get(&endpoint.id);
        (endpoint.created, endpoint.changed) =
            stamps(old.map(|o| (o.created, o.changed)), self.revision);
        if old == Some(&endpoint) {
            return;
        }
        endpoint.changed = self.revision;
        self.write_endpoint(endpoint.id, Some(endpoint));
    }

    pub(crate) fn remove_endpoint(&mut self, id: EndpointId) {
        self.write_endpoint(id, None);
    }

    fn write_endpoint(&mut self, id: EndpointId, new: Option<Endpoint>) {
        let Some(place) = new.as_ref().or_else(|| self.state.tables.endpoints.get(&id)) else {
            return;
        };
        let (node, network) = (place.node, place.network);
        let mut services = vec![new.as_ref().and_then(|e| e.service)];
        let present = self.state.index.present(node, network);
        let old = self.state.swap_endpoint(id, new);
        services.push(old.as_ref().and_then(|e| e.service));
        let index = &self.state.index;
        self.touched.insert(if index.ingress != Some(network) {
            Touch::EndpointOn { id, network }
        } else if services.into_iter().any(|s| index.is_published(s)) {
            Touch::Endpoint(id)
        } else {
            Touch::OwnEndpoint { id, node }
        });
        if present != index.present(node, network) {
            self.touched.insert(Touch::Presence { node, network });
        }
        self.undo.push(Undo::Endpoint(id, old.map(Box::new)));
    }
}

/// Created and changed as they were, or now for what is new.
fn stamps(old: Option<(Revision, Revision)>, now: Revision) -> (Revision, Revision) {
    old.unwrap_or((now, now))
}

fn set<K: Ord, V>(
    map: &mut std::collections::BTreeMap<K, V>,
    key: K,
    value: Option<V>,
) -> Option<V> {
    match value {
        Some(value) => map.insert(key, value),
        None => map.remove(&key),
    }
}

/// Bare writes that keep the index right.
impl State {
    fn swap_node(&mut self, id: NodeId, new: Option<Node>) -> Option<Node> {
        self.index.node(self.tables.nodes.get(&id), new.as_ref());
        set(&mut self.tables.nodes, id, new)
    }

    fn swap_network(&mut self, id: NetworkId, new: Option<Network>) -> Option<Network> {
        self.index.network(self.tables.networks.get(&id), new.as_ref());
        set(&mut self.tables.networks, id, new)
    }

    fn swap_service(&mut self, id: ServiceId, new: Option<ServiceRow>) -> Option<ServiceRow> {
        let old = self.tables.services.get(&id).map(|r| &r.service);
        self.index.service(old, new.as_ref().map(|r| &r.service));
        set(&mut self.tables.services, id, new)
    }

    fn swap_endpoint(&mut self, id: EndpointId, new: Option<Endpoint>) -> Option<Endpoint> {
        self.index.endpoint(self.tables.endpoints.get(&id), new.as_ref());
        set(&mut self.tables.endpoints, id, new)
    }
}
