//! A small cluster for tests: three nodes, one overlay, one service with tasks on two of them.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::sync::Arc;

use swarmnet_dataplane::LinkKind;
use swarmnet_dataplane::LinkName;
use swarmnet_dataplane::desired::Options;
use swarmnet_gossip::{Condition as NodeCondition, NodeState};
use swarmnet_kernel::underlay::Interface;
use swarmnet_types::publish::Publication;
use swarmnet_types::{
    Algorithm, AttachmentSpec, Availability, ClusterId, ClusterView, Condition, Driver, DualStack,
    Endpoint, EndpointId, EndpointMode, GossipKey, Mac, Name, Network, NetworkId, NetworkSpec,
    Node, NodeId, NodeIndex, NodeView, Protocol, PublishMode, Revision, Role, SandboxId, Scope,
    Service, ServiceId, StringMap, SubnetSpec, Vni,
};

use super::Inputs;
use crate::local::{Attachment, DnsSettings, LocalObjects, SandboxRecord, SandboxState};
use crate::underlay::Underlay;

pub(crate) const ME: NodeId = NodeId::from_bytes([1; 16]);
pub(crate) const OTHER: NodeId = NodeId::from_bytes([2; 16]);
pub(crate) const THIRD: NodeId = NodeId::from_bytes([3; 16]);
pub(crate) const INGRESS: NetworkId = NetworkId::from_bytes([10; 16]);
pub(crate) const OVERNET: NetworkId = NetworkId::from_bytes([11; 16]);
pub(crate) const WEB: ServiceId = ServiceId::from_bytes([20; 16]);
/// Of this node.
pub(crate) const HERE: SandboxId = SandboxId::from_bytes([30; 16]);
/// Of the other.
pub(crate) const THERE: SandboxId = SandboxId::from_bytes([31; 16]);

pub(crate) fn name(text: &str) -> Name {
    Name::new(text).expect("a name")
}

pub(crate) fn v4(text: &str) -> DualStack {
    DualStack::new(Some(text.parse().expect("an address")), None)
}

pub(crate) fn node(id: NodeId, last: u8) -> Node {
    let ip = IpAddr::V4(Ipv4Addr::new(192, 0, 2, last));
    Node {
        id,
        index: NodeIndex::new(last.into()).expect("an index"),
        name: format!("n{last}"),
        role: Role::Worker,
        availability: Availability::Active,
        addr: (ip, 2377).into(),
        data_path: ip,
        fabric: v4(&format!("10.255.0.{last}")),
        version: String::new(),
        labels: StringMap::new(),
        joined_ms: 0,
        created: Revision(1),
        changed: Revision(1),
    }
}

pub(crate) fn network(id: NetworkId, text: &str, driver: Driver, subnet: &str) -> Network {
    let subnet: swarmnet_types::Subnet = subnet.parse().expect("a subnet");
    let gateway = subnet.net().hosts().next();
    let granted = SubnetSpec { gateway, ..SubnetSpec::plain(subnet) };
    let spec = NetworkSpec {
        attachable: true,
        ingress: id == INGRESS,
        ..NetworkSpec::named(name(text), driver)
    };
    let vni = (spec.scope == Scope::Cluster).then(|| Vni::new(4097).expect("a VNI"));
    let (created, changed) = (Revision(1), Revision(1));
    Network { id, spec, subnets: vec![granted], vni, created_ms: 0, created, changed }
}

/// An endpoint whose id is made of two numbers.
pub(crate) fn endpoint(
    (network, sandbox): (NetworkId, SandboxId),
    node: NodeId,
    addr: &str,
) -> Endpoint {
    let mut id = *network.as_bytes();
    id[0] = sandbox.as_bytes()[0];
    let addrs = v4(addr);
    Endpoint {
        id: EndpointId::from_bytes(id),
        network,
        node,
        sandbox,
        name: name(if sandbox == HERE { "w1" } else { "w2" }),
        hostname: String::new(),
        aliases: Vec::new(),
        mac: addrs.mac().unwrap_or(Mac([0; 6])),
        addrs,
        service: Some(WEB),
        slot: Some(if sandbox == HERE { 1 } else { 2 }),
        condition: Condition::Ready,
        created_ms: 0,
        created: Revision(1),
        changed: Revision(1),
    }
}

pub(crate) fn endpoints() -> Vec<Endpoint> {
    vec![
        endpoint((OVERNET, HERE), ME, "10.0.1.2"),
        endpoint((INGRESS, HERE), ME, "10.255.1.2"),
        endpoint((OVERNET, THERE), OTHER, "10.0.1.3"),
        endpoint((INGRESS, THERE), OTHER, "10.255.1.3"),
    ]
}

pub(crate) fn service() -> Service {
    Service {
        id: WEB,
        name: name("web"),
        endpoint_mode: EndpointMode::Vip,
        algorithm: Algorithm::Random,
        labels: StringMap::new(),
        vips: BTreeMap::from([(OVERNET, v4("10.0.1.100"))]),
        publications: vec![Publication {
            published: 5000,
            target: 80,
            protocol: Protocol::Tcp,
            mode: PublishMode::Ingress,
            ip: None,
            nodes: None,
            allow_from: Vec::new(),
        }],
        externals: Vec::new(),
        created_ms: 0,
        created: Revision(1),
        changed: Revision(1),
    }
}

pub(crate) fn view() -> NodeView {
    let nodes = [node(ME, 1), node(OTHER, 2), node(THIRD, 3)];
    let networks = [
        network(INGRESS, "ingress", Driver::Overlay, "10.255.0.0/16"),
        network(OVERNET, "overnet", Driver::Overlay, "10.0.1.0/24"),
    ];
    NodeView {
        revision: Revision(7),
        me: ME,
        cluster: ClusterView {
            id: ClusterId::from_bytes([9; 16]),
            data_path_port: 4789,
            gossip_keys: vec![GossipKey { id: 1, secret: [7; 32] }],
            managers: vec![([192, 0, 2, 1], 2377).into()],
        },
        nodes: nodes.into_iter().map(|n| (n.id, n)).collect(),
        networks: networks.into_iter().map(|n| (n.id, n)).collect(),
        services: BTreeMap::from([(WEB, service())]),
        endpoints: endpoints().into_iter().map(|e| (e.id, e)).collect(),
    }
}

/// The sandbox of this node, on the overlay.
pub(crate) fn record() -> SandboxRecord {
    let of = |network: NetworkId| {
        let found = endpoints().into_iter().find(|e| e.network == network && e.sandbox == HERE);
        found.expect("it has one there")
    };
    let network = network(OVERNET, "overnet", Driver::Overlay, "10.0.1.0/24");
    SandboxRecord {
        id: HERE,
        name: name("w1"),
        hostname: "w1".parse().expect("a host name"),
        netns: PathBuf::from("/run/netns/w1"),
        named: true,
        attachments: vec![Attachment {
            spec: AttachmentSpec::default(),
            endpoint: of(OVERNET),
            network,
            ifname: "eth0".to_owned(),
        }],
        fabric: Some(of(INGRESS)),
        service: Some(WEB),
        service_name: Some(name("web")),
        dns: DnsSettings::default(),
        ports: Vec::new(),
        labels: StringMap::new(),
        created_ms: 0,
        process: None,
        owner: None,
        state: SandboxState::Ready,
        comes_back: false,
    }
}

pub(crate) fn local(records: impl IntoIterator<Item = SandboxRecord>) -> Arc<LocalObjects> {
    let sandboxes = records.into_iter().map(|r| (r.id, Arc::new(r))).collect();
    Arc::new(LocalObjects { generation: 3, networks: BTreeMap::new(), sandboxes })
}

pub(crate) fn underlay() -> Underlay {
    let eth0 = Interface {
        name: LinkName::new("eth0").expect("a name"),
        kind: LinkKind::Veth,
        mtu_bytes: 1500,
        up: true,
        ours: false,
        addrs: vec!["192.0.2.1/24".parse().expect("a net")],
    };
    Underlay { interfaces: vec![eth0], ..Underlay::default() }
}

pub(crate) fn inputs() -> Inputs {
    Inputs {
        view: Some(Arc::new(view())),
        liveness: Arc::default(),
        local: local([record()]),
        underlay: Arc::new(underlay()),
        overlay_netns: PathBuf::from("/run/swarmnet/dp"),
        options: Options::default(),
        held: false,
    }
}

/// Gossip's verdict on one node.
pub(crate) fn verdict(condition: NodeCondition, addr: [u8; 4]) -> NodeState {
    NodeState { condition, since_ms: 0, incarnation: 1, addr: IpAddr::from(addr) }
}
