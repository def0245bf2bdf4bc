//! Addresses of one subnet: next-fit behind a cursor, sparse, within the ip-range when there is one.

use std::net::IpAddr;

use swarmnet_types::{Subnet, SubnetSpec};

use super::{Spans, address, bounds, number};
use crate::rejection::ReservedAs;

/// Why nobody may have this address of this subnet; `None`: it may be given.
pub(crate) fn reserved(spec: &SubnetSpec, addr: IpAddr) -> Option<ReservedAs> {
    if spec.gateway == Some(addr) {
        Some(ReservedAs::Gateway)
    } else if spec.subnet.is_edge(addr) {
        Some(ReservedAs::Edge)
    } else if spec.aux_addresses.values().any(|a| *a == addr) {
        Some(ReservedAs::Auxiliary)
    } else {
        None
    }
}

/// Every address of the subnet that nobody may have, each once. At most the edges, the gateway and the auxiliary ones.
pub(crate) fn reserved_set(spec: &SubnetSpec) -> Spans {
    let (first, last) = bounds(spec.subnet);
    let ipv6 = spec.subnet.is_ipv6();
    let mut set = Spans::default();
    for edge in [first, last] {
        if spec.subnet.is_edge(address(edge, ipv6)) {
            set.insert(edge);
        }
    }
    for addr in spec.gateway.iter().chain(spec.aux_addresses.values()) {
        set.insert(number(*addr));
    }
    set
}

/// The part of the subnet that addresses are given from.
pub(crate) fn range(spec: &SubnetSpec) -> Subnet {
    spec.ip_range.unwrap_or(spec.subnet)
}

/// The free address after the cursor, in turn; the cursor is the address given last.
///
/// `taken` holds the reserved ones too. `accept` can pass over addresses for reasons of its own; the search ends when all
/// were seen once.
pub(crate) fn next(
    spec: &SubnetSpec,
    taken: &Spans,
    cursor: Option<IpAddr>,
    accept: impl Fn(IpAddr) -> bool,
) -> Option<IpAddr> {
    let (first, last) = bounds(range(spec));
    let ipv6 = spec.subnet.is_ipv6();
    let start = cursor.map(number).filter(|c| first <= *c && *c < last).map_or(first, |c| c + 1);
    let search = |from: u128, to: u128| {
        let mut at = from;
        loop {
            let n = taken.gap(at, to)?;
            let addr = address(n, ipv6);
            if accept(addr) {
                return Some(addr);
            }
            at = n.checked_add(1)?;
        }
    };
    search(start, last).or_else(|| if start > first { search(first, start - 1) } else { None })
}

/// The first address that can be a gateway: the lowest that is no edge and no auxiliary one.
pub(crate) fn default_gateway(spec: &SubnetSpec) -> Option<IpAddr> {
    let (first, last) = bounds(spec.subnet);
    let gap = reserved_set(spec).gap(first, last)?;
    Some(address(gap, spec.subnet.is_ipv6()))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn spec(subnet: &str, range: Option<&str>) -> SubnetSpec {
        let mut spec = SubnetSpec::plain(subnet.parse().expect("valid"));
        spec.ip_range = range.map(|r| r.parse().expect("valid"));
        spec.gateway = default_gateway(&spec);
        spec
    }

    fn fill(spec: &SubnetSpec) -> Vec<IpAddr> {
        let mut taken = reserved_set(spec);
        let mut cursor = None;
        let mut given = Vec::new();
        while let Some(addr) = next(spec, &taken, cursor, |_| true) {
            taken.insert(number(addr));
            cursor = Some(addr);
            given.push(addr);
        }
        given
    }

    #[test]
    fn small_subnets_give_what_they_have() {
        let texts = |s, r| fill(&spec(s, r)).iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(
            texts("10.0.0.0/29", None),
            ["10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.5", "10.0.0.6"]
        );
        assert_eq!(texts("10.0.0.0/24", Some("10.0.0.8/31")), ["10.0.0.8", "10.0.0.9"]);
        assert_eq!(texts("10.0.0.0/31", None), ["10.0.0.1"]);
        assert_eq!(texts("fd00::/126", None), ["fd00::2", "fd00::3"]);
        assert_eq!(fill(&spec("fd00::/120", None)).len(), 254);
    }

    #[test]
    fn a_huge_subnet_costs_nothing() {
        let spec = spec("fd00::/8", None);
        let taken = reserved_set(&spec);
        assert_eq!(next(&spec, &taken, None, |_| true), "fd00::2".parse().ok());
    }

    #[test]
    fn refused_addresses_are_passed_over_and_the_search_ends() {
        let spec = spec("10.0.0.0/28", None);
        let taken = reserved_set(&spec);
        let odd = |a: IpAddr| number(a) % 2 == 1;
        assert_eq!(next(&spec, &taken, None, odd), "10.0.0.3".parse().ok());
        assert_eq!(next(&spec, &taken, None, |_| false), None);
    }

    proptest! {
        /// A freed address comes back only after every other free one.
        #[test]
        fn serial(frees in prop::collection::vec(0..5usize, 1..60)) {
            let spec = spec("10.0.0.0/28", None);
            let mut taken = reserved_set(&spec);
            let (mut cursor, mut held, mut history) = (None, Vec::new(), Vec::new());
            for free in frees {
                if let Some(addr) = next(&spec, &taken, cursor, |_| true) {
                    prop_assert!(taken.insert(number(addr)));
                    prop_assert!(reserved(&spec, addr).is_none());
                    cursor = Some(addr);
                    let before = history.iter().rposition(|(given, _)| *given == addr);
                    history.push((addr, held.clone()));
                    if let Some(i) = before {
                        let busy = history[i + 1..].iter().flat_map(|(a, held)| held.iter().chain([a]));
                        let busy: BTreeSet<_> = busy.collect();
                        prop_assert_eq!(busy.len(), 13, "all were given or held in between");
                    }
                    held.push(addr);
                }
                if free < held.len() {
                    taken.remove(number(held.remove(free)));
                }
            }
        }
    }
}
