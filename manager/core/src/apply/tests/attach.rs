//! Sandboxes on networks: addresses, refusals, the fabric endpoint, connect and disconnect, conditions, release.

use swarmnet_types::{Availability, Condition, Mac};

use super::*;

fn world() -> World {
    let mut world = World::with_nodes(3);
    world.network(with_subnet("a", "172.20.0.0/29"));
    world
}

fn with_ip(ip: &str) -> Attach {
    let mut attach = task(2, 9, None, &["a"]);
    attach.attachments[0].ipv4 = ip.parse().ok();
    attach
}

#[test]
fn a_sandbox_gets_an_address_and_a_fabric_endpoint() {
    let mut world = world();
    let endpoints = world.attach(task(2, 1, None, &["a"]));
    assert_eq!(endpoints.len(), 2);
    assert_eq!(
        (v4(&endpoints[0]).as_str(), endpoints[0].mac.to_string().as_str()),
        ("172.20.0.2", "02:42:ac:14:00:02")
    );
    let ingress = world.state.ingress().expect("present").id;
    assert_eq!((endpoints[1].network, v4(&endpoints[1]).as_str()), (ingress, "10.255.0.5"));
    assert!(endpoints[1].addrs.v6.is_some());
}

#[test]
fn a_released_address_waits_its_turn() {
    let mut world = world();
    let first = world.attach(task(2, 1, None, &["a"]));
    world.ok(detach(2, &first));
    let given: Vec<_> = (2..=5).map(|n| v4(&world.attach(task(2, n, None, &["a"]))[0])).collect();
    assert_eq!(given, ["172.20.0.3", "172.20.0.4", "172.20.0.5", "172.20.0.6"]);
    assert_eq!(v4(&world.attach(task(2, 6, None, &["a"]))[0]), "172.20.0.2");
    let id = world.state.find_network("a").expect("made").id;
    let err = world.refused(Command::Attach(task(2, 7, None, &["a"])));
    assert_eq!(
        err,
        format!("no available IPv4 addresses on this network's address pools: a ({id})")
    );
    let usage = world.state.usage(id);
    assert_eq!((usage[0].used, usage[0].free()), (5, 0));
}

#[test]
fn static_addresses_are_checked() {
    let mut world = world();
    world.attach(task(2, 1, None, &["a"]));
    for (ip, part) in [
        ("172.20.0.0", "Address already in use: 172.20.0.0 is the network or broadcast address"),
        ("172.20.0.7", "is the network or broadcast address"),
        ("172.20.0.1", "is the gateway"),
        ("172.20.0.2", "Address already in use: 172.20.0.2 on network a"),
        ("172.21.0.2", "no configured subnet contains IP address 172.21.0.2"),
        ("0.0.0.0", "invalid IPv4 address: 0.0.0.0"),
    ] {
        let err = world.refused(Command::Attach(with_ip(ip)));
        assert!(err.contains(part), "{err}");
    }
    assert_eq!(v4(&world.attach(with_ip("172.20.0.5"))[0]), "172.20.0.5");
}

#[test]
fn the_range_and_auxiliary_addresses_are_honoured() {
    let mut world = World::with_nodes(2);
    let mut spec = with_subnet("r", "172.22.0.0/24");
    spec.subnets[0].ip_range = Some(subnet("172.22.0.8/30"));
    spec.subnets[0].aux_addresses.insert("printer".into(), "172.22.0.9".parse().expect("valid"));
    let network = world.network(spec);
    let given: Vec<_> = (1..=3).map(|n| v4(&world.attach(task(2, n, None, &["r"]))[0])).collect();
    assert_eq!(given, ["172.22.0.8", "172.22.0.10", "172.22.0.11"]);
    assert!(world.refused(Command::Attach(task(2, 4, None, &["r"]))).contains("no available IPv4"));
    assert_eq!(
        (world.state.usage(network.id)[0].capacity, world.state.usage(network.id)[0].free()),
        (3, 0)
    );
}

#[test]
fn an_attach_is_all_or_nothing() {
    let mut world = world();
    world.network(overlay("b"));
    let mut attach = task(2, 1, Some("web"), &["b", "a"]);
    attach.attachments[1].ipv4 = "172.20.0.1".parse().ok();
    world.refused(Command::Attach(attach));
    assert!(world.state.find_service("web").is_err());
    assert_eq!(world.state.endpoints().count(), 0);
    let first = world.attach(task(2, 1, None, &["b"]));
    assert_eq!(v4(&first[0]), "10.0.0.2", "the cursor is undone too");
}

#[test]
fn refusals_name_what_is_wrong() {
    let mut world = world();
    let mut closed = overlay("closed");
    closed.attachable = false;
    world.network(closed);
    world.attach(task(2, 1, None, &["a"]));
    let mut other = task(2, 2, None, &["a"]);
    other.name = name("w1");
    let mut hostname = task(2, 2, None, &["a"]);
    hostname.hostname = "a b".into();
    let mut mac = task(2, 2, None, &["a"]);
    mac.attachments[0].mac = Some(Mac([1, 0, 0, 0, 0, 1]));
    let rows = [
        (
            task(2, 2, None, &["closed"]),
            "Could not attach to network closed: network closed not manually attachable",
        ),
        (task(2, 2, None, &["ingress"]), "network ingress not manually attachable"),
        (task(2, 2, None, &["a", "a"]), "network \"a\" is specified multiple times"),
        (task(2, 2, None, &["gone"]), "network gone not found"),
        (task(2, 2, None, &[]), "nothing to attach"),
        (task(9, 2, None, &["a"]), "not found"),
        (task(2, 1, None, &["a"]), "w1 is already attached to network a"),
        (task(2, 1, Some("web"), &["closed"]), "sandbox w1 belongs to no service"),
        (other, "The sandbox name \"w1\" is already in use by sandbox"),
        (hostname, "invalid hostname a b"),
        (mac, "is not a valid mac address"),
    ];
    for (attach, part) in rows {
        let err = world.refused(Command::Attach(attach));
        assert!(err.contains(part), "{err}");
    }
    world.attach(task(3, 1, None, &["a"]));
}

#[test]
fn paused_and_drained_nodes_take_nothing_new() {
    let mut world = world();
    for (availability, part) in
        [(Availability::Pause, "is paused"), (Availability::Drain, "is drained")]
    {
        let availability = Some(availability);
        let change = NodeChange { node: "n2".into(), availability, ..NodeChange::default() };
        world.ok(Command::UpdateNode(change));
        let err = world.refused(Command::Attach(task(2, 1, None, &["a"])));
        assert!(err.contains(part), "{err}");
    }
}

#[test]
fn tasks_join_networks_their_service_was_put_on() {
    let mut world = World::with_nodes(2);
    let mut closed = overlay("closed");
    closed.attachable = false;
    world.network(closed);
    let mut spec = swarmnet_types::ServiceSpec::named(name("web"));
    spec.networks = vec!["closed".into()];
    world.ok(Command::CreateService(spec));
    world.attach(task(2, 1, Some("web"), &["closed"]));
    world.refused(Command::Attach(task(2, 2, Some("other"), &["closed"])));
}

#[test]
fn internal_sandboxes_have_no_way_out() {
    let mut world = world();
    let mut inner = overlay("inner");
    inner.internal = true;
    world.network(inner);
    assert_eq!(world.attach(task(2, 1, Some("web"), &["inner"])).len(), 1);
    let more = world.attach(task(2, 1, None, &["a"]));
    assert_eq!(more.len(), 2, "connected to an open network: a fabric endpoint comes with it");
    let leave =
        Command::Disconnect { node: node_id(2), sandbox: sandbox_id(1), network: "a".into() };
    let Outcome::Detached { endpoints } = world.ok(leave.clone()) else { panic!() };
    assert_eq!(endpoints.len(), 2, "and goes with it");
    let err = world.refused(leave);
    assert_eq!(err, "container w1 is not connected to the network a");
}

#[test]
fn a_service_alone_is_reason_for_a_fabric_endpoint() {
    let mut world = World::with_nodes(2);
    let endpoints = world.attach(task(2, 1, Some("web"), &[]));
    assert_eq!(endpoints.len(), 1);
    assert_eq!(Some(endpoints[0].network), world.state.ingress().map(|n| n.id));
}

#[test]
fn overlapping_networks_do_not_meet_in_a_sandbox() {
    let mut world = world();
    world.network(with_subnet("twin", "172.20.0.0/29"));
    let err = world.refused(Command::Attach(task(2, 1, None, &["a", "twin"])));
    assert!(err.contains("networks a and twin overlap"), "{err}");
    let a = world.attach(task(2, 1, None, &["a"]));
    let twin = world.attach(task(2, 2, None, &["twin"]));
    assert_eq!(a[0].addrs, twin[0].addrs, "apart, each has its own addresses");
    world.refused(Command::Attach(task(2, 1, None, &["twin"])));
}

#[test]
fn macs_are_unique_on_a_network() {
    let mut world = World::with_nodes(2);
    world.network(with_subnet("six", "fd00:6::/64"));
    let mut first = task(2, 1, None, &["six"]);
    first.attachments[0].ipv6 = "fd00:6::1:0:2".parse().ok();
    let first = world.attach(first);
    assert_eq!(first[0].mac.to_string(), "02:42:00:00:00:02");
    let second = world.attach(task(2, 2, None, &["six"]));
    assert_eq!(second[0].addrs.v6, "fd00:6::3".parse().ok(), "fd00:6::2 would have the same MAC");
    let mut third = task(2, 3, None, &["six"]);
    third.attachments[0].mac = Some(first[0].mac);
    let err = world.refused(Command::Attach(third));
    assert_eq!(err, "mac address 02:42:00:00:00:02 is already in use on network six");
}

#[test]
fn slots_are_the_lowest_free() {
    let mut world = world();
    let slot = |w: &mut World, n| w.attach(task(2, n, Some("web"), &["a"]))[0].slot;
    let first = world.attach(task(2, 1, Some("web"), &["a"]));
    assert_eq!((first[0].slot, slot(&mut world, 2)), (Some(1), Some(2)));
    let Outcome::Detached { endpoints } = world.ok(detach(2, &first)) else { panic!() };
    assert_eq!(endpoints.len(), 2);
    assert_eq!((slot(&mut world, 3), slot(&mut world, 4)), (Some(1), Some(3)));
}

#[test]
fn a_node_speaks_for_its_own_endpoints_only() {
    let mut world = world();
    let endpoints = world.attach(task(2, 1, None, &["a"]));
    let ready = |node, w: &[Endpoint]| {
        let conditions = w.iter().map(|e| (e.id, Condition::Ready)).collect();
        Command::SetConditions { node: node_id(node), conditions }
    };
    for command in [ready(3, &endpoints), detach(3, &endpoints)] {
        let err = world.apply(command).expect_err("not its own");
        assert_eq!(err.kind(), swarmnet_types::RefusalKind::Forbidden);
        assert!(err.to_string().ends_with("does not belong to node n3"), "{err}");
    }
    world.ok(ready(2, &endpoints));
    assert!(world.state.endpoints().all(|e| e.condition == Condition::Ready));
    world.ok(detach(2, &endpoints));
    world.ok(ready(2, &endpoints));
    world.ok(detach(2, &endpoints));
    assert_eq!(world.state.endpoints().count(), 0);
}

#[test]
fn a_removed_node_leaves_nothing_behind() {
    let mut world = world();
    world.attach(task(2, 1, Some("web"), &["a"]));
    world.ok(Command::RemoveNode(RemoveNode { node: "n2".into(), force: true, alive: true }));
    assert_eq!(world.state.endpoints().count(), 0);
    world.ok(remove_network("a", false, &[]));
}
