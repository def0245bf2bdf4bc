//! What is sent arrives as it was; what is malformed is refused with the field's name.

use swarmnet_types::*;

use super::*;

fn network() -> Network {
    Network {
        id: NetworkId::from_bytes([1; 16]),
        spec: NetworkSpec {
            ipv6: true,
            attachable: true,
            options: [("mtu".to_owned(), "1400".to_owned())].into(),
            ..NetworkSpec::named(Name::new("overnet").expect("valid"), Driver::Overlay)
        },
        subnets: vec![
            SubnetSpec {
                subnet: "10.0.1.0/24".parse().expect("valid"),
                ip_range: "10.0.1.128/25".parse().ok(),
                gateway: "10.0.1.1".parse().ok(),
                aux_addresses: [("printer".to_owned(), "10.0.1.9".parse().expect("valid"))].into(),
            },
            SubnetSpec::plain("fd00:1::/64".parse().expect("valid")),
        ],
        vni: Vni::new(4101).ok(),
        created_ms: 7,
        created: Revision(1),
        changed: Revision(2),
    }
}

fn service() -> Service {
    Service {
        id: ServiceId::from_bytes([2; 16]),
        name: Name::new("web").expect("valid"),
        endpoint_mode: EndpointMode::Vip,
        algorithm: Algorithm::Sh,
        labels: StringMap::new(),
        vips: [(NetworkId::from_bytes([1; 16]), DualStack::new("10.0.1.2".parse().ok(), None))]
            .into(),
        publications: vec![Publication {
            published: 5000,
            target: 80,
            protocol: Protocol::Udp,
            mode: PublishMode::Host,
            ip: "fd00::1".parse().ok(),
            nodes: Some(swarmnet_types::publish::NodeSelector {
                label: "zone".into(),
                value: "a".into(),
            }),
            allow_from: vec!["10.0.0.0/8".parse().expect("valid")],
        }],
        externals: vec![swarmnet_types::service::ExternalBackend {
            name: Name::new("old").expect("valid"),
            addr: "192.0.2.200".parse().expect("valid"),
        }],
        created_ms: 9,
        created: Revision(3),
        changed: Revision(3),
    }
}

fn endpoint() -> Endpoint {
    let addrs = DualStack::new("10.0.1.3".parse().ok(), "fd00:1::3".parse().ok());
    Endpoint {
        id: EndpointId::from_bytes([3; 16]),
        network: NetworkId::from_bytes([1; 16]),
        node: NodeId::from_bytes([4; 16]),
        sandbox: SandboxId::from_bytes([5; 16]),
        name: Name::new("w1").expect("valid"),
        hostname: "w1.example".into(),
        aliases: vec![Name::new("www").expect("valid")],
        addrs,
        mac: addrs.mac().expect("has addresses"),
        service: Some(ServiceId::from_bytes([2; 16])),
        slot: Some(1),
        condition: Condition::Ready,
        created_ms: 1,
        created: Revision(4),
        changed: Revision(5),
    }
}

fn view() -> NodeView {
    let node = Node {
        id: NodeId::from_bytes([4; 16]),
        index: NodeIndex::FIRST,
        name: "m1".into(),
        role: Role::Manager,
        availability: Availability::Drain,
        addr: "[fd00::11]:2377".parse().expect("valid"),
        data_path: "192.0.2.11".parse().expect("valid"),
        fabric: DualStack::new("10.255.0.2".parse().ok(), None),
        version: "0.1.0".into(),
        labels: StringMap::new(),
        joined_ms: 3,
        created: Revision(1),
        changed: Revision(1),
    };
    NodeView {
        revision: Revision(9),
        me: node.id,
        cluster: ClusterView {
            id: ClusterId::from_bytes([6; 16]),
            data_path_port: 4789,
            gossip_keys: vec![GossipKey { id: 1, secret: [7; 32] }],
            managers: vec!["192.0.2.11:2377".parse().expect("valid")],
        },
        nodes: [(node.id, node)].into(),
        networks: [(network().id, network())].into(),
        services: [(service().id, service())].into(),
        endpoints: [(endpoint().id, endpoint())].into(),
    }
}

#[test]
fn a_view_round_trips() {
    assert_eq!(NodeView::try_from(v1::NodeView::from(&view())), Ok(view()));
}

#[test]
fn every_change_round_trips() {
    let full = view();
    let mut empty = view();
    empty.revision = Revision(8);
    empty.cluster.data_path_port = 1;
    empty.nodes.clear();
    empty.networks.clear();
    empty.services.clear();
    empty.endpoints.clear();
    for delta in [empty.delta_to(&full), full.delta_to(&empty)] {
        assert_eq!(delta.changes.len(), 5);
        assert_eq!(ViewDelta::try_from(v1::ViewDelta::from(&delta)), Ok(delta));
    }
}

#[test]
fn malformed_fields_are_named() {
    let mut m = v1::Endpoint::from(&endpoint());
    m.node = vec![1, 2, 3].into();
    let err = Endpoint::try_from(m).expect_err("3 bytes are no id");
    assert_eq!(err.to_string(), "malformed message: node: 3 bytes, want 16");
    let mut m = v1::Service::from(&service());
    m.publications[0].published = 70_000;
    assert_eq!(Service::try_from(m).expect_err("no port").field, "published");
    let mut m = v1::Network::from(&network());
    m.vni = 1 << 24;
    assert_eq!(Network::try_from(m).expect_err("25 bits").field, "vni");
}
