//! Addresses on a network: static ones checked, others taken in turn.

use std::net::IpAddr;

use swarmnet_ipam::{number, subnet};
use swarmnet_types::{DualStack, Mac, Network, NetworkId};

use crate::rejection::Rejection;
use crate::state::State;
use crate::state::txn::Txn;

impl Txn<'_> {
    pub(super) fn network_row(&self, id: NetworkId) -> &Network {
        &self.tables.networks[&id]
    }

    /// One address of each family that the network has, the wished ones where given. They are not marked as taken here: that
    /// follows when the object that has them is put.
    pub(super) fn grant_addresses(
        &mut self,
        network: NetworkId,
        wish: DualStack,
        accept: impl Fn(&State, IpAddr) -> bool,
    ) -> Result<DualStack, Rejection> {
        for addr in wish.iter() {
            self.check_static(network, addr)?;
        }
        let mut granted = wish;
        if granted.v4.is_none()
            && let Some(IpAddr::V4(addr)) = self.next_address(network, false, &accept)?
        {
            granted.v4 = Some(addr);
        }
        if granted.v6.is_none()
            && let Some(IpAddr::V6(addr)) = self.next_address(network, true, &accept)?
        {
            granted.v6 = Some(addr);
        }
        Ok(granted)
    }

    /// `None` when the network has no subnet of the family.
    fn next_address(
        &mut self,
        id: NetworkId,
        ipv6: bool,
        accept: impl Fn(&State, IpAddr) -> bool,
    ) -> Result<Option<IpAddr>, Rejection> {
        let network = self.network_row(id);
        let usage = &self.index.networks[&id];
        let specs = network.subnets.iter().filter(|s| s.subnet.is_ipv6() == ipv6);
        let mut any = false;
        let mut found = None;
        for spec in specs {
            any = true;
            let cursor = self.tables.addresses_given.get(&(id, spec.subnet)).copied();
            found = subnet::next(spec, usage.taken(ipv6), cursor, |a| accept(self, a))
                .map(|a| (spec.subnet, a));
            if found.is_some() {
                break;
            }
        }
        match found {
            Some((subnet, addr)) => {
                self.set_address_given((id, subnet), Some(addr));
                Ok(Some(addr))
            }
            None if any => {
                let network = network.spec.name.clone();
                Err(Rejection::AddressesExhausted { network, id, ipv6 })
            }
            None => Ok(None),
        }
    }

    fn check_static(&self, id: NetworkId, addr: IpAddr) -> Result<(), Rejection> {
        let network = self.network_row(id);
        if addr.is_unspecified() || addr.is_multicast() || addr.is_loopback() {
            return Err(Rejection::BadAddress { addr });
        }
        let Some(spec) = network.subnet_of(addr) else {
            return Err(Rejection::NoSubnet { addr });
        };
        let network = network.spec.name.clone();
        if let Some(what) = subnet::reserved(spec, addr) {
            return Err(Rejection::AddressReserved { addr, what, network });
        }
        if self.index.networks[&id].taken(addr.is_ipv6()).contains(number(addr)) {
            return Err(Rejection::AddressTaken { addr, network });
        }
        Ok(())
    }

    /// Addresses and MAC of a new endpoint. The MAC follows from the address unless wished, and is unique on the network:
    /// automatic addresses whose MAC is taken are passed over.
    pub(super) fn grant_endpoint(
        &mut self,
        network: NetworkId,
        wish: DualStack,
        mac: Option<Mac>,
    ) -> Result<(DualStack, Mac), Rejection> {
        if let Some(mac) = mac
            && (mac.0[0] & 1 == 1 || mac.0 == [0; 6])
        {
            return Err(Rejection::Mac { mac: mac.to_string() });
        }
        let name = self.network_row(network).spec.name.clone();
        let v4 = self.network_row(network).subnets.iter().any(|s| !s.subnet.is_ipv6());
        let free = |s: &State, mac| !s.index.networks[&network].macs.contains(&mac);
        let accept = |s: &State, addr: IpAddr| match addr {
            IpAddr::V4(a) => mac.is_some() || free(s, Mac::from_ipv4(a)),
            IpAddr::V6(a) => mac.is_some() || v4 || free(s, Mac::from_ipv6(a)),
        };
        let addrs = self.grant_addresses(network, wish, accept)?;
        let mac = mac.or_else(|| addrs.mac()).expect("a cluster network has a subnet");
        if !free(self, mac) {
            return Err(Rejection::MacTaken { mac: mac.to_string(), network: name });
        }
        Ok((addrs, mac))
    }
}
