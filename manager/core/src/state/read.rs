//! Questions to the state: for the control API, the join and revocation checks, and `inspect`.

use swarmnet_ipam::{bounds, subnet};
use swarmnet_types::{
    Endpoint, EndpointId, Network, NetworkId, Node, NodeId, NodeIndex, Role, SandboxId, Service,
    ServiceId, Subnet, TokenId,
};

use super::State;
use super::tables::{Cluster, FurtherToken, NodeRecord, Revoked};
use crate::rejection::{Holder, Rejection};

/// How full one subnet of a network is. Counts are of addresses in the ip-range where there is one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    pub subnet: Subnet,
    /// All that may be given: without edges, gateway and auxiliary addresses.
    pub capacity: u128,
    pub used: u128,
}

impl Usage {
    pub const fn free(&self) -> u128 {
        self.capacity - self.used
    }
}

/// How far a rotation of the CA is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RotationProgress {
    /// Nodes that trust the new CA.
    pub trusting: usize,
    /// Nodes with a certificate of the new CA.
    pub renewed: usize,
    pub nodes: usize,
    /// Nodes that lack one or the other.
    pub missing: Vec<NodeId>,
}

impl State {
    /// `None` before the cluster is initialised.
    pub fn cluster(&self) -> Option<&Cluster> {
        self.tables.cluster.as_ref()
    }

    pub(crate) fn initialised(&self) -> Result<&Cluster, Rejection> {
        self.cluster().ok_or(Rejection::NotInitialised)
    }

    pub fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.tables.nodes.values()
    }

    pub fn node(&self, id: NodeId) -> Option<&Node> {
        self.tables.nodes.get(&id)
    }

    pub fn node_by_index(&self, index: NodeIndex) -> Option<&Node> {
        self.nodes().find(|n| n.index == index)
    }

    pub fn managers(&self) -> impl Iterator<Item = &Node> {
        self.nodes().filter(|n| n.role == Role::Manager)
    }

    /// Must this node's certificate be refused though it is in date?
    pub fn is_revoked(&self, node: NodeId) -> bool {
        self.tables.revoked.contains_key(&node)
    }

    pub fn revoked(&self) -> impl Iterator<Item = (NodeId, Revoked)> {
        self.tables.revoked.iter().map(|(id, r)| (*id, *r))
    }

    /// What the managers know of a node beside what all know.
    pub fn record(&self, node: NodeId) -> Option<&NodeRecord> {
        self.tables.records.get(&node)
    }

    /// Join tokens beside the standing two.
    pub fn further_tokens(&self) -> impl Iterator<Item = &FurtherToken> {
        self.tables.tokens.values()
    }

    pub fn further_token(&self, id: TokenId) -> Option<&FurtherToken> {
        self.tables.tokens.get(&id)
    }

    /// `None` while the CA is not being rotated.
    pub fn rotation_progress(&self) -> Option<RotationProgress> {
        let to = self.cluster()?.rotation.as_ref()?.to.fingerprint;
        let nothing = NodeRecord::default();
        let mut progress =
            RotationProgress { trusting: 0, renewed: 0, nodes: 0, missing: Vec::new() };
        for node in self.nodes() {
            let tls = &self.record(node.id).unwrap_or(&nothing).tls;
            let (trusts, renewed) = (tls.roots.contains(&to), tls.issuer == Some(to));
            progress.nodes += 1;
            progress.trusting += usize::from(trusts);
            progress.renewed += usize::from(renewed);
            if !(trusts && renewed) {
                progress.missing.push(node.id);
            }
        }
        Some(progress)
    }

    pub fn networks(&self) -> impl Iterator<Item = &Network> {
        self.tables.networks.values()
    }

    pub fn network(&self, id: NetworkId) -> Option<&Network> {
        self.tables.networks.get(&id)
    }

    pub fn ingress(&self) -> Option<&Network> {
        self.index.ingress.and_then(|id| self.network(id))
    }

    pub fn services(&self) -> impl Iterator<Item = &Service> {
        self.tables.services.values().map(|r| &r.service)
    }

    pub fn service(&self, id: ServiceId) -> Option<&Service> {
        self.tables.services.get(&id).map(|r| &r.service)
    }

    pub fn endpoints(&self) -> impl Iterator<Item = &Endpoint> {
        self.tables.endpoints.values()
    }

    pub fn endpoint(&self, id: EndpointId) -> Option<&Endpoint> {
        self.tables.endpoints.get(&id)
    }

    /// All endpoints of the tasks of a service, those on the ingress network included.
    pub fn tasks_of(&self, service: ServiceId) -> impl Iterator<Item = &Endpoint> {
        let ids = self.index.services.get(&service).map(|s| &s.endpoints);
        ids.into_iter().flatten().map(|id| &self.tables.endpoints[id])
    }

    pub fn endpoints_on(&self, network: NetworkId) -> impl Iterator<Item = &Endpoint> {
        let ids = self.index.networks.get(&network).map(|n| &n.endpoints);
        ids.into_iter().flatten().map(|id| &self.tables.endpoints[id])
    }

    pub fn endpoints_of(&self, node: NodeId) -> impl Iterator<Item = &Endpoint> {
        let networks = self.index.nodes.get(&node).into_iter().flat_map(|n| n.values());
        networks.flatten().map(|id| &self.tables.endpoints[id])
    }

    pub fn endpoints_of_sandbox(
        &self,
        node: NodeId,
        sandbox: SandboxId,
    ) -> impl Iterator<Item = &Endpoint> {
        let ids = self.index.sandboxes.get(&(node, sandbox));
        ids.into_iter().flatten().map(|id| &self.tables.endpoints[id])
    }

    /// Services with a name on the network.
    pub fn services_on(&self, network: NetworkId) -> impl Iterator<Item = &Service> {
        let ids = self.index.networks.get(&network).map(|n| &n.services);
        ids.into_iter().flatten().map(|id| &self.tables.services[id].service)
    }

    /// Nodes with an endpoint on the network.
    pub fn nodes_on(&self, network: NetworkId) -> impl Iterator<Item = NodeId> {
        self.index.networks.get(&network).into_iter().flat_map(|n| n.nodes.keys().copied())
    }

    /// Everyone who keeps the network from being removed: its endpoints, and services that an operator put on it.
    pub fn holders(&self, network: NetworkId) -> Vec<Holder> {
        let endpoints = self.endpoints_on(network).map(|e| self.holder(e));
        let declared = self
            .services_on(network)
            .filter(|s| self.tables.services[&s.id].declared.contains(&network))
            .map(|s| Holder::Service { name: s.name.clone(), id: s.id.short() });
        endpoints.chain(declared).collect()
    }

    pub(crate) fn holder(&self, endpoint: &Endpoint) -> Holder {
        Holder::Endpoint {
            name: endpoint.name.clone(),
            id: endpoint.id.short(),
            node: self.node_name(endpoint.node),
        }
    }

    /// The node's name, or its id when it has left.
    pub(crate) fn node_name(&self, id: NodeId) -> String {
        self.node(id).map_or_else(|| id.short(), |n| n.name.clone())
    }

    /// For each subnet of the network; empty when there is no such network.
    pub fn usage(&self, network: NetworkId) -> Vec<Usage> {
        let Some(network) = self.network(network) else { return Vec::new() };
        let usage = &self.index.networks[&network.id];
        let one = |spec: &swarmnet_types::SubnetSpec| {
            let (first, last) = bounds(subnet::range(spec));
            let reserved = subnet::reserved_set(spec).count(first, last);
            let taken = usage.taken(spec.subnet.is_ipv6()).count(first, last);
            // A whole ::/0 has one address more than fits; nothing real is that large.
            let size = (last - first).saturating_add(1);
            Usage { subnet: spec.subnet, capacity: size - reserved, used: taken - reserved }
        };
        network.subnets.iter().map(one).collect()
    }
}
