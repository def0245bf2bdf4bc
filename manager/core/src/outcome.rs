//! What a command that was accepted brought about.

use serde::{Deserialize, Serialize};
use swarmnet_types::{
    DualStack, Endpoint, EndpointId, Name, NetworkId, NodeId, NodeIndex, Publication, ServiceId,
    TokenId,
};

/// The answer to an accepted command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    Done,
    /// The cluster exists, with its first node and its ingress network.
    Initialised {
        ingress: NetworkId,
        index: NodeIndex,
        fabric: DualStack,
    },
    NodeJoined {
        node: NodeId,
        index: NodeIndex,
        fabric: DualStack,
    },
    TokenCreated {
        token: TokenId,
    },
    NodeUpdated {
        node: NodeId,
    },
    /// With the endpoints that went with it.
    NodeRemoved {
        node: NodeId,
        endpoints: usize,
    },
    NetworkCreated {
        network: NetworkId,
    },
    NetworkRemoved {
        network: NetworkId,
        name: Name,
    },
    ServiceCreated {
        service: ServiceId,
        publications: Vec<Publication>,
    },
    ServiceUpdated {
        service: ServiceId,
        publications: Vec<Publication>,
    },
    ServiceRemoved {
        service: ServiceId,
        name: Name,
    },
    /// `publications` are those that were asked for, in order, each with its port.
    Published {
        service: ServiceId,
        name: Name,
        created: bool,
        publications: Vec<Publication>,
    },
    Unpublished {
        service: ServiceId,
        name: Name,
        publications: Vec<Publication>,
        /// The service existed for its ports only and went with the last.
        service_removed: bool,
    },
    /// New endpoints in the order of the attachments; the one on the ingress network, when there is a new one, is last.
    Attached {
        endpoints: Vec<Endpoint>,
        service: Option<ServiceId>,
    },
    /// Endpoints that are no more.
    Detached {
        endpoints: Vec<EndpointId>,
    },
}
