//! A cluster to try commands on, and what must hold after each of them.

mod attach;
mod ca;
mod cluster;
mod events;
mod load;
mod network;
mod properties;
mod publish;
mod service;
mod token;
mod view;

use std::collections::BTreeSet;

use swarmnet_types::publish::parse as parse_publications;
use swarmnet_types::{
    AttachmentSpec, Availability, ClusterId, Driver, DualStack, Endpoint, EndpointId, Name,
    Network, NetworkId, NetworkSpec, NodeDescription, NodeId, Publication, Revision, Role,
    SandboxId, Service, Subnet, SubnetSpec,
};

use crate::command::*;
use crate::outcome::Outcome;
use crate::rejection::Rejection;
use crate::secret::Secret;
use crate::state::index::Index;
use crate::state::{CertificateAuthority, ManagerLock, NodeTls, State};

pub(super) fn name(text: &str) -> Name {
    Name::new(text).expect("a DNS label")
}

pub(super) fn subnet(text: &str) -> Subnet {
    text.parse().expect("a subnet")
}

pub(super) fn node_id(n: u8) -> NodeId {
    NodeId::from_bytes([n; 16])
}

pub(super) fn sandbox_id(n: u8) -> SandboxId {
    SandboxId::from_bytes([n; 16])
}

pub(super) fn description(n: u8) -> NodeDescription {
    NodeDescription {
        name: format!("n{n}"),
        addr: format!("192.0.2.{n}:7777").parse().expect("an address"),
        data_path: format!("192.0.2.{n}").parse().expect("an address"),
        version: "0.1.0".into(),
    }
}

pub(super) fn join(n: u8, role: Role) -> JoinNode {
    let availability = Availability::Active;
    let (tls, token) = (NodeTls::by(&authority(CA), u64::from(n)), None);
    JoinNode { node: node_id(n), role, availability, description: description(n), tls, token }
}

/// The first CA.
pub(super) const CA: u8 = 0xca;

pub(super) fn authority(n: u8) -> CertificateAuthority {
    CertificateAuthority {
        cert_pem: format!("cert {n}"),
        key_pem: Secret::new(*b"key"),
        fingerprint: [n; 32],
    }
}

pub(super) fn init() -> ClusterInit {
    ClusterInit {
        id: ClusterId::from_bytes([0xc1; 16]),
        ca: authority(CA),
        worker_token: Secret::new(*b"worker"),
        manager_token: Secret::new(*b"manager"),
        pools: Vec::new(),
        pool_mask_len: 24,
        data_path_port: 4789,
        cert_expiry_ms: 1000,
        gossip_secret: [1; 32],
        ingress: Vec::new(),
        avoid: Vec::new(),
        first: join(1, Role::Manager),
    }
}

pub(super) fn overlay(text: &str) -> NetworkSpec {
    NetworkSpec { attachable: true, ..NetworkSpec::named(name(text), Driver::Overlay) }
}

pub(super) fn with_subnet(text: &str, cidr: &str) -> NetworkSpec {
    let mut spec = overlay(text);
    spec.ipv6 = cidr.contains(':');
    spec.ipv4 = !spec.ipv6;
    spec.subnets = vec![SubnetSpec::plain(subnet(cidr))];
    spec
}

pub(super) fn on(network: &str) -> AttachmentSpec {
    AttachmentSpec { network: network.into(), ..AttachmentSpec::default() }
}

/// A sandbox `w<n>` on a node.
pub(super) fn task(node: u8, n: u8, service: Option<&str>, networks: &[&str]) -> Attach {
    Attach {
        node: node_id(node),
        sandbox: sandbox_id(n),
        name: name(&format!("w{n}")),
        hostname: format!("w{n}"),
        service: service.map(name),
        attachments: networks.iter().map(|n| on(n)).collect(),
    }
}

/// A state, and the log that led to it.
#[derive(Clone, Default)]
pub(super) struct World {
    pub(super) state: State,
    pub(super) log: Vec<(Revision, Proposal)>,
    pub(super) now_ms: u64,
}

impl World {
    pub(super) fn empty() -> Self {
        Self::default()
    }

    /// One manager, node 1.
    pub(super) fn new() -> Self {
        let mut world = Self::default();
        world.ok(Command::InitCluster(Box::new(init())));
        world
    }

    /// A manager, node 1, and workers from 2 on.
    pub(super) fn with_nodes(count: u8) -> Self {
        let mut world = Self::new();
        for n in 2..=count {
            world.ok(Command::JoinNode(join(n, Role::Worker)));
        }
        world
    }

    pub(super) fn proposal(&self, command: Command) -> Proposal {
        let mut seed = [0; 32];
        let n = self.log.len() as u64 + 1;
        for (i, word) in seed.chunks_exact_mut(8).enumerate() {
            let mixed = (n ^ (i as u64) << 32).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            word.copy_from_slice(&(mixed ^ mixed >> 29).to_be_bytes());
        }
        let request_id = u128::from(n).to_be_bytes();
        Proposal { command, now_ms: self.now_ms, seed, request_id }
    }

    /// Applies and checks that nothing is at odds afterwards.
    pub(super) fn apply(&mut self, command: Command) -> Result<Outcome, Rejection> {
        let revision = Revision(self.state.revision().0 + 1);
        let proposal = self.proposal(command);
        let before = self.state.clone();
        let answer = self.state.apply(revision, &proposal);
        self.log.push((revision, proposal));
        if answer.is_err() {
            self.unchanged_since(&before);
        }
        sound(&self.state);
        answer
    }

    fn unchanged_since(&self, before: &State) {
        let mut now = self.state.tables.clone();
        now.revision = before.tables.revision;
        now.recent = before.tables.recent.clone();
        assert_eq!(now, before.tables, "a rejection changes nothing");
    }

    pub(super) fn ok(&mut self, command: Command) -> Outcome {
        self.apply(command).unwrap_or_else(|e| panic!("{e}"))
    }

    pub(super) fn refused(&mut self, command: Command) -> String {
        self.apply(command).expect_err("a rejection").to_string()
    }

    pub(super) fn network(&mut self, spec: NetworkSpec) -> Network {
        let create = CreateNetwork { spec, avoid: Vec::new() };
        match self.ok(Command::CreateNetwork(create)) {
            Outcome::NetworkCreated { network } => self.state.tables.networks[&network].clone(),
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn no_network(&mut self, spec: NetworkSpec) -> String {
        self.refused(Command::CreateNetwork(CreateNetwork { spec, avoid: Vec::new() }))
    }

    pub(super) fn attach(&mut self, attach: Attach) -> Vec<Endpoint> {
        match self.ok(Command::Attach(attach)) {
            Outcome::Attached { endpoints, .. } => endpoints,
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn publish(&mut self, service: Option<&str>, text: &str) -> Vec<Publication> {
        match self.ok(publishing(service, text)) {
            Outcome::Published { publications, .. } => publications,
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn service(&self, text: &str) -> &Service {
        self.state.find_service(text).expect("the service")
    }
}

pub(super) fn publishing(service: Option<&str>, text: &str) -> Command {
    let specs = parse_publications(text).expect("a publication");
    Command::Publish(Publish { service: service.map(str::to_owned), specs })
}

pub(super) fn remove_network(text: &str, force: bool, dead: &[u8]) -> Command {
    let dead = dead.iter().map(|n| node_id(*n)).collect();
    Command::RemoveNetwork(RemoveNetwork { network: text.into(), force, dead })
}

pub(super) fn detach(node: u8, endpoints: &[Endpoint]) -> Command {
    let endpoints: Vec<EndpointId> = endpoints.iter().map(|e| e.id).collect();
    Command::Detach { node: node_id(node), endpoints }
}

pub(super) fn v4(e: &Endpoint) -> String {
    e.addrs.v4.expect("an IPv4 address").to_string()
}

/// What holds in every state.
pub(super) fn sound(state: &State) {
    assert_eq!(state.index, Index::of(&state.tables), "the index follows from the tables");
    for network in state.networks() {
        addresses_are_unique(state, network);
    }
    let vnis: Vec<_> = state.networks().filter_map(|n| n.vni).collect();
    assert_eq!(vnis.len(), vnis.iter().collect::<BTreeSet<_>>().len(), "no VNI twice");
    let indexes: BTreeSet<_> = state.nodes().map(|n| n.index).collect();
    assert_eq!(indexes.len(), state.nodes().count(), "no node number twice");
    ports_are_unique(state);
    slots_are_unique(state);
}

fn addresses_are_unique(state: &State, network: &Network) {
    let id: NetworkId = network.id;
    let fabric = state.nodes().filter(|_| network.spec.ingress).map(|n| n.fabric);
    let vips = state.services_on(id).map(|s| s.vips[&id]);
    let endpoints = state.endpoints_on(id).map(|e| e.addrs);
    let held: Vec<_> = fabric
        .chain(vips)
        .chain(endpoints)
        .flat_map(|d: DualStack| d.iter().collect::<Vec<_>>())
        .collect();
    let distinct: BTreeSet<_> = held.iter().collect();
    assert_eq!(distinct.len(), held.len(), "no address twice on {}", network.spec.name);
    for spec in &network.subnets {
        let fixed = spec.gateway.iter().chain(spec.aux_addresses.values());
        assert!(fixed.clone().all(|a| !distinct.contains(a)), "reserved stays reserved");
    }
    assert!(held.iter().all(|a| network.contains(*a)), "within {}", network.spec.name);
    let macs: BTreeSet<_> = state.endpoints_on(id).map(|e| e.mac).collect();
    assert_eq!(macs.len(), state.endpoints_on(id).count(), "no MAC twice");
    let within = |s: &SubnetSpec| {
        let range = s.ip_range.unwrap_or(s.subnet);
        held.iter().filter(|a| range.contains(**a)).count() as u128
    };
    let used: Vec<_> = state.usage(id).iter().map(|u| u.used).collect();
    assert_eq!(used, network.subnets.iter().map(within).collect::<Vec<_>>(), "usage counts");
}

fn ports_are_unique(state: &State) {
    let all: Vec<_> =
        state.services().flat_map(|s| s.publications.iter().map(move |p| (s, p))).collect();
    for (i, (s, p)) in all.iter().enumerate() {
        for (t, q) in &all[i + 1..] {
            let both_host = p.mode == q.mode && p.mode == swarmnet_types::PublishMode::Host;
            let apart = both_host && s.id != t.id;
            assert!(apart || !p.conflicts(q), "{} and {} both publish {p}", s.name, t.name);
        }
    }
}

fn slots_are_unique(state: &State) {
    for service in state.services() {
        let tasks: BTreeSet<_> =
            state.tasks_of(service.id).map(|e| (e.slot, e.node, e.sandbox)).collect();
        let slots: BTreeSet<_> = tasks.iter().map(|t| t.0).collect();
        assert_eq!(slots.len(), tasks.len(), "one slot for each task of {}", service.name);
    }
}
