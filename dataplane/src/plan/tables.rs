//! Tables, in two steps: what must not be there any longer or must be there first, then the rest.
//!
//! - The node table comes before any VXLAN device (X1) and leaves after the last. Its elements that lead to backends are
//!   withdrawn before routes go, and added or changed after new routes are there.
//! - `netdev` chains leave before their device and come after it, while it is down: no sandbox sends a frame unchecked.
//! - A sandbox's table is one batch.

use std::collections::BTreeMap;

use crate::nft::{self, Elems, Family, NftOp, Table, TableId};
use crate::object::{LinkName, Ns};
use crate::op::Op;
use crate::render::publish;

use super::objects::Removed;
use super::stage::Stages;

type Tables = BTreeMap<TableId, Table>;

pub(super) fn plan(ns: Ns, seen: &Tables, wanted: &Tables, removed: &Removed, stages: &mut Stages) {
    let ids: std::collections::BTreeSet<_> = seen.keys().chain(wanted.keys()).collect();
    for id in ids {
        let (seen, wanted) = (seen.get(id), wanted.get(id));
        match (ns, id.family) {
            (_, Family::Netdev) => device_table(ns, id, (seen, wanted), removed, stages),
            (Ns::Node, _) => node_table(id, (seen, wanted), stages),
            (Ns::Overlay | Ns::Sandbox(_), _) => match wanted {
                Some(wanted) => push(&mut stages.balance, ns, id, nft::diff(seen, wanted)),
                None => push(&mut stages.filters, ns, id, vec![NftOp::DelTable]),
            },
        }
    }
}

type Change<'a> = (Option<&'a Table>, Option<&'a Table>);

fn push(stage: &mut Vec<Op>, ns: Ns, id: &TableId, ops: Vec<NftOp>) {
    if !ops.is_empty() {
        stage.push(Op::Nft { ns, table: id.clone(), ops });
    }
}

fn device_table(
    ns: Ns,
    id: &TableId,
    (seen, wanted): Change<'_>,
    removed: &Removed,
    stages: &mut Stages,
) {
    let Some(wanted) = wanted else {
        return push(&mut stages.filters, ns, id, vec![NftOp::DelTable]);
    };
    let Some(seen) = seen else {
        return push(&mut stages.device_filters, ns, id, nft::diff(None, wanted));
    };
    let mut between = seen.clone();
    between.chains.retain(|name, chain| {
        let device = chain.hook.as_ref().and_then(|h| h.device.clone());
        let Some(device) = device.and_then(LinkName::new) else { return true };
        wanted.chains.contains_key(name) && !removed.contains(&(ns, device))
    });
    push(&mut stages.filters, ns, id, nft::diff(Some(seen), &between));
    push(&mut stages.device_filters, ns, id, nft::diff(Some(&between), wanted));
}

fn node_table(id: &TableId, (seen, wanted): Change<'_>, stages: &mut Stages) {
    let between = match (seen, wanted) {
        (None, None) => return,
        (Some(seen), None) => {
            stages.last.push(Op::Nft {
                ns: Ns::Node,
                table: id.clone(),
                ops: vec![NftOp::DelTable],
            });
            without_backends(seen)
        }
        (None, Some(wanted)) => without_backends(wanted),
        (Some(seen), Some(wanted)) => before_backends_change(seen, wanted),
    };
    push(&mut stages.filters, Ns::Node, id, nft::diff(seen, &between));
    if let Some(wanted) = wanted {
        push(&mut stages.balance, Ns::Node, id, nft::diff(Some(&between), wanted));
    }
}

fn without_backends(table: &Table) -> Table {
    let mut table = table.clone();
    for (ports, slots) in publish::dynamic_maps() {
        for map in [ports, slots] {
            if let Some(map) = table.maps.get_mut(&map) {
                map.elements.clear();
            }
        }
    }
    table
}

/// The wished table, but publications that exist and stay still lead where they led.
fn before_backends_change(seen: &Table, wanted: &Table) -> Table {
    let mut between = wanted.clone();
    for (ports, slots) in publish::dynamic_maps() {
        let kept = |name: &str| {
            let (seen, wanted) = (seen.maps.get(name)?, wanted.maps.get(name)?);
            (seen.spec == wanted.spec).then_some((seen, wanted))
        };
        let pair = kept(&ports).zip(kept(&slots));
        let (old_ports, old_slots) = match pair {
            Some(((seen, wanted), (seen_slots, _))) => (
                retain(&seen.elements, |key| wanted.elements.contains_key(key)),
                // A slot's key is its publication's and four bytes of number.
                retain(&seen_slots.elements, |key| {
                    wanted.elements.contains_key(&key[..key.len().saturating_sub(4)])
                }),
            ),
            None => (Elems::new(), Elems::new()),
        };
        for elem in old_ports.values() {
            keep_chain(elem, seen, &mut between);
        }
        for (name, elements) in [(ports, old_ports), (slots, old_slots)] {
            if let Some(map) = between.maps.get_mut(&name) {
                map.elements = elements;
            }
        }
    }
    between
}

fn retain(elements: &Elems, keep: impl Fn(&[u8]) -> bool) -> Elems {
    elements.iter().filter(|(key, _)| keep(key)).map(|(k, e)| (k.clone(), e.clone())).collect()
}

/// An element that stays for now may lead to a chain that the wish has no use for.
fn keep_chain(elem: &nft::Elem, seen: &Table, between: &mut Table) {
    let nft::ElemData::Verdict(verdict) = &elem.data else { return };
    let Some(name) = verdict.chain() else { return };
    if let (false, Some(chain)) = (between.chains.contains_key(name), seen.chains.get(name)) {
        between.chains.insert(name.to_owned(), chain.clone());
    }
}
