//! Published ports: granted, checked against all others inside the transaction, taken back.

use std::collections::{BTreeMap, BTreeSet};

use swarmnet_types::{
    EndpointMode, Name, Node, Protocol, Publication, PublishMode, PublishSpec, SandboxId, Service,
    ServiceSpec,
};

use crate::alloc::ports;
use crate::command::{Publish, Unpublish};
use crate::outcome::Outcome;
use crate::rejection::Rejection;
use crate::state::tables::ServiceRow;
use crate::state::txn::Txn;

impl Txn<'_> {
    pub(super) fn publish(&mut self, publish: &Publish) -> Result<Outcome, Rejection> {
        let mut specs = publish.specs.clone();
        let first = specs.first_mut().ok_or(Rejection::NothingToPublish)?;
        let (mut row, created) = if let Some(text) = &publish.service {
            (self.row(text)?, false)
        } else {
            // The port names the service, so it is chosen first.
            let port = match first.published {
                Some(port) => port,
                None => self.dynamic_port(first.protocol, &BTreeMap::new())?,
            };
            first.published = Some(port);
            let name = Name::new(format!("svc-{port}")).expect("a DNS label");
            match self.index.service_names.get(&name) {
                Some(id) => (self.tables.services[id].clone(), false),
                None => (self.new_row(&ServiceSpec::named(name), true)?, true),
            }
        };
        let publications = self.publish_on(&mut row, &specs)?;
        let (service, name) = (row.service.id, row.service.name.clone());
        self.put_service(row);
        Ok(Outcome::Published { service, name, created, publications })
    }

    /// Grants publications to a service; those it has already are granted again as they are (`sw:P11`).
    pub(super) fn publish_on(
        &mut self,
        row: &mut ServiceRow,
        specs: &[PublishSpec],
    ) -> Result<Vec<Publication>, Rejection> {
        if specs.is_empty() {
            return Ok(Vec::new());
        }
        self.may_publish(&row.service, specs)?;
        let mut own: BTreeMap<(Protocol, u16), Vec<Publication>> = BTreeMap::new();
        for p in &row.service.publications {
            own.entry((p.protocol, p.published)).or_default().push(p.clone());
        }
        let mut granted = Vec::with_capacity(specs.len());
        for spec in specs {
            let published = match spec.published {
                Some(port) => port,
                None => self.dynamic_port(spec.protocol, &own)?,
            };
            let publication = publication(spec, published);
            let beside = own.entry((spec.protocol, published)).or_default();
            if !beside.contains(&publication) {
                if beside.iter().any(|p| p.conflicts(&publication)) {
                    return Err(Rejection::PortTwice);
                }
                beside.push(publication.clone());
                self.check_others(&row.service, &publication)?;
                row.service.publications.push(publication.clone());
            }
            granted.push(publication);
        }
        self.check_hosts(&row.service)?;
        Ok(granted)
    }

    fn may_publish(&self, service: &Service, specs: &[PublishSpec]) -> Result<(), Rejection> {
        if self.index.ingress.is_none() {
            return Err(Rejection::NoIngress);
        }
        let dnsrr = service.endpoint_mode == EndpointMode::Dnsrr;
        if dnsrr && specs.iter().any(|s| s.mode == PublishMode::Ingress) {
            return Err(Rejection::IngressWithDnsrr);
        }
        if specs.iter().any(|s| s.target == 0 || s.published == Some(0)) {
            return Err(Rejection::PortZero);
        }
        let mut networks = service.vips.keys().map(|n| self.network_row(*n)).peekable();
        if networks.peek().is_some() && networks.all(|n| n.spec.internal) {
            return Err(Rejection::InternalOnly { service: service.name.clone() });
        }
        Ok(())
    }

    /// A port of the dynamic range that nobody publishes in any way.
    fn dynamic_port(
        &mut self,
        protocol: Protocol,
        own: &BTreeMap<(Protocol, u16), Vec<Publication>>,
    ) -> Result<u16, Rejection> {
        let taken = &self.index.ports;
        let free =
            |p: u16| !taken.contains_key(&(protocol, p)) && !own.contains_key(&(protocol, p));
        let port =
            ports::next_port(self.tables.given.port, free).ok_or(Rejection::PortsExhausted)?;
        self.give(|given| given.port = port);
        Ok(port)
    }

    /// Against other services (`sw:P13`): host mode beside host mode is settled node by node.
    fn check_others(&self, service: &Service, wanted: &Publication) -> Result<(), Rejection> {
        for other in self.publishers(wanted.protocol, wanted.published) {
            let clash = other.publications.iter().find(|p| {
                let both_host = p.mode == PublishMode::Host && wanted.mode == PublishMode::Host;
                p.conflicts(wanted) && !both_host
            });
            if let Some(p) = clash
                && other.id != service.id
            {
                return Err(Rejection::PortTaken {
                    port: wanted.published,
                    service: other.name.clone(),
                    id: other.id,
                    mode: p.mode,
                });
            }
        }
        Ok(())
    }

    fn publishers(&self, protocol: Protocol, port: u16) -> impl Iterator<Item = &Service> {
        let ids = self.index.ports.get(&(protocol, port)).into_iter().flatten();
        ids.map(|id| &self.tables.services[id].service)
    }

    /// A host-mode port takes one task a node.
    fn check_hosts(&self, service: &Service) -> Result<(), Rejection> {
        if service.publications.iter().all(|p| p.mode != PublishMode::Host) {
            return Ok(());
        }
        let nodes: BTreeSet<_> = self.tasks_of(service.id).map(|e| e.node).collect();
        let full = nodes.into_iter().filter_map(|n| self.node(n));
        let count = full.filter(|n| self.host_rivals(service, n).len() > 1).count();
        if count == 0 { Ok(()) } else { Err(Rejection::HostPort { count }) }
    }

    /// Sandboxes on the node that want a host-mode port which the service publishes there: its own tasks, and those of others.
    pub(super) fn host_rivals(&self, service: &Service, node: &Node) -> BTreeSet<SandboxId> {
        let here = |p: &Publication| {
            p.mode == PublishMode::Host
                && p.nodes.as_ref().is_none_or(|s| node.labels.get(&s.label) == Some(&s.value))
        };
        let mut services = BTreeSet::new();
        for wanted in service.publications.iter().filter(|p| here(p)) {
            services.insert(service.id);
            for other in self.publishers(wanted.protocol, wanted.published) {
                if other.publications.iter().any(|p| here(p) && p.conflicts(wanted)) {
                    services.insert(other.id);
                }
            }
        }
        if services.is_empty() {
            return BTreeSet::new();
        }
        self.endpoints_of(node.id)
            .filter(|e| e.service.is_some_and(|s| services.contains(&s)))
            .map(|e| e.sandbox)
            .collect()
    }

    // === taking back ===

    pub(super) fn unpublish(&mut self, unpublish: &Unpublish) -> Result<Outcome, Rejection> {
        let (by_target, mut row) = self.publisher_of(unpublish)?;
        let matches = matcher(unpublish, by_target);
        let (publications, kept) = row.service.publications.into_iter().partition(|p| matches(p));
        row.service.publications = kept;
        let service_removed = row.for_ports && self.is_idle(&row);
        let (service, name) = (row.service.id, row.service.name.clone());
        if service_removed {
            self.remove_service(service);
        } else {
            self.put_service(row);
        }
        Ok(Outcome::Unpublished { service, name, publications, service_removed })
    }

    /// Whose port is meant, and whether by its target. A published port is meant before a target port.
    fn publisher_of(&self, unpublish: &Unpublish) -> Result<(bool, ServiceRow), Rejection> {
        let named = match &unpublish.service {
            Some(text) => Some(self.row(text)?),
            None => None,
        };
        for by_target in [false, true] {
            let matches = matcher(unpublish, by_target);
            let has = |s: &&Service| s.publications.iter().any(&matches);
            if let Some(row) = &named {
                if has(&&row.service) {
                    return Ok((by_target, row.clone()));
                }
                continue;
            }
            let services: Vec<_> = self.services().filter(has).collect();
            match services.as_slice() {
                [] => {}
                [one] => return Ok((by_target, self.tables.services[&one.id].clone())),
                many => {
                    return Err(Rejection::PortAmbiguous {
                        port: unpublish.port,
                        services: many.iter().map(|s| s.name.clone()).collect(),
                    });
                }
            }
        }
        let service = named.map(|row| row.service.name);
        Err(Rejection::NotPublished { port: unpublish.port, service })
    }

    fn is_idle(&self, row: &ServiceRow) -> bool {
        row.service.publications.is_empty()
            && row.service.externals.is_empty()
            && row.declared.is_empty()
            && self.tasks_of(row.service.id).next().is_none()
    }
}

fn publication(spec: &PublishSpec, published: u16) -> Publication {
    Publication {
        published,
        target: spec.target,
        protocol: spec.protocol,
        mode: spec.mode,
        ip: spec.ip,
        nodes: spec.nodes.clone(),
        allow_from: spec.allow_from.clone(),
    }
}

fn matcher(unpublish: &Unpublish, by_target: bool) -> impl Fn(&Publication) -> bool + use<> {
    let (port, protocol) = (unpublish.port, unpublish.protocol);
    move |p| {
        let number = if by_target { p.target } else { p.published };
        number == port && protocol.is_none_or(|wanted| wanted == p.protocol)
    }
}
