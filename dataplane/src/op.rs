//! Operations: one variant for each verb the kernel is asked to do, in the order a plan lists them.
//!
//! `Add…` fails when the object exists (the view was stale), `Put…` creates or replaces in place, `Del…` of what is not there is
//! done. Each is small enough to be repeated safely after a re-plan.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use swarmnet_types::Mac;

use crate::nft::{NftOp, TableId};
use crate::object::{
    FdbTo, ForeignChain, ForwardMatch, Link, LinkChange, LinkName, Netns, Nexthop, Ns, RouteKey,
    RouteRule, RouteTo,
};

/// One verb.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    /// Makes the namespace and binds it to its path.
    AddNetns {
        ns: Ns,
        netns: Netns,
    },
    /// Unbinds it; with its last user it goes, and what is in it.
    DelNetns {
        ns: Ns,
        netns: Netns,
    },
    /// Makes a bridge or VXLAN device with its kind, MAC, MTU, alias and address generation; down, without master and port flags.
    AddLink {
        ns: Ns,
        name: LinkName,
        link: Link,
    },
    /// Makes both ends of a pair, as [`Op::AddLink`] does, the second in `peer_ns`.
    AddVeth {
        ns: Ns,
        name: LinkName,
        link: Link,
        peer_ns: Ns,
        peer_name: LinkName,
        peer: Link,
    },
    /// With all that hangs on it: addresses, routes, neighbours, FDB entries, the other end of a pair.
    DelLink {
        ns: Ns,
        name: LinkName,
    },
    SetLink {
        ns: Ns,
        name: LinkName,
        change: LinkChange,
    },
    /// IPv6 ones without duplicate address detection (`nodad`).
    AddAddr {
        ns: Ns,
        link: LinkName,
        addr: IpNet,
    },
    DelAddr {
        ns: Ns,
        link: LinkName,
        addr: IpNet,
    },
    /// With protocol [`crate::names::ROUTE_PROTOCOL`], as all routes, rules and nexthops.
    PutRoute {
        ns: Ns,
        key: RouteKey,
        to: RouteTo,
    },
    DelRoute {
        ns: Ns,
        key: RouteKey,
    },
    AddRule {
        ns: Ns,
        rule: RouteRule,
    },
    DelRule {
        ns: Ns,
        rule: RouteRule,
    },
    PutNexthop {
        ns: Ns,
        id: u32,
        nexthop: Nexthop,
    },
    /// With the routes that use it.
    DelNexthop {
        ns: Ns,
        id: u32,
    },
    /// Permanent.
    PutNeighbour {
        ns: Ns,
        link: LinkName,
        addr: IpAddr,
        mac: Mac,
    },
    DelNeighbour {
        ns: Ns,
        link: LinkName,
        addr: IpAddr,
    },
    /// Afterwards exactly `to` is there for the MAC on this link.
    PutFdb {
        ns: Ns,
        link: LinkName,
        mac: Mac,
        to: FdbTo,
    },
    DelFdb {
        ns: Ns,
        link: LinkName,
        mac: Mac,
        to: FdbTo,
    },
    /// Path below `/proc/sys`, with slashes. A key that does not exist is done: the kernel lacks what it switches.
    SetSysctl {
        ns: Ns,
        key: String,
        value: String,
    },
    /// One atomic batch.
    Nft {
        ns: Ns,
        table: TableId,
        ops: Vec<NftOp>,
    },
    /// Deletes the connections whose replies come from this address (the original destination was translated to it): datagrams
    /// of open flows are then balanced anew, TCP gets a reset from the next task. Not observable, so in no plan: what is to be
    /// deleted follows from the change of a wish ([`crate::dead_flows`]).
    KillFlows {
        ns: Ns,
        reply_src: IpAddr,
    },
    /// Makes our accept rules (told by their comment) in another program's chain exactly these, at its head; none removes them.
    SetForwardAccept {
        chain: ForeignChain,
        matches: BTreeSet<ForwardMatch>,
    },
}

impl Op {
    /// The namespace it acts in.
    pub const fn ns(&self) -> Ns {
        match self {
            Self::AddNetns { ns, .. }
            | Self::DelNetns { ns, .. }
            | Self::AddLink { ns, .. }
            | Self::AddVeth { ns, .. }
            | Self::DelLink { ns, .. }
            | Self::SetLink { ns, .. }
            | Self::AddAddr { ns, .. }
            | Self::DelAddr { ns, .. }
            | Self::PutRoute { ns, .. }
            | Self::DelRoute { ns, .. }
            | Self::AddRule { ns, .. }
            | Self::DelRule { ns, .. }
            | Self::PutNexthop { ns, .. }
            | Self::DelNexthop { ns, .. }
            | Self::PutNeighbour { ns, .. }
            | Self::DelNeighbour { ns, .. }
            | Self::PutFdb { ns, .. }
            | Self::DelFdb { ns, .. }
            | Self::SetSysctl { ns, .. }
            | Self::Nft { ns, .. }
            | Self::KillFlows { ns, .. } => *ns,
            Self::SetForwardAccept { .. } => Ns::Node,
        }
    }

    fn describe(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AddNetns { netns, .. } => write!(f, "netns add {}", netns.path.display()),
            Self::DelNetns { netns, .. } => write!(f, "netns del {}", netns.path.display()),
            Self::AddLink { name, link, .. } => write!(f, "link add {name} type {}", link.kind),
            Self::AddVeth { name, peer_ns, peer_name, .. } => {
                write!(f, "link add {name} type veth peer {peer_name} in {peer_ns}")
            }
            Self::DelLink { name, .. } => write!(f, "link del {name}"),
            Self::SetLink { name, change, .. } => write!(f, "link set {name} {change}"),
            Self::AddAddr { link, addr, .. } => write!(f, "addr add {addr} dev {link}"),
            Self::DelAddr { link, addr, .. } => write!(f, "addr del {addr} dev {link}"),
            Self::PutRoute { key, to, .. } => write!(f, "route put {key} {to}"),
            Self::DelRoute { key, .. } => write!(f, "route del {key}"),
            Self::AddRule { rule, .. } => write!(f, "rule add {rule}"),
            Self::DelRule { rule, .. } => write!(f, "rule del {rule}"),
            Self::PutNexthop { id, nexthop: n, .. } => {
                write!(f, "nexthop put id {id} via {} dev {} onlink", n.gateway, n.link)
            }
            Self::DelNexthop { id, .. } => write!(f, "nexthop del id {id}"),
            Self::PutNeighbour { link, addr, mac, .. } => {
                write!(f, "neigh put {addr} lladdr {mac} dev {link}")
            }
            Self::DelNeighbour { link, addr, .. } => write!(f, "neigh del {addr} dev {link}"),
            Self::PutFdb { link, mac, to, .. } => write!(f, "fdb put {mac} dev {link} {to}"),
            Self::DelFdb { link, mac, to, .. } => write!(f, "fdb del {mac} dev {link} {to}"),
            Self::SetSysctl { key, value, .. } => write!(f, "sysctl {key}={value}"),
            Self::Nft { table, ops, .. } => {
                write!(f, "nft {:?} {}: {} operations", table.family, table.name, ops.len())
            }
            Self::KillFlows { reply_src, .. } => write!(f, "conntrack del reply-src {reply_src}"),
            Self::SetForwardAccept { chain, matches } => {
                write!(f, "forward accept in {chain}:")?;
                matches.iter().try_for_each(|m| write!(f, " [{m}]"))
            }
        }
    }
}

/// One line: the namespace, then the words `ip`, `bridge`, `nft` would use.
impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.ns())?;
        self.describe(f)
    }
}
