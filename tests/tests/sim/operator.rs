//! The people: networks, services, publications, nodes and keys come, change and go, a few names for all of it so that wishes meet.

use swarmnet_manager_core::{
    Command, CreateNetwork, NetworkChange, NodeChange, Publish, RemoveNetwork, ServiceChange,
    Unpublish,
};
use swarmnet_types::publish::parse as publications;
use swarmnet_types::{Availability, Driver, EndpointMode, Name, NetworkSpec, ServiceSpec};

use crate::rng::Rng;
use crate::world::{MACHINES, node_id};

const NETWORKS: u64 = 5;
const SERVICES: u64 = 4;

pub(crate) fn network(rng: &mut Rng) -> Name {
    Name::new(format!("n{}", rng.below(NETWORKS))).expect("a name")
}

pub(crate) fn service(rng: &mut Rng) -> Name {
    Name::new(format!("s{}", rng.below(SERVICES))).expect("a name")
}

/// What somebody wants next.
pub(crate) fn wish(rng: &mut Rng) -> Command {
    match rng.below(16) {
        0..=4 => create_network(rng),
        5 | 6 => {
            let network = network(rng).to_string();
            let dead = std::collections::BTreeSet::new();
            Command::RemoveNetwork(RemoveNetwork { network, force: false, dead })
        }
        7 => Command::CreateService(service_spec(rng)),
        8 => Command::RemoveService { service: service(rng).to_string() },
        9 | 10 => Command::UpdateService(service_change(rng)),
        11 | 12 => publish(rng),
        13 => Command::Unpublish(Unpublish {
            service: None,
            port: u16::try_from(5_000 + rng.below(4)).expect("a port"),
            protocol: None,
        }),
        14 => {
            let all = [Availability::Active, Availability::Active, Availability::Drain];
            Command::UpdateNode(NodeChange {
                node: node_id(rng.index(MACHINES)).to_string(),
                availability: Some(all[rng.index(all.len())]),
                ..NodeChange::default()
            })
        }
        _ => Command::RotateGossipKey { secret: rng.bytes() },
    }
}

fn create_network(rng: &mut Rng) -> Command {
    let spec = NetworkSpec {
        attachable: true,
        ipv6: rng.chance(200),
        internal: rng.chance(200),
        ..NetworkSpec::named(network(rng), Driver::Overlay)
    };
    Command::CreateNetwork(CreateNetwork { spec, avoid: Vec::new() })
}

fn service_spec(rng: &mut Rng) -> ServiceSpec {
    let name = service(rng);
    ServiceSpec {
        endpoint_mode: mode(rng),
        networks: vec![network(rng).to_string()],
        ..ServiceSpec::named(name)
    }
}

fn mode(rng: &mut Rng) -> EndpointMode {
    if rng.chance(700) { EndpointMode::Vip } else { EndpointMode::Dnsrr }
}

fn service_change(rng: &mut Rng) -> ServiceChange {
    let mut change = ServiceChange { service: service(rng).to_string(), ..Default::default() };
    let name = network(rng).to_string();
    match rng.below(3) {
        0 => change.networks = NetworkChange { add: vec![name], remove: Vec::new() },
        1 => change.networks = NetworkChange { add: Vec::new(), remove: vec![name] },
        _ => change.endpoint_mode = Some(mode(rng)),
    }
    change
}

/// Sometimes without a port: the cluster then gives one with every repetition, were it not for the request id.
fn publish(rng: &mut Rng) -> Command {
    let text = match rng.below(5) {
        0 | 1 => "80".to_owned(),
        n => format!("500{n}:80"),
    };
    Command::Publish(Publish {
        service: rng.chance(800).then(|| service(rng).to_string()),
        specs: publications(&text).expect("a publication"),
    })
}
