//! From a wish to every kernel object it stands for.
//!
//! [`target`] writes down links, addresses, routes and the like of all namespaces; [`tables`] the nftables tables of one
//! namespace, on demand, because those of a sandbox that knows 10,000 services take megabytes and need not exist at the same
//! time.
//!
//! Both can be asked for a *part*: a wish with some of its many objects left out. What depends on all of them together (which
//! chains exist) is therefore computed beforehand from the whole, as a [`Shape`].
//!
//! Invariant, which planning of parts stands on: no kernel object but chains follows from two services, two publications, two
//! tasks, two sandboxes or two remote endpoints (a network that floods is compared whole).

pub(crate) mod balance;
pub(crate) mod fabric;
pub(crate) mod guard;
pub(crate) mod node_table;
pub(crate) mod pick;
pub(crate) mod publish;
pub(crate) mod resolver;
pub(crate) mod sandbox;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use swarmnet_types::Mac;

use crate::actual::NsState;
use crate::desired::Desired;
use crate::nft::{Table, TableId};
use crate::object::{FdbTo, ForwardMatch, Link, LinkKind, LinkName, Ns, RouteKey, RouteTo};

pub(crate) use pick::Shape;

/// Every object that should exist, but tables.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Target {
    pub(crate) namespaces: BTreeMap<Ns, NsState>,
    /// Outer end of each veth pair → inner end.
    pub(crate) pairs: BTreeMap<(Ns, LinkName), (Ns, LinkName)>,
    /// What other programs' forward chains should let through.
    pub(crate) forward: BTreeSet<ForwardMatch>,
}

/// One end of a veth pair.
pub(crate) struct End {
    pub(crate) ns: Ns,
    pub(crate) name: LinkName,
    pub(crate) link: Link,
}

/// All objects of `desired`, tables apart.
pub(crate) fn target(desired: &Desired) -> Target {
    let mut target = Target::default();
    target.namespaces.insert(Ns::Node, NsState::default());
    if let Some(fabric) = &desired.fabric {
        fabric::render(fabric, &desired.host, &mut target);
    }
    for (id, network) in &desired.networks {
        crate::driver::of(network).network(&mut target, *id, desired);
    }
    for (id, sandbox) in &desired.sandboxes {
        sandbox::render(desired, *id, sandbox, &mut target);
    }
    if desired.options.forward_accept {
        target.forward = forward_matches(desired);
    }
    let node = target.ns(Ns::Node);
    for (key, value) in &desired.options.restore_sysctls {
        node.sysctls.entry(key.clone()).or_insert_with(|| value.clone());
    }
    target
}

/// The tables of one namespace: `part` says what is in them, `whole` which chains there are (by its `shape`) and, for a sandbox,
/// what it is joined to. For all of a wish they are the same.
pub(crate) fn tables(
    (part, whole): (&Desired, &Desired),
    shape: &Shape,
    ns: Ns,
) -> BTreeMap<TableId, Table> {
    let tables = match ns {
        Ns::Node => vec![node_table::render(part, shape), guard::render(part, Ns::Node)],
        Ns::Overlay => vec![guard::render(part, Ns::Overlay)],
        Ns::Sandbox(id) => {
            let sandbox = whole.sandboxes.get(&id);
            vec![
                sandbox.and_then(|s| balance::render(part, shape, s)),
                sandbox.and_then(|s| resolver::render(s)),
            ]
        }
    };
    tables.into_iter().flatten().map(|table| (table.id.clone(), table)).collect()
}

fn forward_matches(desired: &Desired) -> BTreeSet<ForwardMatch> {
    let mut names: Vec<String> = crate::driver::bridges(desired)
        .map(|(_, bridge)| bridge.name.as_str().to_owned())
        .collect();
    if desired.fabric.is_some() {
        names.extend([crate::names::SWING.to_owned(), crate::names::NODE_LINK_GLOB.to_owned()]);
    }
    names
        .into_iter()
        .flat_map(|name| [ForwardMatch::In(name.clone()), ForwardMatch::Out(name)])
        .collect()
}

// === impl Target ===

impl Target {
    pub(crate) fn ns(&mut self, ns: Ns) -> &mut NsState {
        self.namespaces.entry(ns).or_default()
    }

    pub(crate) fn veth(&mut self, outer: End, inner: End) {
        self.pairs.insert((outer.ns, outer.name.clone()), (inner.ns, inner.name.clone()));
        for end in [outer, inner] {
            self.ns(end.ns).links.insert(end.name, end.link);
        }
    }
}

// === impl NsState: writing ===

impl NsState {
    pub(crate) fn address(&mut self, link: &LinkName, addr: IpNet) {
        self.addrs.insert((link.clone(), addr));
    }

    pub(crate) fn neighbour(&mut self, link: &LinkName, addr: impl Into<IpAddr>, mac: Mac) {
        self.neighbours.insert((link.clone(), addr.into()), mac);
    }

    pub(crate) fn forward_to(&mut self, link: &LinkName, mac: Mac, to: FdbTo) {
        self.fdb.insert((link.clone(), mac), to);
    }

    pub(crate) fn route(&mut self, key: RouteKey, to: RouteTo) {
        self.routes.insert(key, to);
    }

    /// `net/ipv4/conf/<link>/<key>` and the like.
    pub(crate) fn link_sysctl(&mut self, family: &str, link: &LinkName, key: &str, value: u8) {
        self.sysctls.insert(format!("net/{family}/conf/{link}/{key}"), value.to_string());
    }

    /// IPv6 on a link exactly when it carries an IPv6 address (X4, CVE-2024-32473).
    pub(crate) fn ipv6_only_if(&mut self, link: &LinkName, used: bool) {
        self.link_sysctl("ipv6", link, "disable_ipv6", u8::from(!used));
    }

    /// Lets replies to flows that began at `::1` end here: routes for loopback addresses are looked up strictly by incoming
    /// device. `metric` differs for each device, since it is all that tells these routes apart.
    pub(crate) fn loopback_v6(&mut self, link: &LinkName, metric: u32) {
        let dst = crate::names::host(IpAddr::V6(std::net::Ipv6Addr::LOCALHOST));
        self.route(RouteKey { table: RouteKey::LOCAL, dst, metric }, RouteTo::Local(link.clone()));
    }
}

// === impl Link: writing ===

impl Link {
    pub(crate) fn up(kind: LinkKind, alias: String) -> Self {
        Self {
            kind,
            mac: None,
            mtu_bytes: None,
            up: true,
            master: None,
            port: None,
            no_link_local: true,
            alias,
        }
    }
}

/// `0.0.0.0/0` or `::/0`.
pub(crate) fn everywhere(ipv6: bool) -> IpNet {
    if ipv6 { IpNet::V6(ipnet::Ipv6Net::default()) } else { IpNet::V4(ipnet::Ipv4Net::default()) }
}
