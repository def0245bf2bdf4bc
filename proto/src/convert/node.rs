//! Nodes.

use swarmnet_types::{Availability, Node, NodeDescription, NodeIndex, Revision, Role};

use super::{Malformed, dual_stack, id, id_bytes, ip, ip_bytes, parsed};
use crate::v1;

impl From<Role> for v1::Role {
    fn from(role: Role) -> Self {
        match role {
            Role::Worker => Self::Worker,
            Role::Manager => Self::Manager,
        }
    }
}

/// `None`: the sender said nothing.
impl From<v1::Role> for Option<Role> {
    fn from(m: v1::Role) -> Self {
        match m {
            v1::Role::Unspecified => None,
            v1::Role::Worker => Some(Role::Worker),
            v1::Role::Manager => Some(Role::Manager),
        }
    }
}

impl From<Availability> for v1::Availability {
    fn from(availability: Availability) -> Self {
        match availability {
            Availability::Active => Self::Active,
            Availability::Pause => Self::Pause,
            Availability::Drain => Self::Drain,
        }
    }
}

/// `None`: the sender said nothing.
impl From<v1::Availability> for Option<Availability> {
    fn from(m: v1::Availability) -> Self {
        match m {
            v1::Availability::Unspecified => None,
            v1::Availability::Active => Some(Availability::Active),
            v1::Availability::Pause => Some(Availability::Pause),
            v1::Availability::Drain => Some(Availability::Drain),
        }
    }
}

impl From<&Node> for v1::Node {
    fn from(n: &Node) -> Self {
        Self {
            id: id_bytes(n.id.as_bytes()),
            index: n.index.get(),
            name: n.name.clone(),
            role: v1::Role::from(n.role).into(),
            availability: v1::Availability::from(n.availability).into(),
            addr: n.addr.to_string(),
            data_path: ip_bytes(n.data_path),
            fabric: Some((&n.fabric).into()),
            version: n.version.clone(),
            labels: n.labels.clone().into_iter().collect(),
            joined_ms: n.joined_ms,
            created: n.created.0,
            changed: n.changed.0,
        }
    }
}

impl TryFrom<v1::Node> for Node {
    type Error = Malformed;

    fn try_from(m: v1::Node) -> Result<Self, Malformed> {
        let role = Option::from(m.role()).ok_or_else(|| Malformed::missing("role"))?;
        let availability =
            Option::from(m.availability()).ok_or_else(|| Malformed::missing("availability"))?;
        Ok(Self {
            id: id("node id", &m.id)?,
            index: NodeIndex::new(m.index).ok_or_else(|| Malformed::new("node index", m.index))?,
            name: m.name,
            role,
            availability,
            addr: parsed("node address", &m.addr)?,
            data_path: ip("data path address", &m.data_path)?,
            fabric: dual_stack(m.fabric)?,
            version: m.version,
            labels: m.labels.into_iter().collect(),
            joined_ms: m.joined_ms,
            created: Revision(m.created),
            changed: Revision(m.changed),
        })
    }
}

impl From<&NodeDescription> for v1::NodeDescription {
    fn from(d: &NodeDescription) -> Self {
        Self {
            name: d.name.clone(),
            addr: d.addr.to_string(),
            data_path: ip_bytes(d.data_path),
            version: d.version.clone(),
        }
    }
}

impl TryFrom<v1::NodeDescription> for NodeDescription {
    type Error = Malformed;

    fn try_from(m: v1::NodeDescription) -> Result<Self, Malformed> {
        Ok(Self {
            name: m.name,
            addr: parsed("node address", &m.addr)?,
            data_path: ip("data path address", &m.data_path)?,
            version: m.version,
        })
    }
}
