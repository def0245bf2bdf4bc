//! Why a command was refused: the text that the user reads, decided once, here. Docker's words where Docker has words.
//!
//! A rejection changes nothing; the same command may succeed later when what it names has changed.

use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use swarmnet_ipam::ReservedAs;
use swarmnet_types::check::SpecFaults;
use swarmnet_types::{
    Availability, Name, NetworkId, PublishMode, RefusalKind, SandboxId, ServiceId, Subnet, Vni,
};

use crate::state::TokenEnd;

/// Kinds of objects that users name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Noun {
    Network,
    Service,
    Node,
    Token,
}

impl fmt::Display for Noun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Network => "network",
            Self::Service => "service",
            Self::Node => "node",
            Self::Token => "token",
        })
    }
}

/// What several objects have in common with the text of the user.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Matched {
    Name,
    IdPrefix,
}

impl fmt::Display for Matched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Name => "name",
            Self::IdPrefix => "ID prefix",
        })
    }
}

/// Who keeps a network from being removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Holder {
    Endpoint { name: Name, id: String, node: String },
    Service { name: Name, id: String },
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Endpoint { name, id, node } => {
                write!(f, "name:\"{name}\" id:\"{id}\" node:\"{node}\"")
            }
            Self::Service { name, id } => write!(f, "service:\"{name}\" id:\"{id}\""),
        }
    }
}

fn listed<T: fmt::Display>(items: &[T]) -> String {
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn nodes(count: usize) -> String {
    format!("{count} node{}", if count == 1 { "" } else { "s" })
}

fn void(end: TokenEnd) -> &'static str {
    match end {
        TokenEnd::Revoked => "was revoked",
        TokenEnd::UsedUp => "is used up",
        TokenEnd::Expired => "has expired",
    }
}

fn taking(availability: Availability) -> &'static str {
    match availability {
        Availability::Active => "active",
        Availability::Pause => "paused",
        Availability::Drain => "drained",
    }
}

fn published_as(mode: PublishMode) -> &'static str {
    match mode {
        PublishMode::Ingress => "as an ingress port",
        PublishMode::Host => "as a host-published port",
    }
}

/// A refused command.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum Rejection {
    #[error("the cluster is not initialised: run `swarmnet manager init` first")]
    NotInitialised,
    #[error("this cluster is already initialised")]
    AlreadyInitialised,
    #[error("subnet size is out of range: {mask_len}")]
    PoolMask { mask_len: u8 },
    #[error("invalid CIDR: \"{pool}\". Subnet size is too small for pool: {mask_len}")]
    PoolSmall { pool: Subnet, mask_len: u8 },
    #[error("address pool {pool} overlaps with pool {other}")]
    PoolOverlap { pool: Subnet, other: Subnet },
    #[error("address pool {pool} not found")]
    PoolUnknown { pool: Subnet },
    // sw:M17
    #[error("cannot rotate because autolock is not turned on")]
    AutolockOff,
    #[error("the ingress network needs one subnet of each family at most, got {got}")]
    IngressSubnets { got: usize },

    #[error("{noun} {text} not found")]
    NotFound { noun: Noun, text: String },
    #[error("{noun} {text} is ambiguous ({} matches found {} {by}): {}", matches.len(), if *by == Matched::Name { "on" } else { "based on" }, listed(matches))]
    Ambiguous { noun: Noun, text: String, by: Matched, matches: Vec<String> },

    #[error(
        "node {node} was removed from this cluster: its identity cannot come back; join again with a new one"
    )]
    Revoked { node: String },
    #[error("the CA of this cluster was changed in this very moment: try again")]
    CaMoved,
    #[error("Cannot update to a cert with an identical key")]
    CaIdentical,
    #[error("a node trusts at most {max} CAs")]
    TooManyRoots { max: usize },
    /// `sw:M11`.
    #[error(
        "A valid join token is necessary to join this cluster (this one was rotated: get the current one with `swarmnet manager token`)"
    )]
    TokenUnknown,
    #[error("this join token {}: make another one with `swarmnet manager token`", void(*end))]
    TokenOver { end: TokenEnd },
    #[error("a token for nothing: want at least one use and one second")]
    TokenForNothing,
    #[error("there are {max} join tokens: remove some with `swarmnet manager token rm`")]
    TokensFull { max: usize },
    #[error("a manager cannot be ephemeral: its removal might cost the quorum")]
    EphemeralManager,
    #[error("node {node} is already part of this cluster")]
    NodeExists { node: String },
    #[error("node {node} is not down and can't be removed")]
    NodeAlive { node: String },
    #[error(
        "node {node} is a cluster manager and is a member of the raft cluster. It must be demoted to worker before removal"
    )]
    NodeIsManager { node: String },
    #[error("attempting to demote the last manager of the swarm")]
    LastManager,
    /// `sw:M15`.
    #[error("can't remove member from the raft: this would result in a loss of quorum")]
    QuorumWouldGo,
    #[error("key {key} doesn't exist in {noun}'s labels")]
    NoLabel { noun: Noun, key: String },
    #[error("no node numbers are left")]
    NodeIndexes,
    #[error("node {node} is {}: it takes no new endpoints", taking(*availability))]
    NodeClosed { node: String, availability: Availability },
    #[error("{what} does not belong to node {node}")]
    NotOwner { what: String, node: String },

    #[error("{0}")]
    Spec(SpecFaults),
    #[error("network with name {name} already exists")]
    NetworkExists { name: Name },
    #[error("{name} is a pre-defined network and cannot be removed")]
    Predefined { name: String },
    #[error("ingress network ({network}) is already present")]
    IngressExists { network: NetworkId },
    #[error(
        "invalid pool request: Pool overlaps with other one on this address space: {subnet} overlaps {other} of network {network}"
    )]
    SubnetOverlap { subnet: Subnet, other: Subnet, network: Name },
    #[error(
        "invalid pool request: Pool overlaps with other one on this address space: {subnet} overlaps the host's route {route}"
    )]
    RouteOverlap { subnet: Subnet, route: Subnet },
    #[error("all predefined address pools have been fully subnetted")]
    PoolsExhausted,
    #[error("could not assign vxlan id {vni}: it is taken by network {network}")]
    VniTaken { vni: Vni, network: Name },
    #[error("could not assign vxlan id {vni}: it is kept for the ingress network")]
    VniReserved { vni: Vni },
    #[error("no vxlan id is left")]
    VniExhausted,
    #[error("network {name} has active endpoints ({})", listed(holders))]
    InUse { name: Name, holders: Vec<Holder> },
    #[error("ingress network cannot be removed because {} depends on it", listed(holders))]
    IngressInUse { holders: Vec<Holder> },

    #[error("Could not attach to network {network}: network {network} not manually attachable")]
    NotAttachable { network: Name },
    #[error("network \"{network}\" is specified multiple times")]
    NetworkTwice { network: Name },
    #[error(
        "The network {network} cannot be used with services. Only networks scoped to the swarm can be used, such as those created with the overlay driver."
    )]
    LocalNetwork { network: String },
    #[error("{sandbox} is already attached to network {network}")]
    AlreadyAttached { sandbox: Name, network: Name },
    #[error("container {sandbox} is not connected to the network {network}")]
    NotConnected { sandbox: String, network: Name },
    #[error(
        "networks {a} and {b} overlap ({a_subnet} and {b_subnet}): one sandbox cannot be on both"
    )]
    SandboxOverlap { a: Name, a_subnet: Subnet, b: Name, b_subnet: Subnet },
    #[error(
        "Conflict. The sandbox name \"{name}\" is already in use by sandbox {sandbox} on this node"
    )]
    SandboxName { name: Name, sandbox: SandboxId },
    #[error("sandbox {sandbox} belongs to {}: it cannot become a task of service {wanted}", have.as_ref().map_or("no service".to_owned(), |s| format!("service {s}")))]
    OtherService { sandbox: String, have: Option<Name>, wanted: Name },
    #[error("nothing to attach: name a network or a service")]
    NothingToAttach,
    #[error(
        "invalid hostname {hostname}: want letters, digits, `-`, `_` and `.`, at most 253 characters"
    )]
    Hostname { hostname: String },
    #[error("{mac} is not a valid mac address: want a unicast one")]
    Mac { mac: String },
    #[error("mac address {mac} is already in use on network {network}")]
    MacTaken { mac: String, network: Name },
    #[error("invalid {} address: {addr}", if addr.is_ipv6() { "IPv6" } else { "IPv4" })]
    BadAddress { addr: IpAddr },
    #[error("no configured subnet contains IP address {addr}")]
    NoSubnet { addr: IpAddr },
    #[error("Address already in use: {addr} on network {network}")]
    AddressTaken { addr: IpAddr, network: Name },
    #[error("Address already in use: {addr} is {what} of network {network}")]
    AddressReserved { addr: IpAddr, what: ReservedAs, network: Name },
    #[error("no available {} addresses on this network's address pools: {network} ({id})", if *ipv6 { "IPv6" } else { "IPv4" })]
    AddressesExhausted { network: Name, id: NetworkId, ipv6: bool },

    #[error("name conflicts with an existing object: service {name} already exists")]
    ServiceExists { name: Name },
    #[error("service is already attached to network {network}")]
    ServiceNetworkTwice { network: Name },
    #[error("service is not attached to network {network}")]
    ServiceNetworkAbsent { network: Name },
    #[error("service {service} has tasks on network {network}: detach them first")]
    ServiceNetworkBusy { service: Name, network: Name },
    #[error("Service cannot be explicitly attached to the ingress network \"{network}\"")]
    ServiceIngress { network: Name },
    #[error("a virtual address needs --endpoint-mode vip")]
    VipWithDnsrr,
    #[error("EndpointSpec: duplicate published ports provided")]
    PortTwice,
    #[error("EndpointSpec: port published with ingress mode can't be used with dnsrr mode")]
    IngressWithDnsrr,
    #[error("port '{port}' is already in use by service '{service}' ({id}) {}", published_as(*mode))]
    PortTaken { port: u16, service: Name, id: ServiceId, mode: PublishMode },
    #[error("all ports are allocated")]
    PortsExhausted,
    #[error("invalid port 0: want 1 to 65535")]
    PortZero,
    #[error("no port to publish")]
    NothingToPublish,
    #[error("service needs ingress network, but no ingress network is present")]
    NoIngress,
    #[error(
        "service {service} is only on internal networks: a published port would open them; add a network that is not internal"
    )]
    InternalOnly { service: Name },
    #[error("no suitable node (host-mode port already in use on {})", nodes(*count))]
    HostPort { count: usize },
    #[error("port {port} is not published{}", service.as_ref().map_or(String::new(), |s| format!(" by service {s}")))]
    NotPublished { port: u16, service: Option<Name> },
    #[error("port {port} is published by several services: {}; name one", listed(services))]
    PortAmbiguous { port: u16, services: Vec<Name> },
    #[error("service {service} has a backend named {backend} or with its address already")]
    BackendExists { service: Name, backend: Name },
    #[error("service {service} has no backend named {backend}")]
    BackendUnknown { service: Name, backend: Name },
    #[error("{addr} cannot be a backend: {why}")]
    BackendAddress { addr: IpAddr, why: BackendFault },
}

/// Why an address outside the cluster cannot be balanced to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum BackendFault {
    /// Loopback, unspecified, multicast or link-local.
    NotUnicast,
    /// It lies in a network of the cluster.
    Inside,
}

impl fmt::Display for BackendFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotUnicast => "it is no address of one host that every node reaches",
            Self::Inside => "it lies in a network of the cluster",
        })
    }
}

impl Rejection {
    #[allow(clippy::too_many_lines, reason = "a table of all variants")]
    pub const fn kind(&self) -> RefusalKind {
        #[allow(clippy::enum_glob_use, reason = "a table of all variants")]
        use Rejection::*;
        match self {
            NotInitialised | CaMoved | NoIngress | AutolockOff | NodeClosed { .. } => {
                RefusalKind::NotReady
            }
            NotFound { .. }
            | PoolUnknown { .. }
            | NoLabel { .. }
            | NotConnected { .. }
            | NotPublished { .. }
            | BackendUnknown { .. }
            | ServiceNetworkAbsent { .. } => RefusalKind::NotFound,
            Revoked { .. }
            | TokenUnknown
            | TokenOver { .. }
            | NotOwner { .. }
            | NotAttachable { .. }
            | Predefined { .. }
            | ServiceIngress { .. }
            | VniReserved { .. } => RefusalKind::Forbidden,
            NodeIndexes
            | TokensFull { .. }
            | PoolsExhausted
            | VniExhausted
            | AddressesExhausted { .. }
            | PortsExhausted => RefusalKind::Exhausted,
            AlreadyInitialised
            | CaIdentical
            | PoolOverlap { .. }
            | NodeExists { .. }
            | NodeAlive { .. }
            | NodeIsManager { .. }
            | LastManager
            | QuorumWouldGo
            | NetworkExists { .. }
            | IngressExists { .. }
            | SubnetOverlap { .. }
            | RouteOverlap { .. }
            | VniTaken { .. }
            | InUse { .. }
            | IngressInUse { .. }
            | AlreadyAttached { .. }
            | SandboxOverlap { .. }
            | SandboxName { .. }
            | OtherService { .. }
            | MacTaken { .. }
            | AddressTaken { .. }
            | AddressReserved { .. }
            | ServiceExists { .. }
            | ServiceNetworkTwice { .. }
            | ServiceNetworkBusy { .. }
            | PortTaken { .. }
            | HostPort { .. }
            | PortAmbiguous { .. }
            | BackendExists { .. } => RefusalKind::Conflict,
            PoolMask { .. }
            | TooManyRoots { .. }
            | TokenForNothing
            | EphemeralManager
            | PoolSmall { .. }
            | IngressSubnets { .. }
            | Ambiguous { .. }
            | Spec(_)
            | NetworkTwice { .. }
            | LocalNetwork { .. }
            | NothingToAttach
            | Hostname { .. }
            | Mac { .. }
            | BadAddress { .. }
            | NoSubnet { .. }
            | VipWithDnsrr
            | PortTwice
            | IngressWithDnsrr
            | PortZero
            | NothingToPublish
            | InternalOnly { .. }
            | BackendAddress { .. } => RefusalKind::Invalid,
        }
    }
}
