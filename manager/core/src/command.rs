//! Everything that can change the replicated state.
//!
//! A command carries wishes and facts, never allocations: those are made in `apply`. References written by users (`String`) are
//! a full id, a name or a unique prefix of an id. Where a command speaks for a node, the caller has checked by certificate that
//! it is that node; `apply` checks that the objects are the node's.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use swarmnet_types::network::StringMap;
use swarmnet_types::service::ExternalBackend;
use swarmnet_types::{
    Algorithm, AttachmentSpec, Availability, ClusterId, Condition, EndpointId, EndpointMode, Name,
    NetworkSpec, NodeDescription, NodeId, Protocol, PublishSpec, Role, SandboxId, ServiceSpec,
    Subnet, TokenId,
};

use crate::secret::Secret;
use crate::state::{CertificateAuthority, NodeTls};

/// One entry of the log: a command with the time and randomness of the leader that took it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proposal {
    pub command: Command,
    /// Unix time in milliseconds.
    pub now_ms: u64,
    /// Drawn by the leader; identifiers of new objects follow from it.
    pub seed: [u8; 32],
    /// Drawn by the client once for all its tries, so that a retry is answered and not done again. All zero: none.
    pub request_id: [u8; 16],
}

/// What to change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// The first of every log.
    InitCluster(Box<ClusterInit>),
    /// Address pools that new networks are cut from are added, or retired (what was cut from them stays).
    UpdatePools {
        add: Vec<Subnet>,
        retire: Vec<Subnet>,
    },
    UpdateCluster(ClusterChange),
    /// Earlier tokens of the role are void; nodes that joined stay.
    RotateToken {
        role: Role,
        secret: Secret,
    },
    CreateToken(CreateToken),
    /// A further token is void from now on; one that is void already is forgotten.
    RemoveToken {
        token: String,
    },
    /// Another CA is to take the place of the present one.
    RotateCa(Box<RotateCa>),
    /// What a node says that it shows and trusts.
    SetNodeTls {
        node: NodeId,
        tls: NodeTls,
    },
    /// The new key seals; the one before is still accepted.
    RotateGossipKey {
        secret: [u8; 32],
    },

    /// The cluster goes on with one manager.
    Refound(Box<Founder>),
    /// Managers are locked when they start, or are not. A cluster that is locked already keeps its key.
    SetAutolock {
        on: bool,
        fresh: Secret,
    },
    /// Managers that start from now on are unlocked with the new key.
    RotateUnlockKey {
        fresh: Secret,
    },

    JoinNode(JoinNode),
    /// A node says what it is now: its address may have changed (C12).
    UpdateNodeDescription {
        node: NodeId,
        description: NodeDescription,
    },
    UpdateNode(NodeChange),
    RemoveNode(RemoveNode),

    CreateNetwork(CreateNetwork),
    RemoveNetwork(RemoveNetwork),

    CreateService(ServiceSpec),
    UpdateService(ServiceChange),
    /// Its tasks live on without it.
    RemoveService {
        service: String,
    },
    Publish(Publish),
    Unpublish(Unpublish),
    AddBackend(AddBackend),
    RemoveBackend {
        service: String,
        backend: Name,
    },

    /// Reserves what a sandbox needs, all or nothing.
    Attach(Attach),
    /// Takes a sandbox off one network.
    Disconnect {
        node: NodeId,
        sandbox: SandboxId,
        network: String,
    },
    /// How endpoints of one node fare. Those that are gone already are passed over.
    SetConditions {
        node: NodeId,
        conditions: Vec<(EndpointId, Condition)>,
    },
    /// Gives endpoints of one node back. Those that are gone already are passed over.
    Detach {
        node: NodeId,
        endpoints: Vec<EndpointId>,
    },
}

/// What a cluster starts with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterInit {
    pub id: ClusterId,
    pub ca: CertificateAuthority,
    pub worker_token: Secret,
    pub manager_token: Secret,
    /// Empty, or without one family: the default of that family is taken (`crate::alloc`).
    pub pools: Vec<Subnet>,
    /// Prefix length of the IPv4 subnets cut from the pools, at most 29.
    pub pool_mask_len: u8,
    pub data_path_port: u16,
    pub cert_expiry_ms: u64,
    pub gossip_secret: [u8; 32],
    /// Subnets of the ingress network; empty: the defaults.
    pub ingress: Vec<Subnet>,
    /// Routes of the first manager that no network may overlap.
    pub avoid: Vec<Subnet>,
    pub first: JoinNode,
}

/// A node that proved itself with a token becomes a member.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinNode {
    pub node: NodeId,
    pub role: Role,
    pub availability: Availability,
    pub description: NodeDescription,
    /// The certificate it was given.
    pub tls: NodeTls,
    /// The further token that it proved itself with; `None`: the standing one of its role.
    pub token: Option<TokenId>,
}

/// What an operator changes of the cluster itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ClusterChange {
    /// Of certificates that are made from now on.
    pub cert_expiry_ms: Option<u64>,
}

/// A join token beside the standing two.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreateToken {
    pub role: Role,
    pub secret: Secret,
    /// `None`: it does not expire.
    pub ttl_ms: Option<u64>,
    /// How many nodes may join by it. `None`: any number.
    pub uses: Option<u32>,
    /// Nodes that join by it are removed when they have been gone for this long.
    pub ephemeral_ms: Option<u64>,
}

/// A CA that is to take the place of the present one; or the present one, to give up a rotation that has begun.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RotateCa {
    pub to: CertificateAuthority,
    /// Fingerprint of the CA that signed `cross_pem`: the present one.
    pub from: [u8; 32],
    /// A certificate of the new CA, signed by the present one.
    pub cross_pem: String,
    /// Tokens carry a CA's fingerprint: earlier ones are void.
    pub worker_token: Secret,
    pub manager_token: Secret,
}

/// The one manager of a cluster that was made anew.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Founder {
    /// One that was a manager before, perhaps with another address.
    Known { node: NodeId, description: NodeDescription },
    /// A node that was not there before.
    New(JoinNode),
}

/// What an operator changes of a node.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct NodeChange {
    pub node: String,
    pub availability: Option<Availability>,
    pub role: Option<Role>,
    pub labels_add: StringMap,
    pub labels_rm: Vec<String>,
}

/// A node leaves for good: its endpoints go, its certificate is refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemoveNode {
    pub node: String,
    pub force: bool,
    /// The leader sees it alive.
    pub alive: bool,
}

/// A new cluster network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreateNetwork {
    pub spec: NetworkSpec,
    /// Host routes that the leader sees, without default routes.
    pub avoid: Vec<Subnet>,
}

/// Removes a network that nobody holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemoveNetwork {
    pub network: String,
    /// Endpoints on dead nodes, and services that only name the network, do not hold it.
    pub force: bool,
    /// Nodes that the leader sees dead.
    pub dead: BTreeSet<NodeId>,
}

/// Networks a service gains and loses.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct NetworkChange {
    pub add: Vec<String>,
    pub remove: Vec<String>,
}

/// What an operator changes of a service.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ServiceChange {
    pub service: String,
    pub endpoint_mode: Option<EndpointMode>,
    pub algorithm: Option<Algorithm>,
    pub networks: NetworkChange,
    pub publish_add: Vec<PublishSpec>,
    pub labels_add: StringMap,
    pub labels_rm: Vec<String>,
}

/// Publishes ports of a service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Publish {
    /// `None`: the service `svc-<first published port>`, created when absent.
    pub service: Option<String>,
    pub specs: Vec<PublishSpec>,
}

/// Takes back publications by their published port, else by their target port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unpublish {
    /// `None`: whichever service publishes the port.
    pub service: Option<String>,
    pub port: u16,
    /// `None`: any.
    pub protocol: Option<Protocol>,
}

/// A backend of a service outside the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddBackend {
    pub service: String,
    pub backend: ExternalBackend,
}

/// Joins a sandbox to networks. For a sandbox that the state knows already, these are further networks, and its name,
/// hostname and service stay as they are (`network connect`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attach {
    pub node: NodeId,
    pub sandbox: SandboxId,
    pub name: Name,
    pub hostname: String,
    /// Created when absent.
    pub service: Option<Name>,
    pub attachments: Vec<AttachmentSpec>,
}
