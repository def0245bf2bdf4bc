//! Lookup tables: one sentence per rule.

use swarmnet_types::DualStack;

use super::*;
use crate::ZoneBuilder;

fn both(last: u8) -> DualStack {
    DualStack::new(Some([10, 0, 0, last].into()), format!("fd00::{last}").parse().ok())
}

fn only_v4(last: u8) -> DualStack {
    DualStack::new(Some([10, 0, 0, last].into()), None)
}

fn zone(network: &str, fill: impl FnOnce(&mut ZoneBuilder)) -> Arc<Zone> {
    let subnets = ["10.0.0.0/24".parse().unwrap(), "fd00::/64".parse().unwrap()];
    let mut builder = ZoneBuilder::new(network, &subnets).unwrap();
    fill(&mut builder);
    Arc::new(builder.build())
}

fn overnet() -> Arc<Zone> {
    zone("OverNet", |builder| {
        builder.primary("Web", only_v4(2)).unwrap();
        builder.primary("w1", both(3)).unwrap();
        builder.primary("w2", both(4)).unwrap();
        builder.further("alias1", both(3)).unwrap();
        for task in [both(3), both(4), both(3)] {
            builder.further("tasks.web", task).unwrap();
        }
        builder.further("empty", DualStack::default()).unwrap();
    })
}

fn sees(zones: Vec<Arc<Zone>>) -> SandboxNames {
    SandboxNames::new(zones, Forward::Never)
}

fn ask(names: &SandboxNames, name: &str, kind: RecordKind) -> String {
    let name = WireName::from_text(name).unwrap();
    match names.lookup(&name, kind) {
        Lookup::V4(addrs) => format!("{addrs:?}"),
        Lookup::V6(addrs) => format!("{addrs:?}"),
        Lookup::Pointer(wire) => WireName::read(wire, 0).unwrap().0.to_string(),
        other => format!("{other:?}"),
    }
}

#[test]
fn lookup_follows_the_table() {
    use RecordKind::{A, Aaaa, Other, Ptr};
    let names = sees(vec![overnet()]);
    for (name, kind, want) in [
        ("web", A, "[10.0.0.2]"),
        ("WEB.", A, "[10.0.0.2]"),
        ("web.overnet", A, "[10.0.0.2]"),
        ("web", Aaaa, "NoData"),
        ("web", Other, "NoData"),
        ("web", Ptr, "NoData"),
        ("empty", A, "NoData"),
        ("w1", Aaaa, "[fd00::3]"),
        ("alias1.overnet", Aaaa, "[fd00::3]"),
        ("tasks.web", A, "[10.0.0.3, 10.0.0.4]"),
        ("tasks.web.overnet", Aaaa, "[fd00::3, fd00::4]"),
        ("3.0.0.10.in-addr.arpa", Ptr, "w1.overnet"),
        ("2.0.0.10.in-addr.arpa", Ptr, "web.overnet"),
        ("3.0.0.10.in-addr.arpa", A, "NoData"),
        ("99.0.0.10.in-addr.arpa", Ptr, "NoName"),
        ("99.1.0.10.in-addr.arpa", Ptr, "NotOurs"),
        ("overnet", A, "NotOurs"),
        ("web.other", A, "NotOurs"),
        ("web.overnet.corp.example", A, "NotOurs"),
        ("example.com", A, "NotOurs"),
        ("nosuch", A, "NotOurs"),
    ] {
        assert_eq!(ask(&names, name, kind), want, "{name} {kind:?}");
    }
    let v6 = "4.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa";
    assert_eq!(ask(&names, v6, Ptr), "w2.overnet");
}

#[test]
fn the_first_network_answers_and_the_second_by_its_name() {
    let a = zone("a", |builder| drop(builder.primary("web", only_v4(2))));
    let b = zone("b", |builder| drop(builder.primary("web", both(3))));
    let names = sees(vec![Arc::clone(&a), Arc::clone(&b)]);
    assert_eq!(ask(&names, "web", RecordKind::A), "[10.0.0.2]");
    assert_eq!(ask(&names, "web.b", RecordKind::A), "[10.0.0.3]");
    // The first network's name has no IPv6: the second's answers.
    assert_eq!(ask(&names, "web", RecordKind::Aaaa), "[fd00::3]");
    assert_eq!(ask(&sees(vec![b, a]), "web", RecordKind::A), "[10.0.0.3]");
}

#[test]
fn names_of_other_networks_are_not_known() {
    let names = sees(vec![zone("a", |_| {})]);
    assert_eq!(ask(&names, "web", RecordKind::A), "NotOurs");
    assert_eq!(ask(&sees(vec![]), "3.0.0.10.in-addr.arpa", RecordKind::Ptr), "NotOurs");
}

#[test]
fn of_networks_with_dots_the_shortest_wins() {
    let short = zone("c", |builder| drop(builder.primary("a.b", only_v4(2))));
    let long = zone("b.c", |builder| drop(builder.primary("a", only_v4(3))));
    let whole = zone("d", |builder| drop(builder.primary("a.b.c", only_v4(4))));
    let names = sees(vec![Arc::clone(&long), short]);
    assert_eq!(ask(&names, "a.b.c", RecordKind::A), "[10.0.0.2]");
    assert_eq!(ask(&sees(vec![long, whole]), "a.b.c", RecordKind::A), "[10.0.0.4]");
}

#[test]
fn an_address_keeps_its_first_name() {
    let names = sees(vec![zone("n", |builder| {
        builder.primary("first", only_v4(2)).unwrap().primary("second", only_v4(2)).unwrap();
    })]);
    assert_eq!(ask(&names, "2.0.0.10.in-addr.arpa", RecordKind::Ptr), "first.n");
}

#[test]
fn bad_names_are_refused_and_the_rest_stays() {
    let subnets = ["10.0.0.0/24".parse().unwrap()];
    let mut builder = ZoneBuilder::new("n", &subnets).unwrap();
    builder.primary("web", only_v4(2)).unwrap();
    assert!(builder.primary("a..b", only_v4(3)).is_err());
    assert!(builder.further(&"x".repeat(64), only_v4(3)).is_err());
    assert!(ZoneBuilder::new("", &subnets).is_err());
    let zone = builder.build();
    assert_eq!((zone.len(), zone.is_empty()), (1, false));
}
