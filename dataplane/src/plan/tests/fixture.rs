//! A node with everything: fabric, peers, an overlay, a bridge, sandboxes, services, ports.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use swarmnet_types::{
    Algorithm, DualStack, EndpointId, Mac, NetworkId, NodeIndex, Protocol, SandboxId, ServiceId,
    Vni,
};

use crate::desired::*;
use crate::object::{LinkName, Netns};

pub(super) fn id(kind: u8, n: u32) -> [u8; 16] {
    let number = n.to_be_bytes();
    let mut bytes = [kind; 16];
    bytes[..4].copy_from_slice(&number);
    bytes[0] ^= kind;
    bytes
}

pub(super) fn network(n: u32) -> NetworkId {
    NetworkId::from_bytes(id(1, n))
}

pub(super) fn sandbox(n: u32) -> SandboxId {
    SandboxId::from_bytes(id(2, n))
}

pub(super) fn endpoint(n: u32) -> EndpointId {
    EndpointId::from_bytes(id(3, n))
}

pub(super) fn service(n: u32) -> ServiceId {
    ServiceId::from_bytes(id(4, n))
}

pub(super) fn link(name: &str) -> LinkName {
    LinkName::new(name).expect("valid")
}

pub(super) fn bridge_name() -> LinkName {
    link("br-abcdefabcdef")
}

pub(super) fn index(n: u32) -> NodeIndex {
    NodeIndex::new(n).expect("not zero")
}

/// 10.<net>.x.y and fd00:<net>::n.
pub(super) fn dual(net: u8, n: u16) -> DualStack {
    let [hi, lo] = n.to_be_bytes();
    DualStack::new(
        Some(Ipv4Addr::new(10, net, hi, lo)),
        Some(Ipv6Addr::new(0xfd00, u16::from(net), 0, 0, 0, 0, 0, n)),
    )
}

pub(super) fn vtep(n: u32) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(192, 0, 2, n as u8))
}

pub(super) fn fabric() -> Fabric {
    let peers: BTreeMap<_, _> = [2u32, 3]
        .into_iter()
        .map(|n| (index(n), Peer { vtep: vtep(n), fabric: dual(255, n as u16) }))
        .collect();
    let tasks = [(10u32, 2u32), (11, 3)].into_iter().map(|(n, node)| {
        let task = FabricTask { addrs: dual(254, n as u16), node: index(node) };
        (endpoint(n), task)
    });
    Fabric {
        index: index(1),
        addrs: dual(255, 1),
        vtep: vtep(1),
        vxlan_port: 4789,
        underlay_mtu_bytes: 1500,
        peers: Arc::new(peers),
        tasks: Arc::new(tasks.collect()),
        node_addrs: (1..=3).map(vtep).collect(),
        control_ports: [(Protocol::Tcp, 2377)].into(),
    }
}

pub(super) fn overlay(vni: u32, remotes: impl IntoIterator<Item = (u32, u16, u32)>) -> Network {
    let remotes: BTreeMap<_, _> = remotes
        .into_iter()
        .map(|(n, host, node)| {
            let addrs = dual(0, host);
            let mac = addrs.mac().expect("it has addresses");
            (endpoint(n), Remote { addrs, mac, vtep: vtep(node) })
        })
        .collect();
    Network::Overlay(Overlay {
        vni: Vni::new(vni).expect("in range"),
        mtu_bytes: 1450,
        multicast: false,
        vteps: Arc::new(remotes.values().map(|r| r.vtep).collect()),
        remotes: Arc::new(remotes),
    })
}

pub(super) fn bridge() -> Network {
    Network::Bridge(Bridge {
        name: bridge_name(),
        subnets: vec![BridgeSubnet {
            subnet: "172.30.0.0/16".parse().expect("valid"),
            gateway: "172.30.0.1".parse().expect("valid"),
        }],
        mtu_bytes: 1500,
        masquerade: true,
        icc: true,
        internal: false,
    })
}

pub(super) fn overlay_sandbox(n: u32, on: NetworkId, host: u16) -> Sandbox {
    let addrs = dual(0, host);
    let endpoint_wish = Endpoint {
        network: on,
        ifname: link("eth0"),
        addrs: addrs
            .iter()
            .map(|a| ipnet::IpNet::new(a, if a.is_ipv6() { 64 } else { 16 }).expect("fits"))
            .collect(),
        mac: addrs.mac().expect("it has addresses"),
    };
    Sandbox {
        netns: Netns { path: format!("/run/netns/sb{n}").into(), ours: true },
        endpoints: [(endpoint(n), endpoint_wish)].into(),
        node_link: Some(NodeLink {
            ifname: link("eth1"),
            addrs: dual(253, n as u16),
            egress: true,
        }),
        default_v4: Some(DefaultRoute::NodeLink),
        default_v6: Some(DefaultRoute::NodeLink),
        dns_port: Some(40_053),
    }
}

pub(super) fn bridge_sandbox(n: u32, on: NetworkId) -> Sandbox {
    let endpoint_wish = Endpoint {
        network: on,
        ifname: link("eth0"),
        addrs: vec![format!("172.30.0.{}/16", n + 1).parse().expect("valid")],
        mac: Mac([0x02, 0x42, 172, 30, 0, n as u8 + 1]),
    };
    Sandbox {
        netns: Netns { path: format!("/run/netns/sb{n}").into(), ours: true },
        endpoints: [(endpoint(n), endpoint_wish)].into(),
        node_link: None,
        default_v4: Some(DefaultRoute::Gateway {
            gateway: "172.30.0.1".parse().expect("valid"),
            ifname: link("eth0"),
        }),
        default_v6: None,
        dns_port: None,
    }
}

pub(super) fn backends(net: u8, hosts: impl IntoIterator<Item = u16>) -> BTreeSet<IpAddr> {
    hosts.into_iter().flat_map(|h| dual(net, h).iter().collect::<Vec<_>>()).collect()
}

pub(super) fn called(vip: u16, hosts: impl IntoIterator<Item = u16>) -> Service {
    Service { vip: dual(0, vip), algorithm: Algorithm::Random, backends: backends(0, hosts) }
}

pub(super) fn port(port: u16) -> PublicationKey {
    PublicationKey { ip: None, protocol: Protocol::Tcp, port }
}

pub(super) fn published(hosts: impl IntoIterator<Item = u16>) -> Publication {
    let backends = backends(254, hosts);
    Publication {
        algorithm: Algorithm::Random,
        backends: backends.into_iter().map(|ip| (ip, 80).into()).collect(),
        allow_from: BTreeSet::new(),
    }
}

pub(super) fn world() -> Desired {
    Desired {
        fabric: Some(fabric()),
        overlay_netns: "/run/swarmnet/overlay".into(),
        networks: [(network(1), overlay(4097, [(10, 10, 2), (11, 11, 3)])), (network(2), bridge())]
            .into(),
        sandboxes: [
            (sandbox(1), Arc::new(overlay_sandbox(1, network(1), 1))),
            (sandbox(2), Arc::new(bridge_sandbox(2, network(2)))),
        ]
        .into(),
        services: [
            ((network(1), service(1)), Arc::new(called(100, [10, 11]))),
            ((network(1), service(2)), Arc::new(called(101, []))),
        ]
        .into(),
        publications: [(port(5000), Arc::new(published([10, 11])))].into(),
        ..Desired::default()
    }
}
