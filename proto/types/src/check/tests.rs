//! Addressing flags and specs: one row for each fault, and all faults in one answer.

use super::*;
use crate::Name;

fn texts(list: &[&str]) -> Vec<String> {
    list.iter().map(|t| (*t).to_owned()).collect()
}

fn assemble(
    subnets: &[&str],
    ranges: &[&str],
    gateways: &[&str],
    aux: &[(&str, &str)],
) -> Result<Vec<SubnetSpec>, String> {
    let aux: Vec<_> = aux.iter().map(|(n, a)| ((*n).to_owned(), (*a).to_owned())).collect();
    Addressing {
        subnets: &texts(subnets),
        ranges: &texts(ranges),
        gateways: &texts(gateways),
        aux: &aux,
    }
    .assemble()
    .map_err(|e| e.to_string())
}

fn spec() -> NetworkSpec {
    NetworkSpec::named(Name::new("overnet").expect("valid"), Driver::Overlay)
}

#[test]
fn flags_find_their_subnets() {
    let specs = assemble(
        &["10.1.0.0/16", "fd00:1::/64"],
        &["10.1.2.0/24"],
        &["fd00:1::5", "10.1.0.9"],
        &[("printer", "10.1.7.7")],
    )
    .expect("valid");
    assert_eq!(specs[0].ip_range, Some("10.1.2.0/24".parse().expect("valid")));
    assert_eq!(specs[0].gateway, Some("10.1.0.9".parse().expect("valid")));
    assert_eq!(specs[0].aux_addresses["printer"], "10.1.7.7".parse::<IpAddr>().expect("valid"));
    assert_eq!(specs[1].gateway, Some("fd00:1::5".parse().expect("valid")));
}

#[test]
fn each_flag_fault_has_dockers_words() {
    type List = &'static [&'static str];
    let rows: [(List, List, List, &str); 9] = [
        (&[], &["10.0.0.0/24"], &[], "every ip-range or gateway must have a corresponding subnet"),
        (&["10.0.0.0"], &[], &[], "invalid subnet: invalid CIDR address: 10.0.0.0"),
        (&["10.0.0.1/24"], &[], &[], "invalid subnet 10.0.0.1/24: it should be 10.0.0.0/24"),
        (&["10.0.0.0/16", "10.0.1.0/24"], &[], &[], "multiple overlapping subnet configuration"),
        (&["10.0.0.0/24"], &["10.9.0.0/28"], &[], "no matching subnet for range 10.9.0.0/28"),
        (&["10.0.0.0/24"], &["10.0.0.1/28"], &[], "ip-range 10.0.0.1/28: it should be 10.0.0.0/28"),
        (&["10.0.0.0/24"], &["10.0.0.0/8"], &[], "CIDR block is bigger than its parent subnet"),
        (&["10.0.0.0/24"], &[], &["10.9.0.1"], "no matching subnet for gateway 10.9.0.1"),
        (
            &["10.0.0.0/24", "10.0.1.0/24"],
            &[],
            &["10.0.0.1", "10.0.0.2"],
            "cannot configure multiple gateways (10.0.0.1, 10.0.0.2) for the same subnet (10.0.0.0/24)",
        ),
    ];
    for (subnets, ranges, gateways, want) in rows {
        let err = assemble(subnets, ranges, gateways, &[]).expect_err(want);
        assert!(err.contains(want), "{err}");
    }
    let err = assemble(&["10.0.0.0/24"], &[], &[], &[("a", "10.9.0.1")]).expect_err("aux");
    assert!(err.contains("no matching subnet for aux-address 10.9.0.1"), "{err}");
}

#[test]
fn all_faults_come_in_one_answer() {
    let err = assemble(&["10.0.0.1/24", "10.1.0.0/24"], &["x"], &["10.9.0.1"], &[("a", "b")])
        .expect_err("four faults");
    assert_eq!(
        err,
        "invalid network config: invalid subnet 10.0.0.1/24: it should be 10.0.0.0/24; \
         invalid ip-range x: invalid CIDR address; no matching subnet for gateway 10.9.0.1; \
         invalid auxiliary address a: b is not an IP address"
    );
}

#[test]
fn specs_are_judged_whole() {
    assert_eq!(network(&spec()), Ok(()));
    let fault = |change: fn(&mut NetworkSpec)| {
        let mut spec = spec();
        change(&mut spec);
        network(&spec).expect_err("a fault").to_string()
    };
    let v6 = |s: &mut NetworkSpec| {
        s.subnets = vec![SubnetSpec::plain("fd00::/64".parse().expect("valid"))];
    };
    assert!(fault(v6).contains("it is IPv6 and --ipv6 is not set"));
    assert!(fault(|s| s.name = Name::new("host").expect("valid")).contains("pre-defined"));
    assert!(fault(|s| s.scope = Scope::Local).contains("cannot downgrade network scope"));
    assert!(fault(|s| s.driver = Driver::Bridge).contains("use -d overlay"));
    assert!(fault(|s| s.ipv4 = false).contains("IPv4 or IPv6 must be enabled"));
    assert!(fault(|s| (s.ingress, s.attachable) = (true, true)).contains("cannot be attachable"));
    assert!(
        fault(|s| drop(s.options.insert("encrypted".into(), String::new())))
            .contains("cannot encrypt")
    );
    assert!(
        fault(|s| drop(s.options.insert("vni".into(), "7".into()))).contains("invalid vxlan id: 7")
    );
}

#[test]
fn encrypted_false_means_false() {
    let mut spec = spec();
    spec.options.insert("encrypted".into(), "false".into());
    assert_eq!(network(&spec), Ok(()));
}

#[test]
fn the_gateway_is_no_edge_of_its_subnet() {
    let mut spec = spec();
    let mut subnet = SubnetSpec::plain("10.0.0.0/24".parse().expect("valid"));
    for edge in ["10.0.0.0", "10.0.0.255"] {
        subnet.gateway = edge.parse().ok();
        spec.subnets = vec![subnet.clone()];
        assert!(network(&spec).is_err(), "{edge}");
    }
}

#[test]
fn no_subnet_of_addresses_that_no_host_may_have() {
    for (subnet, block) in [
        ("127.0.0.0/24", "127.0.0.0/8"),
        ("224.0.0.0/24", "224.0.0.0/4"),
        ("0.0.0.0/0", "0.0.0.0/8"),
        ("fe80::/64", "fe80::/10"),
        ("ff02::/64", "ff00::/8"),
    ] {
        let mut spec = spec();
        spec.ipv6 = true;
        spec.subnets = vec![SubnetSpec::plain(subnet.parse().expect("valid"))];
        let fault = network(&spec).expect_err("refused").to_string();
        let want = format!("invalid subnet {subnet}: no host may have an address of {block}");
        assert!(fault.contains(&want), "{fault}");
    }
}
