//! Comparison of all objects but tables: links first, because much hangs on them, then the rest by key.

use std::collections::{BTreeMap, BTreeSet};

use crate::actual::{Actual, NsState};
use crate::names::MARKER;
use crate::object::{FdbTo, Link, LinkChange, LinkKind, LinkName, Netns, Ns, RouteTo};
use crate::op::Op;
use crate::render::Target;

use super::stage::Stages;

/// Links that a plan removes, whether or not it makes them anew.
pub(super) type Removed = BTreeSet<(Ns, LinkName)>;

/// Takes out of `target` what stands on a link name that another program uses, and says which names those are.
///
/// Ours are known by their alias. A link without any alias, of the right kind, is one that we were about to mark.
pub(super) fn withdraw_conflicts(actual: &Actual, target: &mut Target) -> Removed {
    let mut conflicts = Removed::new();
    for (ns, state) in &mut target.namespaces {
        let Some(seen) = actual.namespaces.get(ns) else { continue };
        let foreign = |name: &LinkName, wanted: &Link| {
            seen.links.get(name).is_some_and(|link| {
                let unmarked = link.alias.is_empty() && same_kind(&link.kind, &wanted.kind);
                !link.alias.starts_with(MARKER) && !unmarked
            })
        };
        let names: Vec<_> = state
            .links
            .iter()
            .filter(|(name, wanted)| wanted.kind != LinkKind::Loopback && foreign(name, wanted))
            .map(|(name, _)| name.clone())
            .collect();
        conflicts.extend(names.into_iter().map(|name| (*ns, name)));
    }
    for (ns, name) in conflicts.clone() {
        withdraw(target, ns, &name);
        let at = (ns, name);
        let ends: Vec<_> = target
            .pairs
            .iter()
            .filter(|(outer, inner)| **outer == at || **inner == at)
            .map(|(outer, inner)| (outer.clone(), inner.clone()))
            .collect();
        for (outer, inner) in ends {
            withdraw(target, outer.0, &outer.1);
            withdraw(target, inner.0, &inner.1);
            target.pairs.remove(&outer);
        }
    }
    conflicts
}

fn withdraw(target: &mut Target, ns: Ns, name: &LinkName) {
    if let Some(state) = target.namespaces.get_mut(&ns) {
        state.links.remove(name);
        detach(state, name);
        state.links.values_mut().filter(|l| l.master.as_ref() == Some(name)).for_each(|l| {
            l.master = None;
            l.port = None;
        });
        let segment = format!("/{name}/");
        state.sysctls.retain(|key, _| !key.contains(&segment));
    }
}

/// Namespaces that a plan for those in `within` has to know as well: where the other ends of pairs are that do not stand.
pub(super) fn other_ends(actual: &Actual, target: &Target, within: &BTreeSet<Ns>) -> BTreeSet<Ns> {
    let stands = |(ns, name): &(Ns, LinkName)| {
        let seen = actual.namespaces.get(ns).and_then(|state| state.links.get(name));
        seen.is_some_and(|link| link.kind == LinkKind::Veth && link.alias.starts_with(MARKER))
    };
    let both = target.pairs.iter().flat_map(|(outer, inner)| [(outer, inner), (inner, outer)]);
    both.filter(|(here, there)| within.contains(&here.0) && !within.contains(&there.0))
        .filter(|(here, _)| !stands(here))
        .map(|(_, there)| there.0)
        .collect()
}

const fn same_kind(a: &LinkKind, b: &LinkKind) -> bool {
    matches!(
        (a, b),
        (LinkKind::Bridge { .. }, LinkKind::Bridge { .. })
            | (LinkKind::Vxlan(_), LinkKind::Vxlan(_))
            | (LinkKind::Veth, LinkKind::Veth)
            | (LinkKind::Loopback, LinkKind::Loopback)
    )
}

/// What cannot be changed in place.
fn must_be_remade(seen: &Link, wanted: &Link) -> bool {
    let vxlan = match (&seen.kind, &wanted.kind) {
        (LinkKind::Vxlan(a), LinkKind::Vxlan(b)) => a != b,
        _ => false,
    };
    vxlan || !same_kind(&seen.kind, &wanted.kind)
}

/// What goes with a link when it is removed.
pub(crate) fn detach(state: &mut NsState, name: &LinkName) {
    state.addrs.retain(|(link, _)| link != name);
    state.neighbours.retain(|(link, _), _| link != name);
    state.fdb.retain(|(link, _), _| link != name);
    state.nexthops.retain(|_, nexthop| nexthop.link != *name);
    let nexthops = &state.nexthops;
    state.routes.retain(|_, to| match to {
        RouteTo::Link(link) | RouteTo::Local(link) | RouteTo::Via { link, .. } => link != name,
        RouteTo::Nexthop(id) => nexthops.contains_key(id),
    });
}

/// Plans everything but tables; says which links go.
pub(super) fn plan(
    actual: &BTreeMap<Ns, NsState>,
    target: &Target,
    stages: &mut Stages,
) -> Removed {
    let removed = removed_links(actual, target);
    netns(actual, target, stages);
    let none = NsState::default();
    for ns in super::all(actual, &target.namespaces) {
        let wanted = target.namespaces.get(&ns);
        let seen = actual.get(&ns);
        if wanted.is_none() && seen.and_then(|s| s.netns.as_ref()).is_some_and(|n| n.ours) {
            continue; // goes as a whole
        }
        let mut work = seen.map(without_tables).unwrap_or_default();
        for (_, name) in removed.iter().filter(|(at, _)| *at == ns) {
            if work.links.remove(name).is_some() {
                stages.del_links.push(Op::DelLink { ns, name: name.clone() });
                detach(&mut work, name);
            }
        }
        compare(ns, &work, wanted.unwrap_or(&none), target, stages);
    }
    removed
}

/// A copy to work on; tables may be large and are compared elsewhere.
fn without_tables(state: &NsState) -> NsState {
    NsState {
        netns: state.netns.clone(),
        links: state.links.clone(),
        addrs: state.addrs.clone(),
        routes: state.routes.clone(),
        rules: state.rules.clone(),
        nexthops: state.nexthops.clone(),
        neighbours: state.neighbours.clone(),
        fdb: state.fdb.clone(),
        sysctls: state.sysctls.clone(),
        tables: None,
    }
}

fn removed_links(actual: &BTreeMap<Ns, NsState>, target: &Target) -> Removed {
    let wanted = |ns: &Ns, name: &LinkName| target.namespaces.get(ns)?.links.get(name);
    let mut removed = Removed::new();
    for (ns, state) in actual {
        for (name, link) in &state.links {
            let ours = link.alias.starts_with(MARKER) || *ns == Ns::Overlay;
            let goes = match wanted(ns, name) {
                Some(wanted) => must_be_remade(link, wanted),
                None => ours && link.kind != LinkKind::Loopback,
            };
            if goes {
                removed.insert((*ns, name.clone()));
            }
        }
    }
    // A pair lives and dies together.
    let there = |at: &(Ns, LinkName), removed: &Removed| {
        actual.get(&at.0).is_some_and(|s| s.links.contains_key(&at.1)) && !removed.contains(at)
    };
    for (outer, inner) in &target.pairs {
        let (a, b) = (there(outer, &removed), there(inner, &removed));
        if a != b {
            removed.insert(if a { outer.clone() } else { inner.clone() });
        }
    }
    removed
}

fn netns(actual: &BTreeMap<Ns, NsState>, target: &Target, stages: &mut Stages) {
    let ours = |state: &NsState| state.netns.clone().filter(|n| n.ours);
    let is_new = |ns: &Ns| !actual.contains_key(ns);
    let add = |(ns, netns): (Ns, Netns)| Op::AddNetns { ns, netns };
    let wanted = target.namespaces.iter().filter(|(ns, _)| is_new(ns));
    stages.add_netns.extend(wanted.filter_map(|(ns, s)| Some(add((*ns, ours(s)?)))));
    let gone = actual.iter().filter(|(ns, _)| !target.namespaces.contains_key(ns));
    stages
        .del_netns
        .extend(gone.filter_map(|(ns, s)| Some(Op::DelNetns { ns: *ns, netns: ours(s)? })));
}

fn compare(ns: Ns, seen: &NsState, wanted: &NsState, target: &Target, stages: &mut Stages) {
    links(ns, seen, wanted, target, stages);
    for (key, value) in &wanted.sysctls {
        if seen.sysctls.get(key) != Some(value) && (!stages.observed || may_exist(key, seen)) {
            let (key, value) = (key.clone(), value.clone());
            stages.sysctls.push(Op::SetSysctl { ns, key, value });
        }
    }
    addrs_and_entries(ns, seen, wanted, stages);
    routing(ns, seen, wanted, stages);
}

/// A key that observation asked for and did not find does not exist, unless its link or namespace is yet to be made.
fn may_exist(key: &str, seen: &NsState) -> bool {
    if seen.sysctls.contains_key(key) {
        return true;
    }
    let link = key.split('/').nth(3).filter(|l| !matches!(*l, "all" | "default"));
    let present = |link: &str| seen.links.keys().any(|name| name.as_str() == link);
    match link {
        Some(link) if key.contains("/conf/") => !present(link),
        _ => seen.netns.is_none() && seen.links.is_empty() && seen.sysctls.is_empty(),
    }
}

fn links(ns: Ns, seen: &NsState, wanted: &NsState, target: &Target, stages: &mut Stages) {
    for (name, link) in &wanted.links {
        let made = seen.links.get(name).cloned().unwrap_or_else(|| {
            stages.add_links.extend(add_link(ns, name, link, target));
            Link { up: false, master: None, port: None, ..link.clone() }
        });
        for change in changes(&made, link) {
            let up = change == LinkChange::Up;
            let op = Op::SetLink { ns, name: name.clone(), change };
            if up { stages.up.push(op) } else { stages.set_links.push(op) }
        }
    }
}

fn add_link(ns: Ns, name: &LinkName, link: &Link, target: &Target) -> Option<Op> {
    match link.kind {
        LinkKind::Loopback | LinkKind::Other => None,
        LinkKind::Bridge { .. } | LinkKind::Vxlan(_) => {
            Some(Op::AddLink { ns, name: name.clone(), link: link.clone() })
        }
        LinkKind::Veth => {
            // The inner end is made with the outer.
            let (peer_ns, peer_name) = target.pairs.get(&(ns, name.clone()))?.clone();
            let peer = target.namespaces.get(&peer_ns)?.links.get(&peer_name)?.clone();
            let (name, link) = (name.clone(), link.clone());
            Some(Op::AddVeth { ns, name, link, peer_ns, peer_name, peer })
        }
    }
}

fn changes(seen: &Link, wanted: &Link) -> Vec<LinkChange> {
    let loopback = wanted.kind == LinkKind::Loopback;
    let differs = |condition: bool, change: LinkChange| condition.then_some(change);
    [
        differs(!loopback && seen.alias != wanted.alias, LinkChange::Alias(wanted.alias.clone())),
        wanted.mac.filter(|m| seen.mac != Some(*m)).map(LinkChange::Mac),
        wanted.mtu_bytes.filter(|m| seen.mtu_bytes != Some(*m)).map(LinkChange::MtuBytes),
        differs(seen.master != wanted.master, LinkChange::Master(wanted.master.clone())),
        wanted.port.filter(|p| seen.port != Some(*p)).map(LinkChange::Port),
        differs(wanted.up && !seen.up, LinkChange::Up),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn addrs_and_entries(ns: Ns, seen: &NsState, wanted: &NsState, stages: &mut Stages) {
    for (link, addr) in seen.addrs.difference(&wanted.addrs) {
        stages.del_addrs.push(Op::DelAddr { ns, link: link.clone(), addr: *addr });
    }
    for (link, addr) in wanted.addrs.difference(&seen.addrs) {
        stages.add_addrs.push(Op::AddAddr { ns, link: link.clone(), addr: *addr });
    }
    for (link, addr) in vanished(&seen.neighbours, &wanted.neighbours) {
        stages.del_entries.push(Op::DelNeighbour { ns, link: link.clone(), addr: *addr });
    }
    for ((link, addr), mac) in news(&seen.neighbours, &wanted.neighbours) {
        let (link, addr, mac) = (link.clone(), *addr, *mac);
        stages.put_entries.push(Op::PutNeighbour { ns, link, addr, mac });
    }
    for at in vanished(&seen.fdb, &wanted.fdb) {
        let (link, mac, to) = (at.0.clone(), at.1, seen.fdb[at].clone());
        stages.del_entries.push(Op::DelFdb { ns, link, mac, to });
    }
    for ((link, mac), to) in news(&seen.fdb, &wanted.fdb) {
        let (link, mac, to): (LinkName, _, FdbTo) = (link.clone(), *mac, to.clone());
        stages.put_entries.push(Op::PutFdb { ns, link, mac, to });
    }
}

fn routing(ns: Ns, seen: &NsState, wanted: &NsState, stages: &mut Stages) {
    let del_rule = |rule: &crate::object::RouteRule| Op::DelRule { ns, rule: rule.clone() };
    let add_rule = |rule: &crate::object::RouteRule| Op::AddRule { ns, rule: rule.clone() };
    stages.del_rules.extend(seen.rules.difference(&wanted.rules).map(del_rule));
    stages.add_rules.extend(wanted.rules.difference(&seen.rules).map(add_rule));
    let gone = vanished(&seen.routes, &wanted.routes);
    stages.del_routes.extend(gone.map(|key| Op::DelRoute { ns, key: *key }));
    let routes = news(&seen.routes, &wanted.routes);
    let put = |(key, to): (&crate::object::RouteKey, &RouteTo)| Op::PutRoute {
        ns,
        key: *key,
        to: to.clone(),
    };
    stages.put_routes.extend(routes.map(put));
    let gone = vanished(&seen.nexthops, &wanted.nexthops);
    stages.del_nexthops.extend(gone.map(|id| Op::DelNexthop { ns, id: *id }));
    let new = news(&seen.nexthops, &wanted.nexthops);
    let put = |(id, nexthop): (&u32, &crate::object::Nexthop)| Op::PutNexthop {
        ns,
        id: *id,
        nexthop: nexthop.clone(),
    };
    stages.put_nexthops.extend(new.map(put));
}

fn vanished<'a, K: Ord, V>(
    seen: &'a BTreeMap<K, V>,
    wanted: &'a BTreeMap<K, V>,
) -> impl Iterator<Item = &'a K> {
    seen.keys().filter(|key| !wanted.contains_key(key))
}

fn news<'a, K: Ord, V: PartialEq>(
    seen: &'a BTreeMap<K, V>,
    wanted: &'a BTreeMap<K, V>,
) -> impl Iterator<Item = (&'a K, &'a V)> {
    wanted.iter().filter(|(key, value)| seen.get(key) != Some(value))
}
