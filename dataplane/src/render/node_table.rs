//! The node's `inet` table: the VXLAN filter, the ingress fabric, egress, isolation between networks, and published ports.
//!
//! Scale: rules are fixed but for the pick chains; per peer 1 element of `vxlan` and per overlay 1 for each peer with an endpoint
//! on it, per node link 1 for each family and 1 of `egress`, per bridge up to 4, per node address 1. Published ports:
//! [`super::publish`].
//!
//! What each hook does, in the order a packet meets them:
//! - `raw` (-310: after defragmentation, before connection tracking): VXLAN of a member for a network it is on accepted, not
//!   tracked, by one lookup, for every datagram of every overlay comes by here; other VXLAN dropped (X1); packets from outside
//!   for 127/8 dropped, the price of `route_localnet` (CVE-2020-8558); spoofed sources of node links dropped (X4).
//! - `mangle` (-150): what is not tracked, VXLAN above all, is done with; the entry node's identity into the connection mark;
//!   replies take it as packet mark; clients that a publication does not allow are dropped.
//! - `nat_pre`, `nat_out` (-100): published ports to backends, the connection marked as ours.
//! - `input`, `forward` (-10): sandboxes do not reach control ports; into a sandbox comes only what was published, or what the
//!   fabric brings; no path between two networks.
//! - `nat_post` (100): sources that could not be answered become the node's, egress is masqueraded.
//!
//! Every test for "translated" is for our own mark, so that no other program's translations are touched (X6).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use swarmnet_types::Vni;

use crate::desired::{Desired, Fabric, Network};
use crate::driver::bridges;
use crate::names::{self, NODE_LINK_GLOB, SWING};
use crate::nft::{
    CtKey, Datatype, Elem, Elems, Family, FibKey, Hook, HookPoint, IfName, Load, MapSpec, MetaKey,
    PayloadBase, Rule, RuleBuilder, Table, ct_state, key,
};

use super::pick::Shape;
use super::publish;

/// Counters: VXLAN from no node of its network, and what sandboxes may not send or clients not reach.
const NOT_VTEP: &str = "vxlan_not_member";
const SPOOFED: &str = "spoofed";
const MARTIAN: &str = "loopback_from_outside";
const ISOLATED: &str = "isolated";
pub(super) const NOT_ALLOWED: &str = "not_allowed";
/// Outer source, outer destination and VNI of the VXLAN that is taken; a chain and, by family, sets.
const VXLAN: &str = "vxlan";
const VXLAN4: &str = "vxlan4";
const VXLAN6: &str = "vxlan6";

const LINKS: IfName<'static> = IfName(NODE_LINK_GLOB);
const FABRIC: IfName<'static> = IfName(SWING);

/// `None` on a node without fabric, bridges and published ports.
pub(crate) fn render(part: &Desired, shape: &Shape) -> Option<Table> {
    if part.fabric.is_none() && bridges(part).next().is_none() && !shape.publishes {
        return None;
    }
    let mut table = Table::new(Family::Inet, names::TABLE);
    for counter in [NOT_VTEP, SPOOFED, MARTIAN, ISOLATED, NOT_ALLOWED] {
        table.counter(counter);
    }
    write_sets(&mut table, part);
    publish::write(&mut table, part, shape);
    let fabric = part.fabric.as_ref();
    let at = HookPoint::Prerouting;
    if fabric.is_some() {
        table.chain(VXLAN, vxlan());
    }
    table
        .base_chain("raw", Hook::filter(at, -310), raw(fabric))
        .base_chain("raw_out", Hook::filter(HookPoint::Output, -310), raw_out(fabric))
        .base_chain("mangle", Hook::filter(at, -150), mangle(fabric))
        .base_chain("nat_pre", Hook::nat(at, -100), publish::dispatch())
        .base_chain("nat_out", Hook::nat(HookPoint::Output, -100), publish::dispatch())
        .base_chain("input", Hook::filter(HookPoint::Input, -10), input())
        .base_chain("forward", Hook::filter(HookPoint::Forward, -10), forward())
        .base_chain("nat_post", Hook::nat(HookPoint::Postrouting, 100), nat_post(fabric));
    Some(table)
}

fn members(keys: impl IntoIterator<Item = Vec<u8>>) -> Elems {
    keys.into_iter().map(|k| (k, Elem::MEMBER)).collect()
}

fn of_family(addrs: impl IntoIterator<Item = IpAddr>, ipv6: bool) -> Elems {
    members(addrs.into_iter().filter(|a| a.is_ipv6() == ipv6).map(key::ip))
}

fn write_sets(table: &mut Table, part: &Desired) {
    for (ipv6, addr, suffix) in [(false, Datatype::Ipv4, 4), (true, Datatype::Ipv6, 6)] {
        let nodes = part.fabric.iter().flat_map(|f| f.node_addrs.iter().copied());
        let source = [Datatype::IfName, Datatype::Ether, addr];
        let senders = MapSpec::set(&[addr, addr, Datatype::Be32]);
        table
            .map(format!("{VXLAN}{suffix}"), senders, members(vxlan_senders(part, ipv6)))
            .map(format!("nodes{suffix}"), MapSpec::set(&[addr]), of_family(nodes, ipv6))
            .map(format!("sources{suffix}"), MapSpec::set(&source), sources(part, ipv6));
    }
    let name = [Datatype::IfName];
    let control = part.fabric.iter().flat_map(|f| {
        let vxlan = (key::UDP, f.vxlan_port);
        f.control_ports.iter().map(|(p, port)| (p.number(), *port)).chain([vxlan])
    });
    let control = control.map(|(proto, port)| key::concat(&[key::l4proto(proto), key::port(port)]));
    table.map("egress", MapSpec::set(&name), members(egress(part))).map(
        "control",
        MapSpec::set(&[Datatype::L4Proto, Datatype::Port]),
        members(control),
    );
    bridge_sets(table, part);
}

/// Who may send which VNI to this node: every member that of the ingress, a node with an endpoint on an overlay that one's. Living or
/// not: see [`crate::desired::Overlay::vteps`].
fn vxlan_senders(part: &Desired, ipv6: bool) -> impl Iterator<Item = Vec<u8>> {
    let fabric = part.fabric.as_ref().filter(|f| f.vtep.is_ipv6() == ipv6);
    fabric.into_iter().flat_map(move |fabric| {
        let overlays = part.networks.values().filter_map(|n| match n {
            Network::Overlay(overlay) => Some(overlay),
            _ => None,
        });
        let ingress = fabric.peers.values().map(|p| (Vni::INGRESS, p.vtep));
        overlays
            .flat_map(|o| o.vteps.iter().map(|vtep| (o.vni, *vtep)))
            .chain(ingress)
            .filter(move |(_, vtep)| vtep.is_ipv6() == ipv6)
            .map(|(vni, vtep)| key::concat(&[key::ip(vtep), key::ip(fabric.vtep), key::vni(vni)]))
    })
}

fn egress(part: &Desired) -> impl Iterator<Item = Vec<u8>> {
    part.sandboxes
        .iter()
        .filter(|(_, s)| s.node_link.as_ref().is_some_and(|l| l.egress))
        .map(|(id, _)| key::ifname(names::node_link(*id).as_str()))
}

/// Device, MAC and address that a node link may send from.
fn sources(part: &Desired, ipv6: bool) -> Elems {
    let links = part.sandboxes.iter().filter_map(|(id, s)| Some((id, s.node_link.as_ref()?)));
    members(links.filter_map(|(id, link)| {
        let addr = link.addrs.iter().find(|a| a.is_ipv6() == ipv6)?;
        let device = key::ifname(names::node_link(*id).as_str());
        Some(key::concat(&[device, key::mac(link.mac()?), key::ip(addr)]))
    }))
}

fn bridge_sets(table: &mut Table, part: &Desired) {
    let name = |b: &crate::desired::Bridge| key::ifname(b.name.as_str());
    let all = || bridges(part).map(|(_, b)| b);
    let set = MapSpec::set(&[Datatype::IfName]);
    let itself = all().map(|b| key::concat(&[name(b), name(b)]));
    table
        .map("bridges", set.clone(), members(all().map(name)))
        .map("masquerade", set.clone(), members(all().filter(|b| b.masquerade).map(name)))
        .map("internal", set, members(all().filter(|b| b.internal).map(name)))
        .map("same_bridge", MapSpec::set(&[Datatype::IfName, Datatype::IfName]), members(itself));
}

fn raw(fabric: Option<&Fabric>) -> Vec<Rule> {
    let mut rules = Vec::new();
    if let Some(fabric) = fabric {
        rules.push(
            Rule::builder("VXLAN").l4proto(key::UDP).dport(fabric.vxlan_port).jump(VXLAN).build(),
        );
    }
    rules.push(
        Rule::builder("loopback from outside")
            .iif_not(IfName("lo"))
            .ip_version(false)
            .masked(&Load::IpDaddr, vec![255, 0, 0, 0], crate::nft::CmpOp::Eq, vec![127, 0, 0, 0])
            .counter(MARTIAN)
            .drop()
            .build(),
    );
    rules.extend(chatter());
    for (addr, set) in [(Load::IpSaddr, "sources4"), (Load::Ip6Saddr, "sources6")] {
        let source = [Load::Meta(MetaKey::IifName), Load::EtherSaddr, addr];
        rules.push(
            Rule::builder("spoofed")
                .iif(LINKS)
                .not_in_set(&source, set)
                .counter(SPOOFED)
                .drop()
                .build(),
        );
    }
    rules
}

/// Accepted without tracking: each inner flow would leave a connection of its own for its outer datagrams. What this node
/// forwards for others is theirs.
fn vxlan() -> Vec<Rule> {
    // UDP header 8 bytes, VXLAN flags 4, then 24 bits of VNI and a reserved byte (RFC 7348 §5).
    let vni = || Load::Raw { base: PayloadBase::Transport, offset: 12, len: 4 };
    let member = |saddr, daddr, set| {
        Rule::builder("of a member").in_set(&[saddr, daddr, vni()], set).notrack().accept().build()
    };
    vec![
        member(Load::IpSaddr, Load::IpDaddr, VXLAN4),
        member(Load::Ip6Saddr, Load::Ip6Daddr, VXLAN6),
        Rule::builder("of no member, or of no network of its")
            .fib_local(FibKey::Daddr)
            .counter(NOT_VTEP)
            .drop()
            .build(),
    ]
}

/// What any stack says on a link of its own accord (multicast reports, router solicitations), from its link-local address or none:
/// nobody asked for it here, and counted as spoofed it would hide what is.
fn chatter() -> [Rule; 2] {
    let rule = || Rule::builder("link-local chatter").iif(LINKS).ip_version(true);
    let equal = crate::nft::CmpOp::Eq;
    let prefix = |bits: [u8; 2]| [bits.to_vec(), vec![0; 14]].concat();
    [
        rule()
            .masked(&Load::Ip6Saddr, prefix([0xff, 0xc0]), equal, prefix([0xfe, 0x80]))
            .drop()
            .build(),
        rule().matches(&Load::Ip6Saddr, key::ipv6(Ipv6Addr::UNSPECIFIED)).drop().build(),
    ]
}

fn raw_out(fabric: Option<&Fabric>) -> Vec<Rule> {
    let vxlan =
        |f: &Fabric| Rule::builder("VXLAN").l4proto(key::UDP).dport(f.vxlan_port).notrack().build();
    fabric.map(vxlan).into_iter().collect()
}

fn mangle(fabric: Option<&Fabric>) -> Vec<Rule> {
    let mut rules = Vec::new();
    if fabric.is_some() {
        rules.push(
            Rule::builder("not tracked, VXLAN above all")
                .ct_state(ct_state::UNTRACKED)
                .accept()
                .build(),
        );
        let entry = Load::Raw { base: PayloadBase::Link, offset: 8, len: 4 };
        rules.push(Rule::builder("entry node").iif(FABRIC).ct_new().set_ct_mark(&entry).build());
        rules.push(
            Rule::builder("back to the entry node")
                .iif_not(FABRIC)
                .ct_reply()
                .ct_mark(names::MARK_MASK, names::MARK_VALUE)
                .set_mark(&Load::Ct(CtKey::Mark))
                .build(),
        );
    }
    rules.extend(publish::admission());
    rules
}

const IIF: Load = Load::Meta(MetaKey::IifName);
const OIF: Load = Load::Meta(MetaKey::OifName);
const SERVER_PORT: [Load; 2] = [Load::Meta(MetaKey::L4Proto), Load::Dport];

/// A connection that our published ports translated.
fn translated(rule: RuleBuilder) -> RuleBuilder {
    rule.matches(&Load::Ct(CtKey::Mark), key::mark(names::DNAT_MARK))
}

fn isolated(rule: RuleBuilder) -> Rule {
    rule.counter(ISOLATED).drop().build()
}

fn input() -> Vec<Rule> {
    let rule = || Rule::builder("control port of this node");
    vec![
        isolated(rule().iif(LINKS).in_set(&SERVER_PORT, "control")),
        isolated(rule().in_set(&[IIF], "bridges").in_set(&SERVER_PORT, "control")),
    ]
}

/// Accepting here ends this chain only; a drop is final.
fn forward() -> Vec<Rule> {
    let mut rules = vec![
        Rule::builder("replies").ct_reply().accept().build(),
        Rule::builder("errors of known flows").ct_state(ct_state::RELATED).accept().build(),
        Rule::builder("ingress").iif(FABRIC).oif(LINKS).accept().build(),
    ];
    // VXLAN from a sandbox would carry this node's own, trusted address once masqueraded: its port is among `control`.
    for (nodes, addr) in [("nodes4", Load::IpDaddr), ("nodes6", Load::Ip6Daddr)] {
        let rule = || Rule::builder("control port of a node");
        let addr = [addr];
        let close =
            |r: RuleBuilder| isolated(r.in_set(&addr, nodes).in_set(&SERVER_PORT, "control"));
        rules.push(close(rule().iif(LINKS)));
        rules.push(close(rule().in_set(&[IIF], "bridges")));
    }
    rules.push(Rule::builder("one network").in_set(&[IIF, OIF], "same_bridge").accept().build());
    let inside: [fn(RuleBuilder) -> RuleBuilder; 3] =
        [|r| r.oif(LINKS), |r| r.oif(FABRIC), |r| r.in_set(&[OIF], "bridges")];
    for into in inside {
        rules.push(translated(into(Rule::builder("published"))).accept().build());
        rules.push(isolated(into(Rule::builder("not published"))));
    }
    rules.push(isolated(Rule::builder("no egress").iif(LINKS).not_in_set(&[IIF], "egress")));
    rules.push(isolated(Rule::builder("internal").in_set(&[IIF], "internal")));
    rules
}

/// Order matters: the first that fits decides.
fn nat_post(fabric: Option<&Fabric>) -> Vec<Rule> {
    let ours = |what| translated(Rule::builder(what));
    let mut rules = Vec::new();
    // A node as client: its address is routed to it directly everywhere, past the entry node.
    for addr in fabric.iter().flat_map(|f| f.addrs.iter().collect::<Vec<_>>()) {
        let (saddr, nodes) = client_set(addr);
        rules.push(ours("a node").oif(FABRIC).in_set(&[saddr], nodes).snat(addr).build());
    }
    for local in [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)] {
        let addr = fabric.and_then(|f| f.addrs.iter().find(|a| a.is_ipv6() == local.is_ipv6()));
        rules.push(
            from_loopback(ours("loopback"), local).in_set(&[OIF], "bridges").masquerade().build(),
        );
        let rest = from_loopback(ours("loopback"), local);
        rules.push(match addr {
            Some(addr) => rest.snat(addr).build(),
            None => rest.masquerade().build(),
        });
    }
    rules.push(ours("this node").fib_local(FibKey::Saddr).masquerade().build());
    // A sandbox that calls a published port may meet itself, or a task that would answer it directly.
    for into in [LINKS, FABRIC] {
        rules.push(ours("sandbox to port").iif(LINKS).oif(into).masquerade().build());
        rules
            .push(ours("sandbox to port").in_set(&[IIF], "bridges").oif(into).masquerade().build());
    }
    rules.push(ours("own port").in_set(&[IIF, OIF], "same_bridge").masquerade().build());
    rules.push(
        ours("backend outside the cluster")
            .oif_not(LINKS)
            .oif_not(FABRIC)
            .not_in_set(&[OIF], "bridges")
            .masquerade()
            .build(),
    );
    rules.push(
        Rule::builder("egress").iif(LINKS).oif_not(LINKS).oif_not(FABRIC).masquerade().build(),
    );
    rules.push(
        Rule::builder("egress")
            .in_set(&[IIF], "masquerade")
            .not_in_set(&[IIF, OIF], "same_bridge")
            .masquerade()
            .build(),
    );
    rules
}

const fn client_set(addr: IpAddr) -> (Load, &'static str) {
    match addr {
        IpAddr::V4(_) => (Load::IpSaddr, "nodes4"),
        IpAddr::V6(_) => (Load::Ip6Saddr, "nodes6"),
    }
}

fn from_loopback(rule: RuleBuilder, local: IpAddr) -> RuleBuilder {
    match local {
        IpAddr::V4(_) => rule.ip_version(false).masked(
            &Load::IpSaddr,
            vec![255, 0, 0, 0],
            crate::nft::CmpOp::Eq,
            vec![127, 0, 0, 0],
        ),
        IpAddr::V6(ip) => rule.matches(&Load::Ip6Saddr, key::ipv6(ip)),
    }
}
