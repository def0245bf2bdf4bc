//! `netdev` tables: what a sandbox may send at all (X4), checked where its outer end receives it, before any bridge; and the
//! rewriting of the next hop's MAC on the way back to an entry node.
//!
//! Scale: per endpoint 1 base chain of 1 rule and 1 for each address, 1 element for its MAC and 1 for each address (and its
//! link-local one); the check itself is one chain for all. Sources are matched with the device they come from.
//!
//! Let through: ARP, IPv4, IPv6 with the endpoint's own addresses. Dropped: other sources, router advertisements and redirects
//! (CVE-2020-13401, CVE-2020-10749), neighbour advertisements for others, DHCP server replies, every other EtherType.

use std::net::{IpAddr, Ipv6Addr};

use swarmnet_types::EndpointId;

use crate::desired::{Desired, Endpoint};
use crate::driver;
use crate::names;
use crate::nft::{
    CmpOp, Datatype, Elem, Elems, Expr, Family, Hook, HookPoint, Load, MapSpec, MetaKey,
    PayloadBase, Reg, Rule, Table, key,
};
use crate::object::Ns;

const CHECK: &str = "check";
const DROPS: &str = "spoofed";
const ARP: u16 = 0x0806;
const ICMPV6: u8 = 58;
/// RFC 4861 §4: solicitation, advertisement, router advertisement, redirect.
const ND_SOLICIT: u8 = 135;
const ND_ADVERT: u8 = 136;
const ROUTER_ADVERT: u8 = 134;
const REDIRECT: u8 = 137;
const DHCP_SERVER: u16 = 67;
const DHCPV6_SERVER: u16 = 547;

/// The table of one namespace; `None` when there is nothing to check or rewrite.
pub(crate) fn render(part: &Desired, ns: Ns) -> Option<Table> {
    let mut table = Table::new(Family::Netdev, names::TABLE);
    if ns == Ns::Node && part.fabric.is_some() {
        let hook = Hook::device(HookPoint::Egress, names::SWING, 0);
        table.base_chain("swing_out", hook, vec![way_back()]);
    }
    if guards(part, ns) {
        write_check(&mut table, part, ns);
    }
    (!table.chains.is_empty()).then_some(table)
}

/// Decided by networks, not endpoints, so that it is the same for a part.
fn guards(part: &Desired, ns: Ns) -> bool {
    part.networks.values().any(|n| driver::of(n).port_ns() == Some(ns))
}

fn ports(part: &Desired, ns: Ns) -> impl Iterator<Item = (EndpointId, &Endpoint)> {
    let here = move |e: &Endpoint| {
        part.networks.get(&e.network).is_some_and(|n| driver::of(n).port_ns() == Some(ns))
    };
    part.sandboxes
        .values()
        .flat_map(|s| s.endpoints.iter().map(|(id, e)| (*id, e)))
        .filter(move |(_, e)| here(e))
}

fn write_check(table: &mut Table, part: &Desired, ns: Ns) {
    let (mut macs, mut v4, mut v6) = (Elems::new(), Elems::new(), Elems::new());
    table.counter(DROPS);
    for (id, endpoint) in ports(part, ns) {
        let device = names::endpoint_link(id);
        let hook = Hook::device(HookPoint::Ingress, device.as_str(), 0);
        table.base_chain(device.as_str(), hook, port_rules(endpoint));
        let key = |value| key::concat(&[key::ifname(device.as_str()), value]);
        macs.insert(key(key::mac(endpoint.mac)), Elem::MEMBER);
        for addr in endpoint.addrs.iter().map(ipnet::IpNet::addr) {
            let set = if addr.is_ipv6() { &mut v6 } else { &mut v4 };
            set.insert(key(key::ip(addr)), Elem::MEMBER);
        }
        if endpoint.addrs.iter().any(|a| a.addr().is_ipv6()) {
            v6.insert(key(key::ipv6(names::link_local(endpoint.mac))), Elem::MEMBER);
        }
    }
    let set = |of| MapSpec::set(&[Datatype::IfName, of]);
    table
        .map("mac", set(Datatype::Ether), macs)
        .map("ip4", set(Datatype::Ipv4), v4)
        .map("ip6", set(Datatype::Ipv6), v6)
        .chain(CHECK, check_rules());
}

/// What nearly every packet is (its own MAC and address; neither from a DHCP server nor neighbour discovery) passes by comparisons,
/// which cost a fraction of a set's lookups; all else is for the check.
fn port_rules(endpoint: &Endpoint) -> Vec<Rule> {
    let usual = |addr: IpAddr| {
        let rule = Rule::netdev_builder("usual").ip_version(addr.is_ipv6());
        let rule = if addr.is_ipv6() {
            rule.matches(&Load::Ip6Saddr, key::ip(addr))
                .compare(&Load::Meta(MetaKey::L4Proto), CmpOp::Neq, vec![ICMPV6])
                .compare(&Load::Sport, CmpOp::Neq, key::port(DHCPV6_SERVER))
        } else {
            rule.matches(&Load::IpSaddr, key::ip(addr)).compare(
                &Load::Sport,
                CmpOp::Neq,
                key::port(DHCP_SERVER),
            )
        };
        rule.matches(&Load::EtherSaddr, key::mac(endpoint.mac)).accept().build()
    };
    let mut rules: Vec<Rule> = endpoint.addrs.iter().map(|net| usual(net.addr())).collect();
    rules.push(Rule::netdev_builder("what it may send").goto(CHECK).build());
    rules
}

fn check_rules() -> Vec<Rule> {
    let from = |field: Load| [Load::Meta(MetaKey::IifName), field];
    // RFC 826: hardware 2, protocol 2, lengths 2, operation 2, then sender MAC and sender address.
    let arp_mac = Load::Raw { base: PayloadBase::Network, offset: 8, len: 6 };
    let arp_ip = Load::Raw { base: PayloadBase::Network, offset: 14, len: 4 };
    let rule = || Rule::netdev_builder("spoofed");
    let drop = |r: crate::nft::RuleBuilder| r.counter(DROPS).drop().build();
    let mut rules = vec![
        drop(rule().not_in_set(&from(Load::EtherSaddr), "mac")),
        drop(rule().ether_type(ARP).not_in_set(&from(arp_mac), "mac")),
        drop(rule().ether_type(ARP).not_in_set(&from(arp_ip), "ip4")),
        Rule::netdev_builder("ARP").ether_type(ARP).accept().build(),
        drop(server_reply(false, DHCP_SERVER)),
        drop(rule().not_in_set(&from(Load::IpSaddr), "ip4")),
        Rule::netdev_builder("IPv4").ip_version(false).accept().build(),
    ];
    rules.extend(check_v6(from, drop));
    rules.push(drop(Rule::netdev_builder("neither ARP nor IP")));
    rules
}

fn check_v6(
    from: impl Fn(Load) -> [Load; 2],
    drop: impl Fn(crate::nft::RuleBuilder) -> Rule,
) -> Vec<Rule> {
    let icmp_type = Load::Raw { base: PayloadBase::Transport, offset: 0, len: 1 };
    // RFC 4861 §4.4: type, code, checksum, flags, then the target.
    let target = Load::Raw { base: PayloadBase::Transport, offset: 8, len: 16 };
    let nd = |kind| {
        Rule::netdev_builder("neighbour discovery")
            .ip_version(true)
            .l4proto(ICMPV6)
            .matches(&icmp_type, vec![kind])
    };
    let unspecified = key::ip(IpAddr::V6(Ipv6Addr::UNSPECIFIED));
    vec![
        drop(nd(ROUTER_ADVERT)),
        drop(nd(REDIRECT)),
        drop(nd(ND_ADVERT).not_in_set(&from(target), "ip6")),
        // Duplicate address detection (RFC 4862 §5.4.2) asks from nowhere and claims nothing.
        nd(ND_SOLICIT).matches(&Load::Ip6Saddr, unspecified.clone()).accept().build(),
        // Multicast reports of a stack that has no address yet: not wanted, not spoofed.
        Rule::netdev_builder("no address yet").matches(&Load::Ip6Saddr, unspecified).drop().build(),
        drop(server_reply(true, DHCPV6_SERVER)),
        drop(Rule::netdev_builder("spoofed").not_in_set(&from(Load::Ip6Saddr), "ip6")),
        Rule::netdev_builder("IPv6").ip_version(true).accept().build(),
    ]
}

fn server_reply(ipv6: bool, port: u16) -> crate::nft::RuleBuilder {
    Rule::netdev_builder("DHCP server")
        .ip_version(ipv6)
        .l4proto(key::UDP)
        .matches(&Load::Sport, key::port(port))
}

/// A mark is the last four bytes of the entry node's MAC as they lie in memory, so it is written as it is behind the first two,
/// which are those of the return next hop. The mark then goes to zero: VXLAN would look its outer route up with it and find our
/// own rule again.
fn way_back() -> Rule {
    Rule::netdev_builder("MAC of the entry node")
        .mark(names::MARK_MASK, names::MARK_VALUE)
        .expr(Expr::Meta { key: MetaKey::Mark, dreg: Reg::R0 })
        .set_ether_daddr(Reg::R0, 2, 4)
        .set_mark_value(0)
        .build()
}
