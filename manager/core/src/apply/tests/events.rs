//! What people are told of changes, and for how long.

use swarmnet_types::{Availability, Revision};

use super::*;
use crate::events::{EVENTS_MAX, Event};

/// Of each event after `since`: subject, action and name, or the id of what has none.
fn told(world: &World, since: Revision) -> Vec<String> {
    let events = world.state.events_after(since).expect("it is known");
    let name = |e: &Event| e.attributes.get("name").unwrap_or(&e.id).clone();
    events.map(|e| format!("{} {} {}", e.subject, e.action, name(e))).collect()
}

/// The attribute of the newest event.
fn attribute(world: &World, key: &str) -> String {
    let newest = world.state.events_after(Revision(0)).expect("known").last().expect("one");
    newest.attributes.get(key).cloned().unwrap_or_default()
}

#[test]
fn networks_services_and_endpoints_come_and_go_by_name() {
    let mut world = World::with_nodes(2);
    let begin = world.state.revision();
    world.network(overlay("net"));
    let endpoints = world.attach(task(1, 1, Some("web"), &["net"]));
    let created = world.state.events_after(begin).expect("known");
    let networks: Vec<_> = created.filter_map(|e| e.attributes.get("network")).collect();
    assert_eq!(networks, ["net", "ingress"]);
    assert_eq!(attribute(&world, "service"), "web");
    world.publish(Some("web"), "5000:80");
    assert_eq!(
        (attribute(&world, "ports.old"), attribute(&world, "name")),
        (String::new(), "web".into())
    );
    assert!(attribute(&world, "ports.new").contains("5000"), "{}", attribute(&world, "ports.new"));
    world.ok(detach(1, &endpoints));
    world.ok(Command::RemoveService { service: "web".into() });
    world.ok(remove_network("net", false, &[]));
    let all = told(&world, begin);
    let names: Vec<_> = all.iter().map(String::as_str).collect();
    assert_eq!(names.first(), Some(&"network create net"));
    assert_eq!(names.last(), Some(&"network remove net"));
    for wanted in ["service create web", "service update web", "service remove web"] {
        assert!(names.contains(&wanted), "{wanted}: {names:?}");
    }
    let made = names.iter().filter(|n| n.starts_with("endpoint create ")).count();
    let gone = names.iter().filter(|n| n.starts_with("endpoint remove ")).count();
    assert!(made > 0 && made == gone, "{names:?}");
}

#[test]
fn a_node_tells_what_differs_and_its_endpoints_name_it_when_it_is_gone() {
    let mut world = World::with_nodes(2);
    world.network(overlay("net"));
    world.attach(task(2, 1, None, &["net"]));
    let node = node_id(2).to_string();
    let drain = NodeChange {
        node: node.clone(),
        availability: Some(Availability::Drain),
        ..NodeChange::default()
    };
    world.ok(Command::UpdateNode(drain.clone()));
    assert_eq!(attribute(&world, "availability.old"), "active");
    assert_eq!(attribute(&world, "availability.new"), "drain");
    let before = world.state.revision();
    world.ok(Command::UpdateNode(drain));
    assert_eq!(told(&world, before), Vec::<String>::new(), "nothing is different");
    let tls =
        NodeTls { until_ms: 77, ..world.state.record(node_id(2)).expect("it has one").tls.clone() };
    world.ok(Command::SetNodeTls { node: node_id(2), tls });
    assert_eq!(attribute(&world, "until_ms"), "77");
    let before = world.state.revision();
    world.ok(Command::RemoveNode(RemoveNode { node, force: true, alive: false }));
    let name = description(2).name;
    let gone = told(&world, before);
    assert_eq!(gone.last(), Some(&format!("node remove {name}")), "{gone:?}");
    let events = world.state.events_after(before).expect("known");
    let nodes: Vec<_> = events.filter_map(|e| e.attributes.get("node")).collect();
    assert!(!nodes.is_empty() && nodes.iter().all(|n| **n == name), "{nodes:?}");
}

#[test]
fn tokens_and_the_ca_are_told_of_without_their_secrets() {
    let mut world = World::new();
    let begin = world.state.revision();
    let secret = Secret::new(*b"very-secret-one!");
    world.ok(Command::RotateToken { role: Role::Worker, secret: secret.clone() });
    let create =
        CreateToken { role: Role::Worker, secret, ttl_ms: None, uses: None, ephemeral_ms: None };
    let Outcome::TokenCreated { token } = world.ok(Command::CreateToken(create)) else {
        panic!("a token")
    };
    world.ok(Command::RemoveToken { token: token.to_string() });
    let wanted = [
        "token rotate worker".to_owned(),
        format!("token create {token}"),
        format!("token revoke {token}"),
    ];
    assert_eq!(told(&world, begin), wanted);
    let text = format!("{:?}", world.state.events_after(begin).expect("known").collect::<Vec<_>>());
    assert!(!text.contains("very-secret"), "{text}");
}

#[test]
fn what_is_refused_is_not_told_and_what_is_forgotten_is_said() {
    let mut world = World::with_nodes(1);
    let before = world.state.revision();
    world.refused(Command::RemoveService { service: "none".into() });
    assert_eq!(told(&world, before), Vec::<String>::new());
    for n in 0..=EVENTS_MAX {
        let change = NodeChange {
            node: node_id(1).to_string(),
            labels_add: [("turn".to_owned(), n.to_string())].into(),
            ..NodeChange::default()
        };
        world.ok(Command::UpdateNode(change));
    }
    assert!(world.state.events_after(before).is_none());
    let floor = world.state.events_floor();
    assert_eq!(world.state.events_after(floor).map(Iterator::count), Some(EVENTS_MAX));
    let stored = postcard::to_stdvec(&world.state).expect("it encodes");
    let loaded: State = postcard::from_bytes(&stored).expect("it decodes");
    assert_eq!(loaded.events_floor(), loaded.revision(), "nothing is known of what was before");
    assert_eq!(loaded.events_after(loaded.revision()).map(Iterator::count), Some(0));
}
