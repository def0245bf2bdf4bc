//! What is replicated, as plain tables.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use swarmnet_types::{
    ClusterId, Endpoint, EndpointId, GossipKey, Network, NetworkId, Node, NodeId, Revision, Role,
    Service, ServiceId, Subnet,
};

use super::recent::Recent;
use crate::secret::Secret;

/// All that is serialized. Cardinalities at scale: 1,000 nodes, 1,000 services, 10,000 endpoints.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Tables {
    pub(crate) revision: Revision,
    pub(crate) cluster: Option<Cluster>,
    pub(crate) nodes: BTreeMap<NodeId, Node>,
    /// Removed nodes whose certificates are still in date.
    pub(crate) revoked: BTreeMap<NodeId, Revoked>,
    pub(crate) networks: BTreeMap<NetworkId, Network>,
    pub(crate) services: BTreeMap<ServiceId, ServiceRow>,
    pub(crate) endpoints: BTreeMap<EndpointId, Endpoint>,
    /// The address given last from a subnet of a network.
    pub(crate) addresses_given: BTreeMap<(NetworkId, Subnet), IpAddr>,
    pub(crate) given: Given,
    pub(crate) recent: Recent,
}

/// Where each allocator stands; what it gave last, zero or none at first.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Given {
    /// Numbers of nodes are never given twice.
    pub(crate) node_index: u32,
    pub(crate) vni: u32,
    pub(crate) port: u16,
    /// Pool → first address of the block cut last.
    pub(crate) blocks: BTreeMap<Subnet, IpAddr>,
}

/// A service and what only the state needs to know of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ServiceRow {
    pub(crate) service: Service,
    /// Networks that an operator put it on. It is on others because tasks brought it there; those do not hold a network.
    pub(crate) declared: BTreeSet<NetworkId>,
    /// Made by a publication without a service; goes with its last publication when no task or backend is left.
    pub(crate) for_ports: bool,
}

/// The cluster's own facts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cluster {
    pub id: ClusterId,
    pub ca: CertificateAuthority,
    pub tokens: Tokens,
    /// New networks are cut from these, in order.
    pub pools: Vec<Subnet>,
    /// Prefix length of IPv4 subnets cut from pools.
    pub pool_mask_len: u8,
    pub data_path_port: u16,
    pub cert_expiry_ms: u64,
    /// Oldest first; one or two.
    pub gossip_keys: Vec<GossipKey>,
    pub created_ms: u64,
    pub lock: ManagerLock,
    /// Counts how often the cluster was made anew: managers of an earlier one are not of this one.
    pub generation: u64,
}

/// What managers must be given before they can read their own disks.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ManagerLock {
    /// Counts the changes: managers that were away see that they have missed one.
    pub version: u64,
    /// The operator's key, 32 bytes; `None`: managers start by themselves.
    pub key: Option<Secret>,
}

/// The cluster's certificate authority.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertificateAuthority {
    pub cert_pem: String,
    pub key_pem: Secret,
}

/// The secrets that let nodes join, one for each role.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tokens {
    pub worker: Secret,
    pub manager: Secret,
}

impl Tokens {
    pub fn of(&self, role: Role) -> &Secret {
        match role {
            Role::Worker => &self.worker,
            Role::Manager => &self.manager,
        }
    }
}

/// A node that must not come back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revoked {
    /// Unix time in milliseconds; after it no certificate of the node can be in date.
    pub until_ms: u64,
}
