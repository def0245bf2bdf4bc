//! The inputs with the few indexes that all parts of the merge look things up by.
//!
//! Scale: built anew for each merge, one pass over the view's endpoints.

use std::collections::BTreeMap;

use swarmnet_gossip::Condition as NodeCondition;
use swarmnet_types::{
    Availability, Condition, Driver, Endpoint, Network, NetworkId, Node, NodeId, NodeView,
    SandboxId, Service, ServiceId,
};

use super::Inputs;
use crate::local::{Attachment, SandboxRecord, SandboxState};

pub(crate) struct Scene<'a> {
    pub(crate) inputs: &'a Inputs,
    /// `None` outside a cluster, and when the cluster does not know this node (any more).
    pub(crate) cluster: Option<Cluster<'a>>,
}

pub(crate) struct Cluster<'a> {
    pub(crate) view: &'a NodeView,
    pub(crate) me: &'a Node,
    pub(crate) ingress: Option<&'a Network>,
    pub(crate) endpoints: BTreeMap<NetworkId, Vec<&'a Endpoint>>,
    /// Those that say they are tasks of the service.
    pub(crate) tasks: BTreeMap<(NetworkId, ServiceId), Vec<&'a Endpoint>>,
}

/// How much of an endpoint others get to see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shown {
    /// In names, in balancing.
    Ready,
    /// In names, in balancing when nothing better is left.
    Unhealthy,
    /// A name without an address.
    Hidden,
}

impl<'a> Scene<'a> {
    pub(crate) fn new(inputs: &'a Inputs) -> Self {
        let cluster = inputs.view.as_deref().and_then(Cluster::new);
        Self { inputs, cluster }
    }

    /// Sandboxes that are to exist and have a network stack of their own.
    pub(crate) fn sandboxes(&self) -> impl Iterator<Item = &'a SandboxRecord> + use<'a> {
        let records = self.inputs.local.sandboxes.values().map(AsRef::as_ref);
        records.filter(|r| r.state != SandboxState::Leaving && !r.shares_host_stack())
    }

    /// The network of an attachment as it is now: the view and the node's own objects know better than the record.
    pub(crate) fn network(&self, attachment: &'a Attachment) -> &'a Network {
        let id = attachment.endpoint.network;
        let of_view = self.cluster.as_ref().and_then(|c| c.view.networks.get(&id));
        of_view
            .or_else(|| self.inputs.local.networks.get(&id).map(AsRef::as_ref))
            .unwrap_or(&attachment.network)
    }

    /// Links are built for it here.
    pub(crate) fn is_built(&self, network: &Network) -> bool {
        match network.spec.driver {
            Driver::Overlay => self.cluster.is_some() && network.vni.is_some(),
            Driver::Bridge => true,
            Driver::Host | Driver::None => false,
        }
    }

    pub(crate) fn is_dead(&self, node: NodeId) -> bool {
        let state = self.inputs.liveness.get(&node);
        state.is_some_and(|s| s.condition == NodeCondition::Dead)
    }

    /// Is the endpoint on another node, and that node not dead?
    pub(crate) fn is_remote(&self, endpoint: &Endpoint) -> bool {
        let me = self.cluster.as_ref().map(|c| c.me.id);
        Some(endpoint.node) != me && !self.is_dead(endpoint.node)
    }

    pub(crate) fn shown(&self, endpoint: &Endpoint) -> Shown {
        if self.is_dead(endpoint.node) || self.is_leaving_here(endpoint) {
            return Shown::Hidden;
        }
        match endpoint.condition {
            Condition::Ready => Shown::Ready,
            Condition::Unhealthy => Shown::Unhealthy,
            Condition::Starting | Condition::Draining => Shown::Hidden,
        }
    }

    /// Of this node, by the view, but its sandbox is leaving or gone.
    fn is_leaving_here(&self, endpoint: &Endpoint) -> bool {
        let here = self.cluster.as_ref().is_some_and(|c| c.me.id == endpoint.node);
        here && self.sandbox(endpoint.sandbox).is_none_or(|r| r.state == SandboxState::Leaving)
    }

    pub(crate) fn sandbox(&self, id: SandboxId) -> Option<&'a SandboxRecord> {
        self.inputs.local.sandboxes.get(&id).map(AsRef::as_ref)
    }

    /// A node of the cluster that this one knows of.
    pub(crate) fn node(&self, id: NodeId) -> Option<&'a Node> {
        self.cluster.as_ref().and_then(|c| c.view.nodes.get(&id))
    }

    /// The networks that a sandbox is on.
    pub(crate) fn networks_of(
        &self,
        record: &'a SandboxRecord,
    ) -> impl Iterator<Item = &'a Network> {
        record.attachments.iter().map(|a| self.network(a))
    }

    pub(crate) fn is_drained(&self, node: NodeId) -> bool {
        self.node(node).is_some_and(|n| n.availability == Availability::Drain)
    }

    /// Of a service's tasks on one network, those that new connections go to.
    pub(crate) fn balanced<'e>(&self, tasks: &[&'e Endpoint]) -> Vec<&'e Endpoint> {
        let of = |wanted: Shown| {
            let fits = |e: &&&Endpoint| self.shown(e) == wanted && !self.is_drained(e.node);
            tasks.iter().filter(fits).copied().collect::<Vec<_>>()
        };
        let ready = of(Shown::Ready);
        if ready.is_empty() { of(Shown::Unhealthy) } else { ready }
    }
}

impl<'a> Cluster<'a> {
    fn new(view: &'a NodeView) -> Option<Self> {
        let me = view.nodes.get(&view.me)?;
        let mut endpoints: BTreeMap<NetworkId, Vec<&Endpoint>> = BTreeMap::new();
        let mut tasks: BTreeMap<(NetworkId, ServiceId), Vec<&Endpoint>> = BTreeMap::new();
        for endpoint in view.endpoints.values() {
            endpoints.entry(endpoint.network).or_default().push(endpoint);
            if let Some(service) = endpoint.service {
                tasks.entry((endpoint.network, service)).or_default().push(endpoint);
            }
        }
        let ingress = view.networks.values().find(|n| n.spec.ingress);
        Some(Self { view, me, ingress, endpoints, tasks })
    }

    pub(crate) fn endpoints(&self, network: NetworkId) -> &[&'a Endpoint] {
        self.endpoints.get(&network).map_or(&[], Vec::as_slice)
    }

    pub(crate) fn tasks(&self, network: NetworkId, service: ServiceId) -> &[&'a Endpoint] {
        self.tasks.get(&(network, service)).map_or(&[], Vec::as_slice)
    }

    /// The services that have a name on a network.
    pub(crate) fn services_on(&self, network: NetworkId) -> impl Iterator<Item = &'a Service> {
        self.view.services.values().filter(move |s| s.vips.contains_key(&network))
    }
}
