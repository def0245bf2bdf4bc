//! What nodes see, and that they are told of nothing else.

use swarmnet_types::{Condition, NodeView};

use super::*;

fn view(world: &World, node: u8) -> NodeView {
    world.state.node_view(node_id(node)).expect("initialised")
}

fn names(view: &NodeView) -> Vec<String> {
    view.networks.values().map(|n| n.spec.name.to_string()).collect()
}

fn concerned(world: &World, since: Revision) -> Vec<u8> {
    world.state.concerned(since).iter().map(|n| n.as_bytes()[0]).collect()
}

#[test]
fn a_node_sees_its_networks_and_what_is_published() {
    let mut world = World::with_nodes(3);
    world.network(overlay("a"));
    world.network(overlay("b"));
    world.attach(task(2, 1, Some("web"), &["a"]));
    world.attach(task(3, 2, Some("db"), &["b"]));
    let two = view(&world, 2);
    assert_eq!(two.networks.len(), 2);
    assert!(names(&two).contains(&"a".into()) && !names(&two).contains(&"b".into()));
    assert_eq!(two.services.values().map(|s| s.name.as_str()).collect::<Vec<_>>(), ["web"]);
    assert_eq!(two.endpoints.len(), 2);
    let one = view(&world, 1);
    assert!(one.services.is_empty() && one.endpoints.is_empty());
    world.publish(Some("web"), "5000:80");
    let one = view(&world, 1);
    assert_eq!((one.services.len(), one.endpoints.len()), (1, 1), "the ingress endpoint of web");
    assert_eq!(one.nodes.len(), 3);
}

#[test]
fn a_change_concerns_the_nodes_of_its_network() {
    let mut world = World::with_nodes(4);
    world.network(overlay("a"));
    let at = |w: &World| w.state.revision();
    let since = at(&world);
    world.attach(task(2, 1, Some("web"), &["a"]));
    assert_eq!(concerned(&world, since), [2]);
    let since = at(&world);
    let endpoints = world.attach(task(3, 2, Some("web"), &["a"]));
    assert_eq!(concerned(&world, since), [2, 3]);
    let delta = world.state.delta(node_id(2), since).expect("known");
    assert_eq!(delta.changes.len(), 1, "one endpoint: {:?}", delta.changes);
    let since = at(&world);
    world.publish(Some("web"), "5000:80");
    assert_eq!(concerned(&world, since), [1, 2, 3, 4]);
    let since = at(&world);
    let conditions = vec![(endpoints[0].id, Condition::Ready)];
    world.ok(Command::SetConditions { node: node_id(3), conditions: conditions.clone() });
    assert_eq!(concerned(&world, since), [2, 3]);
    let since = at(&world);
    world.ok(Command::SetConditions { node: node_id(3), conditions });
    world.ok(Command::RotateToken { role: Role::Worker, secret: Secret::new(*b"x") });
    assert!(concerned(&world, since).is_empty(), "nothing that a node is told changed");
}

#[test]
fn the_last_endpoint_takes_the_network_along() {
    let mut world = World::with_nodes(3);
    world.network(overlay("a"));
    let endpoints = world.attach(task(2, 1, Some("web"), &["a"]));
    world.attach(task(3, 2, Some("web"), &["a"]));
    let mut seen = view(&world, 2);
    let since = world.state.revision();
    world.ok(detach(2, &endpoints));
    assert_eq!(concerned(&world, since), [2, 3]);
    let delta = world.state.delta(node_id(2), since).expect("known");
    seen.apply(delta).expect("no gap");
    assert_eq!(seen, view(&world, 2));
    assert_eq!(names(&seen), ["ingress"]);
}

#[test]
fn unknown_revisions_ask_for_a_snapshot() {
    let world = World::with_nodes(2);
    let now = world.state.revision();
    assert!(world.state.delta(node_id(2), Revision(now.0 + 1)).is_none(), "from the future");
    assert_eq!(world.state.delta(node_id(2), now).map(|d| d.changes.len()), Some(0));
    let bytes = postcard::to_stdvec(&world.state).expect("writes");
    let loaded: State = postcard::from_bytes(&bytes).expect("reads");
    assert!(loaded.delta(node_id(2), Revision(now.0 - 1)).is_none(), "before the load");
    assert!(loaded.delta(node_id(2), now).is_some());
    assert_eq!(loaded.concerned(Revision(0)).len(), 2);
}
