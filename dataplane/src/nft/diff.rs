//! From what is to what should be: the operations of one atomic batch.
//!
//! Granularity: elements one by one, rules by chain (a chain whose rules differ is emptied and written again inside the same
//! transaction, so no packet sees it half-written), maps and chains whose definition differs are made anew.
//!
//! Order: what is removed goes first (rules, elements, maps, chains, counters), then what is added (counters, maps, chains,
//! elements, rules). A reference therefore never dangles: a rule or verdict is gone before its chain or map, and appears after.

use std::collections::BTreeSet;

use super::rule::Rule;
use super::table::{Chain, Elems, Hook, Map, MapSpec, Ranges, Table};

/// One operation inside the table the batch is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NftOp {
    AddTable,
    /// With all it holds.
    DelTable,
    AddCounter {
        name: String,
    },
    DelCounter {
        name: String,
    },
    AddMap {
        name: String,
        spec: MapSpec,
    },
    /// With its elements.
    DelMap {
        name: String,
    },
    AddElems {
        map: String,
        ranges: Ranges,
        elems: Elems,
    },
    DelElems {
        map: String,
        ranges: Ranges,
        elems: Elems,
    },
    AddChain {
        name: String,
        hook: Option<Hook>,
    },
    /// Must be empty and unreferenced by then.
    DelChain {
        name: String,
    },
    /// Removes all rules of a chain.
    FlushChain {
        name: String,
    },
    /// Appends.
    AddRule {
        chain: String,
        rule: Rule,
    },
}

impl NftOp {
    /// Does it change an element of one of these maps whose key begins so, or what all elements depend on: the table, maps, chains,
    /// rules?
    pub(crate) fn concerns(&self, maps: impl Fn(&str) -> bool, prefix: &[u8]) -> bool {
        match self {
            Self::AddElems { map, elems, .. } | Self::DelElems { map, elems, .. } => {
                maps(map) && elems.keys().any(|key| key.starts_with(prefix))
            }
            Self::AddCounter { .. } | Self::DelCounter { .. } => false,
            Self::AddTable
            | Self::DelTable
            | Self::AddMap { .. }
            | Self::DelMap { .. }
            | Self::AddChain { .. }
            | Self::DelChain { .. }
            | Self::FlushChain { .. }
            | Self::AddRule { .. } => true,
        }
    }
}

/// The operations that turn `actual` into `desired`; both are the same table. Empty when they are equal.
pub fn diff(actual: Option<&Table>, desired: &Table) -> Vec<NftOp> {
    let empty = Table::new(desired.id.family, desired.id.name.clone());
    let mut ops = Vec::new();
    if actual.is_none() {
        ops.push(NftOp::AddTable);
    }
    let actual = actual.unwrap_or(&empty);
    let fate = Fate::of(actual, desired);
    remove(actual, desired, &fate, &mut ops);
    add(actual, desired, &fate, &mut ops);
    ops
}

/// Which maps and chains of `actual` do not survive as they are.
struct Fate<'a> {
    /// Gone or defined differently.
    maps: BTreeSet<&'a str>,
    chains: BTreeSet<&'a str>,
    /// Rules are removed: the chain goes, its rules differ, or they refer to something that is made anew.
    emptied: BTreeSet<&'a str>,
}

impl<'a> Fate<'a> {
    fn of(actual: &'a Table, desired: &Table) -> Self {
        let differs = |name: &String, map: &Map| {
            desired.maps.get(name).is_none_or(|wanted| wanted.spec != map.spec)
        };
        let maps: BTreeSet<_> =
            actual.maps.iter().filter(|(n, m)| differs(n, m)).map(|(n, _)| n.as_str()).collect();
        let chains: BTreeSet<_> = actual
            .chains
            .iter()
            .filter(|(n, c)| desired.chains.get(*n).is_none_or(|wanted| wanted.hook != c.hook))
            .map(|(n, _)| n.as_str())
            .collect();
        let emptied = actual
            .chains
            .iter()
            .filter(|(name, chain)| {
                let Some(wanted) = desired.chains.get(*name) else { return true };
                chains.contains(name.as_str())
                    || chain.rules != wanted.rules
                    || refers(wanted, &maps, &chains)
            })
            .map(|(n, _)| n.as_str())
            .collect();
        Self { maps, chains, emptied }
    }
}

/// Does a rule of the chain name one of these maps or chains? Observed rules carry no expressions, but an unchanged rule has the
/// same as the wished one, which is asked here.
fn refers(chain: &Chain, maps: &BTreeSet<&str>, chains: &BTreeSet<&str>) -> bool {
    chain.rules.iter().flat_map(Rule::exprs).any(|expr| {
        expr.map().is_some_and(|m| maps.contains(m))
            || expr.chain().is_some_and(|c| chains.contains(c))
    })
}

fn remove(actual: &Table, desired: &Table, fate: &Fate<'_>, ops: &mut Vec<NftOp>) {
    for (name, chain) in &actual.chains {
        if fate.emptied.contains(name.as_str()) && !chain.rules.is_empty() {
            ops.push(NftOp::FlushChain { name: name.clone() });
        }
    }
    for (name, map) in &actual.maps {
        if !fate.maps.contains(name.as_str()) {
            let stale = stale_elems(map, &desired.maps[name], fate);
            push_elems(name, &map.spec, stale, ops, false);
        }
    }
    ops.extend(fate.maps.iter().map(|name| NftOp::DelMap { name: (*name).to_owned() }));
    ops.extend(fate.chains.iter().map(|name| NftOp::DelChain { name: (*name).to_owned() }));
    ops.extend(
        actual
            .counters
            .difference(&desired.counters)
            .map(|name| NftOp::DelCounter { name: name.clone() }),
    );
}

/// Elements that go, change, or point to a chain that is made anew.
fn stale_elems(actual: &Map, desired: &Map, fate: &Fate<'_>) -> Elems {
    actual
        .elements
        .iter()
        .filter(|(key, elem)| {
            desired.elements.get(*key) != Some(*elem) || leads_to(elem, &fate.chains)
        })
        .map(|(key, elem)| (key.clone(), elem.clone()))
        .collect()
}

fn leads_to(elem: &super::table::Elem, chains: &BTreeSet<&str>) -> bool {
    match &elem.data {
        super::table::ElemData::Verdict(verdict) => {
            verdict.chain().is_some_and(|c| chains.contains(c))
        }
        _ => false,
    }
}

fn add(actual: &Table, desired: &Table, fate: &Fate<'_>, ops: &mut Vec<NftOp>) {
    ops.extend(
        desired
            .counters
            .difference(&actual.counters)
            .map(|name| NftOp::AddCounter { name: name.clone() }),
    );
    let kept_map = |name: &String| actual.maps.contains_key(name) && !fate.maps.contains(&**name);
    let kept_chain =
        |name: &String| actual.chains.contains_key(name) && !fate.chains.contains(&**name);
    for (name, map) in desired.maps.iter().filter(|(name, _)| !kept_map(name)) {
        ops.push(NftOp::AddMap { name: name.clone(), spec: map.spec.clone() });
    }
    for (name, chain) in desired.chains.iter().filter(|(name, _)| !kept_chain(name)) {
        ops.push(NftOp::AddChain { name: name.clone(), hook: chain.hook.clone() });
    }
    for (name, map) in &desired.maps {
        let present = kept_map(name).then(|| &actual.maps[name]);
        let missing = map.elements.iter().filter(|(key, elem)| {
            present.is_none_or(|p| p.elements.get(*key) != Some(*elem))
                || leads_to(elem, &fate.chains)
        });
        let missing = missing.map(|(key, elem)| (key.clone(), elem.clone())).collect();
        push_elems(name, &map.spec, missing, ops, true);
    }
    for (name, chain) in &desired.chains {
        if !kept_chain(name) || fate.emptied.contains(name.as_str()) {
            ops.extend(
                chain
                    .rules
                    .iter()
                    .map(|rule| NftOp::AddRule { chain: name.clone(), rule: rule.clone() }),
            );
        }
    }
}

fn push_elems(map: &str, spec: &MapSpec, elems: Elems, ops: &mut Vec<NftOp>, adding: bool) {
    if elems.is_empty() {
        return;
    }
    let (map, ranges) = (map.to_owned(), spec.ranges());
    ops.push(if adding {
        NftOp::AddElems { map, ranges, elems }
    } else {
        NftOp::DelElems { map, ranges, elems }
    });
}
