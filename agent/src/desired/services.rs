//! Services as sandboxes here may call them: one entry for each overlay of this node that the service has a VIP on.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use swarmnet_dataplane::desired;
use swarmnet_types::{EndpointMode, NetworkId, Service, ServiceId};

use super::scene::{Cluster, Scene};

pub(super) fn of(
    scene: &Scene<'_>,
    networks: &BTreeMap<NetworkId, desired::Network>,
) -> Vec<((NetworkId, ServiceId), desired::Service)> {
    let Some(cluster) = &scene.cluster else { return Vec::new() };
    let mut services = Vec::new();
    for service in cluster.view.services.values() {
        for (network, vip) in &service.vips {
            let balanced = service.endpoint_mode == EndpointMode::Vip && !vip.is_empty();
            if !balanced || !networks.contains_key(network) {
                continue;
            }
            let entry = desired::Service {
                vip: *vip,
                algorithm: service.algorithm,
                backends: backends(scene, cluster, *network, service),
            };
            services.push(((*network, service.id), entry));
        }
    }
    services
}

fn backends(
    scene: &Scene<'_>,
    cluster: &Cluster<'_>,
    network: NetworkId,
    service: &Service,
) -> BTreeSet<IpAddr> {
    let tasks = scene.balanced(cluster.tasks(network, service.id));
    let addrs = tasks.into_iter().flat_map(|e| e.addrs.iter().collect::<Vec<_>>());
    addrs.chain(service.externals.iter().map(|e| e.addr)).collect()
}
