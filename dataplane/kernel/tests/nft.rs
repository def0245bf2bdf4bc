//! The nftables codec against the kernel: what is written is listed by `nft` and read back equal, batches are atomic.

mod common;

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

use common::TestNetns;
use swarmnet_dataplane::nft::TableId;
use swarmnet_dataplane::nft::{
    CmpOp, CtDirection, CtKey, Datatype, Elem, Expr, Family, FibKey, FibResult, Hook, HookPoint,
    IfName, LimitUnit, Load, MapSpec, MetaKey, PayloadBase, Policy, Reg, Reject, Rule, Table,
    ct_state, ct_status, diff, key,
};
use swarmnet_dataplane::{ForeignChain, ForwardMatch};
use swarmnet_kernel::nft::Nft;
use swarmnet_types::Vni;

const V6: Ipv6Addr = Ipv6Addr::new(0xfd53, 0xffff, 0, 0, 0, 0, 0, 0xa);

fn l4_dport() -> Vec<Load> {
    vec![Load::Meta(MetaKey::L4Proto), Load::Dport]
}

/// Every expression and kind of map that the data plane uses.
fn everything() -> Table {
    let mut t = Table::new(Family::Inet, "swarmnet");
    let port_key = |p: u16| key::concat(&[key::l4proto(6), key::port(p)]);
    let slot_key = |p, s| key::concat(&[key::l4proto(6), key::port(p), key::slot(s)]);
    let v4 = Ipv4Addr::new(10, 255, 0, 2);
    t.counter("vxlan_dropped");
    t.map(
        "pub",
        MapSpec::verdicts(&[Datatype::L4Proto, Datatype::Port]),
        [(port_key(5000), Elem::goto("c2"))].into(),
    );
    let slot_fields = [Datatype::L4Proto, Datatype::Port, Datatype::Mark];
    t.map(
        "b4",
        MapSpec::values(&slot_fields, &[Datatype::Ipv4, Datatype::Port]),
        (0..2)
            .map(|s| {
                let to = key::concat(&[key::ipv4(v4), key::port(80)]);
                (slot_key(5000, s), Elem::value(to))
            })
            .collect(),
    );
    t.map(
        "b6",
        MapSpec::values(&slot_fields, &[Datatype::Ipv6, Datatype::Port]),
        [(slot_key(5000, 0), Elem::value(key::concat(&[key::ipv6(V6), key::port(80)])))].into(),
    );
    t.map(
        "s6_3",
        MapSpec::values(&[Datatype::Ipv6, Datatype::Mark], &[Datatype::Ipv6]),
        [(key::concat(&[key::ipv6(V6), key::slot(2)]), Elem::value(key::ipv6(V6)))].into(),
    );
    t.map(
        "vtep4",
        MapSpec::set(&[Datatype::Be32, Datatype::Ipv4]),
        [(key::concat(&[key::vni(Vni::INGRESS), key::ipv4(v4)]), Elem::MEMBER)].into(),
    );
    t.map("nodes6", MapSpec::set(&[Datatype::Ipv6]), [(key::ipv6(V6), Elem::MEMBER)].into());
    t.map(
        "mark2mac",
        MapSpec::values(&[Datatype::Mark], &[Datatype::Ether]),
        [(key::mark(0x0100_0053), Elem::value(vec![2, 0x53, 0x53, 0, 0, 1]))].into(),
    );
    let nets = ["10.0.0.0/8", "10.0.0.0/24", "192.0.2.7/32", "128.0.0.0/1"];
    let nets = key::nets(nets.map(|n| n.parse().expect("a network")));
    t.map("from", MapSpec::set(&[Datatype::Ipv4]).interval(), nets);
    let range = |a: u16, b: u16| {
        let (lo, hi) = (key::concat(&[key::ipv4(v4), key::port(a)]), key::port(b));
        (lo, Elem::MEMBER.until(key::concat(&[key::ipv4(v4), hi])))
    };
    t.map(
        "ranges",
        MapSpec::set(&[Datatype::Ipv4, Datatype::Port]).interval(),
        [range(100, 200), range(300, 300)].into(),
    );
    chains(&mut t);
    t
}

fn chains(t: &mut Table) {
    let slots = |random| {
        let mut fields = l4_dport();
        fields.push(if random {
            Load::Random { modulus: 2 }
        } else {
            Load::RoundRobin { modulus: 2 }
        });
        fields
    };
    t.chain(
        "c2",
        vec![
            Rule::builder("v4 backend").dnat_map(&slots(true), "b4", false, true).build(),
            Rule::builder("v6 backend").dnat_map(&slots(false), "b6", true, true).build(),
        ],
    );
    let hash = Load::Hash { of: vec![Load::Ip6Saddr, Load::Sport], modulus: 3, seed: 7 };
    t.chain(
        "sh_3",
        vec![
            Rule::builder("hash").dnat_map(&[Load::Ip6Daddr, hash], "s6_3", true, false).build(),
            Rule::builder("no backend").l4proto(6).reject(Reject::TcpReset).build(),
            Rule::builder("no backend").reject(Reject::PortUnreachable).build(),
        ],
    );
    let vni = Load::Raw { base: PayloadBase::Transport, offset: 12, len: 4 };
    t.base_chain(
        "raw",
        Hook::filter(HookPoint::Prerouting, -310),
        vec![
            Rule::builder("vxlan from our nodes only")
                .l4proto(17)
                .dport(4789)
                .ip_version(false)
                .not_in_set(&[vni, Load::IpSaddr], "vtep4")
                .counter("vxlan_dropped")
                .drop()
                .build(),
            Rule::builder("martian loopback")
                .iif_not(IfName("lo"))
                .masked(&Load::IpDaddr, vec![255, 0, 0, 0], CmpOp::Eq, vec![127, 0, 0, 0])
                .drop()
                .build(),
            Rule::builder("underlay needs no conntrack").l4proto(17).dport(4789).notrack().build(),
        ],
    );
    mangle_chain(t);
    nat_chains(t);
}

fn mangle_chain(t: &mut Table) {
    t.base_chain(
        "mangle",
        Hook::filter(HookPoint::Prerouting, -150).policy(Policy::Accept),
        vec![
            Rule::builder("remember the entry node")
                .iif(IfName("swing"))
                .ct_new()
                .set_ct_mark(&Load::Raw { base: PayloadBase::Link, offset: 8, len: 4 })
                .build(),
            Rule::builder("replies go back")
                .iif_not(IfName("nl*"))
                .ct_reply()
                .ct_mark(0xff, 0x53)
                .set_mark(&Load::Ct(CtKey::Mark))
                .build(),
            Rule::builder("tuple")
                .matches(&Load::CtTuple(CtKey::DstIp, CtDirection::Original), vec![10, 0, 0, 1])
                .ct_state(ct_state::ESTABLISHED | ct_state::RELATED)
                .build(),
            Rule::builder("range")
                .load(&[Load::Dport])
                .expr(Expr::Range {
                    negate: false,
                    sreg: Reg::R0,
                    from: key::port(5),
                    to: key::port(9),
                })
                .expr(Expr::Limit { rate: 10, unit: LimitUnit::Second, burst: 5, over: false })
                .expr(Expr::Log { prefix: "swarmnet".into() })
                .build(),
        ],
    );
}

fn nat_chains(t: &mut Table) {
    t.base_chain(
        "nat_pre",
        Hook::nat(HookPoint::Prerouting, -100),
        vec![
            Rule::builder("published").fib_local(FibKey::Daddr).vmap(&l4_dport(), "pub").build(),
            Rule::builder("allowed").in_set(&[Load::IpSaddr], "from").build(),
            Rule::builder("allowed").in_set(&[Load::IpSaddr, Load::Dport], "ranges").build(),
            Rule::builder("host").dport(9).dnat(IpAddr::V6(V6), Some(80)).build(),
        ],
    );
    t.base_chain(
        "nat_post",
        Hook::nat(HookPoint::Postrouting, 100),
        vec![
            Rule::builder("nodes")
                .ct_status(ct_status::DNAT)
                .oif(IfName("swing"))
                .in_set(&[Load::Ip6Saddr], "nodes6")
                .snat(IpAddr::V6(V6))
                .build(),
            Rule::builder("egress").iif(IfName("nl*")).masquerade().build(),
        ],
    );
    t.base_chain(
        "input",
        Hook::filter(HookPoint::Input, 0),
        vec![
            Rule::builder("reverse path")
                .matches(&Load::Fib(FibKey::Saddr, FibResult::Oif), vec![0; 4])
                .drop()
                .build(),
        ],
    );
}

fn write(nft: &mut Nft, desired: &Table) {
    let actual = nft.observe(&desired.id).expect("observe");
    nft.commit(&desired.id, &diff(actual.as_ref(), desired), None).expect("commit");
}

#[test]
fn every_expression_is_accepted_listed_and_read_back_equal() {
    let ns = TestNetns::new("nft");
    let mut nft = Nft::open(&ns.netns()).expect("open");
    let desired = everything();
    write(&mut nft, &desired);
    let listed = ns.sh("nft list ruleset");
    println!("{listed}");
    for part in [
        "tcp . 5000 : goto c2",
        "fib daddr type local",
        "numgen random mod 2",
        "ct direction reply",
        "ct mark & 0x000000ff == 0x00000053",
        "iifname \"nl*\"",
        "@ll,64,32",
        "comment \"vxlan from our nodes only\"",
        "10.0.0.0/8",
        "reject with tcp reset",
        "counter name \"vxlan_dropped\"",
        "notrack",
    ] {
        assert!(listed.contains(part), "{part} is not in\n{listed}");
    }
    let seen = nft.observe(&desired.id).expect("observe").expect("the table is there");
    assert_eq!(seen, desired);
    assert_eq!(diff(Some(&seen), &desired), vec![]);
    let counters = nft.counters(&desired.id).expect("counters");
    assert_eq!(counters.iter().map(|c| c.name.as_str()).collect::<Vec<_>>(), ["vxlan_dropped"]);
    // And away again, by the same way.
    let empty = Table::new(Family::Inet, "swarmnet");
    write(&mut nft, &empty);
    nft.commit(&desired.id, &[swarmnet_dataplane::nft::NftOp::DelTable], None).expect("delete");
    assert_eq!(nft.observe(&desired.id).expect("observe"), None);
    assert_eq!(ns.sh("nft list ruleset"), "");
}

#[test]
fn netdev_egress_writes_the_mac_from_the_mark() {
    let ns = TestNetns::new("netdev");
    ns.ip("link add swing type bridge");
    let mut t = Table::new(Family::Netdev, "swarmnet");
    t.base_chain(
        "swing_out",
        Hook::device(HookPoint::Egress, "swing", 0),
        vec![
            Rule::netdev_builder("to the entry node")
                .mark(0xff, 0x53)
                .load(&[Load::Meta(MetaKey::Mark)])
                .set_ether_daddr(Reg::R0, 2, 4)
                .set_mark_value(0)
                .build(),
        ],
    );
    let mut nft = Nft::open(&ns.netns()).expect("open");
    write(&mut nft, &t);
    println!("{}", ns.sh("nft list ruleset"));
    assert_eq!(nft.observe(&t.id).expect("observe"), Some(t.clone()));
    // When its device goes the chain goes too, or (Linux 6.16) waits for the name to come back; a round makes both right.
    ns.ip("link del swing");
    ns.ip("link add swing type bridge");
    write(&mut nft, &t);
    assert_eq!(nft.observe(&t.id).expect("observe"), Some(t));
}

#[test]
fn a_refused_batch_changes_nothing_and_names_the_operation() {
    let ns = TestNetns::new("atomic");
    let mut nft = Nft::open(&ns.netns()).expect("open");
    let desired = everything();
    write(&mut nft, &desired);
    let mut other = desired.clone();
    other.chain("new", vec![Rule::builder("x").jump("nowhere").build()]);
    let err = nft
        .commit(&desired.id, &diff(Some(&desired), &other), None)
        .expect_err("a jump to nowhere");
    assert!(err.is_gone() && err.to_string().contains("add rule new"), "{err}");
    assert_eq!(nft.observe(&desired.id).expect("observe"), Some(desired.clone()));
    // What exists is refused, not silently kept.
    let again = diff(None, &desired);
    assert!(nft.commit(&desired.id, &again, None).expect_err("exists").is_stale());
    // A stale generation is refused.
    let (_, generation) = nft.observe_at(&desired.id).expect("observe");
    ns.sh("nft add table ip foreign");
    let err = nft.commit(&desired.id, &diff(Some(&desired), &other), Some(generation));
    assert_eq!(err.expect_err("stale").errno(), Some(libc::ERESTART));
}

#[test]
fn accept_rules_go_into_foreign_forward_chains_and_out_again() {
    let ns = TestNetns::new("forward");
    let foreign = "table ip filter { chain FORWARD { type filter hook forward priority 0; policy drop; counter; }
                   chain INPUT { type filter hook input priority 0; policy drop; }
                   }
                   table ip6 open { chain FORWARD { type filter hook forward priority 0; policy accept;
                   }
                   }
                   table inet swarmnet { chain f { type filter hook forward priority 0; policy drop;
                   }
                   }";
    ns.sh(&format!("printf '%s' '{foreign}' | nft -f -"));
    let before = ns.sh("nft list ruleset");
    let mut nft = Nft::open(&ns.netns()).expect("open");
    let chain = ForeignChain {
        table: TableId { family: Family::Ip, name: "filter".into() },
        chain: "FORWARD".into(),
    };
    let matches: BTreeSet<_> = ["snl-*", "swing"]
        .into_iter()
        .flat_map(|n| [ForwardMatch::In(n.into()), ForwardMatch::Out(n.into())])
        .collect();
    let seen = nft.forward().expect("observe");
    assert_eq!(seen, [(chain.clone(), BTreeSet::new())].into(), "only the one that drops");
    nft.set_forward(&chain, &matches).expect("accept");
    let once = ns.sh("nft list ruleset");
    assert_eq!(once.matches("comment \"swarmnet: forward ours\"").count(), 4, "{once}");
    assert_eq!(nft.forward().expect("observe"), [(chain.clone(), matches.clone())].into());
    nft.set_forward(&chain, &matches).expect("accept again");
    assert_eq!(ns.sh("nft list ruleset"), once, "a second time changes nothing");
    nft.set_forward(&chain, &BTreeSet::new()).expect("remove");
    assert_eq!(ns.sh("nft list ruleset"), before);
}

/// Prints what one change costs; the bound is far above what was seen, to fail on a change of order only.
#[test]
fn one_element_among_thirty_thousand_is_changed_in_microseconds() {
    let ns = TestNetns::new("speed");
    let mut t = Table::new(Family::Inet, "swarmnet");
    let spec = MapSpec::values(&[Datatype::Ipv4, Datatype::Mark], &[Datatype::Ipv4]);
    let key_of = |n: u32| {
        key::concat(&[key::ipv4(Ipv4Addr::from_bits(0x0a00_0000 + n / 3)), key::slot(n % 3)])
    };
    let elems = (0..30_000).map(|n| (key_of(n), Elem::value(vec![10, 0, 0, 1]))).collect();
    t.map("s4_3", spec, elems);
    let mut nft = Nft::open(&ns.netns()).expect("open");
    let start = Instant::now();
    write(&mut nft, &t);
    println!("load of 30,000 elements: {:?}", start.elapsed());
    let start = Instant::now();
    let seen = nft.observe(&t.id).expect("observe").expect("the table is there");
    assert_eq!(seen.maps["s4_3"].elements.len(), 30_000);
    assert!(seen == t, "the elements are those that were written");
    println!("observation of 30,000 elements: {:?}", start.elapsed());
    let mut other = t.clone();
    let map = other.maps.get_mut("s4_3").expect("made above");
    map.elements.insert(key_of(777), Elem::value(vec![10, 0, 0, 2]));
    let (there, back) = (diff(Some(&t), &other), diff(Some(&other), &t));
    let mut took = Vec::new();
    for _ in 0..200 {
        for ops in [&there, &back] {
            let start = Instant::now();
            nft.commit(&t.id, ops, None).expect("commit");
            took.push(start.elapsed());
        }
    }
    took.sort();
    println!("replace one element: p50 {:?}, p99 {:?}", took[200], took[396]);
    assert!(took[200] < Duration::from_millis(5), "{:?}", took[200]);
}
