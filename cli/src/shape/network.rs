//! Networks in Docker's JSON.

use serde_json::{Map, Value, json};
use swarmnet_proto::{Malformed, v1};
use swarmnet_types::network::PREDEFINED;
use swarmnet_types::{Driver, DualStack, Endpoint, Network, Scope, Service, SubnetSpec};

use super::filter::Filters;
use super::stamp::rfc3339;

/// One that every node has from the start.
pub(crate) fn is_builtin(network: &Network) -> bool {
    network.spec.scope == Scope::Local && PREDEFINED.contains(&network.spec.name.as_str())
}

/// Does a network pass the filters of `network ls`?
pub(crate) fn matches(network: &Network, filters: &Filters) -> bool {
    let spec = &network.spec;
    filters.allows("driver", |v| v == spec.driver.as_str())
        && filters.allows("id", |v| network.id.to_string().starts_with(v))
        && filters.allows("name", |v| spec.name.as_str().contains(v))
        && filters.allows("scope", |v| {
            v == spec.scope.to_string() || (v == "swarm" && spec.scope == Scope::Cluster)
        })
        && filters.allows("type", |v| (v == "builtin") == is_builtin(network))
        && filters.labels(&spec.labels)
}

/// One row of `network ls`, as `docker network ls --format json` has it.
pub(crate) fn row(network: &Network) -> Value {
    let spec = &network.spec;
    let labels: Vec<_> = spec.labels.iter().map(|(k, v)| format!("{k}={v}")).collect();
    json!({
        "ID": network.id.to_string(),
        "Name": spec.name.as_str(),
        "Driver": spec.driver.as_str(),
        "Scope": spec.scope.to_string(),
        "IPv4": spec.ipv4,
        "IPv6": spec.ipv6,
        "Internal": spec.internal,
        "Attachable": spec.attachable,
        "Ingress": spec.ingress,
        "Labels": labels.join(","),
        "CreatedAt": rfc3339(network.created_ms),
        "Subnets": network.subnets.iter().map(|s| s.subnet.to_string()).collect::<Vec<_>>(),
        "VNI": network.vni.map(swarmnet_types::Vni::get),
    })
}

/// `network inspect`.
pub(crate) fn inspect(detail: v1::NetworkDetail) -> Result<Value, Malformed> {
    let network: Network =
        detail.network.ok_or_else(|| Malformed::new("network", "missing"))?.try_into()?;
    let endpoints =
        detail.endpoints.into_iter().map(Endpoint::try_from).collect::<Result<Vec<_>, _>>()?;
    let services =
        detail.services.into_iter().map(Service::try_from).collect::<Result<Vec<_>, _>>()?;
    let spec = &network.spec;
    let usage: Vec<_> = detail
        .usage
        .iter()
        .map(|u| json!({"Subnet": u.subnet, "Used": u.used, "Free": u.free}))
        .collect();
    let nodes: Vec<_> = detail
        .nodes
        .iter()
        .map(|n| {
            json!({
                "Name": n.name,
                "ID": crate::cmd::hex(&n.node),
                "AppliedRevision": n.applied,
                "MTU": n.mtu,
                "Peers": n.peers,
                "Repaired": n.repaired,
            })
        })
        .collect();
    Ok(json!({
        "Name": spec.name.as_str(),
        "Id": network.id.to_string(),
        "Created": rfc3339(network.created_ms),
        "Scope": spec.scope.to_string(),
        "Driver": spec.driver.as_str(),
        "EnableIPv4": spec.ipv4,
        "EnableIPv6": spec.ipv6,
        "IPAM": {
            "Driver": "default",
            "Options": null,
            "Config": network.subnets.iter().map(ipam_config).collect::<Vec<_>>(),
            "Usage": usage,
        },
        "Internal": spec.internal,
        "Attachable": spec.attachable,
        "Ingress": spec.ingress,
        "ConfigFrom": {"Network": ""},
        "ConfigOnly": false,
        "Containers": containers(&network, &endpoints),
        "Options": options(&network),
        "Labels": spec.labels,
        "Services": services.iter().map(|s| (s.name.to_string(), service(&network, s, &endpoints))).collect::<Map<_, _>>(),
        "VNI": network.vni.map(swarmnet_types::Vni::get),
        "Revision": network.changed.0,
        "Nodes": nodes,
    }))
}

fn ipam_config(s: &SubnetSpec) -> Value {
    let mut config = Map::new();
    config.insert("Subnet".into(), s.subnet.to_string().into());
    if let Some(range) = s.ip_range {
        config.insert("IPRange".into(), range.to_string().into());
    }
    if let Some(gateway) = s.gateway {
        config.insert("Gateway".into(), gateway.to_string().into());
    }
    if !s.aux_addresses.is_empty() {
        config.insert("AuxiliaryAddresses".into(), json!(s.aux_addresses));
    }
    config.into()
}

/// The user's options; an overlay's VNI stands where Docker shows it.
fn options(network: &Network) -> Value {
    let mut options = network.spec.options.clone();
    if let (Driver::Overlay, Some(vni)) = (network.spec.driver, network.vni) {
        options.insert("com.docker.network.driver.overlay.vxlanid_list".into(), vni.to_string());
    }
    json!(options)
}

fn containers(network: &Network, endpoints: &[Endpoint]) -> Value {
    endpoints
        .iter()
        .map(|e| {
            let entry = json!({
                "Name": e.name.as_str(),
                "EndpointID": e.id.to_string(),
                "MacAddress": e.mac.to_string(),
                "IPv4Address": with_prefix(network, e.addrs, false),
                "IPv6Address": with_prefix(network, e.addrs, true),
                "Node": e.node.to_string(),
                "Condition": e.condition.to_string(),
            });
            (e.sandbox.to_string(), entry)
        })
        .collect::<Map<_, _>>()
        .into()
}

/// The address of one family with its subnet's prefix length; empty when there is none.
pub(crate) fn with_prefix(network: &Network, addrs: DualStack, v6: bool) -> String {
    let addr = addrs.iter().find(|a| a.is_ipv6() == v6);
    addr.map(|a| match network.subnet_of(a) {
        Some(s) => s.subnet.with_host(a).to_string(),
        None => a.to_string(),
    })
    .unwrap_or_default()
}

fn service(network: &Network, service: &Service, endpoints: &[Endpoint]) -> Value {
    let tasks: Vec<_> = endpoints
        .iter()
        .filter(|e| e.service == Some(service.id))
        .map(|e| {
            json!({
                "Name": e.name.as_str(),
                "EndpointID": e.id.to_string(),
                "EndpointIP": e.addrs.iter().map(|a| a.to_string()).collect::<Vec<_>>().join(","),
                "Info": {"Node": e.node.to_string()},
            })
        })
        .collect();
    let vip = service.vips.get(&network.id).copied().unwrap_or_default();
    json!({
        "VIP": vip.iter().map(|a| a.to_string()).collect::<Vec<_>>().join(","),
        "Ports": service.publications.iter().map(|p| p.target.to_string()).collect::<Vec<_>>(),
        "LocalLBIndex": 0,
        "Tasks": tasks,
    })
}
