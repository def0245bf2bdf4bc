//! What a node says of its own endpoints: how they fare, and that they are given back.

use std::collections::BTreeSet;

use swarmnet_types::{Condition, EndpointId, NodeId, SandboxId};

use crate::outcome::Outcome;
use crate::rejection::Rejection;
use crate::state::txn::Txn;

impl Txn<'_> {
    /// `None` when it is gone: a report about something just removed is no error.
    fn own(
        &self,
        node: NodeId,
        id: EndpointId,
    ) -> Result<Option<&swarmnet_types::Endpoint>, Rejection> {
        match self.endpoint(id) {
            Some(endpoint) if endpoint.node != node => Err(Rejection::NotOwner {
                what: format!("endpoint {}", id.short()),
                node: self.node_name(node),
            }),
            found => Ok(found),
        }
    }

    pub(super) fn set_conditions(
        &mut self,
        node: NodeId,
        conditions: &[(EndpointId, Condition)],
    ) -> Result<Outcome, Rejection> {
        self.member(node)?;
        for (id, condition) in conditions {
            if let Some(endpoint) = self.own(node, *id)? {
                let mut endpoint = endpoint.clone();
                endpoint.condition = *condition;
                self.put_endpoint(endpoint);
            }
        }
        Ok(Outcome::Done)
    }

    pub(super) fn detach(
        &mut self,
        node: NodeId,
        endpoints: &[EndpointId],
    ) -> Result<Outcome, Rejection> {
        self.member(node)?;
        let mut gone = Vec::new();
        let mut sandboxes = BTreeSet::new();
        for id in endpoints {
            if let Some(endpoint) = self.own(node, *id)? {
                sandboxes.insert(endpoint.sandbox);
                self.remove_endpoint(*id);
                gone.push(*id);
            }
        }
        for sandbox in sandboxes {
            gone.extend(self.drop_fabric(node, sandbox));
        }
        Ok(Outcome::Detached { endpoints: gone })
    }

    pub(super) fn disconnect(
        &mut self,
        node: NodeId,
        sandbox: SandboxId,
        network: &str,
    ) -> Result<Outcome, Rejection> {
        self.member(node)?;
        let network = self.find_network(network)?;
        let name = network.spec.name.clone();
        let id = (!network.spec.ingress).then_some(network.id);
        let own: Vec<_> = self.endpoints_of_sandbox(node, sandbox).collect();
        let Some(endpoint) = own.iter().find(|e| Some(e.network) == id).map(|e| e.id) else {
            let sandbox = own.first().map_or_else(|| sandbox.short(), |e| e.name.to_string());
            return Err(Rejection::NotConnected { sandbox, network: name });
        };
        self.remove_endpoint(endpoint);
        let mut gone = vec![endpoint];
        gone.extend(self.drop_fabric(node, sandbox));
        Ok(Outcome::Detached { endpoints: gone })
    }

    /// Takes the fabric endpoint of a sandbox back when what is left of it must not be reached by it.
    fn drop_fabric(&mut self, node: NodeId, sandbox: SandboxId) -> Option<EndpointId> {
        let ingress = self.index.ingress?;
        let own: Vec<_> = self.endpoints_of_sandbox(node, sandbox).collect();
        let service = own.first()?.service;
        let networks = own.iter().map(|e| e.network).collect();
        if self.wants_fabric(&networks, service) {
            return None;
        }
        let id = own.iter().find(|e| e.network == ingress)?.id;
        self.remove_endpoint(id);
        Some(id)
    }
}
