//! The record of a sandbox: what the cluster granted and what this node grants itself, put together in one change of the store.
//!
//! Pure but for the identifiers it draws and the time it reads.

use std::path::PathBuf;

use swarmnet_types::{
    AttachmentSpec, Condition, DualStack, Endpoint, EndpointId, HostName, Mac, Name, Network,
    NodeId, Revision, SandboxId,
};

use super::now_ms;
use super::plan::{self, Place, SandboxWish};
use crate::local::cluster::Granted;
use crate::local::error::LocalError;
use crate::local::objects::{Attachment, Owner, ProcessRecord, SandboxRecord, SandboxState};
use crate::local::ports::Others;
use crate::local::store::Draft;
use crate::local::{addresses, ports};

/// A sandbox on its way: decided, not yet recorded.
pub(super) struct Draught {
    pub(super) id: SandboxId,
    pub(super) name: Name,
    pub(super) hostname: HostName,
    pub(super) netns: PathBuf,
    pub(super) owner: Option<Owner>,
    pub(super) wish: SandboxWish,
    pub(super) places: Vec<(AttachmentSpec, Place)>,
}

/// The record of a new sandbox, with what this node grants itself.
pub(super) fn compose(
    draft: &mut Draft,
    draught: Draught,
    granted: Granted,
    (node, others): (NodeId, &Others),
) -> Result<SandboxRecord, LocalError> {
    let Draught { id, name, hostname, netns, owner, wish, places } = draught;
    let mut record = SandboxRecord {
        id,
        name,
        hostname,
        netns,
        named: wish.named,
        attachments: Vec::new(),
        fabric: granted.fabric,
        service: granted.service.map(|s| s.id),
        service_name: wish.service,
        dns: wish.dns,
        ports: Vec::new(),
        labels: wish.labels,
        created_ms: now_ms(),
        process: wish.process.map(|spec| ProcessRecord { spec, stopped: false }),
        owner,
        state: SandboxState::Attaching,
        comes_back: false,
    };
    let mut from_cluster = granted.endpoints.into_iter();
    for (spec, place) in places {
        let (endpoint, network) = match place {
            Place::Local(network) => {
                (local_endpoint(draft, &record, (&network, &spec), node)?, network)
            }
            Place::Cluster => {
                let endpoint = from_cluster.next().expect("one for each, checked on arrival");
                let network = network_of(&granted.networks, &endpoint);
                (endpoint, network)
            }
        };
        plan::check_overlap(&record.attachments, &network)?;
        let ifname = plan::ifname(&record.name, &record.attachments, &spec, &network)?;
        record.attachments.push(Attachment { spec, endpoint, network, ifname });
    }
    if !record.shares_host_stack() && !wish.ports.is_empty() {
        let leads_out = |a: &Attachment| !plan::stackless(&a.network) && !a.network.spec.internal;
        if !record.attachments.iter().any(leads_out) && record.fabric.is_none() {
            return Err(LocalError::PortUnreachable);
        }
        record.ports = ports::grant(&draft.objects, &wish.ports, others, &mut draft.cursors.port)?;
    }
    Ok(record)
}

pub(super) fn network_of(networks: &[Network], endpoint: &Endpoint) -> Network {
    let network = networks.iter().find(|n| n.id == endpoint.network);
    network.expect("there is one for each endpoint, checked on arrival").clone()
}

pub(super) fn local_endpoint(
    draft: &mut Draft,
    record: &SandboxRecord,
    (network, spec): (&Network, &AttachmentSpec),
    node: NodeId,
) -> Result<Endpoint, LocalError> {
    // Looked up when the request came; it may have been removed meanwhile.
    if !draft.objects.networks.contains_key(&network.id) {
        return Err(LocalError::NoNetwork { text: spec.network.clone() });
    }
    let (addrs, mac) = if plan::stackless(network) {
        (DualStack::default(), Mac([0; 6]))
    } else {
        addresses::grant(&draft.objects, network, spec, &mut draft.cursors.addrs)?
    };
    Ok(Endpoint {
        id: EndpointId::from_bytes(rand::random()),
        network: network.id,
        node,
        sandbox: record.id,
        name: record.name.clone(),
        hostname: record.hostname.to_string(),
        aliases: spec.aliases.clone(),
        addrs,
        mac,
        service: None,
        slot: None,
        condition: Condition::Starting,
        created_ms: now_ms(),
        created: Revision::default(),
        changed: Revision::default(),
    })
}
