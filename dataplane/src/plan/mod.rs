//! Plans: the ordered operations from what a kernel holds to what is wished.
//!
//! [`plan`] compares everything that was observed and heals any drift, [`plan_within`] that of some namespaces; [`update`] leads from
//! one wish to the next and costs what differs. All write objects down with the same functions and compare them with the same code.
//!
//! Order of a plan:
//! 1. tables: what is static, filters above all, so that no VXLAN device exists without its filter (X1); elements that lead to
//!    backends which go;
//! 2. removals: rules, routes, nexthops, neighbours, FDB entries, addresses, links, namespaces;
//! 3. additions: namespaces, links, sysctls, device filters, attributes, links up, addresses, neighbours, FDB entries, nexthops,
//!    routes, rules;
//! 4. tables: elements that lead to backends, tables of sandboxes; accept rules in other programs' chains;
//! 5. the node table itself when nothing is wanted any more.
//!
//! Connections of backends that are gone ([`dead_flows`]) are in no plan: no observation shows them, so whoever carries plans out has
//! to remember them until they are deleted.
//!
//! Operations do not depend on the success of earlier ones being checked: what failed is observed and planned again. A changed
//! value is replaced in place, never removed first.

mod about;
mod objects;
mod part;
mod shared;
mod stage;
mod tables;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::actual::{Actual, NsScope, NsState, Scope};
use crate::desired::Desired;
use crate::object::{LinkName, Ns};
use crate::op::Op;
use crate::render::{self, Shape, Target};

pub use about::Object;

#[cfg(any(test, feature = "testing"))]
pub(crate) use objects::detach;
use stage::Stages;

/// Operations, in the order to do them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    pub ops: Vec<Op>,
    /// Links of other programs under names that we want. Nothing is planned on them.
    pub conflicts: BTreeSet<(Ns, LinkName)>,
    /// Only observation can tell what else is to be done: make a full round soon.
    pub wants_round: bool,
}

impl Plan {
    pub fn is_empty(&self) -> bool {
        self.ops.is_empty()
    }

    /// Values that the plan changes in sysctls of the node's namespace which exist without us, as they were: to be kept and
    /// given back by [`crate::desired::Options::restore_sysctls`].
    pub fn sysctls_before(&self, actual: &Actual) -> BTreeMap<String, String> {
        let before = actual.namespaces.get(&Ns::Node).map(|ns| &ns.sysctls);
        let changed = self.ops.iter().filter_map(|op| match op {
            Op::SetSysctl { ns: Ns::Node, key, .. } => {
                before?.get_key_value(key).map(|(k, v)| (k.clone(), v.clone()))
            }
            _ => None,
        });
        // Those of our own links go with the links.
        let ours = |key: &str| {
            let links = actual.namespaces.get(&Ns::Node).map(|ns| &ns.links);
            links.is_some_and(|l| l.keys().any(|name| key.contains(&format!("/{name}/"))))
        };
        changed.filter(|(key, _)| !ours(key)).collect()
    }
}

/// From what was observed to what is wished. Tables are compared in namespaces where they were looked at.
pub fn plan(actual: &Actual, desired: &Desired) -> Plan {
    towards(render::target(desired), actual, desired)
}

/// As [`plan`] for the namespaces in `within`, which were observed ([`Desired::scope_within`]); all others are taken to be as wished, and
/// written into `actual`.
///
/// # Errors
/// More namespaces that must be observed: the other ends of pairs that are broken.
pub fn plan_within(
    actual: &mut Actual,
    desired: &Desired,
    within: &BTreeSet<Ns>,
) -> Result<Plan, BTreeSet<Ns>> {
    let target = render::target(&part::around(desired, within));
    let more = objects::other_ends(actual, &target, within);
    if !more.is_empty() {
        return Err(more);
    }
    let others = target.namespaces.iter().filter(|(ns, _)| !within.contains(ns));
    actual.namespaces.extend(others.map(|(ns, state)| (*ns, state.clone())));
    Ok(towards(target, actual, desired))
}

fn towards(mut target: Target, actual: &Actual, desired: &Desired) -> Plan {
    let mut stages = Stages { observed: true, ..Stages::default() };
    stages.conflicts = objects::withdraw_conflicts(actual, &mut target);
    let removed = objects::plan(&actual.namespaces, &target, &mut stages);
    let shape = Shape::of(desired);
    for ns in all(&actual.namespaces, &target.namespaces) {
        let seen = match actual.namespaces.get(&ns) {
            Some(NsState { tables: None, .. }) => continue,
            Some(NsState { tables: Some(tables), .. }) => tables.clone(),
            None => BTreeMap::new(),
        };
        if goes(ns, actual, &target) {
            continue;
        }
        let wanted = render::tables((desired, desired), &shape, ns);
        tables::plan(ns, &seen, &wanted, &removed, &mut stages);
    }
    for (chain, seen) in &actual.forward {
        if *seen != target.forward {
            let matches = target.forward.clone();
            stages.forward.push(Op::SetForwardAccept { chain: chain.clone(), matches });
        }
    }
    stages.finish()
}

/// From one wish to the next, on a kernel that holds the first. Costs what differs, and a pointer comparison for each service,
/// publication and sandbox.
pub fn update(old: &Desired, new: &Desired) -> Plan {
    let (before, after) = part::differing(old, new);
    let mut stages = Stages::default();
    let (was, target) = (render::target(&before), render::target(&after));
    let removed = objects::plan(&was.namespaces, &target, &mut stages);
    let shapes = Shape::of_parts((old, new), (&before, &after));
    let mut whole_shapes = None;
    for ns in part::with_changed_tables((old, new), (&before, &after), (&shapes.0, &shapes.1)) {
        // A sandbox that is new on a network needs all services of it.
        let whole = matches!(ns, Ns::Sandbox(id) if part::holds(&before, &after, id));
        let (seen, wanted, shapes) = if whole {
            let both = || (Shape::of(old), Shape::of(new));
            (old, new, &*whole_shapes.get_or_insert_with(both))
        } else {
            (&before, &after, &shapes)
        };
        let seen = render::tables((seen, old), &shapes.0, ns);
        let wanted = render::tables((wanted, new), &shapes.1, ns);
        tables::plan(ns, &seen, &wanted, &removed, &mut stages);
    }
    stages.wants_round = was.forward != target.forward;
    stages.finish()
}

/// Connections to delete after the step from one wish to the next: by namespace, those whose replies come from an address that is
/// gone. Costs what differs.
pub fn dead_flows(old: &Desired, new: &Desired) -> BTreeSet<(Ns, IpAddr)> {
    let (before, after) = part::differing(old, new);
    part::dead_flows(&before, &after, new)
}

/// Is a connection that was dead still dead by this wish? Not when its namespace is gone, nor when the address is in use again.
pub fn is_dead_flow(desired: &Desired, ns: Ns, addr: IpAddr) -> bool {
    part::is_dead_flow(desired, ns, addr)
}

fn goes(ns: Ns, actual: &Actual, target: &Target) -> bool {
    let ours = |s: &NsState| s.netns.as_ref().is_some_and(|n| n.ours);
    !target.namespaces.contains_key(&ns) && actual.namespaces.get(&ns).is_none_or(ours)
}

fn all<V>(a: &BTreeMap<Ns, V>, b: &BTreeMap<Ns, V>) -> BTreeSet<Ns> {
    a.keys().chain(b.keys()).copied().collect()
}

impl Desired {
    /// What to look at before planning towards this wish, and, with `before`, also at what an earlier one may have left.
    /// `tables` says in which namespaces to dump tables.
    pub fn scope(&self, before: Option<&Self>, tables: impl Fn(Ns) -> bool) -> Scope {
        let mut scope = Scope { namespaces: BTreeMap::new(), forward: true };
        for desired in before.into_iter().chain([self]) {
            for (ns, state) in render::target(desired).namespaces {
                let seen: &mut NsScope = scope.namespaces.entry(ns).or_default();
                seen.netns = state.netns;
                seen.links.extend(state.links.into_keys());
                seen.sysctls.extend(state.sysctls.into_keys());
                seen.tables = tables(ns);
            }
        }
        scope
    }

    /// What to look at before [`plan_within`].
    pub fn scope_within(&self, within: &BTreeSet<Ns>) -> Scope {
        let mut scope = part::around(self, within).scope(None, |_| true);
        scope.namespaces.retain(|ns, _| within.contains(ns));
        scope.forward = within.contains(&Ns::Node);
        scope
    }
}

#[cfg(test)]
mod tests;
