//! Nodes: join, what they say of themselves, what operators set, and leaving for good.

use swarmnet_types::network::StringMap;
use swarmnet_types::{DualStack, Node, NodeDescription, NodeId, NodeIndex, Revision, Role};

use crate::command::{JoinNode, NodeChange, RemoveNode};
use crate::outcome::Outcome;
use crate::rejection::{Noun, Rejection};
use crate::state::txn::Txn;
use crate::state::{NodeRecord, Revoked};

/// How long a removed node is refused after its certificate ended: clocks may be wrong (`sw:M16`).
const REVOKED_GRACE_MS: u64 = 7 * 24 * 60 * 60 * 1000;

impl Txn<'_> {
    pub(super) fn join_node(
        &mut self,
        join: &JoinNode,
    ) -> Result<(NodeIndex, DualStack), Rejection> {
        self.forget_revoked();
        let id = join.node;
        if self.is_revoked(id) {
            return Err(Rejection::Revoked { node: id.short() });
        }
        if self.node(id).is_some() {
            return Err(Rejection::NodeExists { node: id.short() });
        }
        // It was signed by a CA that was replaced meanwhile: nobody would trust it.
        let known =
            |ca: &[u8; 32]| self.initialised().map(|c| c.roots().any(|r| r.fingerprint == *ca));
        let Some(issuer) = join.tls.issuer else { return Err(Rejection::CaMoved) };
        if !known(&issuer)? {
            return Err(Rejection::CaMoved);
        }
        let ephemeral_ms = match join.token {
            None => None,
            Some(token) => self.use_token(token, join.role)?,
        };
        let next = self.tables.given.node_index + 1;
        let index = NodeIndex::new(next).ok_or(Rejection::NodeIndexes)?;
        self.give(|given| given.node_index = next);
        let fabric = self.grant_fabric()?;
        let NodeDescription { name, addr, data_path, version } = join.description.clone();
        self.put_node(Node {
            id,
            index,
            name,
            role: join.role,
            availability: join.availability,
            addr,
            data_path,
            fabric,
            version,
            labels: StringMap::new(),
            joined_ms: self.now_ms,
            created: Revision::default(),
            changed: Revision::default(),
        });
        self.set_record(
            id,
            Some(NodeRecord { tls: join.tls.clone(), ephemeral_ms, demoted_ms: 0 }),
        );
        Ok((index, fabric))
    }

    /// A node's own addresses in the ingress network; none while there is no such network.
    pub(super) fn grant_fabric(&mut self) -> Result<DualStack, Rejection> {
        match self.index.ingress {
            Some(ingress) => self.grant_addresses(ingress, DualStack::default(), |_, _| true),
            None => Ok(DualStack::default()),
        }
    }

    pub(super) fn describe_node(
        &mut self,
        id: NodeId,
        description: &NodeDescription,
    ) -> Result<Outcome, Rejection> {
        let mut node = self.member(id)?.clone();
        let NodeDescription { name, addr, data_path, version } = description.clone();
        (node.name, node.addr, node.data_path, node.version) = (name, addr, data_path, version);
        self.put_node(node);
        Ok(Outcome::NodeUpdated { node: id })
    }

    pub(super) fn update_node(&mut self, change: &NodeChange) -> Result<Outcome, Rejection> {
        let mut node = self.find_node(&change.node)?.clone();
        for key in &change.labels_rm {
            if node.labels.remove(key).is_none() {
                return Err(Rejection::NoLabel { noun: Noun::Node, key: key.clone() });
            }
        }
        node.labels.extend(change.labels_add.clone());
        node.availability = change.availability.unwrap_or(node.availability);
        let role = change.role.unwrap_or(node.role);
        let id = node.id;
        if node.role == Role::Manager && role == Role::Worker {
            if self.managers().count() == 1 {
                return Err(Rejection::LastManager);
            }
            let mut record = self.record(id).cloned().unwrap_or_default();
            record.demoted_ms = self.now_ms;
            self.set_record(id, Some(record));
        }
        if role == Role::Manager && self.record(id).is_some_and(|r| r.ephemeral_ms.is_some()) {
            return Err(Rejection::EphemeralManager);
        }
        node.role = role;
        self.put_node(node);
        Ok(Outcome::NodeUpdated { node: id })
    }

    pub(super) fn remove_node_by(&mut self, remove: &RemoveNode) -> Result<Outcome, Rejection> {
        self.forget_revoked();
        let node = self.find_node(&remove.node)?;
        let (id, text) = (node.id, remove.node.clone());
        if node.role == Role::Manager {
            return Err(Rejection::NodeIsManager { node: text });
        }
        if remove.alive && !remove.force {
            return Err(Rejection::NodeAlive { node: text });
        }
        let endpoints: Vec<_> = self.endpoints_of(id).map(|e| e.id).collect();
        for endpoint in &endpoints {
            self.remove_endpoint(*endpoint);
        }
        // Its certificate may be of a time when they lasted longer.
        let longest_ms = self.now_ms.saturating_add(self.initialised()?.cert_expiry_ms);
        let shown_ms = self.record(id).map_or(0, |r| r.tls.until_ms);
        let until_ms = longest_ms.max(shown_ms).saturating_add(REVOKED_GRACE_MS);
        self.set_revoked(id, Some(Revoked { until_ms }));
        self.remove_node(id);
        Ok(Outcome::NodeRemoved { node: id, endpoints: endpoints.len() })
    }

    fn forget_revoked(&mut self) {
        let now_ms = self.now_ms;
        let over: Vec<_> =
            self.revoked().filter(|(_, r)| r.until_ms < now_ms).map(|(id, _)| id).collect();
        for id in over {
            self.set_revoked(id, None);
        }
    }

    /// A node that a command speaks for.
    pub(super) fn member(&self, id: NodeId) -> Result<&Node, Rejection> {
        self.node(id).ok_or_else(|| Rejection::NotFound { noun: Noun::Node, text: id.short() })
    }
}
