//! Commands that tests of consensus write: labels of the first node. Every write changes replicated state, and any
//! number of them can be looked up again.

use swarmnet_manager_core::{
    CertificateAuthority, ClusterInit, Command, JoinNode, NodeChange, NodeTls, Proposal, Secret,
    State,
};
use swarmnet_types::{Availability, ClusterId, NodeDescription, NodeId, Role};

pub(crate) const NODE: NodeId = NodeId::from_bytes([0x11; 16]);

fn authority() -> CertificateAuthority {
    CertificateAuthority {
        cert_pem: String::new(),
        key_pem: Secret::default(),
        fingerprint: [0; 32],
    }
}

/// The first command of a log.
pub(crate) fn init() -> Proposal {
    proposal(Command::InitCluster(Box::new(ClusterInit {
        id: ClusterId::from_bytes([0x22; 16]),
        ca: authority(),
        worker_token: Secret::default(),
        manager_token: Secret::default(),
        pools: Vec::new(),
        pool_mask_len: 24,
        data_path_port: 4789,
        cert_expiry_ms: 90 * 24 * 3600 * 1000,
        gossip_secret: [0; 32],
        ingress: Vec::new(),
        avoid: Vec::new(),
        first: JoinNode {
            node: NODE,
            role: Role::Manager,
            availability: Availability::Active,
            description: NodeDescription {
                name: "m1".into(),
                addr: ([192, 0, 2, 1], 2377).into(),
                data_path: [192, 0, 2, 1].into(),
                version: "0.1.0".into(),
            },
            tls: NodeTls::by(&authority(), 0),
            token: None,
        },
    })))
}

/// Leaves `key` with `value` in the state.
pub(crate) fn put(key: &str, value: &str) -> Proposal {
    proposal(Command::UpdateNode(NodeChange {
        node: NODE.to_string(),
        labels_add: [(key.to_owned(), value.to_owned())].into(),
        ..NodeChange::default()
    }))
}

/// What [`put`] left.
pub(crate) fn get<'a>(state: &'a State, key: &str) -> Option<&'a str> {
    state.node(NODE)?.labels.get(key).map(String::as_str)
}

/// Without a request id: repeating it is harmless.
pub(crate) fn proposal(command: Command) -> Proposal {
    Proposal { command, now_ms: 1_700_000_000_000, seed: [7; 32], request_id: [0; 16] }
}
