//! Networks: subnets, VNIs, the ingress rules, removal.

use swarmnet_types::Vni;

use super::*;

#[test]
fn subnets_and_vnis_come_in_turn() {
    let mut world = World::new();
    let mut both = overlay("a");
    both.ipv6 = true;
    let a = world.network(both);
    let b = world.network(overlay("b"));
    let subnets = |n: &Network| n.subnets.iter().map(|s| s.subnet.to_string()).collect::<Vec<_>>();
    assert_eq!(subnets(&a), ["10.0.0.0/24", "fd53:c1c1:c1c1:1::/64"]);
    assert_eq!(subnets(&b), ["10.0.1.0/24"]);
    assert_eq!(a.subnets[0].gateway, "10.0.0.1".parse().ok());
    assert_eq!(a.subnets[1].gateway, "fd53:c1c1:c1c1:1::1".parse().ok());
    assert_eq!((a.vni.map(Vni::get), b.vni.map(Vni::get)), (Some(4097), Some(4098)));
    world.ok(remove_network("a", false, &[]));
    let c = world.network(overlay("c"));
    assert_eq!((subnets(&c)[0].as_str(), c.vni.map(Vni::get)), ("10.0.2.0/24", Some(4099)));
}

#[test]
fn pools_avoid_the_hosts_routes_but_not_its_default_route() {
    let mut world = World::new();
    let avoid = vec![subnet("0.0.0.0/0"), subnet("::/0"), subnet("10.0.0.0/23")];
    let create = |spec| Command::CreateNetwork(CreateNetwork { spec, avoid: avoid.clone() });
    world.ok(create(overlay("a")));
    let a = world.state.find_network("a").expect("made");
    assert_eq!(a.subnets[0].subnet, subnet("10.0.2.0/24"));
    let err = world.refused(create(with_subnet("b", "10.0.1.0/24")));
    assert!(err.ends_with("10.0.1.0/24 overlaps the host's route 10.0.0.0/23"), "{err}");
}

#[test]
fn one_subnet_may_be_had_twice_but_not_in_part() {
    let mut world = World::new();
    world.network(with_subnet("a", "172.20.0.0/16"));
    world.network(with_subnet("b", "172.20.0.0/16"));
    let err = world.no_network(with_subnet("c", "172.20.1.0/24"));
    assert_eq!(
        err,
        "invalid pool request: Pool overlaps with other one on this address space: \
         172.20.1.0/24 overlaps 172.20.0.0/16 of network a"
            .replace(
                "of network a",
                if err.ends_with('b') { "of network b" } else { "of network a" }
            )
    );
    let err = world.no_network(with_subnet("d", "10.255.0.0/16"));
    assert!(err.ends_with("of network ingress"), "{err}");
}

#[test]
fn names_are_unique_and_predefined_ones_are_refused() {
    let mut world = World::new();
    world.network(overlay("a"));
    assert_eq!(world.no_network(overlay("a")), "network with name a already exists");
    let err = world.no_network(overlay("bridge"));
    assert!(err.ends_with("bridge is a pre-defined network and cannot be created"), "{err}");
    let err = world.refused(remove_network("host", false, &[]));
    assert_eq!(err, "host is a pre-defined network and cannot be removed");
}

#[test]
fn a_chosen_vni_is_unique() {
    let mut world = World::new();
    let vni = |n: &str, v: &str| {
        let mut spec = overlay(n);
        spec.options.insert("vni".into(), v.into());
        spec
    };
    assert_eq!(world.network(vni("a", "4097")).vni.map(Vni::get), Some(4097));
    assert_eq!(world.network(overlay("b")).vni.map(Vni::get), Some(4098));
    let err = world.no_network(vni("c", "4098"));
    assert_eq!(err, "could not assign vxlan id 4098: it is taken by network b");
    assert!(world.no_network(vni("c", "4096")).contains("kept for the ingress"));
}

#[test]
fn holders_are_all_listed_and_only_dead_ones_are_forced() {
    let mut world = World::with_nodes(3);
    world.network(overlay("a"));
    world.attach(task(2, 1, None, &["a"]));
    world.attach(task(3, 2, Some("web"), &["a"]));
    let err = world.refused(remove_network("a", false, &[]));
    assert!(err.starts_with("network a has active endpoints (name:\"w"), "{err}");
    assert!(err.contains("name:\"w1\"") && err.contains("name:\"w2\""), "{err}");
    let err = world.refused(remove_network("a", true, &[2]));
    assert!(!err.contains("name:\"w1\"") && err.contains("name:\"w2\""), "{err}");
    assert_eq!(world.state.endpoints_of(node_id(2)).count(), 2, "a refused force clears nothing");
    world.ok(remove_network("a", true, &[2, 3]));
    assert!(world.service("web").vips.is_empty());
}

#[test]
fn a_service_holds_a_network_that_an_operator_put_it_on() {
    let mut world = World::with_nodes(2);
    world.network(overlay("a"));
    let endpoints = world.attach(task(2, 1, Some("guest"), &["a"]));
    world.ok(detach(2, &endpoints));
    let mut spec = swarmnet_types::ServiceSpec::named(name("web"));
    spec.networks = vec!["a".into()];
    world.ok(Command::CreateService(spec));
    let err = world.refused(remove_network("a", false, &[]));
    assert!(err.contains("service:\"web\"") && !err.contains("guest"), "{err}");
    world.ok(remove_network("a", true, &[]));
    assert!(world.service("web").vips.is_empty() && world.service("guest").vips.is_empty());
}

#[test]
fn there_is_one_ingress_network_and_it_can_be_made_anew() {
    let mut world = World::with_nodes(2);
    let mut second = with_subnet("front", "172.31.0.0/16");
    (second.ingress, second.attachable) = (true, false);
    let err = world.no_network(second.clone());
    assert!(err.starts_with("ingress network (") && err.ends_with("is already present"), "{err}");
    world.publish(None, "5000:80");
    let err = world.refused(remove_network("ingress", false, &[]));
    assert!(
        err.starts_with("ingress network cannot be removed because service:\"svc-5000\""),
        "{err}"
    );
    world.ok(Command::Unpublish(Unpublish { service: None, port: 5000, protocol: None }));
    world.ok(remove_network("ingress", false, &[]));
    assert!(world.state.nodes().all(|n| n.fabric.is_empty()));
    let err = world.refused(publishing(None, "5000:80"));
    assert_eq!(err, "service needs ingress network, but no ingress network is present");
    world.network(second.clone());
    assert!(world.state.nodes().all(|n| n.fabric.v4.is_some_and(|a| a.octets()[0] == 172)));
    world.publish(None, "5000:80");
    world.ok(Command::Unpublish(Unpublish { service: None, port: 5000, protocol: None }));
    world.ok(remove_network("front", false, &[]));
    world.network(with_subnet("taken", "10.255.0.0/24"));
    second.subnets.clear();
    let large = world.network(second);
    assert_eq!(large.subnets[0].subnet, subnet("10.254.0.0/16"), "room for every node");
}

#[test]
fn addressing_faults_come_together() {
    let mut world = World::new();
    let mut spec = with_subnet("a", "172.20.0.0/24");
    spec.subnets[0].gateway = "172.21.0.1".parse().ok();
    spec.subnets[0].ip_range = Some(subnet("172.21.0.0/28"));
    spec.options.insert("mtu".into(), "x".into());
    let err = world.no_network(spec);
    for part in ["doesn't contain ip-range", "doesn't contain this address", "invalid MTU"] {
        assert!(err.contains(part), "{err}");
    }
}
