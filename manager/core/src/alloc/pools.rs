//! Which pools a cluster has when nobody says, and where its ingress network lies.

use std::net::Ipv6Addr;

use ipnet::{IpNet, Ipv6Net};
use swarmnet_types::{ClusterId, Subnet};

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

/// The ingress network's IPv4 subnet when nobody chose one: `10.255.0.0/16`, or the next below that is free. It is larger than
/// what pools give: every node and every sandbox with a way out has an address there.
pub(crate) fn default_ingress_ipv4(free: impl Fn(Subnet) -> bool) -> Option<Subnet> {
    INGRESS_IPV4
        .rev()
        .map(|n| format!("10.{n}.0.0/16").parse().expect("a subnet literal"))
        .find(|s: &Subnet| free(*s))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn s(text: &str) -> Subnet {
        text.parse().expect("valid")
    }

    #[test]
    fn the_ingress_steps_aside_for_the_hosts_routes() {
        let outside = |routes: &[&str]| {
            let routes: Vec<_> = routes.iter().map(|r| s(r)).collect();
            default_ingress_ipv4(|block| self::routes(&routes).all(|r| !r.overlaps(&block)))
        };
        assert_eq!(outside(&["0.0.0.0/0"]), Some(s("10.255.0.0/16")));
        assert_eq!(outside(&["10.254.0.0/15"]), Some(s("10.253.0.0/16")));
        assert_eq!(outside(&["10.0.0.0/8"]), None);
    }

    #[test]
    fn the_unique_local_prefix_follows_from_the_cluster() {
        assert_eq!(default_ipv6(ClusterId::from_bytes([0xab; 16])), s("fd53:abab:abab::/48"));
    }
}
