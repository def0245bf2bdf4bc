//! What one node is told of the state: the whole of it, and the difference between two revisions.
//!
//! A node sees: the cluster, all nodes; networks it has an endpoint on, and the ingress; endpoints of those (of the ingress: its
//! own and those of published services); services with a name on those networks, or published.
//!
//! Always: `node_view` at r1, then `delta(r1 → r2)`, equals `node_view` at r2. A delta costs O(objects touched in between)
//! and, for a network that is new to the node, O(that network).

pub(crate) mod log;
pub(crate) mod push;

use std::collections::BTreeSet;

use swarmnet_types::{
    ClusterView, Endpoint, EndpointId, NetworkId, NodeId, NodeView, Revision, Service, ServiceId,
    ViewChange, ViewDelta,
};

use crate::rejection::Rejection;
use crate::state::State;
use log::Touch;

impl State {
    /// Everything the node is to know, at the current revision.
    ///
    /// # Errors
    /// [`Rejection::NotInitialised`].
    pub fn node_view(&self, me: NodeId) -> Result<NodeView, Rejection> {
        let cluster = self.cluster_view()?;
        let networks: BTreeSet<NetworkId> = self.networks_seen_by(me).collect();
        let services = networks
            .iter()
            .flat_map(|n| self.index.networks.get(n).into_iter().flat_map(|n| &n.services))
            .chain(&self.index.published);
        let endpoints = networks.iter().flat_map(|n| self.endpoints_on(*n));
        Ok(NodeView {
            revision: self.revision(),
            me,
            cluster,
            nodes: self.tables.nodes.clone(),
            networks: networks.iter().map(|n| (*n, self.tables.networks[n].clone())).collect(),
            services: services.map(|s| (*s, self.tables.services[s].service.clone())).collect(),
            endpoints: endpoints
                .filter(|e| self.shows_endpoint(me, e))
                .map(|e| (e.id, e.clone()))
                .collect(),
        })
    }

    /// What leads the node's view from `since` to now. `None`: send the whole view instead.
    ///
    /// All proposals of one revision must have been applied.
    pub fn delta(&self, me: NodeId, since: Revision) -> Option<ViewDelta> {
        if since > self.revision() {
            return None;
        }
        let touches = self.log.after(since)?;
        let mut changed = Changed::default();
        for touch in touches.clone() {
            if let Touch::Presence { node, network } = touch
                && *node == me
            {
                self.add_network(*network, &mut changed);
            }
        }
        let moved = changed.networks.clone();
        let relevant = |n: NetworkId| moved.contains(&n) || self.sees_network(me, n);
        for touch in touches {
            match *touch {
                Touch::Cluster => changed.cluster = true,
                Touch::Node(id) => drop(changed.nodes.insert(id)),
                Touch::Network { id, everyone } if everyone || relevant(id) => {
                    changed.networks.insert(id);
                }
                Touch::Service(id) => drop(changed.services.insert(id)),
                Touch::ServiceOn { id, network } if relevant(network) => {
                    changed.services.insert(id);
                }
                Touch::Endpoint(id) => drop(changed.endpoints.insert(id)),
                Touch::EndpointOn { id, network } if relevant(network) => {
                    changed.endpoints.insert(id);
                }
                Touch::OwnEndpoint { id, node } if node == me => {
                    changed.endpoints.insert(id);
                }
                _ => {}
            }
        }
        let changes = self.changes(me, &changed)?;
        Some(ViewDelta { applies_to: since, results_in: self.revision(), changes })
    }

    /// The nodes whose view may have changed after `since`; all of them when that is no longer known.
    pub fn concerned(&self, since: Revision) -> BTreeSet<NodeId> {
        let everyone = || self.tables.nodes.keys().copied().collect();
        let Some(touches) = self.log.after(since) else { return everyone() };
        let mut nodes = BTreeSet::new();
        let mut networks = BTreeSet::new();
        for touch in touches {
            match *touch {
                Touch::Cluster
                | Touch::Node(_)
                | Touch::Network { everyone: true, .. }
                | Touch::Service(_)
                | Touch::Endpoint(_) => return everyone(),
                Touch::Network { id: network, .. }
                | Touch::ServiceOn { network, .. }
                | Touch::EndpointOn { network, .. } => drop(networks.insert(network)),
                Touch::OwnEndpoint { node, .. } | Touch::Presence { node, .. } => {
                    nodes.insert(node);
                }
            }
        }
        nodes.extend(networks.into_iter().flat_map(|n| self.nodes_on(n)));
        nodes
    }

    fn cluster_view(&self) -> Result<ClusterView, Rejection> {
        let cluster = self.initialised()?;
        Ok(ClusterView {
            id: cluster.id,
            data_path_port: cluster.data_path_port,
            gossip_keys: cluster.gossip_keys.clone(),
            managers: self.managers().map(|n| n.addr).collect(),
        })
    }

    fn networks_seen_by(&self, node: NodeId) -> impl Iterator<Item = NetworkId> {
        let own = self.index.nodes.get(&node).into_iter().flat_map(|n| n.keys().copied());
        own.chain(self.index.ingress)
    }

    fn sees_network(&self, node: NodeId, network: NetworkId) -> bool {
        self.index.ingress == Some(network) || self.index.present(node, network)
    }

    fn sees_service(&self, node: NodeId, service: &Service) -> bool {
        !service.publications.is_empty() || service.vips.keys().any(|n| self.sees_network(node, *n))
    }

    /// Of a network that the node sees: does it see this endpoint?
    fn shows_endpoint(&self, node: NodeId, endpoint: &Endpoint) -> bool {
        self.index.ingress != Some(endpoint.network)
            || endpoint.node == node
            || self.index.is_published(endpoint.service)
    }

    fn add_network(&self, network: NetworkId, changed: &mut Changed) {
        changed.networks.insert(network);
        if let Some(now) = self.index.networks.get(&network) {
            changed.endpoints.extend(&now.endpoints);
            changed.services.extend(&now.services);
        }
    }

    /// `None` when the cluster is not initialised.
    fn changes(&self, me: NodeId, changed: &Changed) -> Option<Vec<ViewChange>> {
        let mut changes = Vec::with_capacity(changed.len());
        if changed.cluster {
            changes.push(ViewChange::Cluster(self.cluster_view().ok()?));
        }
        for id in &changed.nodes {
            let now = self.node(*id);
            changes.push(now.map_or(ViewChange::NodeGone(*id), |n| ViewChange::Node(n.clone())));
        }
        for id in &changed.networks {
            let now = self.network(*id).filter(|_| self.sees_network(me, *id));
            let gone = ViewChange::NetworkGone(*id);
            changes.push(now.map_or(gone, |n| ViewChange::Network(n.clone())));
        }
        for id in &changed.services {
            let now = self.service(*id).filter(|s| self.sees_service(me, s));
            let gone = ViewChange::ServiceGone(*id);
            changes.push(now.map_or(gone, |s| ViewChange::Service(s.clone())));
        }
        for id in &changed.endpoints {
            let seen =
                |e: &&Endpoint| self.sees_network(me, e.network) && self.shows_endpoint(me, e);
            let gone = ViewChange::EndpointGone(*id);
            changes.push(
                self.endpoint(*id).filter(seen).map_or(gone, |e| ViewChange::Endpoint(e.clone())),
            );
        }
        Some(changes)
    }
}

/// Keys of objects to look at again; each once.
#[derive(Default)]
struct Changed {
    cluster: bool,
    nodes: BTreeSet<NodeId>,
    networks: BTreeSet<NetworkId>,
    services: BTreeSet<ServiceId>,
    endpoints: BTreeSet<EndpointId>,
}

impl Changed {
    fn len(&self) -> usize {
        usize::from(self.cluster)
            + self.nodes.len()
            + self.networks.len()
            + self.services.len()
            + self.endpoints.len()
    }
}
