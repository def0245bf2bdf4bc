//! Services: names with virtual addresses on networks, and backends outside the cluster.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use swarmnet_types::network::PREDEFINED;
use swarmnet_types::service::ExternalBackend;
use swarmnet_types::{
    DualStack, EndpointMode, Name, NetworkId, PublishMode, Revision, Service, ServiceId,
    ServiceSpec,
};

use crate::command::ServiceChange;
use crate::outcome::Outcome;
use crate::rejection::{BackendFault, Noun, Rejection};
use crate::state::tables::ServiceRow;
use crate::state::txn::Txn;

impl Txn<'_> {
    pub(super) fn row(&self, text: &str) -> Result<ServiceRow, Rejection> {
        let id = self.find_service(text)?.id;
        Ok(self.tables.services[&id].clone())
    }

    /// A service of this wish that is not in the tables yet, without networks and ports.
    pub(super) fn new_row(
        &mut self,
        spec: &ServiceSpec,
        for_ports: bool,
    ) -> Result<ServiceRow, Rejection> {
        if self.index.service_names.contains_key(&spec.name) {
            return Err(Rejection::ServiceExists { name: spec.name.clone() });
        }
        let id = self.draw(ServiceId::from_bytes, |s, id| s.tables.services.contains_key(id));
        let service = Service {
            id,
            name: spec.name.clone(),
            endpoint_mode: spec.endpoint_mode,
            algorithm: spec.algorithm,
            labels: spec.labels.clone(),
            vips: BTreeMap::new(),
            publications: Vec::new(),
            externals: Vec::new(),
            created_ms: self.now_ms,
            created: Revision::default(),
            changed: Revision::default(),
        };
        Ok(ServiceRow { service, declared: BTreeSet::new(), for_ports })
    }

    pub(super) fn create_service(&mut self, spec: &ServiceSpec) -> Result<Outcome, Rejection> {
        let mut row = self.new_row(spec, false)?;
        if spec.endpoint_mode == EndpointMode::Dnsrr && !spec.vip.is_empty() {
            return Err(Rejection::VipWithDnsrr);
        }
        let mut wish = spec.vip;
        for text in &spec.networks {
            let network = self.service_network(text)?;
            wish = self.declare(&mut row, network, wish)?;
        }
        if let Some(addr) = wish.iter().next() {
            return Err(Rejection::NoSubnet { addr });
        }
        // To an existing service a port may be given again (`sw:P11`); in one wish twice is a mistake (`sw:P12`).
        let mut seen = BTreeSet::new();
        if spec.publish.iter().any(|p| p.published.is_some() && !seen.insert(p)) {
            return Err(Rejection::PortTwice);
        }
        let publications = self.publish_on(&mut row, &spec.publish)?;
        let service = row.service.id;
        self.put_service(row);
        Ok(Outcome::ServiceCreated { service, publications })
    }

    /// A network that services may be put on by an operator.
    fn service_network(&self, text: &str) -> Result<NetworkId, Rejection> {
        let network = match self.find_network(text) {
            Err(Rejection::NotFound { .. }) if PREDEFINED.contains(&text) => {
                return Err(Rejection::LocalNetwork { network: text.to_owned() });
            }
            found => found?,
        };
        if network.spec.ingress {
            return Err(Rejection::ServiceIngress { network: network.spec.name.clone() });
        }
        Ok(network.id)
    }

    /// Puts a service on a network for good. Gives back what of the wished addresses lies elsewhere.
    fn declare(
        &mut self,
        row: &mut ServiceRow,
        network: NetworkId,
        wish: DualStack,
    ) -> Result<DualStack, Rejection> {
        if !row.declared.insert(network) {
            let network = self.network_row(network).spec.name.clone();
            return Err(Rejection::ServiceNetworkTwice { network });
        }
        let here = |addr: IpAddr| self.network_row(network).contains(addr);
        let v4 = wish.v4.filter(|a| here(IpAddr::V4(*a)));
        let v6 = wish.v6.filter(|a| here(IpAddr::V6(*a)));
        self.name_on(row, network, DualStack::new(v4, v6))?;
        Ok(DualStack::new(wish.v4.filter(|_| v4.is_none()), wish.v6.filter(|_| v6.is_none())))
    }

    /// Gives a service its name and virtual addresses on a network, unless it has them.
    pub(super) fn name_on(
        &mut self,
        row: &mut ServiceRow,
        network: NetworkId,
        wish: DualStack,
    ) -> Result<(), Rejection> {
        if row.service.vips.contains_key(&network) {
            return Ok(());
        }
        let vip = match row.service.endpoint_mode {
            EndpointMode::Vip => self.grant_addresses(network, wish, |_, _| true)?,
            EndpointMode::Dnsrr => DualStack::default(),
        };
        row.service.vips.insert(network, vip);
        Ok(())
    }

    pub(super) fn update_service(&mut self, change: &ServiceChange) -> Result<Outcome, Rejection> {
        let mut row = self.row(&change.service)?;
        for key in &change.labels_rm {
            if row.service.labels.remove(key).is_none() {
                return Err(Rejection::NoLabel { noun: Noun::Service, key: key.clone() });
            }
        }
        row.service.labels.extend(change.labels_add.clone());
        row.service.algorithm = change.algorithm.unwrap_or(row.service.algorithm);
        for text in &change.networks.remove {
            let network = self.service_network(text)?;
            self.unname(&mut row, network)?;
        }
        if let Some(mode) = change.endpoint_mode {
            self.set_mode(&mut row, mode)?;
        }
        for text in &change.networks.add {
            let network = self.service_network(text)?;
            self.declare(&mut row, network, DualStack::default())?;
        }
        row.for_ports = false;
        let publications = self.publish_on(&mut row, &change.publish_add)?;
        let service = row.service.id;
        self.put_service(row);
        Ok(Outcome::ServiceUpdated { service, publications })
    }

    fn unname(&mut self, row: &mut ServiceRow, network: NetworkId) -> Result<(), Rejection> {
        let name = self.network_row(network).spec.name.clone();
        let service = &mut row.service;
        if self.tasks_of(service.id).any(|e| e.network == network) {
            return Err(Rejection::ServiceNetworkBusy {
                service: service.name.clone(),
                network: name,
            });
        }
        row.declared.remove(&network);
        match service.vips.remove(&network) {
            Some(_) => Ok(()),
            None => Err(Rejection::ServiceNetworkAbsent { network: name }),
        }
    }

    fn set_mode(&mut self, row: &mut ServiceRow, mode: EndpointMode) -> Result<(), Rejection> {
        let service = &mut row.service;
        if mode == service.endpoint_mode {
            return Ok(());
        }
        let ingress = service.publications.iter().any(|p| p.mode == PublishMode::Ingress);
        if mode == EndpointMode::Dnsrr && ingress {
            return Err(Rejection::IngressWithDnsrr);
        }
        service.endpoint_mode = mode;
        let networks: Vec<_> = std::mem::take(&mut service.vips).into_keys().collect();
        for network in networks {
            self.name_on(row, network, DualStack::default())?;
        }
        Ok(())
    }

    /// The tasks stay as plain endpoints.
    pub(super) fn remove_service_by(&mut self, text: &str) -> Result<Outcome, Rejection> {
        let service = self.find_service(text)?.clone();
        let tasks: Vec<_> = self.tasks_of(service.id).cloned().collect();
        for mut endpoint in tasks {
            (endpoint.service, endpoint.slot) = (None, None);
            self.put_endpoint(endpoint);
        }
        self.remove_service(service.id);
        Ok(Outcome::ServiceRemoved { service: service.id, name: service.name })
    }

    pub(super) fn add_backend(
        &mut self,
        text: &str,
        backend: &ExternalBackend,
    ) -> Result<Outcome, Rejection> {
        let mut row = self.row(text)?;
        let addr = backend.addr;
        if let Some(why) = self.backend_fault(addr) {
            return Err(Rejection::BackendAddress { addr, why });
        }
        let service = &mut row.service;
        if service.externals.iter().any(|e| e.name == backend.name || e.addr == addr) {
            return Err(Rejection::BackendExists {
                service: service.name.clone(),
                backend: backend.name.clone(),
            });
        }
        service.externals.push(backend.clone());
        Ok(self.updated(row))
    }

    /// Balancing to an address of our own would reach around isolation between networks.
    fn backend_fault(&self, addr: IpAddr) -> Option<BackendFault> {
        let local = match addr {
            IpAddr::V4(a) => a.is_link_local() || a.is_broadcast(),
            IpAddr::V6(a) => a.is_unicast_link_local() || a.to_ipv4_mapped().is_some(),
        };
        if local || addr.is_loopback() || addr.is_unspecified() || addr.is_multicast() {
            Some(BackendFault::NotUnicast)
        } else if self.networks().any(|n| n.contains(addr)) {
            Some(BackendFault::Inside)
        } else {
            None
        }
    }

    pub(super) fn remove_backend(
        &mut self,
        text: &str,
        backend: &Name,
    ) -> Result<Outcome, Rejection> {
        let mut row = self.row(text)?;
        let externals = &mut row.service.externals;
        let Some(at) = externals.iter().position(|e| e.name == *backend) else {
            return Err(Rejection::BackendUnknown {
                service: row.service.name,
                backend: backend.clone(),
            });
        };
        externals.remove(at);
        Ok(self.updated(row))
    }

    fn updated(&mut self, row: ServiceRow) -> Outcome {
        let service = row.service.id;
        self.put_service(row);
        Outcome::ServiceUpdated { service, publications: Vec::new() }
    }
}
