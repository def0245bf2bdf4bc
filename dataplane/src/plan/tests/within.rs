//! Healing some namespaces without a look at the others.

use proptest::prelude::*;

use super::fixture::*;
use super::property::wish;
use super::*;

/// What an observation of these namespaces alone finds.
fn seen_within(kernel: &ModelKernel, desired: &Desired, within: &BTreeSet<Ns>) -> Actual {
    let scope = desired.scope_within(within);
    let mut seen = kernel.seen();
    seen.namespaces.retain(|ns, _| scope.namespaces.contains_key(ns));
    if !scope.forward {
        seen.forward.clear();
    }
    seen
}

/// As a reconciler does it; also, where it had to look.
fn heal(kernel: &ModelKernel, desired: &Desired, at: Ns) -> (Plan, BTreeSet<Ns>) {
    let mut within = BTreeSet::from([at]);
    loop {
        let mut actual = seen_within(kernel, desired, &within);
        match plan_within(&mut actual, desired, &within) {
            Ok(made) => {
                run(kernel, &made);
                return (made, within);
            }
            Err(more) => {
                assert!(!more.is_subset(&within), "it ends");
                within.extend(more);
            }
        }
    }
}

fn assert_is_whole(kernel: &ModelKernel, desired: &Desired) {
    let left = plan(&kernel.seen(), desired);
    assert_eq!(left.ops, vec![], "left:\n{}", lines(&left));
}

const BOX: fn() -> Ns = || Ns::Sandbox(sandbox(1));

#[test]
fn a_look_at_one_sandbox_asks_for_nothing_else() {
    let scope = world().scope_within(&[BOX()].into());
    assert_eq!(scope.namespaces.keys().collect::<Vec<_>>(), [&BOX()]);
    assert!(!scope.forward);
    let whole = world().scope(None, |_| true);
    assert_eq!(scope.namespaces[&BOX()], whole.namespaces[&BOX()], "and there for everything");
    assert_eq!(
        world().scope_within(&[Ns::Node].into()).namespaces[&Ns::Node],
        whole.namespaces[&Ns::Node]
    );
}

#[test]
fn what_is_lost_inside_a_sandbox_is_put_back_there() {
    let kernel = ModelKernel::default();
    let desired = world();
    bring(&kernel, &desired);
    kernel.meddle(|actual| {
        let inside = actual.namespaces.get_mut(&BOX()).expect("there is one");
        inside.tables = Some(BTreeMap::new());
        inside.addrs.pop_first();
        inside.routes.clear();
        inside.rules.clear();
        inside.neighbours.pop_first();
        for link in inside.links.values_mut() {
            link.up = false;
        }
    });
    let (healed, looked) = heal(&kernel, &desired, BOX());
    assert_eq!(looked, [BOX()].into());
    assert!(healed.ops.iter().all(|op| op.ns() == BOX()), "{}", lines(&healed));
    assert_is_whole(&kernel, &desired);
}

#[test]
fn a_link_that_is_lost_is_made_anew_with_its_other_end() {
    let desired = world();
    for at in [BOX(), Ns::Overlay] {
        let kernel = ModelKernel::default();
        bring(&kernel, &desired);
        let outer = names::endpoint_link(
            *desired.sandboxes[&sandbox(1)].endpoints.keys().next().expect("one"),
        );
        kernel
            .apply_now(&Op::DelLink { ns: Ns::Overlay, name: outer.clone() })
            .expect("it is there");
        let (healed, looked) = heal(&kernel, &desired, at);
        assert_eq!(looked, [BOX(), Ns::Overlay].into(), "seen first in {at}");
        position(&healed, |op| matches!(op, Op::AddVeth { name, .. } if *name == outer));
        assert_is_whole(&kernel, &desired);
    }
}

#[test]
fn rules_of_the_node_are_put_back_without_a_look_at_sandboxes() {
    let kernel = ModelKernel::default();
    let desired = world();
    bring(&kernel, &desired);
    kernel.meddle(|actual| {
        actual.namespaces.get_mut(&Ns::Node).expect("always").tables = Some(BTreeMap::new());
    });
    let (healed, looked) = heal(&kernel, &desired, Ns::Node);
    assert_eq!(looked, [Ns::Node].into());
    assert!(healed.ops.iter().all(|op| matches!(op, Op::Nft { .. })), "{}", lines(&healed));
    assert_is_whole(&kernel, &desired);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn nothing_is_done_where_nothing_was_lost(wish in wish()) {
        let kernel = ModelKernel::default();
        bring(&kernel, &wish);
        for ns in kernel.seen().namespaces.into_keys() {
            let (healed, looked) = heal(&kernel, &wish, ns);
            prop_assert_eq!(&healed.ops, &vec![], "{}:\n{}", ns, lines(&healed));
            prop_assert_eq!(looked, BTreeSet::from([ns]));
        }
    }

    #[test]
    fn any_namespace_that_lost_something_is_healed(wish in wish(), which in any::<usize>(), links in any::<u8>()) {
        let kernel = ModelKernel::default();
        bring(&kernel, &wish);
        let all: Vec<Ns> = kernel.seen().namespaces.into_keys().collect();
        let ns = all[which % all.len()];
        let lost: Vec<_> = {
            let seen = kernel.seen();
            let links_there = seen.namespaces[&ns].links.iter().zip(0u32..);
            links_there
                .filter(|((_, link), n)| link.kind != LinkKind::Loopback && links & (1 << (n % 8)) != 0)
                .map(|((name, _), _)| name.clone())
                .collect()
        };
        for name in lost {
            drop(kernel.apply_now(&Op::DelLink { ns, name }));
        }
        kernel.meddle(|actual| {
            let state = actual.namespaces.get_mut(&ns).expect("seen");
            state.addrs.clear();
            state.routes.clear();
            state.rules.clear();
            state.neighbours.clear();
            state.fdb.clear();
            state.tables = Some(BTreeMap::new());
        });
        heal(&kernel, &wish, ns);
        assert_is_whole(&kernel, &wish);
    }
}
