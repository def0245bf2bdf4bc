//! How a new connection picks one of n backends: a chain that draws a slot number and finds the backend under it in a flat map.
//!
//! Chains are shared by all services with the same number of slots, so their count does not grow with services; only `rr` has
//! a chain for each service, because the kernel counts per rule and a shared count would skip backends. A map serves all sizes.
//!
//! Slot i holds the i-th backend in address order, on every node alike: with `sh` a client meets the same backend whichever
//! node it comes in by. A service of n backends has n slots, whatever n; a change of its backends costs at most n elements.

use std::collections::{BTreeMap, BTreeSet};

use swarmnet_types::{Algorithm, NetworkId, ServiceId};

use crate::desired::{Desired, Publication, PublicationKey, Service};
use crate::nft::Load;

/// Seed of the source hash: the same on all nodes.
const HASH_SEED: u32 = 0x5357_4d4e;

/// A chain that picks.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Pick {
    ipv6: bool,
    how: How,
    /// At least 1.
    slots: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum How {
    Random,
    /// By client address.
    Hash,
    /// With whose count.
    RoundRobin(String),
}

/// Which pick chains the whole wish needs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Shape {
    /// A network without services has no entry.
    services: BTreeMap<NetworkId, BTreeSet<Pick>>,
    /// There is a publication.
    pub(crate) publishes: bool,
    pub(crate) any: BTreeSet<Pick>,
    /// Of publications that answer on one address only.
    pub(crate) bound: BTreeSet<Pick>,
}

impl Pick {
    /// `None` without backends.
    pub(crate) fn new(
        algorithm: Algorithm,
        backends: usize,
        ipv6: bool,
        owner: impl FnOnce() -> String,
    ) -> Option<Self> {
        let how = match algorithm {
            Algorithm::Random => How::Random,
            Algorithm::Sh => How::Hash,
            Algorithm::Rr => How::RoundRobin(owner()),
        };
        let slots = u32::try_from(backends).ok().filter(|n| *n > 0)?;
        Some(Self { ipv6, how, slots })
    }

    pub(crate) const fn ipv6(&self) -> bool {
        self.ipv6
    }

    /// Chain name: `rnd4_3`, `sh6_2`, `rr4_2_<owner>`.
    pub(crate) fn name(&self) -> String {
        let family = if self.ipv6 { 6 } else { 4 };
        let slots = self.slots;
        match &self.how {
            How::Random => format!("rnd{family}_{slots}"),
            How::Hash => format!("sh{family}_{slots}"),
            How::RoundRobin(owner) => format!("rr{family}_{slots}_{owner}"),
        }
    }

    /// The slot number.
    pub(crate) fn slot(&self) -> Load {
        let modulus = self.slots;
        match self.how {
            How::Random => Load::Random { modulus },
            How::RoundRobin(_) => Load::RoundRobin { modulus },
            How::Hash => {
                let source = if self.ipv6 { Load::Ip6Saddr } else { Load::IpSaddr };
                Load::Hash { of: vec![source], modulus, seed: HASH_SEED }
            }
        }
    }
}

impl Service {
    pub(crate) fn pick(&self, owner: (NetworkId, &impl ToString), ipv6: bool) -> Option<Pick> {
        let backends = self.backends.iter().filter(|b| b.is_ipv6() == ipv6).count();
        Pick::new(self.algorithm, backends, ipv6, || {
            format!("{}_{}", owner.1.to_string(), &owner.0.short()[..8])
        })
    }

    fn picks(&self, owner: (NetworkId, &impl ToString)) -> impl Iterator<Item = Pick> {
        let vip = |ipv6| if ipv6 { self.vip.v6.is_some() } else { self.vip.v4.is_some() };
        [false, true]
            .into_iter()
            .filter(move |v6| vip(*v6))
            .filter_map(move |v6| self.pick((owner.0, owner.1), v6))
    }
}

impl PublicationKey {
    /// The one address it answers on; `None` for all of a family or both.
    pub(crate) fn bound(&self) -> Option<std::net::IpAddr> {
        self.ip.filter(|ip| !ip.is_unspecified())
    }

    /// Whether it answers packets of this family at all.
    pub(crate) fn serves(&self, ipv6: bool) -> bool {
        self.ip.is_none_or(|ip| ip.is_ipv6() == ipv6)
    }
}

impl Publication {
    fn picks(&self, key: &PublicationKey) -> impl Iterator<Item = Pick> {
        [false, true].into_iter().filter_map(|ipv6| self.pick(key, ipv6))
    }

    pub(crate) fn pick(&self, key: &PublicationKey, ipv6: bool) -> Option<Pick> {
        let backends = self.backends.iter().filter(|b| b.is_ipv6() == ipv6).count();
        let backends = if key.serves(ipv6) { backends } else { 0 };
        Pick::new(self.algorithm, backends, ipv6, || {
            let on = key.bound().map(|ip| format!("_{}", ip.to_string().replace(':', "_")));
            format!("{}_{}{}", key.protocol, key.port, on.unwrap_or_default())
        })
    }
}

impl Shape {
    pub(crate) fn of(desired: &Desired) -> Self {
        let mut shape = Self { publishes: !desired.publications.is_empty(), ..Self::default() };
        for ((network, id), service) in &desired.services {
            let picks = shape.services.entry(*network).or_default();
            picks.extend(service.picks((*network, id)));
        }
        for (key, publication) in &desired.publications {
            let set = if key.bound().is_some() { &mut shape.bound } else { &mut shape.any };
            set.extend(publication.picks(key));
        }
        shape
    }

    /// Shapes of two wishes, as far as the chains that differing services and publications use: what all others use is in both
    /// and need not be named. `before` and `after` are the parts that differ.
    pub(crate) fn of_parts(
        (old, new): (&Desired, &Desired),
        (before, after): (&Desired, &Desired),
    ) -> (Self, Self) {
        let (mut was, mut is) = (Self::of(before), Self::of(after));
        for (shape, whole) in [(&mut was, old), (&mut is, new)] {
            shape.publishes = !whole.publications.is_empty();
            for network in whole.networks.keys().filter(|n| serves(whole, **n)) {
                shape.services.entry(*network).or_default();
            }
        }
        // A chain that only one side uses is in both when anything unchanged uses it.
        for (network, picks) in differences(&was.services, &is.services) {
            let others = services_of(new, network)
                .filter(|(id, _)| !after.services.contains_key(&(network, **id)));
            let used = used(picks, others.flat_map(|(id, s)| s.picks((network, id))));
            for shape in [&mut was, &mut is] {
                if let Some(chains) = shape.services.get_mut(&network) {
                    chains.extend(used.iter().cloned());
                }
            }
        }
        for bound in [false, true] {
            let picks = was.ports(bound).symmetric_difference(is.ports(bound)).cloned().collect();
            let others = new.publications.iter().filter(|(key, _)| {
                key.bound().is_some() == bound && !after.publications.contains_key(key)
            });
            let used = used(picks, others.flat_map(|(key, p)| p.picks(key)));
            for shape in [&mut was, &mut is] {
                let set = if bound { &mut shape.bound } else { &mut shape.any };
                set.extend(used.iter().cloned());
            }
        }
        (was, is)
    }

    fn ports(&self, bound: bool) -> &BTreeSet<Pick> {
        if bound { &self.bound } else { &self.any }
    }

    /// The chains of a sandbox on these networks; `None` when there is no service on any of them.
    pub(crate) fn of_networks(&self, networks: &BTreeSet<NetworkId>) -> Option<BTreeSet<&Pick>> {
        let mut found = networks.iter().filter_map(|n| self.services.get(n)).peekable();
        found.peek()?;
        Some(found.flatten().collect())
    }

    /// The node table has the same chains.
    pub(crate) fn same_ports(&self, other: &Self) -> bool {
        (self.publishes, &self.any, &self.bound) == (other.publishes, &other.any, &other.bound)
    }
}

/// Services on one network.
pub(crate) fn services_of(
    desired: &Desired,
    network: NetworkId,
) -> impl Iterator<Item = (&ServiceId, &Service)> {
    let least = ServiceId::from_bytes([0; 16]);
    let most = ServiceId::from_bytes([0xff; 16]);
    let range = (network, least)..=(network, most);
    desired.services.range(range).map(|((_, id), service)| (id, &**service))
}

fn serves(desired: &Desired, network: NetworkId) -> bool {
    services_of(desired, network).next().is_some()
}

type Picks = BTreeMap<NetworkId, BTreeSet<Pick>>;

/// Per network, the chains that only one side uses.
fn differences(was: &Picks, is: &Picks) -> Picks {
    let none = BTreeSet::new();
    let networks: BTreeSet<_> = was.keys().chain(is.keys()).collect();
    let differs = |n: &NetworkId| {
        let (a, b) = (was.get(n).unwrap_or(&none), is.get(n).unwrap_or(&none));
        a.symmetric_difference(b).cloned().collect::<BTreeSet<_>>()
    };
    networks.into_iter().map(|n| (*n, differs(n))).filter(|(_, picks)| !picks.is_empty()).collect()
}

/// Which of `picks` are among `others`. Ends as soon as all are found, which a common number of backends makes soon.
fn used(mut picks: BTreeSet<Pick>, others: impl Iterator<Item = Pick>) -> BTreeSet<Pick> {
    let mut found = BTreeSet::new();
    for other in others {
        if picks.is_empty() {
            break;
        }
        found.extend(picks.take(&other));
    }
    found
}
