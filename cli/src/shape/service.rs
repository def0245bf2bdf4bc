//! Services and their tasks in Docker's JSON.

use serde_json::{Value, json};
use swarmnet_proto::{Malformed, v1};
use swarmnet_types::{Endpoint, Network, Node, Publication, Service};

use super::stamp::rfc3339;

/// A service with all that hangs on it.
#[derive(Debug)]
pub(crate) struct Detail {
    pub(crate) service: Service,
    pub(crate) tasks: Vec<Endpoint>,
    networks: Vec<Network>,
    nodes: Vec<Node>,
}

impl TryFrom<v1::ServiceDetail> for Detail {
    type Error = Malformed;

    fn try_from(m: v1::ServiceDetail) -> Result<Self, Malformed> {
        Ok(Self {
            service: m.service.ok_or_else(|| Malformed::new("service", "missing"))?.try_into()?,
            tasks: m.tasks.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?,
            networks: m.networks.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?,
            nodes: m.nodes.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?,
        })
    }
}

impl Detail {
    /// The name of a task's node, or its id when the node is not known here.
    fn node_name(&self, task: &Endpoint) -> String {
        let node = self.nodes.iter().find(|n| n.id == task.node);
        node.map_or_else(|| task.node.short(), |n| n.name.clone())
    }

    /// One task may have an endpoint on each network of its service: count sandboxes.
    fn sandboxes(&self) -> Vec<&Endpoint> {
        let mut seen = std::collections::BTreeSet::new();
        self.tasks.iter().filter(|t| seen.insert(t.sandbox)).collect()
    }

    /// One row of `service ls`.
    pub(crate) fn row(&self) -> Value {
        let s = &self.service;
        json!({
            "ID": s.id.to_string(),
            "Name": s.name.as_str(),
            "Mode": s.endpoint_mode.to_string(),
            "Algorithm": s.algorithm.to_string(),
            "Tasks": self.sandboxes().len() + s.externals.len(),
            "Ports": ports(&s.publications),
            "VIPs": s.vips.values().flat_map(|v| v.iter().map(|a| a.to_string()).collect::<Vec<_>>()).collect::<Vec<_>>(),
        })
    }

    /// `service inspect`.
    pub(crate) fn inspect(&self) -> Value {
        let s = &self.service;
        let vips: Vec<_> = s
            .vips
            .iter()
            .flat_map(|(id, vip)| {
                let network = self.networks.iter().find(|n| n.id == *id);
                vip.iter()
                    .map(|addr| {
                        let subnet = network.and_then(|n| n.subnet_of(addr));
                        let shown = subnet.map_or_else(
                            || addr.to_string(),
                            |s| s.subnet.with_host(addr).to_string(),
                        );
                        json!({"NetworkID": id.to_string(), "Addr": shown})
                    })
                    .collect::<Vec<_>>()
            })
            .collect();
        let networks: Vec<_> = self
            .networks
            .iter()
            .filter(|n| s.vips.contains_key(&n.id))
            .map(|n| json!({"Target": n.id.to_string(), "Name": n.spec.name.as_str()}))
            .collect();
        let externals: Vec<_> = s
            .externals
            .iter()
            .map(|b| json!({"Name": b.name.as_str(), "Addr": b.addr.to_string()}))
            .collect();
        json!({
            "ID": s.id.to_string(),
            "Version": {"Index": s.changed.0},
            "CreatedAt": rfc3339(s.created_ms),
            "Spec": {
                "Name": s.name.as_str(),
                "Labels": s.labels,
                "TaskTemplate": {"Networks": networks},
                "EndpointSpec": {
                    "Mode": s.endpoint_mode.to_string(),
                    "Algorithm": s.algorithm.to_string(),
                    "Ports": port_list(&s.publications),
                },
            },
            "Endpoint": {
                "Spec": {"Mode": s.endpoint_mode.to_string()},
                "Ports": port_list(&s.publications),
                "VirtualIPs": vips,
            },
            "Backend": "nft",
            "ExternalBackends": externals,
            "Tasks": self.task_rows(),
        })
    }

    /// One row for each task, as `service ps` and `service endpoints` show them.
    pub(crate) fn task_rows(&self) -> Vec<Value> {
        let s = &self.service;
        let mut tasks = self.sandboxes();
        tasks.sort_by_key(|t| (t.slot, t.id));
        tasks
            .into_iter()
            .map(|task| {
                let addrs: Vec<_> = self
                    .tasks
                    .iter()
                    .filter(|t| t.sandbox == task.sandbox)
                    .flat_map(|t| t.addrs.iter().map(|a| a.to_string()).collect::<Vec<_>>())
                    .collect();
                json!({
                    "ID": task.sandbox.to_string(),
                    "Name": format!("{}.{}", s.name, task.slot.unwrap_or(0)),
                    "Sandbox": task.name.as_str(),
                    "Slot": task.slot.unwrap_or(0),
                    "Node": self.node_name(task),
                    "NodeID": task.node.to_string(),
                    "CurrentState": task.condition.to_string(),
                    "Addresses": addrs,
                    "Ports": ports(&s.publications),
                })
            })
            .collect()
    }
}

/// `*:5000->80/tcp`, as Docker's column has it.
fn ports(publications: &[Publication]) -> String {
    let one = |p: &Publication| {
        let ip = p.ip.map_or_else(|| "*".to_owned(), |ip| ip.to_string());
        let mode = if p.mode == swarmnet_types::PublishMode::Host { " (host)" } else { "" };
        format!("{ip}:{}->{}/{}{mode}", p.published, p.target, p.protocol)
    };
    publications.iter().map(one).collect::<Vec<_>>().join(", ")
}

fn port_list(publications: &[Publication]) -> Vec<Value> {
    publications
        .iter()
        .map(|p| {
            let mut port = serde_json::Map::new();
            port.insert("Protocol".into(), p.protocol.to_string().into());
            port.insert("TargetPort".into(), p.target.into());
            port.insert("PublishedPort".into(), p.published.into());
            port.insert("PublishMode".into(), p.mode.to_string().into());
            if let Some(ip) = p.ip {
                port.insert("Address".into(), ip.to_string().into());
            }
            if let Some(nodes) = &p.nodes {
                port.insert("Nodes".into(), format!("{}={}", nodes.label, nodes.value).into());
            }
            if !p.allow_from.is_empty() {
                let from: Vec<_> = p.allow_from.iter().map(ToString::to_string).collect();
                port.insert("AllowFrom".into(), from.into());
            }
            port.into()
        })
        .collect()
}
