//! What is replicated, as plain tables.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use swarmnet_types::{
    ClusterId, Endpoint, EndpointId, GossipKey, Network, NetworkId, Node, NodeId, Revision, Role,
    Service, ServiceId, Subnet, TokenId,
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
    /// Of each node in `nodes`.
    pub(crate) records: BTreeMap<NodeId, NodeRecord>,
    /// Beside the standing two; those that are void are kept for a while, so that a late user hears why.
    pub(crate) tokens: BTreeMap<TokenId, FurtherToken>,
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
    /// Nodes trust it.
    pub ca: CertificateAuthority,
    /// Another one is about to take its place.
    pub rotation: Option<Rotation>,
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
    /// SHA-256 of the certificate.
    pub fingerprint: [u8; 32],
}

/// A CA on its way to replace the present one: nodes trust both, and renew until all have certificates of the new one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rotation {
    pub to: CertificateAuthority,
    /// Its certificate as signed by the present CA: for those who trust that one only.
    pub cross_pem: String,
    pub started_ms: u64,
}

impl Cluster {
    /// The CA that signs now.
    pub fn issuer(&self) -> &CertificateAuthority {
        self.rotation.as_ref().map_or(&self.ca, |r| &r.to)
    }

    /// The CAs that nodes are to trust, the oldest first.
    pub fn roots(&self) -> impl Iterator<Item = &CertificateAuthority> {
        std::iter::once(&self.ca).chain(self.rotation.as_ref().map(|r| &r.to))
    }
}

/// What a node shows and trusts, by fingerprints of CAs.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct NodeTls {
    /// The CA whose key signed its certificate; `None` when that is no root that it trusts.
    pub issuer: Option<[u8; 32]>,
    pub roots: BTreeSet<[u8; 32]>,
    /// The end of its certificate: Unix time in milliseconds.
    pub until_ms: u64,
}

impl NodeTls {
    /// Of a node that was just given a certificate by this CA.
    pub fn by(ca: &CertificateAuthority, until_ms: u64) -> Self {
        Self { issuer: Some(ca.fingerprint), roots: BTreeSet::from([ca.fingerprint]), until_ms }
    }
}

/// What only the managers need to know of a node. Not told to other nodes: renewals concern nobody else.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct NodeRecord {
    pub tls: NodeTls,
    /// The node is removed when it has been gone for this long.
    pub ephemeral_ms: Option<u64>,
    /// When it was last made a worker: certificates that call it a manager and are older are void. Unix time in milliseconds; zero: it
    /// never was a manager.
    pub demoted_ms: u64,
}

/// A join token beside the standing two.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FurtherToken {
    pub id: TokenId,
    pub role: Role,
    pub secret: Secret,
    pub created_ms: u64,
    pub expires_ms: Option<u64>,
    pub uses: u32,
    pub uses_max: Option<u32>,
    /// Zero: never.
    pub used_ms: u64,
    pub revoked_ms: Option<u64>,
    /// Nodes that join by it are removed when they have been gone for this long.
    pub ephemeral_ms: Option<u64>,
}

/// Why a token lets nobody join any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum TokenEnd {
    Revoked,
    UsedUp,
    Expired,
}

impl FurtherToken {
    /// Why it is void, and since when.
    pub fn end(&self, now_ms: u64) -> Option<(TokenEnd, u64)> {
        let used_up = self.uses_max.is_some_and(|max| self.uses >= max);
        let expired = self.expires_ms.filter(|at| *at <= now_ms);
        let revoked = self.revoked_ms.map(|at| (TokenEnd::Revoked, at));
        revoked
            .or(used_up.then_some((TokenEnd::UsedUp, self.used_ms)))
            .or(expired.map(|at| (TokenEnd::Expired, at)))
    }
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
