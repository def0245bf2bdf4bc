//! Subnets of new networks: cut from the cluster's pools in turn, around everything that is taken.

use std::net::{IpAddr, Ipv6Addr};

use ipnet::{IpNet, Ipv6Net};
use swarmnet_types::{ClusterId, Subnet};

use super::{Spans, address, bounds};

/// Prefix length of the IPv6 subnets cut from pools: what SLAAC-shaped hosts expect (RFC 4291 §2.5.1).
pub(crate) const IPV6_MASK_LEN: u8 = 64;
/// Swarm's default pool (`sw:§1.1`).
const DEFAULT_IPV4: &str = "10.0.0.0/8";
/// Candidates for the ingress network's IPv4 subnet, `10.<n>.0.0/16` from the last down.
const INGRESS_IPV4: std::ops::RangeInclusive<u8> = 240..=255;

pub(crate) fn default_ipv4() -> Subnet {
    DEFAULT_IPV4.parse().expect("a subnet literal")
}

/// `fd53:` and 32 bits of the cluster's random id: a unique local /48 (RFC 4193 §3.2) of which 0x53 is fixed, so that a firewall
/// can tell it, and 32 bits are random.
pub(crate) fn default_ipv6(cluster: ClusterId) -> Subnet {
    let [a, b, c, d, ..] = *cluster.as_bytes();
    let pair = |x: u8, y: u8| u16::from_be_bytes([x, y]);
    let first = Ipv6Addr::new(0xfd53, pair(a, b), pair(c, d), 0, 0, 0, 0, 0);
    let net = Ipv6Net::new(first, 48).expect("48 <= 128");
    Subnet::new(IpNet::V6(net)).expect("nothing is set behind 48 bits")
}

/// The routes that say where something is; a default route overlaps everything and says nothing.
pub(crate) fn routes(avoid: &[Subnet]) -> impl Iterator<Item = &Subnet> + Clone {
    avoid.iter().filter(|r| r.prefix_len() > 0)
}

/// The ingress network's IPv4 subnet when nobody chose one: `10.255.0.0/16`, or the next below that overlaps no route.
pub(crate) fn default_ingress_ipv4(avoid: &[Subnet]) -> Option<Subnet> {
    INGRESS_IPV4
        .rev()
        .map(|n| format!("10.{n}.0.0/16").parse().expect("a subnet literal"))
        .find(|s: &Subnet| routes(avoid).all(|a| !a.overlaps(s)))
}

/// All of these as numbers of one family.
pub(crate) fn busy<'a>(subnets: impl Iterator<Item = &'a Subnet>, ipv6: bool) -> Spans {
    let mut spans = Spans::default();
    for subnet in subnets.filter(|s| s.is_ipv6() == ipv6) {
        let (first, last) = bounds(*subnet);
        spans.insert_span(first, last);
    }
    spans
}

/// The next free block of `mask_len` bits of the pool behind the cursor (the block cut last), around what is busy.
pub(crate) fn cut(
    pool: Subnet,
    mask_len: u8,
    cursor: Option<IpAddr>,
    busy: &Spans,
) -> Option<Subnet> {
    let (first, last) = bounds(pool);
    let bits = if pool.is_ipv6() { 128 } else { 32 };
    if mask_len < pool.prefix_len() || mask_len > bits {
        return None;
    }
    let last_of =
        |n: u128| n + (1_u128.checked_shl(u32::from(bits - mask_len)).unwrap_or(0)).wrapping_sub(1);
    let after = |n: u128| n.checked_add(1).filter(|n| *n <= last);
    let start = cursor
        .map(super::number)
        .filter(|c| first <= *c && *c <= last)
        .and_then(|c| after(last_of(c)))
        .unwrap_or(first);
    // Each turn leaves one busy span behind, so the search costs O(busy spans).
    let search = |from: u128, to: u128| {
        let mut at = from;
        while at <= to {
            let Some((_, end)) = busy.first_in(at, last_of(at)) else { return Some(at) };
            let blocks =
                (end.max(last_of(at)) - first).checked_shr(u32::from(bits - mask_len)).unwrap_or(0);
            at = first.checked_add((blocks + 1).checked_shl(u32::from(bits - mask_len))?)?;
        }
        None
    };
    let found = search(start, last)
        .or_else(|| if start > first { search(first, start - 1) } else { None })?;
    let net = IpNet::new(address(found, pool.is_ipv6()), mask_len).expect("mask_len was checked");
    Some(Subnet::new(net).expect("blocks are aligned within their pool"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn s(text: &str) -> Subnet {
        text.parse().expect("valid")
    }

    fn next(pool: &str, mask: u8, cursor: Option<&str>, taken: &[&str]) -> Option<String> {
        let taken: Vec<_> = taken.iter().map(|t| s(t)).collect();
        let pool = s(pool);
        let busy = busy(taken.iter(), pool.is_ipv6());
        let cursor = cursor.map(|c| c.parse().expect("valid"));
        cut(pool, mask, cursor, &busy).map(|s| s.to_string())
    }

    #[test]
    fn blocks_come_in_turn_around_what_is_taken() {
        assert_eq!(next("10.0.0.0/8", 24, None, &[]).as_deref(), Some("10.0.0.0/24"));
        assert_eq!(next("10.0.0.0/8", 24, Some("10.0.0.0"), &[]).as_deref(), Some("10.0.1.0/24"));
        assert_eq!(next("10.0.0.0/8", 24, None, &["10.0.0.0/9"]).as_deref(), Some("10.128.0.0/24"));
        assert_eq!(
            next("10.0.0.0/22", 24, Some("10.0.3.0"), &["10.0.0.7/32"]).as_deref(),
            Some("10.0.1.0/24")
        );
        assert_eq!(next("10.0.0.0/23", 24, None, &["10.0.0.0/8"]), None);
        assert_eq!(next("fd00::/48", 64, Some("fd00::"), &[]).as_deref(), Some("fd00:0:0:1::/64"));
        assert_eq!(next("10.0.0.0/24", 24, None, &[]).as_deref(), Some("10.0.0.0/24"));
        assert_eq!(next("10.0.0.0/24", 23, None, &[]), None);
        assert_eq!(next("::/0", 64, None, &["::/1"]).as_deref(), Some("8000::/64"));
        assert_eq!(next("ffff::/16", 16, None, &["ffff::/16"]), None);
    }

    #[test]
    fn the_ingress_steps_aside_for_the_hosts_routes() {
        assert_eq!(default_ingress_ipv4(&[s("0.0.0.0/0")]), Some(s("10.255.0.0/16")));
        assert_eq!(default_ingress_ipv4(&[s("10.254.0.0/15")]), Some(s("10.253.0.0/16")));
        assert_eq!(default_ingress_ipv4(&[s("10.0.0.0/8")]), None);
    }

    #[test]
    fn the_unique_local_prefix_follows_from_the_cluster() {
        assert_eq!(default_ipv6(ClusterId::from_bytes([0xab; 16])), s("fd53:abab:abab::/48"));
    }

    proptest! {
        #[test]
        fn every_block_is_found_once(taken in prop::collection::vec(0..64u8, 0..30), at in 0..64u8) {
            let pool = s("10.0.0.0/18");
            let block = |n: u8| s(&format!("10.0.{n}.0/24"));
            let mut held: Vec<_> = taken.iter().map(|n| block(*n)).collect();
            let mut cursor = Some(block(at).net().network());
            let free = 64 - taken.iter().collect::<std::collections::BTreeSet<_>>().len();
            for _ in 0..free {
                let got = cut(pool, 24, cursor, &busy(held.iter(), false)).expect("one is free");
                prop_assert!(held.iter().all(|h| !h.overlaps(&got)));
                cursor = Some(got.net().network());
                held.push(got);
            }
            prop_assert_eq!(cut(pool, 24, cursor, &busy(held.iter(), false)), None);
        }
    }
}
