//! Cluster networks: subnets given or cut from the pools, a VNI, and removal when nobody holds them.

use swarmnet_ipam::{pool, subnet};
use swarmnet_types::{DualStack, Network, NetworkId, Revision, Subnet, SubnetSpec, Vni, check};

use crate::alloc::{pools, ports};
use crate::command::{CreateNetwork, RemoveNetwork};
use crate::outcome::Outcome;
use crate::rejection::{Holder, Rejection};
use crate::state::txn::Txn;

impl Txn<'_> {
    pub(super) fn create_network(
        &mut self,
        create: &CreateNetwork,
    ) -> Result<NetworkId, Rejection> {
        let spec = &create.spec;
        check::network(spec).map_err(Rejection::Spec)?;
        if self.index.network_names.contains_key(&spec.name) {
            return Err(Rejection::NetworkExists { name: spec.name.clone() });
        }
        if let (true, Some(network)) = (spec.ingress, self.index.ingress) {
            return Err(Rejection::IngressExists { network });
        }
        let mut subnets = spec.subnets.clone();
        for wished in &subnets {
            self.check_free(wished.subnet, create)?;
        }
        for (wanted, ipv6) in [(spec.ipv4, false), (spec.ipv6, true)] {
            if wanted && !subnets.iter().any(|s| s.subnet.is_ipv6() == ipv6) {
                let free = |s| self.check_free(s, create).is_ok();
                let large = (spec.ingress && !ipv6).then(|| pools::default_ingress_ipv4(free));
                let subnet = match large.flatten() {
                    Some(subnet) => subnet,
                    None => self.cut_subnet(ipv6, &create.avoid)?,
                };
                subnets.push(SubnetSpec::plain(subnet));
            }
        }
        for subnet in &mut subnets {
            subnet.gateway = subnet.gateway.or_else(|| subnet::default_gateway(subnet));
        }
        let vni = self.grant_vni(create)?;
        let id = self.draw(NetworkId::from_bytes, |s, id| s.tables.networks.contains_key(id));
        self.put_network(Network {
            id,
            spec: spec.clone(),
            subnets,
            vni: Some(vni),
            created_ms: self.now_ms,
            created: Revision::default(),
            changed: Revision::default(),
        });
        if spec.ingress {
            self.give_fabric()?;
        }
        Ok(id)
    }

    /// A subnet that the user chose: two networks may have the very same one and stay apart (N11), but what overlaps in part is
    /// a mistake, and nothing may touch the ingress network or a route of the host (N10).
    fn check_free(&self, subnet: Subnet, create: &CreateNetwork) -> Result<(), Rejection> {
        for network in self.networks() {
            let ingress = create.spec.ingress || network.spec.ingress;
            let clash =
                |s: &&SubnetSpec| s.subnet.overlaps(&subnet) && (s.subnet != subnet || ingress);
            if let Some(other) = network.subnets.iter().find(clash) {
                let (other, network) = (other.subnet, network.spec.name.clone());
                return Err(Rejection::SubnetOverlap { subnet, other, network });
            }
        }
        match pools::routes(&create.avoid).find(|r| r.overlaps(&subnet)) {
            Some(route) => Err(Rejection::RouteOverlap { subnet, route: *route }),
            None => Ok(()),
        }
    }

    /// The next block of the pools of this family, around all networks and the host's routes.
    fn cut_subnet(&mut self, ipv6: bool, avoid: &[Subnet]) -> Result<Subnet, Rejection> {
        let cluster = self.initialised()?;
        let mask_len = if ipv6 { pool::IPV6_MASK_LEN } else { cluster.pool_mask_len };
        let own = self.networks().flat_map(|n| n.subnets.iter().map(|s| &s.subnet));
        let busy = pool::busy(own.chain(pools::routes(avoid)), ipv6);
        let given = &self.tables.given.blocks;
        let found = cluster.pools.iter().filter(|p| p.is_ipv6() == ipv6).find_map(|pool| {
            let block = pool::cut(*pool, mask_len, given.get(pool).copied(), &busy)?;
            Some((*pool, block))
        });
        let (pool, block) = found.ok_or(Rejection::PoolsExhausted)?;
        self.give(|given| {
            given.blocks.insert(pool, block.net().network());
        });
        Ok(block)
    }

    fn grant_vni(&mut self, create: &CreateNetwork) -> Result<Vni, Rejection> {
        let spec = &create.spec;
        let wanted = spec.wanted_vni().ok().flatten();
        if let Some(vni) = wanted.or(spec.ingress.then_some(Vni::INGRESS)) {
            if vni == Vni::INGRESS && !spec.ingress {
                return Err(Rejection::VniReserved { vni });
            }
            return match self.networks().find(|n| n.vni == Some(vni)) {
                Some(other) => Err(Rejection::VniTaken { vni, network: other.spec.name.clone() }),
                None => Ok(vni),
            };
        }
        let given = self.tables.given.vni;
        let vni = ports::next_vni(given, &self.index.vnis).ok_or(Rejection::VniExhausted)?;
        self.give(|given| given.vni = vni.get());
        Ok(vni)
    }

    /// A new ingress network: every node gets its addresses there.
    fn give_fabric(&mut self) -> Result<(), Rejection> {
        for mut node in self.nodes().cloned().collect::<Vec<_>>() {
            node.fabric = self.grant_fabric()?;
            self.put_node(node);
        }
        Ok(())
    }

    pub(super) fn remove_network_by(
        &mut self,
        remove: &RemoveNetwork,
    ) -> Result<Outcome, Rejection> {
        if swarmnet_types::network::PREDEFINED.contains(&remove.network.as_str()) {
            return Err(Rejection::Predefined { name: remove.network.clone() });
        }
        let network = self.find_network(&remove.network)?.clone();
        if network.spec.ingress {
            self.ingress_is_free()?;
        }
        if remove.force {
            self.clear_dead(&network, remove);
        }
        let mut holders = self.holders(network.id);
        if remove.force {
            holders.retain(|h| matches!(h, Holder::Endpoint { .. }));
        }
        if !holders.is_empty() {
            return Err(Rejection::InUse { name: network.spec.name, holders });
        }
        for mut row in self.rows_on(network.id) {
            row.service.vips.remove(&network.id);
            row.declared.remove(&network.id);
            self.put_service(row);
        }
        if network.spec.ingress {
            for mut node in self.nodes().cloned().collect::<Vec<_>>() {
                node.fabric = DualStack::default();
                self.put_node(node);
            }
        }
        for subnet in &network.subnets {
            self.set_address_given((network.id, subnet.subnet), None);
        }
        self.remove_network(network.id);
        Ok(Outcome::NetworkRemoved { network: network.id, name: network.spec.name })
    }

    /// Published ports come in by the ingress network (`sw:C36`).
    fn ingress_is_free(&self) -> Result<(), Rejection> {
        let holders: Vec<_> = self
            .services()
            .filter(|s| !s.publications.is_empty())
            .map(|s| Holder::Service { name: s.name.clone(), id: s.id.short() })
            .collect();
        if holders.is_empty() { Ok(()) } else { Err(Rejection::IngressInUse { holders }) }
    }

    /// Endpoints on nodes that are dead hold nothing when the operator insists.
    fn clear_dead(&mut self, network: &Network, remove: &RemoveNetwork) {
        let stale: Vec<_> = self
            .endpoints_on(network.id)
            .filter(|e| remove.dead.contains(&e.node))
            .map(|e| e.id)
            .collect();
        for endpoint in stale {
            self.remove_endpoint(endpoint);
        }
    }

    fn rows_on(&self, network: NetworkId) -> Vec<crate::state::tables::ServiceRow> {
        self.services_on(network).map(|s| self.tables.services[&s.id].clone()).collect()
    }
}
