//! Who stands behind a virtual address or a port, and why others do not.

use swarmnet_types::{Condition, Endpoint, NetworkId, Service};

use crate::desired::scene::{Scene, Shown};

/// Why an endpoint has no address for others, and what to do.
pub(super) fn why_hidden(scene: &Scene<'_>, endpoint: &Endpoint) -> (String, String) {
    let node = node_name(scene, endpoint);
    let name = &endpoint.name;
    if scene.is_dead(endpoint.node) {
        return (
            format!("{name} is hidden: its node {node} is dead"),
            format!("bring {node} back, or remove it with `swarmnet node rm`"),
        );
    }
    let condition = match endpoint.condition {
        Condition::Ready | Condition::Unhealthy => "leaving".to_owned(),
        other => other.to_string(),
    };
    (
        format!("{name} is hidden: it is {condition}"),
        format!("see `swarmnet sandbox ls` and `swarmnet agent status` on {node}"),
    )
}

pub(super) fn node_name(scene: &Scene<'_>, endpoint: &Endpoint) -> String {
    scene.node(endpoint.node).map_or_else(|| "this node".to_owned(), |n| n.name.clone())
}

/// The tasks of a service that get no new connections, with the reason.
pub(super) fn left_out(scene: &Scene<'_>, network: NetworkId, service: &Service) -> Vec<String> {
    let Some(cluster) = &scene.cluster else { return Vec::new() };
    let tasks = cluster.tasks(network, service.id);
    let balanced = scene.balanced(tasks);
    let out = tasks.iter().filter(|t| !balanced.iter().any(|b| b.id == t.id));
    out.map(|task| format!("{} ({})", task.name, reason(scene, task))).collect()
}

fn reason(scene: &Scene<'_>, task: &Endpoint) -> String {
    let node = node_name(scene, task);
    match scene.shown(task) {
        _ if scene.is_dead(task.node) => format!("{node} is dead"),
        _ if scene.is_drained(task.node) => format!("{node} is drained"),
        Shown::Unhealthy => "unhealthy".to_owned(),
        Shown::Ready | Shown::Hidden => match task.condition {
            Condition::Ready => "leaving".to_owned(),
            other => other.to_string(),
        },
    }
}
