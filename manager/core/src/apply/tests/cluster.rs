//! The cluster's start, its nodes, tokens, keys and pools.

use swarmnet_types::{Availability, Role, Vni};

use super::*;

#[test]
fn a_cluster_starts_with_an_ingress_network_and_one_manager() {
    let world = World::new();
    let ingress = world.state.ingress().expect("present");
    assert_eq!(ingress.vni, Some(Vni::INGRESS));
    let subnets: Vec<_> = ingress.subnets.iter().map(|s| s.subnet.to_string()).collect();
    assert_eq!(subnets, ["10.255.0.0/16", "fd53:c1c1:c1c1::/64"]);
    let node = world.state.node(node_id(1)).expect("the first");
    assert_eq!(node.index.get(), 1);
    assert_eq!(node.fabric.v4.map(|a| a.to_string()).as_deref(), Some("10.255.0.2"));
    assert_eq!(node.fabric.v6.map(|a| a.to_string()).as_deref(), Some("fd53:c1c1:c1c1::2"));
}

#[test]
fn nothing_works_before_the_start_and_there_is_one_start() {
    let mut world = World::empty();
    let err = world.refused(Command::RotateGossipKey { secret: [2; 32] });
    assert!(err.contains("not initialised"), "{err}");
    world.ok(Command::InitCluster(Box::new(init())));
    let err = world.refused(Command::InitCluster(Box::new(init())));
    assert_eq!(err, "this cluster is already initialised");
}

#[test]
fn a_bad_start_leaves_no_cluster() {
    let mut world = World::empty();
    let mut bad = init();
    bad.pool_mask_len = 30;
    let err = world.refused(Command::InitCluster(Box::new(bad)));
    assert_eq!(err, "subnet size is out of range: 30");
    let mut bad = init();
    bad.pools = vec![subnet("10.0.0.0/25")];
    let err = world.refused(Command::InitCluster(Box::new(bad)));
    assert_eq!(err, "invalid CIDR: \"10.0.0.0/25\". Subnet size is too small for pool: 24");
    let mut bad = init();
    bad.ingress = vec![subnet("10.1.0.0/16"), subnet("10.2.0.0/16")];
    world.refused(Command::InitCluster(Box::new(bad)));
    assert_eq!(world.state.cluster(), None);
}

#[test]
fn the_ingress_avoids_the_hosts_routes_and_can_be_chosen() {
    let mut world = World::empty();
    let mut wish = init();
    wish.avoid = vec![subnet("0.0.0.0/0"), subnet("10.255.3.0/24")];
    world.ok(Command::InitCluster(Box::new(wish)));
    let ingress = world.state.ingress().expect("present");
    assert_eq!(ingress.subnets[0].subnet, subnet("10.254.0.0/16"));

    let mut world = World::empty();
    let mut wish = init();
    wish.ingress = vec![subnet("172.30.0.0/16"), subnet("fd00:9::/64")];
    world.ok(Command::InitCluster(Box::new(wish)));
    let ingress = world.state.ingress().expect("present");
    assert_eq!(ingress.subnets[1].subnet, subnet("fd00:9::/64"));
}

#[test]
fn node_numbers_are_never_given_twice() {
    let mut world = World::with_nodes(3);
    let remove = RemoveNode { node: "n3".into(), force: false, alive: false };
    world.ok(Command::RemoveNode(remove));
    world.ok(Command::JoinNode(join(4, Role::Worker)));
    assert_eq!(world.state.node(node_id(4)).map(|n| n.index.get()), Some(4));
}

#[test]
fn a_removed_node_does_not_come_back_while_its_certificate_may_live() {
    let mut world = World::with_nodes(2);
    let live = RemoveNode { node: "n2".into(), force: false, alive: true };
    let err = world.refused(Command::RemoveNode(live.clone()));
    assert_eq!(err, "node n2 is not down and can't be removed");
    world.ok(Command::RemoveNode(RemoveNode { force: true, ..live }));
    assert!(world.state.is_revoked(node_id(2)));
    let err = world.refused(Command::JoinNode(join(2, Role::Worker)));
    assert!(err.contains("was removed"), "{err}");
    world.now_ms = 1000 + 7 * 24 * 3600 * 1000 + 1;
    world.ok(Command::JoinNode(join(2, Role::Worker)));
    assert!(!world.state.is_revoked(node_id(2)));
}

#[test]
fn managers_are_demoted_before_they_are_removed_and_one_is_left() {
    let mut world = World::with_nodes(2);
    let role = |node: &str, role| {
        let role = Some(role);
        Command::UpdateNode(NodeChange { node: node.into(), role, ..NodeChange::default() })
    };
    let err = world.refused(role("n1", Role::Worker));
    assert_eq!(err, "attempting to demote the last manager of the swarm");
    world.ok(role("n2", Role::Manager));
    let remove = RemoveNode { node: "n1".into(), force: true, alive: false };
    let err = world.refused(Command::RemoveNode(remove));
    assert!(err.starts_with("node n1 is a cluster manager"), "{err}");
    world.ok(role("n1", Role::Worker));
    let view = world.state.node_view(node_id(1)).expect("initialised");
    assert_eq!(view.cluster.managers, [description(2).addr]);
}

#[test]
fn nodes_are_found_by_id_name_and_prefix() {
    let mut world = World::with_nodes(3);
    let find = |w: &World, text: &str| w.state.find_node(text).map(|n| n.id);
    assert_eq!(find(&world, &node_id(2).to_string()), Ok(node_id(2)));
    assert_eq!(find(&world, "n2"), Ok(node_id(2)));
    assert_eq!(find(&world, "02"), Ok(node_id(2)));
    let err = find(&world, "0").expect_err("three").to_string();
    assert!(err.starts_with("node 0 is ambiguous (3 matches found based on ID prefix): "), "{err}");
    let rename = Command::UpdateNodeDescription { node: node_id(3), description: description(2) };
    world.ok(rename);
    let err = find(&world, "n2").expect_err("two").to_string();
    assert!(err.starts_with("node n2 is ambiguous (2 matches found on name): "), "{err}");
    let err = find(&world, "gone").expect_err("none");
    assert_eq!(
        (err.to_string().as_str(), err.kind()),
        ("node gone not found", swarmnet_types::RefusalKind::NotFound)
    );
}

#[test]
fn labels_and_availability_are_set() {
    let mut world = World::with_nodes(2);
    let change = NodeChange {
        node: "n2".into(),
        availability: Some(Availability::Drain),
        labels_add: [("zone".to_owned(), "a".to_owned())].into(),
        ..NodeChange::default()
    };
    world.ok(Command::UpdateNode(change));
    assert_eq!(world.state.node(node_id(2)).map(|n| n.availability), Some(Availability::Drain));
    let change =
        NodeChange { node: "n2".into(), labels_rm: vec!["rack".into()], ..NodeChange::default() };
    let err = world.refused(Command::UpdateNode(change));
    assert_eq!(err, "key rack doesn't exist in node's labels");
}

#[test]
fn tokens_and_keys_rotate() {
    let mut world = World::new();
    world.ok(Command::RotateToken { role: Role::Worker, secret: Secret::new(*b"new") });
    let tokens = &world.state.cluster().expect("present").tokens;
    assert_eq!(tokens.of(Role::Worker).expose(), b"new");
    assert_eq!(tokens.of(Role::Manager).expose(), b"manager");
    for n in 2..=4 {
        world.ok(Command::RotateGossipKey { secret: [n; 32] });
    }
    let keys = &world.state.cluster().expect("present").gossip_keys;
    assert_eq!(keys.iter().map(|k| k.id).collect::<Vec<_>>(), [3, 4]);
}

#[test]
fn no_secret_is_printed() {
    let world = World::new();
    let text = format!("{:?} {:?}", world.state, world.log);
    assert!(!text.contains("119, 111, 114") && !text.contains("manager_token: ["), "worker token");
    assert!(text.contains("Secret(7 bytes)"));
}

#[test]
fn pools_come_and_go_while_running() {
    let mut world = World::new();
    let retire = vec![subnet("10.0.0.0/8")];
    world.ok(Command::UpdatePools { add: vec![subnet("172.20.0.0/23")], retire });
    assert_eq!(world.network(overlay("a")).subnets[0].subnet, subnet("172.20.0.0/24"));
    world.network(overlay("b"));
    let err = world.no_network(overlay("c"));
    assert_eq!(err, "all predefined address pools have been fully subnetted");
    let again = Command::UpdatePools { add: vec![subnet("172.20.1.0/24")], retire: vec![] };
    assert!(world.refused(again).contains("overlaps with pool 172.20.0.0/23"));
    let gone = Command::UpdatePools { add: vec![], retire: vec![subnet("10.0.0.0/8")] };
    assert_eq!(world.refused(gone), "address pool 10.0.0.0/8 not found");
}

#[test]
fn a_retry_is_answered_and_not_done_again() {
    let mut world = World::new();
    let create = CreateNetwork { spec: overlay("a"), avoid: Vec::new() };
    let first = world.ok(Command::CreateNetwork(create));
    let (revision, proposal) = world.log.last().cloned().expect("one");
    let again = world.state.apply(Revision(revision.0 + 1), &proposal);
    assert_eq!(again, Ok(first));
    assert_eq!(world.state.networks().count(), 2);
    assert_eq!(world.state.revision(), Revision(revision.0 + 1));
}

#[test]
fn a_newer_format_is_refused() {
    let world = World::with_nodes(2);
    let mut bytes = postcard::to_stdvec(&world.state).expect("writes");
    let back: State = postcard::from_bytes(&bytes).expect("reads");
    assert_eq!((back.digest(), &back), (world.state.digest(), &world.state));
    assert_eq!(u32::from(bytes[0]), crate::FORMAT, "the format's number comes first");
    bytes[0] += 1;
    assert!(postcard::from_bytes::<State>(&bytes).is_err());
}

#[test]
fn the_lock_has_one_key_at_a_time_and_each_change_is_counted() {
    let mut world = World::new();
    let [a, b] = [1, 2].map(|n| Secret::new([n; 32]));
    let lock = |world: &World| world.state.cluster().expect("initialised").lock.clone();
    let set = |on, fresh: &Secret| Command::SetAutolock { on, fresh: fresh.clone() };
    let rotate = Command::RotateUnlockKey { fresh: b.clone() };
    let err = world.refused(rotate.clone());
    assert_eq!(err, "cannot rotate because autolock is not turned on");
    world.ok(set(false, &a));
    assert_eq!(lock(&world), ManagerLock::default(), "it was off");
    world.ok(set(true, &a));
    world.ok(set(true, &b));
    assert_eq!(lock(&world), ManagerLock { version: 1, key: Some(a) }, "it was on");
    world.ok(rotate);
    assert_eq!(lock(&world), ManagerLock { version: 2, key: Some(b.clone()) });
    world.ok(set(false, &b));
    assert_eq!(lock(&world), ManagerLock { version: 3, key: None });
}

#[test]
fn a_cluster_made_anew_has_one_manager_and_is_else_the_same() {
    let mut world = World::with_nodes(3);
    world.ok(Command::UpdateNode(NodeChange {
        node: node_id(2).to_string(),
        role: Some(Role::Manager),
        ..NodeChange::default()
    }));
    world.network(overlay("kept"));
    let before = world.state.clone();
    let roles =
        |world: &World| world.state.nodes().map(|n| (n.name.clone(), n.role)).collect::<Vec<_>>();
    let generation = |state: &State| state.cluster().expect("initialised").generation;

    let mut known = world.clone();
    let description = NodeDescription { addr: description(9).addr, ..description(2) };
    known.ok(Command::Refound(Box::new(Founder::Known { node: node_id(2), description })));
    let names = |roles: [Role; 3]| ["n1", "n2", "n3"].map(str::to_owned).into_iter().zip(roles);
    let expected: Vec<_> = names([Role::Worker, Role::Manager, Role::Worker]).collect();
    assert_eq!(roles(&known), expected);
    assert_eq!(known.state.node(node_id(2)).expect("there").addr, description_addr(9));
    assert!(known.state.networks().eq(before.networks()));
    assert_eq!(generation(&known.state), generation(&before) + 1);

    world.ok(Command::Refound(Box::new(Founder::New(join(4, Role::Manager)))));
    let managers: Vec<_> = world.state.managers().map(|n| n.id).collect();
    assert_eq!((managers, world.state.nodes().count()), (vec![node_id(4)], 4));
    let stranger = Founder::Known { node: node_id(8), description: super::description(8) };
    assert!(world.refused(Command::Refound(Box::new(stranger))).contains("not found"));
}

fn description_addr(n: u8) -> std::net::SocketAddr {
    description(n).addr
}
