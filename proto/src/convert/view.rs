//! Views and deltas.

use swarmnet_types::{
    ClusterView, Endpoint, GossipKey, Network, Node, NodeView, Revision, Service, ViewChange,
    ViewDelta,
};

use super::{Malformed, each, id, id_bytes, parsed, port};
use crate::v1;
use crate::v1::view_change::Change;

impl From<&GossipKey> for v1::GossipKey {
    fn from(k: &GossipKey) -> Self {
        Self { id: k.id, secret: k.secret.to_vec().into() }
    }
}

impl TryFrom<v1::GossipKey> for GossipKey {
    type Error = Malformed;

    fn try_from(m: v1::GossipKey) -> Result<Self, Malformed> {
        let secret = <[u8; 32]>::try_from(&m.secret[..])
            .map_err(|_| Malformed::new("gossip key", "want 32 bytes"))?;
        Ok(Self { id: m.id, secret })
    }
}

impl From<&ClusterView> for v1::ClusterView {
    fn from(c: &ClusterView) -> Self {
        Self {
            id: id_bytes(c.id.as_bytes()),
            data_path_port: c.data_path_port.into(),
            gossip_keys: c.gossip_keys.iter().map(Into::into).collect(),
            managers: c.managers.iter().map(ToString::to_string).collect(),
        }
    }
}

impl TryFrom<v1::ClusterView> for ClusterView {
    type Error = Malformed;

    fn try_from(m: v1::ClusterView) -> Result<Self, Malformed> {
        Ok(Self {
            id: id("cluster id", &m.id)?,
            data_path_port: port("data path port", m.data_path_port)?,
            gossip_keys: each(m.gossip_keys, GossipKey::try_from)?,
            managers: each(m.managers, |a| parsed("manager address", &a))?,
        })
    }
}

impl From<&NodeView> for v1::NodeView {
    fn from(v: &NodeView) -> Self {
        Self {
            revision: v.revision.0,
            me: id_bytes(v.me.as_bytes()),
            cluster: Some((&v.cluster).into()),
            nodes: v.nodes.values().map(Into::into).collect(),
            networks: v.networks.values().map(Into::into).collect(),
            services: v.services.values().map(Into::into).collect(),
            endpoints: v.endpoints.values().map(Into::into).collect(),
        }
    }
}

impl TryFrom<v1::NodeView> for NodeView {
    type Error = Malformed;

    fn try_from(m: v1::NodeView) -> Result<Self, Malformed> {
        let cluster = m.cluster.ok_or_else(|| Malformed::missing("cluster"))?;
        Ok(Self {
            revision: Revision(m.revision),
            me: id("me", &m.me)?,
            cluster: cluster.try_into()?,
            nodes: each(m.nodes, Node::try_from)?.into_iter().map(|n| (n.id, n)).collect(),
            networks: each(m.networks, Network::try_from)?.into_iter().map(|n| (n.id, n)).collect(),
            services: each(m.services, Service::try_from)?.into_iter().map(|s| (s.id, s)).collect(),
            endpoints: each(m.endpoints, Endpoint::try_from)?
                .into_iter()
                .map(|e| (e.id, e))
                .collect(),
        })
    }
}

impl From<&ViewChange> for v1::ViewChange {
    fn from(change: &ViewChange) -> Self {
        let change = match change {
            ViewChange::Cluster(c) => Change::Cluster(c.into()),
            ViewChange::Node(n) => Change::Node(n.into()),
            ViewChange::NodeGone(id) => Change::NodeGone(id_bytes(id.as_bytes())),
            ViewChange::Network(n) => Change::Network(n.into()),
            ViewChange::NetworkGone(id) => Change::NetworkGone(id_bytes(id.as_bytes())),
            ViewChange::Service(s) => Change::Service(s.into()),
            ViewChange::ServiceGone(id) => Change::ServiceGone(id_bytes(id.as_bytes())),
            ViewChange::Endpoint(e) => Change::Endpoint(e.into()),
            ViewChange::EndpointGone(id) => Change::EndpointGone(id_bytes(id.as_bytes())),
        };
        Self { change: Some(change) }
    }
}

impl TryFrom<v1::ViewChange> for ViewChange {
    type Error = Malformed;

    fn try_from(m: v1::ViewChange) -> Result<Self, Malformed> {
        Ok(match m.change.ok_or_else(|| Malformed::missing("change"))? {
            Change::Cluster(c) => Self::Cluster(c.try_into()?),
            Change::Node(n) => Self::Node(n.try_into()?),
            Change::NodeGone(b) => Self::NodeGone(id("node", &b)?),
            Change::Network(n) => Self::Network(n.try_into()?),
            Change::NetworkGone(b) => Self::NetworkGone(id("network", &b)?),
            Change::Service(s) => Self::Service(s.try_into()?),
            Change::ServiceGone(b) => Self::ServiceGone(id("service", &b)?),
            Change::Endpoint(e) => Self::Endpoint(e.try_into()?),
            Change::EndpointGone(b) => Self::EndpointGone(id("endpoint", &b)?),
        })
    }
}

impl From<&ViewDelta> for v1::ViewDelta {
    fn from(d: &ViewDelta) -> Self {
        Self {
            applies_to: d.applies_to.0,
            results_in: d.results_in.0,
            changes: d.changes.iter().map(Into::into).collect(),
        }
    }
}

impl TryFrom<v1::ViewDelta> for ViewDelta {
    type Error = Malformed;

    fn try_from(m: v1::ViewDelta) -> Result<Self, Malformed> {
        Ok(Self {
            applies_to: Revision(m.applies_to),
            results_in: Revision(m.results_in),
            changes: each(m.changes, ViewChange::try_from)?,
        })
    }
}
