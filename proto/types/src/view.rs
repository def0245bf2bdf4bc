//! What one node is told of the replicated state: a whole [`NodeView`] first, then [`ViewDelta`]s that lead from one revision to
//! the next.
//!
//! Scale: nodes × 1, networks and endpoints of the networks the node takes part in, services with a published port or on one of
//! those networks.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::endpoint::Endpoint;
use crate::network::Network;
use crate::node::Node;
use crate::service::Service;
use crate::{ClusterId, EndpointId, NetworkId, NodeId, Revision, ServiceId};

/// A key that seals gossip datagrams. Two are accepted during a rotation; the newest seals.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GossipKey {
    /// Rises by one with each rotation.
    pub id: u32,
    pub secret: [u8; 32],
}

impl std::fmt::Debug for GossipKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "GossipKey({}, …)", self.id)
    }
}

/// What all nodes know of the cluster itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterView {
    pub id: ClusterId,
    /// UDP port of VXLAN.
    pub data_path_port: u16,
    pub gossip_keys: Vec<GossipKey>,
    /// Control addresses of the managers.
    pub managers: Vec<SocketAddr>,
}

/// Everything that concerns one node, at one revision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeView {
    pub revision: Revision,
    pub me: NodeId,
    pub cluster: ClusterView,
    /// All nodes of the cluster.
    pub nodes: BTreeMap<NodeId, Node>,
    pub networks: BTreeMap<NetworkId, Network>,
    pub services: BTreeMap<ServiceId, Service>,
    pub endpoints: BTreeMap<EndpointId, Endpoint>,
}

/// One object that appeared, changed or left the view.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ViewChange {
    Cluster(ClusterView),
    Node(Node),
    NodeGone(NodeId),
    Network(Network),
    NetworkGone(NetworkId),
    Service(Service),
    ServiceGone(ServiceId),
    Endpoint(Endpoint),
    EndpointGone(EndpointId),
}

/// Leads a view at `applies_to` to `results_in`. Changes are of distinct objects; order does not matter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ViewDelta {
    pub applies_to: Revision,
    pub results_in: Revision,
    pub changes: Vec<ViewChange>,
}

/// A delta that does not start where the view stands: ask for a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("delta applies to revision {applies_to}, the view is at {have}")]
pub struct Gap {
    pub have: Revision,
    pub applies_to: Revision,
}

impl NodeView {
    /// # Errors
    /// [`Gap`]: the delta starts elsewhere.
    pub fn fits(&self, delta: &ViewDelta) -> Result<(), Gap> {
        if delta.applies_to == self.revision {
            Ok(())
        } else {
            Err(Gap { have: self.revision, applies_to: delta.applies_to })
        }
    }

    /// # Errors
    /// [`Gap`], and the view is as before.
    pub fn apply(&mut self, delta: ViewDelta) -> Result<(), Gap> {
        self.fits(&delta)?;
        for change in delta.changes {
            self.change(change);
        }
        self.revision = delta.results_in;
        Ok(())
    }

    fn change(&mut self, change: ViewChange) {
        match change {
            ViewChange::Cluster(c) => self.cluster = c,
            ViewChange::Node(n) => drop(self.nodes.insert(n.id, n)),
            ViewChange::NodeGone(id) => drop(self.nodes.remove(&id)),
            ViewChange::Network(n) => drop(self.networks.insert(n.id, n)),
            ViewChange::NetworkGone(id) => drop(self.networks.remove(&id)),
            ViewChange::Service(s) => drop(self.services.insert(s.id, s)),
            ViewChange::ServiceGone(id) => drop(self.services.remove(&id)),
            ViewChange::Endpoint(e) => drop(self.endpoints.insert(e.id, e)),
            ViewChange::EndpointGone(id) => drop(self.endpoints.remove(&id)),
        }
    }

    /// The delta that leads from `self` to `newer`.
    pub fn delta_to(&self, newer: &Self) -> ViewDelta {
        let mut changes = Vec::new();
        if self.cluster != newer.cluster {
            changes.push(ViewChange::Cluster(newer.cluster.clone()));
        }
        diff(&self.nodes, &newer.nodes, &mut changes, ViewChange::Node, ViewChange::NodeGone);
        diff(
            &self.networks,
            &newer.networks,
            &mut changes,
            ViewChange::Network,
            ViewChange::NetworkGone,
        );
        diff(
            &self.services,
            &newer.services,
            &mut changes,
            ViewChange::Service,
            ViewChange::ServiceGone,
        );
        diff(
            &self.endpoints,
            &newer.endpoints,
            &mut changes,
            ViewChange::Endpoint,
            ViewChange::EndpointGone,
        );
        ViewDelta { applies_to: self.revision, results_in: newer.revision, changes }
    }
}

fn diff<K: Ord + Copy, V: PartialEq + Clone>(
    old: &BTreeMap<K, V>,
    new: &BTreeMap<K, V>,
    out: &mut Vec<ViewChange>,
    put: impl Fn(V) -> ViewChange,
    gone: impl Fn(K) -> ViewChange,
) {
    out.extend(old.keys().filter(|k| !new.contains_key(k)).map(|k| gone(*k)));
    out.extend(new.iter().filter(|(k, v)| old.get(k) != Some(v)).map(|(_, v)| put(v.clone())));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(revision: u64) -> NodeView {
        NodeView {
            revision: Revision(revision),
            me: NodeId::default(),
            cluster: ClusterView {
                id: ClusterId::default(),
                data_path_port: 4789,
                gossip_keys: vec![],
                managers: vec![],
            },
            nodes: BTreeMap::new(),
            networks: BTreeMap::new(),
            services: BTreeMap::new(),
            endpoints: BTreeMap::new(),
        }
    }

    #[test]
    fn a_delta_with_a_gap_changes_nothing() {
        let mut have = view(3);
        let mut newer = view(5);
        newer.cluster.data_path_port = 5000;
        let mut delta = have.delta_to(&newer);
        delta.applies_to = Revision(4);
        assert_eq!(have.apply(delta), Err(Gap { have: Revision(3), applies_to: Revision(4) }));
        assert_eq!(have, view(3));
        let delta = have.delta_to(&newer);
        assert_eq!(have.apply(delta), Ok(()));
        assert_eq!(have, newer);
    }
}
