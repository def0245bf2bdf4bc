//! Services: names and virtual addresses on networks, modes, outside backends.

use swarmnet_types::service::ExternalBackend;
use swarmnet_types::{Algorithm, EndpointMode, ServiceSpec};

use super::*;

fn world() -> World {
    let mut world = World::with_nodes(2);
    let mut both = overlay("a");
    both.ipv6 = true;
    world.network(both);
    world.network(with_subnet("b", "172.20.0.0/24"));
    world
}

fn spec(text: &str, networks: &[&str]) -> ServiceSpec {
    let mut spec = ServiceSpec::named(name(text));
    spec.networks = networks.iter().map(|n| (*n).to_owned()).collect();
    spec
}

fn vip(world: &World, service: &str, network: &str) -> DualStack {
    let id = world.state.find_network(network).expect("made").id;
    world.service(service).vips[&id]
}

#[test]
fn a_port_twice_in_one_wish_is_refused() {
    let mut world = world();
    let with = |texts: &[&str]| {
        let mut wish = spec("twice", &["a"]);
        let parse = |text: &&str| swarmnet_types::publish::parse(text).expect("a publication");
        wish.publish = texts.iter().flat_map(parse).collect();
        Command::CreateService(wish)
    };
    for texts in [["5000:80", "5000:80"], ["5000:80", "5000:81"]] {
        let err = world.refused(with(&texts));
        assert_eq!(err, "EndpointSpec: duplicate published ports provided", "{texts:?}");
    }
    // The cluster chooses two ports here, and a protocol of its own is another port.
    world.ok(with(&["80", "80", "5000:80", "5000:80/udp"]));
    assert_eq!(world.service("twice").publications.len(), 4);
}

#[test]
fn a_vip_for_each_network_and_family() {
    let mut world = world();
    world.ok(Command::CreateService(spec("web", &["a", "b"])));
    let a = vip(&world, "web", "a");
    assert!(a.v4.is_some() && a.v6.is_some());
    assert!(vip(&world, "web", "b").v6.is_none());
    let before = vip(&world, "web", "a");
    world.attach(task(2, 1, Some("web"), &["a"]));
    assert_eq!(vip(&world, "web", "a"), before, "tasks do not move it");
}

#[test]
fn wished_vips_are_checked() {
    let mut world = world();
    let wish = |n: &str, ip: &str| {
        let mut spec = spec(n, &["a", "b"]);
        spec.vip.v4 = ip.parse().ok();
        Command::CreateService(spec)
    };
    world.ok(wish("web", "172.20.0.77"));
    assert_eq!(vip(&world, "web", "b").v4, "172.20.0.77".parse().ok());
    for (ip, part) in [
        ("172.20.0.77", "Address already in use: 172.20.0.77 on network b"),
        ("172.20.0.1", "is the gateway of network b"),
        ("192.0.2.1", "no configured subnet contains IP address 192.0.2.1"),
    ] {
        let err = world.refused(wish("other", ip));
        assert!(err.contains(part), "{err}");
    }
}

#[test]
fn refusals_name_what_is_wrong() {
    let mut world = world();
    world.ok(Command::CreateService(spec("web", &["a"])));
    for (spec, part) in [
        (spec("web", &[]), "name conflicts with an existing object: service web already exists"),
        (spec("x", &["a", "a"]), "service is already attached to network a"),
        (spec("x", &["bridge"]), "The network bridge cannot be used with services."),
        (spec("x", &["ingress"]), "cannot be explicitly attached to the ingress network"),
        (spec("x", &["gone"]), "network gone not found"),
    ] {
        let err = world.refused(Command::CreateService(spec));
        assert!(err.contains(part), "{err}");
    }
}

#[test]
fn dnsrr_has_no_vip_and_no_ingress_port() {
    let mut world = world();
    let mut round = spec("web", &["a"]);
    round.endpoint_mode = EndpointMode::Dnsrr;
    world.ok(Command::CreateService(round.clone()));
    assert!(vip(&world, "web", "a").is_empty());
    let err = world.refused(publishing(Some("web"), "5000:80"));
    assert_eq!(err, "EndpointSpec: port published with ingress mode can't be used with dnsrr mode");
    world.publish(Some("web"), "published=5000,target=80,mode=host");
    let mode = |mode| {
        let endpoint_mode = Some(mode);
        let change = ServiceChange { service: "web".into(), endpoint_mode, ..Default::default() };
        Command::UpdateService(change)
    };
    world.ok(mode(EndpointMode::Vip));
    assert!(vip(&world, "web", "a").v4.is_some());
    world.publish(Some("web"), "5001:80");
    assert!(world.refused(mode(EndpointMode::Dnsrr)).contains("dnsrr"));
}

#[test]
fn networks_are_added_and_removed() {
    let mut world = world();
    world.ok(Command::CreateService(spec("web", &["a"])));
    let change = |add: &[&str], remove: &[&str]| {
        let list = |l: &[&str]| l.iter().map(|n| (*n).to_owned()).collect();
        let networks = NetworkChange { add: list(add), remove: list(remove) };
        let algorithm = Some(Algorithm::Rr);
        let change =
            ServiceChange { service: "web".into(), networks, algorithm, ..Default::default() };
        Command::UpdateService(change)
    };
    world.ok(change(&["b"], &["a"]));
    assert_eq!(world.service("web").vips.len(), 1);
    assert_eq!(world.service("web").algorithm, Algorithm::Rr);
    assert_eq!(world.refused(change(&[], &["a"])), "service is not attached to network a");
    world.attach(task(2, 1, Some("web"), &["b"]));
    let err = world.refused(change(&[], &["b"]));
    assert_eq!(err, "service web has tasks on network b: detach them first");
}

#[test]
fn tasks_outlive_their_service() {
    let mut world = world();
    world.attach(task(2, 1, Some("web"), &["a"]));
    world.publish(Some("web"), "5000:80");
    world.ok(Command::RemoveService { service: "web".into() });
    assert!(world.state.endpoints().all(|e| e.service.is_none() && e.slot.is_none()));
    assert_eq!(world.state.endpoints().count(), 2);
    world.publish(None, "5000:80");
}

#[test]
fn outside_backends_lie_outside() {
    let mut world = world();
    world.ok(Command::CreateService(spec("web", &["a"])));
    let add = |n: &str, addr: &str| {
        let backend = ExternalBackend { name: name(n), addr: addr.parse().expect("valid") };
        Command::AddBackend(AddBackend { service: "web".into(), backend })
    };
    world.ok(add("db", "192.0.2.77"));
    for (addr, part) in [
        ("127.0.0.1", "no address of one host"),
        ("::ffff:10.0.0.5", "no address of one host"),
        ("fe80::1", "no address of one host"),
        ("224.0.0.1", "no address of one host"),
        ("172.20.0.9", "lies in a network of the cluster"),
        ("192.0.2.77", "has a backend named"),
    ] {
        let err = world.refused(add("other", addr));
        assert!(err.contains(part), "{err}");
    }
    let remove = Command::RemoveBackend { service: "web".into(), backend: name("db") };
    world.ok(remove.clone());
    assert_eq!(world.refused(remove), "service web has no backend named db");
}
