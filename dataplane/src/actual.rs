//! What is in the kernel, as observation yields it, and how far an observation looks.
//!
//! Only what is ours is reported:
//! - links whose alias begins with [`crate::names::MARKER`], links under a name the scope asks for, and in [`Ns::Overlay`] all;
//!   `lo` of sandboxes;
//! - addresses (not link-local, not of `lo`), permanent neighbours, and static or permanent FDB entries of those links (not the
//!   entries the kernel makes for a port's own MAC);
//! - routes, rules and nexthops whose protocol is [`crate::names::ROUTE_PROTOCOL`];
//! - sysctls the scope asks for that exist;
//! - nftables tables named [`crate::names::TABLE`].
//!
//! A namespace that does not exist is absent.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use swarmnet_types::Mac;

use crate::nft::{Table, TableId};
use crate::object::{
    FdbTo, ForeignChain, ForwardMatch, Link, LinkName, Netns, Nexthop, Ns, RouteKey, RouteRule,
    RouteTo,
};

/// The network state of one namespace.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NsState {
    /// `None` for the node's own.
    pub netns: Option<Netns>,
    pub links: BTreeMap<LinkName, Link>,
    /// Link and address with its prefix.
    pub addrs: BTreeSet<(LinkName, IpNet)>,
    pub routes: BTreeMap<RouteKey, RouteTo>,
    pub rules: BTreeSet<RouteRule>,
    /// By id.
    pub nexthops: BTreeMap<u32, Nexthop>,
    /// Permanent ones: link and address → MAC.
    pub neighbours: BTreeMap<(LinkName, IpAddr), Mac>,
    /// Link and MAC → where to.
    pub fdb: BTreeMap<(LinkName, Mac), FdbTo>,
    /// Path below `/proc/sys`, with slashes → value without the final newline.
    pub sysctls: BTreeMap<String, String>,
    /// `None`: not looked at, so nothing is planned about them.
    pub tables: Option<BTreeMap<TableId, Table>>,
}

/// What one observation found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Actual {
    pub namespaces: BTreeMap<Ns, NsState>,
    /// Base chains of others on the forward hook of the node's namespace that drop by policy, and any that hold a rule of ours
    /// → what our rules there accept.
    pub forward: BTreeMap<ForeignChain, BTreeSet<ForwardMatch>>,
}

/// How far an observation looks. [`crate::Desired::scope`] makes it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Scope {
    pub namespaces: BTreeMap<Ns, NsScope>,
    /// Fill in [`Actual::forward`].
    pub forward: bool,
}

/// What to look at in one namespace.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NsScope {
    /// `None` for the node's own.
    pub netns: Option<Netns>,
    /// Names reported even when the alias is not ours.
    pub links: BTreeSet<LinkName>,
    pub sysctls: BTreeSet<String>,
    /// Dump the tables too: 10,000 services cost some ten milliseconds.
    pub tables: bool,
}

impl NsState {
    /// Nothing of ours is here but the namespace itself.
    pub fn is_bare(&self) -> bool {
        let tables = self.tables.as_ref().is_none_or(BTreeMap::is_empty);
        let links = self.links.values().all(|l| l.kind == crate::object::LinkKind::Loopback);
        links
            && tables
            && self.addrs.is_empty()
            && self.routes.is_empty()
            && self.rules.is_empty()
            && self.nexthops.is_empty()
            && self.neighbours.is_empty()
            && self.fdb.is_empty()
    }
}
