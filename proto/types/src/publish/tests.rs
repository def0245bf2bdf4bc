//! Every row of `sw:P1`–`sw:P9`: a text, then the ports it stands for or the exact error.

use proptest::prelude::*;

use super::*;

fn ports(text: &str) -> Vec<(Option<u16>, u16)> {
    parse(text)
        .unwrap_or_else(|e| panic!("{text}: {e}"))
        .iter()
        .map(|s| (s.published, s.target))
        .collect()
}

fn error(text: &str) -> String {
    parse(text).expect_err(text).to_string()
}

#[test]
fn short_forms() {
    assert_eq!(ports("80"), [(None, 80)]);
    assert_eq!(ports("8080:80"), [(Some(8080), 80)]);
    assert_eq!(parse("53:53/UDP").expect("valid")[0].protocol, Protocol::Udp);
    assert_eq!(ports("80-82:8080-8082"), [(Some(80), 8080), (Some(81), 8081), (Some(82), 8082)]);
    assert_eq!(ports("80-82:8080"), [(Some(80), 8080), (Some(81), 8080), (Some(82), 8080)]);
    assert_eq!(ports("8080-8081"), [(None, 8080), (None, 8081)]);
}

#[test]
fn short_forms_with_an_address() {
    for (text, ip) in [
        ("1.2.3.4:80:81", "1.2.3.4"),
        ("[::1]:80:81", "::1"),
        ("::1:80:81", "::1"),
        ("fd00::5:80:81", "fd00::5"),
    ] {
        let spec = &parse(text).expect(text)[0];
        assert_eq!(
            (spec.ip, spec.published, spec.target),
            (ip.parse().ok(), Some(80), 81),
            "{text}"
        );
    }
    assert_eq!(parse("1.2.3.4::80").expect("ephemeral")[0].published, None);
    assert_eq!(parse("0.0.0.0:80:80").expect("any")[0].ip, None);
}

#[test]
fn long_forms() {
    let spec = &parse("Published=8080,Target=80,Protocol=UDP,Mode=Host").expect("valid")[0];
    assert_eq!((spec.published, spec.target), (Some(8080), 80));
    assert_eq!((spec.protocol, spec.mode), (Protocol::Udp, PublishMode::Host));
    assert_eq!(ports("target=80"), [(None, 80)]);
    assert_eq!(ports("published=0,target=80"), [(None, 80)]);
    let spec =
        &parse("target=80,ip=fd00::1,nodes=zone=a,allow-from=10.1.2.3/8,allow-from=fd00::/8")
            .expect("valid")[0];
    assert_eq!(spec.ip, "fd00::1".parse().ok());
    assert_eq!(spec.nodes, Some(NodeSelector { label: "zone".into(), value: "a".into() }));
    assert_eq!(spec.allow_from.len(), 2);
    assert_eq!(spec.allow_from[0].to_string(), "10.0.0.0/8");
}

#[test]
fn errors_say_what_docker_says() {
    for (text, want) in [
        ("published=80", "missing mandatory field 'target'"),
        ("target=0", "missing mandatory field 'target'"),
        ("target=80,host", "invalid field: host (want key=value)"),
        ("target=80,protocol=icmp", "invalid protocol value 'icmp' (want tcp, udp or sctp)"),
        ("target=80,mode=x", "invalid publish mode value (x): must be either 'ingress' or 'host'"),
        ("target=80-81", "invalid target port (80-81): value must be an integer: invalid syntax"),
        (
            "target=80,published=70000",
            "invalid published port (70000): value must be an integer: value out of range",
        ),
        ("target=80,target=81", "field given twice: target"),
        ("", "no port specified: <empty>"),
        ("80:", "no port specified: 80:<empty>"),
        ("80:80/icmp", "invalid proto: icmp"),
        ("80:x", "invalid containerPort: x"),
        ("80:0", "invalid containerPort: 0"),
        ("x:80", "invalid hostPort: x"),
        ("0:80", "invalid hostPort: 0"),
        ("1.2.3:80:80", "invalid IP address: 1.2.3"),
        ("224.0.0.1:80:80", "invalid IP address: 224.0.0.1"),
        ("80-81:90-93", "invalid ranges specified for container and host Ports: 90-93 and 80-81"),
    ] {
        assert_eq!(error(text), want, "{text}");
    }
    assert!(error("target=80,foo=1").starts_with("invalid field key: foo"));
}

#[test]
fn conflicts_need_every_dimension_to_overlap() {
    let base = Publication {
        published: 80,
        target: 80,
        protocol: Protocol::Tcp,
        mode: PublishMode::Ingress,
        ip: None,
        nodes: None,
        allow_from: vec![],
    };
    let with = |change: fn(&mut Publication)| {
        let mut p = base.clone();
        change(&mut p);
        p
    };
    assert!(base.conflicts(&with(|p| p.mode = PublishMode::Host)));
    assert!(base.conflicts(&with(|p| p.ip = "1.2.3.4".parse().ok())));
    assert!(!base.conflicts(&with(|p| p.protocol = Protocol::Udp)));
    assert!(!base.conflicts(&with(|p| p.published = 81)));
    let (a, b) = (with(|p| p.ip = "1.2.3.4".parse().ok()), with(|p| p.ip = "1.2.3.5".parse().ok()));
    assert!(!a.conflicts(&b));
}

fn spec() -> impl Strategy<Value = PublishSpec> {
    let port = 1..=u16::MAX;
    let protocol = prop_oneof![Just(Protocol::Tcp), Just(Protocol::Udp), Just(Protocol::Sctp)];
    let mode = prop_oneof![Just(PublishMode::Ingress), Just(PublishMode::Host)];
    let ip = proptest::option::of(
        any::<IpAddr>().prop_filter("a host's", |i| !i.is_unspecified() && !i.is_multicast()),
    );
    (proptest::option::of(port.clone()), port, protocol, mode, ip).prop_map(
        |(published, target, protocol, mode, ip)| PublishSpec {
            published,
            target,
            protocol,
            mode,
            ip,
            nodes: None,
            allow_from: vec![],
        },
    )
}

proptest! {
    #[test]
    fn print_then_parse_is_identity(spec in spec()) {
        prop_assert_eq!(parse(&spec.to_string()), Ok(vec![spec]));
    }

    #[test]
    fn no_text_panics(text in ".{0,60}") {
        let _ = parse(&text);
    }
}
