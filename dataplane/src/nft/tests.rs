//! The model and its differences, without a kernel.

use std::net::{IpAddr, Ipv4Addr};

use proptest::prelude::*;

use super::*;

fn rule(n: u8) -> Rule {
    Rule::builder(format!("rule {n}")).l4proto(n).accept().build()
}

fn spec() -> MapSpec {
    MapSpec::verdicts(&[Datatype::L4Proto, Datatype::Port])
}

fn sample() -> Table {
    let mut table = Table::new(Family::Inet, "t");
    let key = key::concat(&[key::l4proto(6), key::port(80)]);
    table
        .counter("c")
        .map("pub", spec(), [(key, Elem::goto("c2"))].into())
        .chain("c2", vec![Rule::builder("count").counter("c").accept().build()])
        .base_chain(
            "pre",
            Hook::nat(HookPoint::Prerouting, -100),
            vec![
                Rule::builder("ports")
                    .vmap(&[Load::Meta(MetaKey::L4Proto), Load::Dport], "pub")
                    .build(),
            ],
        );
    table
}

fn converge(actual: Option<&Table>, desired: &Table) -> Vec<NftOp> {
    let ops = diff(actual, desired);
    let after = Table::apply(actual, &desired.id, &ops).expect("the batch is valid");
    assert_eq!(after.as_ref(), Some(desired));
    assert_eq!(diff(after.as_ref(), desired), vec![]);
    ops
}

#[test]
fn diff_creates_everything_from_nothing() {
    assert_eq!(converge(None, &sample()).first(), Some(&NftOp::AddTable));
}

#[test]
fn diff_of_one_element_is_one_delete_and_one_add() {
    let (a, mut d) = (sample(), sample());
    d.chain("c3", vec![]);
    let a2 = {
        let mut a2 = a.clone();
        a2.chain("c3", vec![]);
        a2
    };
    let map = d.maps.get_mut("pub").expect("in the sample");
    *map.elements.values_mut().next().expect("one element") = Elem::goto("c3");
    let ops = converge(Some(&a2), &d);
    assert!(matches!(&ops[..], [NftOp::DelElems { .. }, NftOp::AddElems { .. }]), "{ops:?}");
}

#[test]
fn diff_rewrites_only_the_chain_whose_rules_differ() {
    let (a, mut d) = (sample(), sample());
    d.chains.get_mut("c2").expect("in the sample").rules.push(rule(17));
    let ops = converge(Some(&a), &d);
    let names: Vec<_> = ops.iter().map(ToString::to_string).collect();
    assert!(names.iter().all(|n| n.contains("c2")), "{names:?}");
}

#[test]
fn diff_remakes_a_map_and_the_rules_that_read_it() {
    let (a, mut d) = (sample(), sample());
    d.maps.get_mut("pub").expect("in the sample").spec.key.push(Datatype::Ipv4);
    d.maps.get_mut("pub").expect("in the sample").elements.clear();
    let ops = converge(Some(&a), &d);
    assert!(ops.contains(&NftOp::FlushChain { name: "pre".into() }), "{ops:?}");
    assert!(!ops.contains(&NftOp::FlushChain { name: "c2".into() }), "{ops:?}");
}

#[test]
fn diff_remakes_a_chain_whose_hook_moved_and_removes_what_is_gone() {
    let (a, mut d) = (sample(), sample());
    d.chains.get_mut("pre").expect("in the sample").hook =
        Some(Hook::nat(HookPoint::Prerouting, -99));
    d.maps.get_mut("pub").expect("in the sample").elements.clear();
    d.chains.remove("c2");
    d.counters.clear();
    converge(Some(&a), &d);
}

#[test]
fn diff_repairs_rules_that_are_not_ours() {
    let (mut a, d) = (sample(), sample());
    let chain = a.chains.get_mut("c2").expect("in the sample");
    chain.rules.push(Rule::observed(RuleId::FOREIGN, ""));
    assert!(!diff(Some(&a), &d).is_empty());
    // An observed copy of ours is known by its identity alone.
    let seen: Vec<_> =
        d.chains["c2"].rules.iter().map(|r| Rule::observed(r.id(), r.comment())).collect();
    a.chains.get_mut("c2").expect("in the sample").rules = seen;
    assert_eq!(diff(Some(&a), &d), vec![]);
}

#[test]
fn identity_is_stable_across_releases() {
    // A change of this number means that every node rewrites its rules once: do it knowingly.
    assert_eq!(rule(6).id(), RuleId(IDENTITY_OF_RULE_6));
    assert_ne!(rule(6), rule(17));
    assert_ne!(Rule::new("a", vec![]), Rule::new("b", vec![]));
}

const IDENTITY_OF_RULE_6: u64 = 13_694_007_194_722_798_629;

#[test]
fn keys_are_padded_in_concatenations_only() {
    let addr = Ipv4Addr::new(10, 0, 0, 1);
    assert_eq!(key::concat(&[key::port(80)]), [0, 80]);
    assert_eq!(
        key::concat(&[key::l4proto(6), key::port(80), key::ipv4(addr)]),
        [6, 0, 0, 0, 0, 80, 0, 0, 10, 0, 0, 1]
    );
    assert_eq!(spec().key_len(), 8);
    assert_eq!(MapSpec::set(&[Datatype::Port]).key_len(), 2);
    assert_eq!(MapSpec::set(&[Datatype::Ipv6, Datatype::Mark]).key_len(), 20);
    assert_eq!(key::vni(swarmnet_types::Vni::INGRESS), [0, 16, 0, 0]);
}

#[test]
fn builder_checks_the_ip_version_once() {
    let count = |r: &Rule| {
        let is = |e: &&Expr| matches!(e, Expr::Meta { key: MetaKey::NfProto, .. });
        r.exprs().iter().filter(is).count()
    };
    let to = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let r = Rule::builder("x").in_set(&[Load::IpSaddr], "a").in_set(&[Load::IpDaddr], "b");
    assert_eq!(count(&r.snat(to).build()), 1);
    assert_eq!(count(&Rule::builder("x").l4proto(6).build()), 0);
}

#[test]
fn hash_sources_do_not_touch_key_registers() {
    let fields = [
        Load::Ip6Daddr,
        Load::Hash { of: vec![Load::Ip6Saddr, Load::Sport], modulus: 251, seed: 1 },
    ];
    let r = Rule::builder("sh").load(&fields).build();
    let last = r.exprs().last().cloned();
    assert_eq!(
        last,
        Some(Expr::Jhash { sreg: Reg(8), len: 20, dreg: Reg(4), modulus: 251, seed: 1 })
    );
}

#[test]
fn model_refuses_what_nf_tables_refuses() {
    let t = sample();
    let apply = |op| Table::apply(Some(&t), &t.id, &[op]);
    let name = || "c2".to_owned();
    assert!(matches!(apply(NftOp::DelChain { name: name() }), Err(NftModelError::Busy { .. })));
    assert!(matches!(apply(NftOp::DelMap { name: "pub".into() }), Err(NftModelError::Busy { .. })));
    assert!(matches!(
        apply(NftOp::DelMap { name: "x".into() }),
        Err(NftModelError::Missing { .. })
    ));
    let again = NftOp::AddChain { name: name(), hook: None };
    assert!(matches!(apply(again), Err(NftModelError::Exists { .. })));
}

/// A table with up to four chains and three maps, with references only to what exists.
fn table() -> impl Strategy<Value = Table> {
    let chain = (any::<bool>(), prop::collection::vec((0u8..4, 0u8..6), 0..4));
    let chains = prop::collection::btree_map(0u8..4, chain, 0..4);
    let elems = prop::collection::btree_map(0u8..8, 0u8..4, 0..5);
    let maps = prop::collection::btree_map(0u8..3, (any::<bool>(), elems), 0..3);
    let counters = prop::collection::btree_set(0u8..3, 0..3);
    (chains, maps, counters).prop_map(|(chains, maps, counters)| {
        let mut t = Table::new(Family::Inet, "t");
        for c in &counters {
            t.counter(format!("n{c}"));
        }
        for (name, (verdicts, elems)) in &maps {
            let exists = |to: &u8| chains.contains_key(to);
            let (spec, elements): (_, Elems) = if *verdicts {
                let to = |k: &u8, to: &u8| (vec![*k], Elem::goto(format!("c{to}")));
                let kept = elems.iter().filter(|(_, t)| exists(t));
                (MapSpec::verdicts(&[Datatype::L4Proto]), kept.map(|(k, t)| to(k, t)).collect())
            } else {
                let to = |k: &u8, v: &u8| (vec![*k], Elem::value(vec![0, *v]));
                let spec = MapSpec::values(&[Datatype::L4Proto], &[Datatype::Port]);
                (spec, elems.iter().map(|(k, v)| to(k, v)).collect())
            };
            t.map(format!("m{name}"), spec, elements);
        }
        for (name, (base, rules)) in &chains {
            let build = |(kind, n): &(u8, u8)| {
                let b = Rule::builder(format!("{kind}{n}"));
                match kind {
                    0 if maps.get(&(n % 3)).is_some_and(|m| m.0) => {
                        b.vmap(&[Load::Meta(MetaKey::L4Proto)], format!("m{}", n % 3)).build()
                    }
                    1 if chains.contains_key(&(n % 4)) => b.jump(format!("c{}", n % 4)).build(),
                    2 if counters.contains(&(n % 3)) => b.counter(format!("n{}", n % 3)).build(),
                    _ => b.l4proto(*n).accept().build(),
                }
            };
            let rules = rules.iter().map(build).collect();
            if *base {
                t.base_chain(format!("c{name}"), Hook::filter(HookPoint::Input, 0), rules);
            } else {
                t.chain(format!("c{name}"), rules);
            }
        }
        t
    })
}

proptest! {
    #[test]
    fn diff_always_converges_in_one_valid_batch(a in table(), d in table()) {
        converge(Some(&a), &d);
        converge(None, &d);
    }

    #[test]
    fn diff_is_deterministic(a in table(), d in table()) {
        prop_assert_eq!(diff(Some(&a), &d), diff(Some(&a), &d));
    }
}
