//! What nodes see, and that they are told of nothing else.

use swarmnet_types::{Condition, NodeView};

use super::*;
use crate::view::push::{NoPush, Push, Pushed};

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

#[test]
fn a_node_that_has_more_than_this_manager_is_sent_nothing() {
    let mut world = World::with_nodes(2);
    let behind = world.state.clone();
    world.network(overlay("a"));
    world.attach(task(2, 1, None, &["a"]));
    let have = world.state.revision();
    let mut push = Push::resume(node_id(2), have);
    let revision = behind.revision();
    assert_eq!(push.next(&behind), Err(NoPush::Behind { have, revision }));
    assert_eq!(push.next(&world.state), Ok(None), "it caught up: nothing is new");
    let mut first = Push::resume(node_id(2), Revision::default());
    assert_eq!(first.next(&world.state), Ok(Some(Pushed::Snapshot(view(&world, 2)))));
    world.network(overlay("b"));
    world.attach(task(2, 2, None, &["b"]));
    let delta = world.state.delta(node_id(2), have).expect("known");
    assert_eq!(push.next(&world.state), Ok(Some(Pushed::Delta(delta))));
}

#[test]
fn what_did_not_concern_a_node_is_told_when_it_comes_to_the_network() {
    let mut world = World::with_nodes(3);
    let mut seen = view(&world, 2);
    let mut push = Push::resume(node_id(2), seen.revision);
    world.network(overlay("a"));
    let gone = world.attach(task(3, 1, None, &["a"]));
    world.attach(task(3, 2, None, &["a"]));
    assert_eq!(push.next(&world.state), Ok(None), "it is not on the network");
    world.ok(detach(3, &gone));
    assert_eq!(push.next(&world.state), Ok(None));
    world.attach(task(2, 3, None, &["a"]));
    let Ok(Some(Pushed::Delta(delta))) = push.next(&world.state) else { panic!("no delta") };
    seen.apply(delta).expect("no gap to what was sent before");
    assert_eq!(seen, view(&world, 2));
}

#[test]
fn a_session_tells_a_removed_node_from_one_it_does_not_know_yet() {
    let mut world = World::with_nodes(3);
    let mut stranger = Push::resume(node_id(9), Revision::default());
    assert_eq!(stranger.next(&world.state), Err(NoPush::Unknown));
    let mut push = Push::resume(node_id(3), world.state.revision());
    let node = node_id(3).to_string();
    world.ok(Command::RemoveNode(RemoveNode { node, force: true, alive: false }));
    assert_eq!(push.next(&world.state), Err(NoPush::Removed));
}
