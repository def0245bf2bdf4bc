//! Published ports: granting, conflicts, host mode, taking back.

use swarmnet_types::Protocol;

use super::*;

fn ports(list: &[Publication]) -> Vec<u16> {
    list.iter().map(|p| p.published).collect()
}

fn unpublish(service: Option<&str>, port: u16) -> Command {
    let service = service.map(str::to_owned);
    Command::Unpublish(Unpublish { service, port, protocol: None })
}

fn world() -> World {
    let mut world = World::with_nodes(3);
    world.network(overlay("a"));
    world
}

#[test]
fn without_a_service_the_port_names_one() {
    let mut world = world();
    let Outcome::Published { name, created, .. } = world.ok(publishing(None, "5000:80")) else {
        panic!()
    };
    assert_eq!((name.as_str(), created), ("svc-5000", true));
    let Outcome::Published { created, publications, .. } = world.ok(publishing(None, "5000:80"))
    else {
        panic!()
    };
    assert!(!created && publications.len() == 1, "published again: as it is");
    assert_eq!(world.service("svc-5000").publications.len(), 1);
    let Outcome::Published { name, .. } = world.ok(publishing(None, "target=80")) else { panic!() };
    assert_eq!(name.as_str(), "svc-30000");
    assert_eq!(world.refused(publishing(Some("gone"), "80:80")), "service gone not found");
}

#[test]
fn chosen_ports_are_different() {
    let mut world = world();
    world.ok(Command::CreateService(swarmnet_types::ServiceSpec::named(name("web"))));
    let mut specs = parse_publications("5005:80").expect("valid");
    for text in ["5006:80", "80", "80"] {
        specs.extend(parse_publications(text).expect("valid"));
    }
    let command = Command::Publish(Publish { service: Some("web".into()), specs });
    let Outcome::Published { publications, .. } = world.ok(command) else { panic!() };
    assert_eq!(ports(&publications), [5005, 5006, 30000, 30001]);
    world.ok(unpublish(Some("web"), 30000));
    assert_eq!(ports(&world.publish(Some("web"), "80")), [30002], "in turn");
}

#[test]
fn other_services_ports_are_refused_with_dockers_words() {
    let mut world = world();
    for service in ["web", "api"] {
        world.ok(Command::CreateService(swarmnet_types::ServiceSpec::named(name(service))));
    }
    let id = world.service("web").id;
    world.publish(Some("web"), "5000:80");
    for text in ["5000:81", "published=5000,target=81,mode=host"] {
        let err = world.refused(publishing(Some("api"), text));
        let want =
            format!("port '5000' is already in use by service 'web' ({id}) as an ingress port");
        assert_eq!(err, want);
    }
    world.publish(Some("web"), "published=5001,target=80,mode=host");
    let err = world.refused(publishing(Some("api"), "5001:80"));
    assert!(err.ends_with("as a host-published port"), "{err}");
    world.publish(Some("api"), "published=5001,target=80,mode=host");
    world.publish(Some("api"), "5000:80/udp");
    world.publish(Some("web"), "ip=192.0.2.1,published=5002,target=80");
    world.publish(Some("api"), "ip=192.0.2.2,published=5002,target=80");
    assert!(
        world.refused(publishing(Some("api"), "5002:80")).contains("duplicate published ports")
    );
    assert_eq!(
        world.refused(publishing(Some("web"), "5000:81")),
        "EndpointSpec: duplicate published ports provided"
    );
}

#[test]
fn a_host_mode_port_takes_one_task_a_node() {
    let mut world = world();
    world.attach(task(2, 1, Some("web"), &["a"]));
    world.publish(Some("web"), "published=5000,target=80,mode=host");
    let err = world.refused(Command::Attach(task(2, 2, Some("web"), &["a"])));
    assert_eq!(err, "no suitable node (host-mode port already in use on 1 node)");
    world.attach(task(3, 2, Some("web"), &["a"]));
    world.attach(task(2, 3, None, &["a"]));
    world.attach(task(2, 4, Some("api"), &["a"]));
    world.attach(task(3, 5, Some("api"), &["a"]));
    let err = world.refused(publishing(Some("api"), "published=5000,target=80,mode=host"));
    assert_eq!(err, "no suitable node (host-mode port already in use on 2 nodes)");
    world.publish(Some("api"), "published=5000,target=80,mode=host,nodes=edge=yes");
}

#[test]
fn internal_services_publish_nothing() {
    let mut world = world();
    let mut inner = overlay("inner");
    inner.internal = true;
    world.network(inner);
    world.attach(task(2, 1, Some("web"), &["inner"]));
    let err = world.refused(publishing(Some("web"), "5000:80"));
    assert!(err.starts_with("service web is only on internal networks"), "{err}");
}

#[test]
fn ports_are_taken_back_by_published_then_by_target() {
    let mut world = world();
    world.ok(Command::CreateService(swarmnet_types::ServiceSpec::named(name("web"))));
    world.publish(Some("web"), "80:8080");
    world.publish(Some("web"), "8080:80");
    world.publish(Some("web"), "53:53/udp");
    let Outcome::Unpublished { publications, service_removed, .. } =
        world.ok(unpublish(Some("web"), 8080))
    else {
        panic!()
    };
    assert_eq!((ports(&publications), service_removed), (vec![8080], false));
    let Outcome::Unpublished { publications, .. } = world.ok(unpublish(None, 8080)) else {
        panic!()
    };
    assert_eq!(ports(&publications), [80], "by its target now");
    let tcp = Unpublish { service: Some("web".into()), port: 53, protocol: Some(Protocol::Tcp) };
    assert_eq!(world.refused(Command::Unpublish(tcp)), "port 53 is not published by service web");
    assert_eq!(world.refused(unpublish(None, 99)), "port 99 is not published");
}

#[test]
fn a_service_made_for_its_port_goes_with_it() {
    let mut world = world();
    world.publish(None, "5000:80");
    let Outcome::Unpublished { service_removed, .. } = world.ok(unpublish(None, 5000)) else {
        panic!()
    };
    assert!(service_removed && world.state.services().count() == 0);
    world.publish(None, "5000:80");
    world.attach(task(2, 1, Some("svc-5000"), &["a"]));
    let Outcome::Unpublished { service_removed, .. } = world.ok(unpublish(None, 5000)) else {
        panic!()
    };
    assert!(!service_removed, "it has a task");
}

#[test]
fn dynamic_ports_end() {
    let mut world = world();
    world.publish(None, "30000-32766:80");
    assert_eq!(ports(&world.publish(Some("svc-30000"), "80")), [32767]);
    assert_eq!(world.refused(publishing(Some("svc-30000"), "80")), "all ports are allocated");
    world.publish(Some("svc-30000"), "80/udp");
}
