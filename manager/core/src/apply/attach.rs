//! Sandboxes join networks: one transaction for all addresses, the service, its slot and the endpoint on the ingress network.
//!
//! The *fabric endpoint*, the sandbox's one on the ingress network, is its way out and the way of published ports in. A sandbox
//! whose networks are all internal has none; one with no network but a service has only that.

use std::collections::BTreeSet;

use swarmnet_types::{
    AttachmentSpec, Availability, Condition, DualStack, Endpoint, EndpointId, Mac, Name, Network,
    NetworkId, NodeId, Revision, SandboxId, ServiceId, ServiceSpec,
};

use crate::command::Attach;
use crate::outcome::Outcome;
use crate::rejection::Rejection;
use crate::state::txn::Txn;

/// Longest hostname (RFC 1035 §2.3.4).
const HOSTNAME_LEN_MAX: usize = 253;

/// Who the endpoints are for.
struct Task {
    node: NodeId,
    sandbox: SandboxId,
    name: Name,
    hostname: String,
    service: Option<ServiceId>,
    slot: Option<u32>,
    /// Networks it is on already, the ingress included.
    networks: BTreeSet<NetworkId>,
}

/// One endpoint to be.
#[derive(Default)]
struct Place {
    addrs: DualStack,
    mac: Option<Mac>,
    aliases: Vec<Name>,
}

impl Txn<'_> {
    pub(super) fn attach(&mut self, attach: &Attach) -> Result<Outcome, Rejection> {
        let node = self.member(attach.node)?;
        if node.availability != Availability::Active {
            let (node, availability) = (node.name.clone(), node.availability);
            return Err(Rejection::NodeClosed { node, availability });
        }
        let mut task = match self.known_task(attach)? {
            Some(task) => task,
            None => self.new_task(attach)?,
        };
        let networks = self.resolve(&task, attach)?;
        self.check_overlap(&task, &networks)?;
        if task.service.is_none()
            && task.networks.is_empty()
            && let Some(name) = &attach.service
        {
            self.join_service(&mut task, name)?;
        }
        self.check_attachable(&task, &networks)?;
        self.name_service_on(&task, &networks)?;
        let mut endpoints = Vec::with_capacity(networks.len() + 1);
        for (network, wish) in networks.iter().zip(&attach.attachments) {
            let place = Place {
                addrs: DualStack::new(wish.ipv4, wish.ipv6),
                mac: wish.mac,
                aliases: wish.aliases.clone(),
            };
            endpoints.push(self.add_endpoint(&task, *network, place)?);
            task.networks.insert(*network);
        }
        endpoints.extend(self.add_fabric(&task)?);
        Ok(Outcome::Attached { endpoints, service: task.service })
    }

    /// The task of a sandbox that is on some network already.
    fn known_task(&self, attach: &Attach) -> Result<Option<Task>, Rejection> {
        let mut endpoints = self.endpoints_of_sandbox(attach.node, attach.sandbox).peekable();
        let Some(first) = endpoints.peek().copied() else { return Ok(None) };
        let have = first.service.and_then(|s| self.service(s)).map(|s| s.name.clone());
        if let Some(wanted) = attach.service.clone().filter(|w| have.as_ref() != Some(w)) {
            let sandbox = first.name.to_string();
            return Err(Rejection::OtherService { sandbox, have, wanted });
        }
        if attach.attachments.is_empty() {
            return Err(Rejection::NothingToAttach);
        }
        Ok(Some(Task {
            node: attach.node,
            sandbox: attach.sandbox,
            name: first.name.clone(),
            hostname: first.hostname.clone(),
            service: first.service,
            slot: first.slot,
            networks: endpoints.map(|e| e.network).collect(),
        }))
    }

    fn new_task(&self, attach: &Attach) -> Result<Task, Rejection> {
        let Attach { node, sandbox, name, hostname, .. } = attach;
        if attach.attachments.is_empty() && attach.service.is_none() {
            return Err(Rejection::NothingToAttach);
        }
        let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
        if hostname.is_empty()
            || hostname.len() > HOSTNAME_LEN_MAX
            || !hostname.bytes().all(allowed)
        {
            return Err(Rejection::Hostname { hostname: hostname.clone() });
        }
        if let Some(other) = self.index.sandbox_names.get(&(*node, name.clone())) {
            return Err(Rejection::SandboxName { name: name.clone(), sandbox: *other });
        }
        Ok(Task {
            node: *node,
            sandbox: *sandbox,
            name: name.clone(),
            hostname: hostname.clone(),
            service: None,
            slot: None,
            networks: BTreeSet::new(),
        })
    }

    /// The networks of the attachments, in order, each once and new to the sandbox.
    fn resolve(&self, task: &Task, attach: &Attach) -> Result<Vec<NetworkId>, Rejection> {
        let mut networks = Vec::with_capacity(attach.attachments.len());
        for AttachmentSpec { network, .. } in &attach.attachments {
            let Network { id, spec, .. } = self.find_network(network)?;
            let network = spec.name.clone();
            if spec.ingress {
                return Err(Rejection::NotAttachable { network });
            }
            if networks.contains(id) {
                return Err(Rejection::NetworkTwice { network });
            }
            if task.networks.contains(id) {
                return Err(Rejection::AlreadyAttached { sandbox: task.name.clone(), network });
            }
            networks.push(*id);
        }
        Ok(networks)
    }

    /// Networks with one subnet stay apart (N11), but one sandbox could not tell them apart.
    fn check_overlap(&self, task: &Task, networks: &[NetworkId]) -> Result<(), Rejection> {
        let mut seen: Vec<&Network> = task.networks.iter().map(|n| self.network_row(*n)).collect();
        for network in networks.iter().map(|n| self.network_row(*n)) {
            for before in &seen {
                let clash = before.subnets.iter().find_map(|a| {
                    let b = network.subnets.iter().find(|b| a.subnet.overlaps(&b.subnet))?;
                    Some((a.subnet, b.subnet))
                });
                if let Some((a_subnet, b_subnet)) = clash {
                    let (a, b) = (before.spec.name.clone(), network.spec.name.clone());
                    return Err(Rejection::SandboxOverlap { a, a_subnet, b, b_subnet });
                }
            }
            seen.push(network);
        }
        Ok(())
    }

    /// Anyone may join an attachable network; tasks may also join those that an operator put their service on.
    fn check_attachable(&self, task: &Task, networks: &[NetworkId]) -> Result<(), Rejection> {
        for network in networks.iter().map(|n| self.network_row(*n)) {
            let declared = task
                .service
                .is_some_and(|s| self.tables.services[&s].declared.contains(&network.id));
            if !network.spec.attachable && !declared {
                return Err(Rejection::NotAttachable { network: network.spec.name.clone() });
            }
        }
        Ok(())
    }

    /// The task becomes the lowest free slot of the service, which is created when absent.
    fn join_service(&mut self, task: &mut Task, name: &Name) -> Result<(), Rejection> {
        let id = if let Some(id) = self.index.service_names.get(name) {
            *id
        } else {
            let row = self.new_row(&ServiceSpec::named(name.clone()), false)?;
            let id = row.service.id;
            self.put_service(row);
            id
        };
        let service = &self.tables.services[&id].service;
        let node = self.member(task.node)?;
        if !self.host_rivals(service, node).is_empty() {
            return Err(Rejection::HostPort { count: 1 });
        }
        let slots = self.index.services.get(&id).map(|s| &s.slots);
        let taken = slots.into_iter().flat_map(|s| s.keys().copied());
        // Keys ascend from 1: the first that is not where it would be without a gap ends the run.
        let run = taken.zip(1..).take_while(|(slot, n)| slot == n).count();
        task.slot = Some(run as u32 + 1);
        task.service = Some(id);
        Ok(())
    }

    fn name_service_on(&mut self, task: &Task, networks: &[NetworkId]) -> Result<(), Rejection> {
        let Some(service) = task.service else { return Ok(()) };
        let mut row = self.tables.services[&service].clone();
        for network in networks {
            self.name_on(&mut row, *network, DualStack::default())?;
        }
        self.put_service(row);
        Ok(())
    }

    fn add_endpoint(
        &mut self,
        task: &Task,
        network: NetworkId,
        place: Place,
    ) -> Result<Endpoint, Rejection> {
        let (addrs, mac) = self.grant_endpoint(network, place.addrs, place.mac)?;
        let id = self.draw(EndpointId::from_bytes, |s, id| s.tables.endpoints.contains_key(id));
        self.put_endpoint(Endpoint {
            id,
            network,
            node: task.node,
            sandbox: task.sandbox,
            name: task.name.clone(),
            hostname: task.hostname.clone(),
            aliases: place.aliases,
            addrs,
            mac,
            service: task.service,
            slot: task.slot,
            condition: Condition::Starting,
            created_ms: self.now_ms,
            created: Revision::default(),
            changed: Revision::default(),
        });
        Ok(self.tables.endpoints[&id].clone())
    }

    /// The fabric endpoint, where the sandbox wants one and has none. Without an ingress network there is no way out.
    fn add_fabric(&mut self, task: &Task) -> Result<Option<Endpoint>, Rejection> {
        let Some(ingress) = self.index.ingress else {
            let alone = task.networks.is_empty();
            return if alone { Err(Rejection::NoIngress) } else { Ok(None) };
        };
        let wanted = self.wants_fabric(&task.networks, task.service);
        if !wanted || task.networks.contains(&ingress) {
            return Ok(None);
        }
        self.add_endpoint(task, ingress, Place::default()).map(Some)
    }

    /// Is a sandbox on these networks to be reached by the ingress network?
    pub(super) fn wants_fabric(
        &self,
        networks: &BTreeSet<NetworkId>,
        service: Option<ServiceId>,
    ) -> bool {
        let mut own =
            networks.iter().map(|n| self.network_row(*n)).filter(|n| !n.spec.ingress).peekable();
        match own.peek() {
            None => service.is_some(),
            Some(_) => own.any(|n| !n.spec.internal),
        }
    }
}
