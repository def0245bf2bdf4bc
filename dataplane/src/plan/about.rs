//! What a plan says of one object: nothing, where the kernel holds it as wished. So one comparison serves those who mend and those
//! who explain.

use std::net::IpAddr;

use ipnet::IpNet;
use swarmnet_types::Mac;

use crate::desired::PublicationKey;
use crate::nft::{Family, NftOp};
use crate::object::{LinkName, Ns};
use crate::op::Op;
use crate::render::{balance, publish};

use super::Plan;

/// One thing that a packet meets on its way, in one namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Object<'a> {
    /// That it is there, up, in its bridge, with its flags.
    Link(&'a LinkName),
    /// Any address of this link.
    Addresses(&'a LinkName),
    Neighbour(&'a LinkName, IpAddr),
    Fdb(&'a LinkName, Mac),
    /// In any table.
    Route(IpNet),
    Nexthop(u32),
    /// Where a sandbox's table leads packets to a virtual address.
    Vip(IpAddr),
    /// Where the node's table leads packets to a published port, of one family.
    Port {
        key: PublicationKey,
        ipv6: bool,
    },
}

impl Plan {
    /// The operations that would change the object.
    pub fn about(&self, ns: Ns, object: Object<'_>) -> impl Iterator<Item = &Op> {
        self.ops.iter().filter(move |op| concerns(op, ns, object))
    }
}

fn concerns(op: &Op, at: Ns, object: Object<'_>) -> bool {
    if let Op::AddVeth { ns, name, peer_ns, peer_name, .. } = op {
        let made =
            |link: &LinkName| (*ns, name) == (at, link) || (*peer_ns, peer_name) == (at, link);
        return matches!(object, Object::Link(link) if made(link));
    }
    op.ns() == at && in_namespace(op, object)
}

fn in_namespace(op: &Op, object: Object<'_>) -> bool {
    match (object, op) {
        (
            Object::Link(link),
            Op::AddLink { name, .. } | Op::DelLink { name, .. } | Op::SetLink { name, .. },
        ) => name == link,
        (Object::Addresses(on), Op::AddAddr { link, .. } | Op::DelAddr { link, .. }) => link == on,
        (
            Object::Neighbour(on, of),
            Op::PutNeighbour { link, addr, .. } | Op::DelNeighbour { link, addr, .. },
        ) => (link, *addr) == (on, of),
        (Object::Fdb(on, of), Op::PutFdb { link, mac, .. } | Op::DelFdb { link, mac, .. }) => {
            (link, *mac) == (on, of)
        }
        (Object::Route(to), Op::PutRoute { key, .. } | Op::DelRoute { key, .. }) => key.dst == to,
        (Object::Nexthop(of), Op::PutNexthop { id, .. } | Op::DelNexthop { id, .. }) => *id == of,
        (Object::Vip(vip), Op::Nft { table, ops, .. }) => {
            table.family == Family::Inet && ops.iter().any(|op| balance::concerns(op, vip))
        }
        (Object::Port { key, ipv6 }, Op::Nft { table, ops, .. }) => {
            let about = |op: &NftOp| publish::concerns(op, &key, ipv6);
            table.family == Family::Inet && ops.iter().any(about)
        }
        _ => false,
    }
}
