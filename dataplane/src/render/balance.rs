//! Balancing in the caller's own sandbox: one `inet` table inside each sandbox that may call a service.
//!
//! Scale, per sandbox: for each service and family 1 element for the virtual address and 1 for each backend; 1 chain for each
//! number of backends in use. Changing one backend of n replaces at most n elements. Nothing depends on the number of services.
//!
//! - The virtual address balances every port and protocol, ping included, as Swarm's does.
//! - The caller's address is kept: a task sees the calling task. A task that picks itself talks to itself over loopback.
//! - Without backends the caller is refused at once (TCP reset, else ICMP port unreachable), not left to time out.
//! - Towards a backend outside the cluster, which is reached by the node link, the source becomes the node link's address:
//!   the node lets nothing else pass.
//! - Two networks of one sandbox with the same virtual address: the one with the lower id wins.

use std::collections::BTreeSet;
use std::net::IpAddr;

use swarmnet_types::{NetworkId, ServiceId};

use crate::desired::{Desired, NodeLink, Sandbox, Service};
use crate::names;
use crate::nft::{
    Datatype, Elem, ElemData, Elems, Family, Hook, HookPoint, IfName, Load, MapSpec, NftOp, Reject,
    Rule, Table, ct_status, key,
};
use crate::seen::Balancing;

use super::pick::{Pick, Shape};

/// The networks a sandbox is on.
pub(crate) fn networks(sandbox: &Sandbox) -> BTreeSet<NetworkId> {
    sandbox.endpoints.values().map(|e| e.network).collect()
}

/// The table; `None` where no service can be called: a nat table costs every connection its tracking.
pub(crate) fn render(part: &Desired, shape: &Shape, sandbox: &Sandbox) -> Option<Table> {
    let networks = networks(sandbox);
    let picks = shape.of_networks(&networks)?;
    let mut table = Table::new(Family::Inet, names::TABLE);
    for family in [&V4, &V6] {
        family.write(&mut table, services(part, &networks));
    }
    for pick in picks {
        table.chain(pick.name(), vec![pick_rule(pick)]);
    }
    let out = vec![V4.dispatch(), V6.dispatch()];
    table.base_chain("out", Hook::nat(HookPoint::Output, -100), out);
    table.base_chain("refuse", Hook::filter(HookPoint::Output, 0), refuse_rules());
    if let Some(link) = &sandbox.node_link {
        table.base_chain("post", Hook::nat(HookPoint::Postrouting, 100), leave_rules(link));
    }
    Some(table)
}

const fn side(ipv6: bool) -> &'static Side {
    if ipv6 { &V6 } else { &V4 }
}

/// Where a table leads packets to a virtual address.
pub(crate) fn held(table: &Table, vip: IpAddr) -> Balancing<IpAddr> {
    let side = side(vip.is_ipv6());
    let vip = key::ip(vip);
    let has = |map: &str| table.maps.get(map).is_some_and(|m| m.elements.contains_key(&vip));
    if has(side.refused) {
        return Balancing::Refused;
    }
    let slots = table.maps.get(side.slots).filter(|_| has(side.vips));
    let Some(slots) = slots else { return Balancing::Unknown };
    let of_vip = slots.elements.iter().filter(|(key, _)| key.starts_with(&vip));
    let backend = |elem: &Elem| match &elem.data {
        ElemData::Value(bytes) => key::read_ip(bytes),
        ElemData::None | ElemData::Verdict(_) => None,
    };
    Balancing::Among(of_vip.filter_map(|(_, elem)| backend(elem)).collect())
}

/// Would the operation change what becomes of packets to a virtual address? Maps, chains and rules are there for all of them.
pub(crate) fn concerns(op: &NftOp, vip: IpAddr) -> bool {
    let side = side(vip.is_ipv6());
    let maps = [side.vips, side.slots, side.refused];
    op.concerns(|map| maps.contains(&map), &key::ip(vip))
}

type Seen<'a> = (NetworkId, &'a ServiceId, &'a Service);

fn services<'a>(
    part: &'a Desired,
    networks: &BTreeSet<NetworkId>,
) -> impl Iterator<Item = Seen<'a>> {
    networks.iter().flat_map(move |n| {
        super::pick::services_of(part, *n).map(|(id, service)| (*n, id, service))
    })
}

/// Names and types of one family's maps.
struct Side {
    ipv6: bool,
    addr: Datatype,
    daddr: Load,
    /// Virtual address → pick chain.
    vips: &'static str,
    /// Virtual address . slot → backend.
    slots: &'static str,
    /// Virtual addresses without backends.
    refused: &'static str,
}

const V4: Side = Side {
    ipv6: false,
    addr: Datatype::Ipv4,
    daddr: Load::IpDaddr,
    vips: "vip4",
    slots: "slot4",
    refused: "refused4",
};
const V6: Side = Side {
    ipv6: true,
    addr: Datatype::Ipv6,
    daddr: Load::Ip6Daddr,
    vips: "vip6",
    slots: "slot6",
    refused: "refused6",
};

impl Side {
    fn dispatch(&self) -> Rule {
        Rule::builder("virtual addresses")
            .vmap(std::slice::from_ref(&self.daddr), self.vips)
            .build()
    }

    fn write<'a>(&self, table: &mut Table, services: impl Iterator<Item = Seen<'a>>) {
        let (mut vips, mut slots, mut refused) = (Elems::new(), Elems::new(), Elems::new());
        for (network, id, service) in services {
            let vip = service.vip.iter().find(|v| v.is_ipv6() == self.ipv6).map(key::ip);
            let Some(vip) = vip else { continue };
            if vips.contains_key(&vip) || refused.contains_key(&vip) {
                continue;
            }
            let Some(pick) = service.pick((network, id), self.ipv6) else {
                refused.insert(vip, Elem::MEMBER);
                continue;
            };
            let backends = service.backends.iter().filter(|b| b.is_ipv6() == self.ipv6);
            for (slot, backend) in (0u32..).zip(backends) {
                let slot = key::concat(&[vip.clone(), key::slot(slot)]);
                slots.insert(slot, Elem::value(key::ip(*backend)));
            }
            vips.insert(vip, Elem::goto(pick.name()));
        }
        let addr = [self.addr];
        table.map(self.vips, MapSpec::verdicts(&addr), vips);
        table.map(self.slots, MapSpec::values(&[self.addr, Datatype::Mark], &addr), slots);
        table.map(self.refused, MapSpec::set(&addr), refused);
    }
}

fn pick_rule(pick: &Pick) -> Rule {
    let side = side(pick.ipv6());
    Rule::builder("pick a backend")
        .dnat_map(&[side.daddr.clone(), pick.slot()], side.slots, side.ipv6, false)
        .build()
}

/// In a filter chain behind the translation: what still has a virtual address as destination has no backend.
fn refuse_rules() -> Vec<Rule> {
    let refuse = |side: &Side| {
        let addr = [side.daddr.clone()];
        [
            Rule::builder("no backend")
                .in_set(&addr, side.refused)
                .l4proto(key::TCP)
                .reject(Reject::TcpReset)
                .build(),
            Rule::builder("no backend")
                .in_set(&addr, side.refused)
                .reject(Reject::PortUnreachable)
                .build(),
        ]
    };
    [refuse(&V4), refuse(&V6)].concat()
}

fn leave_rules(link: &NodeLink) -> Vec<Rule> {
    vec![
        Rule::builder("backend outside the cluster")
            .ct_status(ct_status::DNAT)
            .oif(IfName(link.ifname.as_str()))
            .masquerade()
            .build(),
    ]
}
