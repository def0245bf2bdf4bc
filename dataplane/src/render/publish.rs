//! Published ports and port maps in the node table: which destination leads to which backends, and who may come.
//!
//! Scale: per publication and family 1 element to find it and 1 for each backend; `allow-from` adds 1 for each network. Chains
//! as in [`super::pick`]. A publication without backends has no elements: the kernel refuses, as for any closed port.
//!
//! A destination is looked up by protocol and port when it is any address of this node, and by address too for publications
//! that answer on one address only. What passes *through* the node to others is never looked at (CVE-2025-67499).
//! The client's address is kept.

use std::net::SocketAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::desired::{Desired, Publication, PublicationKey};
use crate::names;
use crate::nft::{
    CtKey, Datatype, Elem, ElemData, Elems, Expr, FibKey, Load, MapSpec, MetaKey, NftOp, Reg, Rule,
    Table, key,
};
use crate::seen::Balancing;

use super::pick::{Pick, Shape};

/// One family, and whether destinations are told by address too: four sets of maps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Side {
    ipv6: bool,
    bound: bool,
}

const SIDES: [Side; 4] = [
    Side { ipv6: false, bound: true },
    Side { ipv6: false, bound: false },
    Side { ipv6: true, bound: true },
    Side { ipv6: true, bound: false },
];

/// Maps whose elements lead packets to backends, with the map that finds the publication first. Planning withdraws elements of
/// these before routes go and adds them after routes are there.
pub(crate) fn dynamic_maps() -> impl Iterator<Item = (String, String)> {
    SIDES.into_iter().map(|side| (side.ports(), side.slots()))
}

/// Where a table leads packets to a published port.
pub(crate) fn held(table: &Table, at: &PublicationKey, ipv6: bool) -> Balancing<SocketAddr> {
    let side = Side { ipv6, bound: at.bound().is_some() };
    let Some(fields) = side.fields(at) else { return Balancing::Unknown };
    let prefix = key::concat(&fields);
    let has = |map: String| table.maps.get(&map).is_some_and(|m| m.elements.contains_key(&prefix));
    let slots = table.maps.get(&side.slots()).filter(|_| has(side.ports()));
    let Some(slots) = slots else { return Balancing::Unknown };
    let of_port = slots.elements.iter().filter(|(key, _)| key.starts_with(&prefix));
    Balancing::Among(of_port.filter_map(|(_, elem)| read_backend(elem)).collect())
}

fn read_backend(elem: &Elem) -> Option<SocketAddr> {
    let ElemData::Value(bytes) = &elem.data else { return None };
    // Address, port, and two bytes that pad the port.
    let (ip, port) = bytes.split_at_checked(bytes.len().checked_sub(4)?)?;
    Some(SocketAddr::new(key::read_ip(ip)?, u16::from_be_bytes([port[0], port[1]])))
}

/// Would the operation change what becomes of packets to a published port?
pub(crate) fn concerns(op: &NftOp, at: &PublicationKey, ipv6: bool) -> bool {
    let side = Side { ipv6, bound: at.bound().is_some() };
    let Some(fields) = side.fields(at) else { return false };
    let maps = [side.ports(), side.slots(), side.name("limited"), side.name("allowed")];
    op.concerns(|map| maps.iter().any(|m| m == map), &key::concat(&fields))
}

/// Adds maps and pick chains.
pub(crate) fn write(table: &mut Table, part: &Desired, shape: &Shape) {
    for side in SIDES {
        side.write(table, part);
        let picks = if side.bound { &shape.bound } else { &shape.any };
        for pick in picks.iter().filter(|p| p.ipv6() == side.ipv6) {
            table.chain(side.chain(pick), vec![side.pick_rule(pick)]);
        }
    }
}

/// For nat chains: find the publication of a packet to this node.
pub(crate) fn dispatch() -> Vec<Rule> {
    SIDES
        .into_iter()
        .map(|side| {
            Rule::builder("published ports")
                .ip_version(side.ipv6)
                .fib_local(FibKey::Daddr)
                .vmap(&side.destination(), side.ports())
                .build()
        })
        .collect()
}

/// For a filter chain before the nat chains: clients that may not come. A packet to an address of this node only.
pub(crate) fn admission() -> Vec<Rule> {
    SIDES
        .into_iter()
        .map(|side| {
            let mut client = side.destination();
            client.push(if side.ipv6 { Load::Ip6Saddr } else { Load::IpSaddr });
            Rule::builder("allow-from")
                .ip_version(side.ipv6)
                // The set first: every packet comes by here, and a look into the routes costs more.
                .in_set(&side.destination(), side.name("limited"))
                .fib_local(FibKey::Daddr)
                .not_in_set(&client, side.name("allowed"))
                .counter(super::node_table::NOT_ALLOWED)
                .drop()
                .build()
        })
        .collect()
}

// === impl Side ===

impl Side {
    fn name(self, what: &str) -> String {
        let family = if self.ipv6 { 6 } else { 4 };
        if self.bound { format!("{what}_ip{family}") } else { format!("{what}{family}") }
    }

    fn ports(self) -> String {
        self.name("port")
    }

    fn slots(self) -> String {
        self.name("slot")
    }

    fn chain(self, pick: &Pick) -> String {
        if self.bound { format!("bound_{}", pick.name()) } else { pick.name() }
    }

    fn addr(self) -> Datatype {
        if self.ipv6 { Datatype::Ipv6 } else { Datatype::Ipv4 }
    }

    /// What tells a publication from others.
    fn destination(self) -> Vec<Load> {
        let daddr = if self.ipv6 { Load::Ip6Daddr } else { Load::IpDaddr };
        let mut fields = if self.bound { vec![daddr] } else { Vec::new() };
        fields.extend([Load::Meta(MetaKey::L4Proto), Load::Dport]);
        fields
    }

    fn destination_types(self) -> Vec<Datatype> {
        let mut types = if self.bound { vec![self.addr()] } else { Vec::new() };
        types.extend([Datatype::L4Proto, Datatype::Port]);
        types
    }

    /// The publication's fields on this side, or `None` when it is not on it.
    fn fields(self, at: &PublicationKey) -> Option<Vec<Vec<u8>>> {
        if at.bound().is_some() != self.bound || !at.serves(self.ipv6) {
            return None;
        }
        let mut fields: Vec<_> = at.bound().map(key::ip).into_iter().collect();
        fields.extend([key::l4proto(at.protocol.number()), key::port(at.port)]);
        Some(fields)
    }

    fn write(self, table: &mut Table, part: &Desired) {
        let (mut ports, mut slots) = (Elems::new(), Elems::new());
        let (mut limited, mut allowed) = (Elems::new(), Elems::new());
        for (at, publication) in &part.publications {
            let Some(fields) = self.fields(at) else { continue };
            if let Some(pick) = publication.pick(at, self.ipv6) {
                ports.insert(key::concat(&fields), Elem::goto(self.chain(&pick)));
                slots.extend(self.backends(&fields, publication));
            }
            if !publication.allow_from.is_empty() {
                limited.insert(key::concat(&fields), Elem::MEMBER);
                allowed.extend(self.clients(&fields, publication));
            }
        }
        let with = |last| {
            let mut types = self.destination_types();
            types.push(last);
            types
        };
        let values = [self.addr(), Datatype::Port];
        table
            .map(self.ports(), MapSpec::verdicts(&self.destination_types()), ports)
            .map(self.slots(), MapSpec::values(&with(Datatype::Mark), &values), slots)
            .map(self.name("limited"), MapSpec::set(&self.destination_types()), limited)
            .map(self.name("allowed"), MapSpec::set(&with(self.addr())).interval(), allowed);
    }

    fn backends(self, fields: &[Vec<u8>], publication: &Publication) -> Elems {
        let value = |b: &SocketAddr| key::concat(&[key::ip(b.ip()), key::port(b.port())]);
        let backends = publication.backends.iter().filter(|b| b.is_ipv6() == self.ipv6);
        (0u32..)
            .zip(backends)
            .map(|(slot, backend)| (with(fields, key::slot(slot)), Elem::value(value(backend))))
            .collect()
    }

    /// Ranges of several fields: the kernel refuses overlapping ones, so networks are merged first.
    fn clients(self, fields: &[Vec<u8>], publication: &Publication) -> Elems {
        merged(publication, self.ipv6)
            .into_iter()
            .map(|net| {
                let last = with(fields, key::ip(net.broadcast()));
                (with(fields, key::ip(net.network())), Elem::MEMBER.until(last))
            })
            .collect()
    }

    fn pick_rule(self, pick: &Pick) -> Rule {
        let mut fields = self.destination();
        fields.push(pick.slot());
        Rule::builder("pick a backend")
            .expr(Expr::Immediate { dreg: Reg::R0, data: key::mark(names::DNAT_MARK) })
            .expr(Expr::CtSet { key: CtKey::Mark, sreg: Reg::R0 })
            .dnat_map(&fields, self.slots(), self.ipv6, true)
            .build()
    }
}

fn with(fields: &[Vec<u8>], last: Vec<u8>) -> Vec<u8> {
    let mut all = fields.to_vec();
    all.push(last);
    key::concat(&all)
}

fn merged(publication: &Publication, ipv6: bool) -> Vec<IpNet> {
    let nets = publication.allow_from.iter().map(IpNet::trunc);
    if ipv6 {
        let nets: Vec<_> =
            nets.filter_map(|n| if let IpNet::V6(n) = n { Some(n) } else { None }).collect();
        Ipv6Net::aggregate(&nets).into_iter().map(IpNet::V6).collect()
    } else {
        let nets: Vec<_> =
            nets.filter_map(|n| if let IpNet::V4(n) = n { Some(n) } else { None }).collect();
        Ipv4Net::aggregate(&nets).into_iter().map(IpNet::V4).collect()
    }
}
