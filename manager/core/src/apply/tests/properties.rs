//! Random histories: what must hold after every command, on every node, and on every manager that reads the same log.

use std::collections::BTreeMap;

use proptest::prelude::*;
use swarmnet_types::{Condition, NodeView};

use super::*;

/// A step of a history. Numbers pick among few nodes, networks, services and sandboxes, so that steps collide often.
#[derive(Debug, Clone)]
enum Step {
    Join(u8),
    Leave(u8, bool),
    Node(u8, u8),
    Network(u8, u8),
    NoNetwork(u8, bool),
    Service(u8, Vec<u8>, bool),
    Update(u8, u8, u8),
    NoService(u8),
    Publish(Option<u8>, u8, bool),
    Unpublish(u8),
    Attach { node: u8, sandbox: u8, service: Option<u8>, networks: Vec<u8>, ip: Option<u8> },
    Detach(u8, u8),
    Disconnect(u8, u8, u8),
    Ready(u8, u8),
    Rotate(u8),
}

fn step() -> impl Strategy<Value = Step> {
    let node = 1..5u8;
    let net = 0..5u8;
    let some = prop::collection::vec(0..5u8, 0..3);
    prop_oneof![
        2 => (2..7u8).prop_map(Step::Join),
        1 => (1..7u8, any::<bool>()).prop_map(|(n, f)| Step::Leave(n, f)),
        1 => (node.clone(), any::<u8>()).prop_map(|(n, k)| Step::Node(n, k)),
        5 => (net.clone(), 0..8u8).prop_map(|(n, k)| Step::Network(n, k)),
        2 => (0..6u8, any::<bool>()).prop_map(|(n, f)| Step::NoNetwork(n, f)),
        2 => (0..4u8, some.clone(), any::<bool>()).prop_map(|(s, n, d)| Step::Service(s, n, d)),
        2 => (0..4u8, net.clone(), any::<u8>()).prop_map(|(s, n, k)| Step::Update(s, n, k)),
        1 => (0..4u8).prop_map(Step::NoService),
        3 => (prop::option::of(0..4u8), 0..5u8, any::<bool>()).prop_map(|(s, p, h)| Step::Publish(s, p, h)),
        2 => (0..5u8).prop_map(Step::Unpublish),
        12 => (node.clone(), 0..6u8, prop::option::of(0..4u8), some, prop::option::weighted(0.2, 0..8u8))
            .prop_map(|(node, sandbox, service, networks, ip)| Step::Attach { node, sandbox, service, networks, ip }),
        3 => (node.clone(), 0..6u8).prop_map(|(n, s)| Step::Detach(n, s)),
        2 => (node.clone(), 0..6u8, net).prop_map(|(n, s, w)| Step::Disconnect(n, s, w)),
        3 => (node, 0..6u8).prop_map(|(n, s)| Step::Ready(n, s)),
        1 => any::<u8>().prop_map(Step::Rotate),
    ]
}

fn network_spec(n: u8, kind: u8) -> NetworkSpec {
    let text = format!("net{n}");
    match kind {
        0 => with_subnet(&text, "172.20.0.0/29"),
        1 => with_subnet(&text, "172.20.0.0/28"),
        2 => with_subnet(&text, "fd00:6::/126"),
        3 => NetworkSpec { internal: true, ..overlay(&text) },
        4 => NetworkSpec { attachable: false, ipv6: true, ..overlay(&text) },
        5 => NetworkSpec { ingress: true, attachable: false, ..overlay(&text) },
        _ => NetworkSpec { ipv6: true, ..overlay(&text) },
    }
}

fn service_name(n: u8) -> Name {
    name(&format!("s{n}"))
}

fn network_name(n: u8) -> String {
    if n == 5 { "ingress".into() } else { format!("net{n}") }
}

fn endpoints(state: &State, node: u8, sandbox: u8) -> Vec<EndpointId> {
    state.endpoints_of_sandbox(node_id(node), sandbox_id(sandbox)).map(|e| e.id).collect()
}

fn command(state: &State, step: &Step) -> Command {
    match step {
        Step::Join(n) => Command::JoinNode(join(*n, Role::Worker)),
        Step::Leave(n, force) => Command::RemoveNode(RemoveNode {
            node: format!("n{n}"),
            force: *force,
            alive: n % 2 == 0,
        }),
        Step::Node(n, k) if k % 2 == 0 => {
            let description = NodeDescription { version: k.to_string(), ..description(*n) };
            Command::UpdateNodeDescription { node: node_id(*n), description }
        }
        Step::Node(n, k) => Command::UpdateNode(NodeChange {
            node: format!("n{n}"),
            role: Some(if k % 3 == 0 { Role::Manager } else { Role::Worker }),
            labels_add: [("edge".to_owned(), "yes".to_owned())].into(),
            ..NodeChange::default()
        }),
        Step::Network(n, kind) => {
            Command::CreateNetwork(CreateNetwork { spec: network_spec(*n, *kind), avoid: vec![] })
        }
        Step::NoNetwork(n, force) => remove_network(&network_name(*n), *force, &[2, 3]),
        Step::Attach { node, sandbox, service, networks, ip } => {
            let networks: Vec<_> = networks.iter().map(|n| network_name(*n)).collect();
            let networks: Vec<_> = networks.iter().map(String::as_str).collect();
            let mut attach = task(*node, *sandbox, None, &networks);
            attach.service = service.map(service_name);
            if let (Some(ip), Some(first)) = (ip, attach.attachments.first_mut()) {
                first.ipv4 = Some([172, 20, 0, *ip].into());
            }
            Command::Attach(attach)
        }
        Step::Detach(n, s) => {
            Command::Detach { node: node_id(*n), endpoints: endpoints(state, *n, *s) }
        }
        Step::Disconnect(n, s, w) => Command::Disconnect {
            node: node_id(*n),
            sandbox: sandbox_id(*s),
            network: network_name(*w),
        },
        Step::Ready(n, s) => Command::SetConditions {
            node: node_id(*n),
            conditions: endpoints(state, *n, *s)
                .into_iter()
                .map(|e| (e, Condition::Ready))
                .collect(),
        },
        Step::Rotate(n) => Command::RotateGossipKey { secret: [*n; 32] },
        service => service_command(service),
    }
}

fn service_command(step: &Step) -> Command {
    match step {
        Step::Service(s, networks, host) => {
            let mut spec = swarmnet_types::ServiceSpec::named(service_name(*s));
            spec.networks = networks.iter().map(|n| network_name(*n)).collect();
            if *host {
                spec.publish =
                    parse_publications("published=5001,target=80,mode=host").expect("valid");
            }
            Command::CreateService(spec)
        }
        Step::Update(s, n, k) => {
            let mut change =
                ServiceChange { service: service_name(*s).to_string(), ..Default::default() };
            match k % 4 {
                0 => change.networks.add.push(network_name(*n)),
                1 => change.networks.remove.push(network_name(*n)),
                2 => change.endpoint_mode = Some(swarmnet_types::EndpointMode::Dnsrr),
                _ => change.endpoint_mode = Some(swarmnet_types::EndpointMode::Vip),
            }
            Command::UpdateService(change)
        }
        Step::NoService(s) => Command::RemoveService { service: service_name(*s).to_string() },
        Step::Publish(s, p, host) => {
            let text = match (p, host) {
                (0, _) => "80".to_owned(),
                (p, false) => format!("500{p}:80"),
                (p, true) => format!("published=500{p},target=80,mode=host"),
            };
            publishing(s.map(|s| service_name(s).to_string()).as_deref(), &text)
        }
        Step::Unpublish(p) => {
            let port = if *p == 0 { 80 } else { 5000 + u16::from(*p) };
            Command::Unpublish(Unpublish { service: None, port, protocol: None })
        }
        other => unreachable!("{other:?} is no step of a service"),
    }
}

/// What nodes keep: each takes deltas at its own pace.
struct Nodes(BTreeMap<NodeId, NodeView>);

impl Nodes {
    fn new(state: &State) -> Self {
        let ids = (1..7u8).map(node_id);
        Self(ids.map(|id| (id, state.node_view(id).expect("initialised"))).collect())
    }

    /// Nodes whose turn it is catch up, and see what a fresh view shows.
    fn follow(&mut self, state: &State, turn: impl Fn(&NodeId) -> bool) {
        for (id, view) in self.0.iter_mut().filter(|(id, _)| turn(id)) {
            let delta = state.delta(*id, view.revision).expect("within the log");
            let mut keys: Vec<String> = delta.changes.iter().map(key).collect();
            keys.sort();
            keys.dedup();
            assert_eq!(keys.len(), delta.changes.len(), "each object once");
            view.apply(delta).expect("no gap");
            assert_eq!(
                *view,
                state.node_view(*id).expect("initialised"),
                "delta leads to the view"
            );
        }
    }
}

fn key(change: &swarmnet_types::ViewChange) -> String {
    use swarmnet_types::ViewChange::*;
    match change {
        Cluster(_) => "cluster".into(),
        Node(n) => n.id.to_string(),
        NodeGone(id) => id.to_string(),
        Network(n) => n.id.to_string(),
        NetworkGone(id) => id.to_string(),
        Service(s) => s.id.to_string(),
        ServiceGone(id) => id.to_string(),
        Endpoint(e) => e.id.to_string(),
        EndpointGone(id) => id.to_string(),
    }
}

/// Who is not named by `concerned` sees what it saw.
fn others_see_no_change(before: &State, after: &State) {
    let concerned = after.concerned(before.revision());
    for node in after.nodes().filter(|n| !concerned.contains(&n.id)) {
        let old = before.node_view(node.id).expect("initialised");
        let mut new = after.node_view(node.id).expect("initialised");
        new.revision = old.revision;
        assert_eq!(old, new, "{} was not told", node.name);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    /// `World::apply` checks after every step that rejections change nothing, the index follows from the tables, no address, MAC,
    /// VNI, port, slot or node number is had twice, and usage counts are right.
    #[test]
    fn every_history_is_sound(steps in prop::collection::vec(step(), 1..120)) {
        let mut world = World::with_nodes(4);
        let mut nodes = Nodes::new(&world.state);
        for (i, step) in steps.iter().enumerate() {
            let before = world.state.clone();
            let _ = world.apply(command(&world.state, step));
            others_see_no_change(&before, &world.state);
            nodes.follow(&world.state, |id| i % usize::from(id.as_bytes()[0]) == 0);
        }
        nodes.follow(&world.state, |_| true);
        replay_agrees(&world);
    }

    /// After everything is given back, everything can be had again.
    #[test]
    fn what_is_freed_is_reusable(rounds in 1..6usize) {
        let mut world = World::with_nodes(2);
        let network = world.network(with_subnet("small", "172.20.0.0/29"));
        for _ in 0..rounds {
            for n in 1..=5 {
                world.attach(task(2, n, None, &["small"]));
            }
            prop_assert_eq!(world.state.usage(network.id)[0].free(), 0);
            let endpoints = (1..=5).flat_map(|s| endpoints(&world.state, 2, s)).collect();
            world.ok(Command::Detach { node: node_id(2), endpoints });
            prop_assert_eq!(world.state.usage(network.id)[0].free(), 5);
        }
    }
}

/// The same log gives the same state on another manager, also when that one joins half-way by snapshot, and when several
/// proposals share a revision the outcome differs in nothing but revisions.
fn replay_agrees(world: &World) {
    let mut other = State::default();
    for (i, (revision, proposal)) in world.log.iter().enumerate() {
        if i == world.log.len() / 2 {
            let bytes = postcard::to_stdvec(&other).expect("writes");
            let loaded: State = postcard::from_bytes(&bytes).expect("reads");
            assert_eq!(loaded.digest(), other.digest(), "a snapshot is the state");
            assert_eq!(loaded.index, other.index);
            other = loaded;
        }
        let _ = other.apply(*revision, proposal);
    }
    assert_eq!(other.digest(), world.state.digest());
    assert_eq!(other, world.state);
    let mut batched = State::default();
    for (_, proposal) in &world.log {
        let _ = batched.apply(Revision(1), proposal);
    }
    sound(&batched);
    assert_eq!(batched.endpoints().count(), world.state.endpoints().count());
}
