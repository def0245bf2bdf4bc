//! What can go wrong with the objects of this node; every text is the final sentence for the user, Docker's where Docker has
//! one.
//!
//! Unless said otherwise nothing was changed.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use swarmnet_ipam::ReservedAs;
use swarmnet_kernel::KernelError;
use swarmnet_types::check::SpecFaults;
use swarmnet_types::network::OptionError;
use swarmnet_types::{Driver, HostName, Name, NetworkId, Protocol, RefusalKind, SandboxId, Subnet};

use crate::workload::restart::RestartError;

/// An endpoint that keeps a network from being removed (`sw:C34`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    pub name: Name,
    pub id: String,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "name:\"{}\" id:\"{}\"", self.name, self.id)
    }
}

fn listed<T: fmt::Display>(items: &[T]) -> String {
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// One error for all that is node-local.
#[derive(Debug, thiserror::Error)]
pub enum LocalError {
    // === references ===
    #[error("No such sandbox: {text}")]
    NoSandbox { text: String },
    #[error("sandbox {text} is ambiguous ({} matches found based on ID prefix): {}", matches.len(), listed(matches))]
    AmbiguousSandbox { text: String, matches: Vec<SandboxId> },
    #[error("sandbox {sandbox} is on node {node}: run the command there")]
    SandboxElsewhere { sandbox: Name, node: String },
    #[error("network {text} not found")]
    NoNetwork { text: String },
    #[error("network {text} is ambiguous ({} matches found based on ID prefix): {}", matches.len(), listed(matches))]
    AmbiguousNetwork { text: String, matches: Vec<NetworkId> },
    #[error(
        "Conflict. The sandbox name \"{name}\" is already in use by sandbox {sandbox}. You have to remove (or rename) that sandbox to be able to reuse that name."
    )]
    SandboxName { name: Name, sandbox: SandboxId },

    // === networks ===
    #[error("{0}")]
    Spec(SpecFaults),
    #[error("{0}")]
    Option(OptionError),
    #[error("network with name {name} already exists")]
    NetworkExists { name: Name },
    #[error("only one instance of \"{driver}\" network is allowed")]
    OneInstance { driver: Driver },
    #[error("bridge driver doesn't support multiple subnets")]
    BridgeSubnets,
    #[error("invalid bridge name {name}: want 1 to 15 characters without `/` and spaces")]
    BridgeNameInvalid { name: String },
    #[error(
        "cannot create network {network} ({bridge}): conflicts with network {other} ({bridge}): same bridge name"
    )]
    BridgeName { network: Name, bridge: String, other: Name },
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
    #[error("subnet {subnet} has no address left for a gateway")]
    NoGateway { subnet: Subnet },
    #[error("{name} is a pre-defined network and cannot be removed")]
    Predefined { name: Name },
    #[error("network {name} has active endpoints ({})", listed(holders))]
    InUse { name: Name, holders: Vec<Holder> },

    // === endpoints ===
    #[error(
        "invalid endpoint settings: user-specified IP address is supported on user-defined networks only"
    )]
    StaticOnDefault,
    #[error(
        "invalid endpoint settings: network-scoped aliases are only supported for user-defined networks"
    )]
    AliasOnDefault,
    #[error("no configured subnet contains IP address {addr}")]
    NoSubnet { addr: IpAddr },
    #[error("Address already in use: {addr} on network {network}")]
    AddressTaken { addr: IpAddr, network: Name },
    #[error("Address already in use: {addr} is {what} of network {network}")]
    AddressReserved { addr: IpAddr, what: ReservedAs, network: Name },
    #[error(
        "no available {} addresses on this network's address pools: {network} ({id})",
        if *ipv6 { "IPv6" } else { "IPv4" }
    )]
    AddressesExhausted { network: Name, id: NetworkId, ipv6: bool },
    #[error("{mac} is not a valid mac address: want a unicast one")]
    Mac { mac: String },
    #[error("mac address {mac} is already in use on network {network}")]
    MacTaken { mac: String, network: Name },
    #[error("conflicting options: mac-address and the network mode")]
    MacMode,
    #[error(
        "conflicting options: cannot attach both user-defined and non-user-defined network-modes"
    )]
    MixedModes,
    #[error(
        "The network {network} cannot be used with services. Only networks scoped to the swarm can be used, such as those created with the overlay driver."
    )]
    ServiceNetwork { network: Name },
    #[error("network \"{network}\" is specified multiple times")]
    NetworkTwice { network: String },
    #[error("endpoint with name {sandbox} already exists in network {network}")]
    AlreadyAttached { sandbox: Name, network: Name },
    #[error(
        "networks {a} and {b} overlap ({a_subnet} and {b_subnet}): one sandbox cannot be on both"
    )]
    SandboxOverlap { a: Name, a_subnet: Subnet, b: Name, b_subnet: Subnet },
    #[error("interface name {ifname} is already in use in sandbox {sandbox}, or is none")]
    Ifname { ifname: String, sandbox: Name },
    #[error(
        "cannot connect sandbox to host network - sandbox must be created in host network mode"
    )]
    HostConnect,
    #[error(
        "cannot disconnect sandbox from host network - sandbox was created in host network mode"
    )]
    HostDisconnect,
    #[error(
        "sandbox sharing network namespace with another sandbox or host cannot be connected to any other network"
    )]
    HostShared,
    #[error(
        "sandbox cannot be connected to multiple networks with one of the networks in private (none) mode"
    )]
    NoneMode,
    #[error(
        "Sandbox {sandbox} is marked for removal and cannot be connected or disconnected to the network"
    )]
    Leaving { sandbox: Name },
    #[error("sandbox {sandbox} is not connected to the network {network}")]
    NotConnected { sandbox: Name, network: String },
    #[error("invalid hostname {hostname}: the kernel takes at most 64 characters")]
    HostnameLength { hostname: HostName },

    // === ports ===
    #[error("Bind for {host} failed: port is already allocated (by sandbox {sandbox})")]
    PortTaken { host: SocketAddr, sandbox: Name },
    #[error("Bind for {host} failed: port is already allocated (by service {service})")]
    PortPublished { host: SocketAddr, service: Name },
    #[error("failed to bind host port {host}/{protocol}: address already in use")]
    PortForeign { host: SocketAddr, protocol: Protocol },
    #[error("Bind for {host} failed: port is already allocated (twice in one request)")]
    PortTwice { host: SocketAddr },
    #[error("all ports are allocated")]
    PortsExhausted,
    #[error("invalid port 0: want 1 to 65535")]
    PortZero,
    #[error("ports cannot be published from a sandbox without a network that leads out")]
    PortUnreachable,

    // === processes ===
    #[error("no command given")]
    NoCommand,
    #[error("{0}")]
    Restart(RestartError),
    #[error("Invalid signal: {text}")]
    Signal { text: String },
    #[error("no process {pid} to own the sandbox")]
    NoOwner { pid: u32 },
    /// The sandbox made for it was taken down again.
    #[error("{reason}")]
    Start { reason: String },
    #[error("sandbox {sandbox} has no process of its own to stop")]
    NoProcess { sandbox: Name },
    #[error(
        "cannot remove sandbox \"{sandbox}\": a process is running in it; stop it before removal or force remove"
    )]
    Running { sandbox: Name },

    // === the cluster ===
    #[error(
        "This node is not a swarm manager. Use \"swarmnet manager init\" or \"swarmnet manager join\" to connect this node to swarm and try again."
    )]
    NotInCluster,
    // sw:M5
    #[error(
        "Swarm is encrypted and needs to be unlocked before it can be used. Please use \"swarmnet manager unlock\" to unlock it."
    )]
    Locked,
    #[error(
        "This node is not a swarm manager. Worker nodes can't be used to view or modify cluster state. Please run this command on a manager node or promote the current node to a manager."
    )]
    Worker,
    #[error(
        "Cannot create a multi-host network from a worker node. Please create the network from a manager node."
    )]
    WorkerNetwork,
    #[error(
        "network {text} not found (this node is in no cluster: join one with `swarmnet agent join`)"
    )]
    NoNetworkAlone { text: String },
    #[error(
        "{sentence}: what exists goes on, cluster networks take no new endpoints until one answers"
    )]
    NoManager { sentence: String },
    #[error(
        "no view of the cluster is known to this node yet, so there is nothing to compare the kernel with: see `swarmnet agent status`"
    )]
    NoView,
    /// A manager's own words.
    #[error("{}", swarmnet_proto::sentence(status))]
    Cluster { status: tonic::Status },
    /// A manager's answer that cannot be.
    #[error("a manager's answer makes no sense: {0}")]
    Malformed(swarmnet_proto::Malformed),

    // === the machine ===
    /// The sandbox made so far was taken down again.
    #[error("cannot build sandbox {sandbox}: {reason}")]
    Build { sandbox: Name, reason: String },
    #[error("cannot build sandbox {sandbox}: not done after {seconds} s")]
    BuildTimeout { sandbox: Name, seconds: u64 },
    #[error("{}", chain(err))]
    Kernel { err: KernelError },
    #[error("{}: {err}", path.display())]
    File { path: PathBuf, err: io::Error },
    #[error("{} is damaged: {why}. Nothing was changed; restore the file or remove it", path.display())]
    Corrupt { path: PathBuf, why: String },
    #[error(
        "{} was written by a newer version (format {found}, this one knows {known}). Nothing was changed; run the newer version",
        path.display()
    )]
    Newer { path: PathBuf, found: u32, known: u32 },
    #[error("the daemon is stopping")]
    Stopping,
}

/// An error with its causes, on one line.
pub fn chain(err: &dyn std::error::Error) -> String {
    let mut text = err.to_string();
    let mut source = err.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

impl From<KernelError> for LocalError {
    fn from(err: KernelError) -> Self {
        Self::Kernel { err }
    }
}

impl LocalError {
    #[cfg_attr(
        not(test),
        expect(clippy::enum_glob_use, reason = "one row for each variant: the list is the point")
    )]
    #[allow(clippy::too_many_lines, reason = "a table of all variants")]
    pub fn kind(&self) -> RefusalKind {
        use LocalError::*;
        match self {
            NoSandbox { .. }
            | SandboxElsewhere { .. }
            | NoNetwork { .. }
            | NoNetworkAlone { .. }
            | NotConnected { .. }
            | NoOwner { .. } => RefusalKind::NotFound,
            SandboxName { .. }
            | NetworkExists { .. }
            | BridgeName { .. }
            | SubnetOverlap { .. }
            | RouteOverlap { .. }
            | InUse { .. }
            | AddressTaken { .. }
            | AddressReserved { .. }
            | MacTaken { .. }
            | AlreadyAttached { .. }
            | SandboxOverlap { .. }
            | PortTaken { .. }
            | PortPublished { .. }
            | PortForeign { .. }
            | PortTwice { .. }
            | Running { .. } => RefusalKind::Conflict,
            AmbiguousSandbox { .. }
            | AmbiguousNetwork { .. }
            | Spec(_)
            | Option(_)
            | BridgeSubnets
            | BridgeNameInvalid { .. }
            | NoGateway { .. }
            | StaticOnDefault
            | AliasOnDefault
            | NoSubnet { .. }
            | Mac { .. }
            | MacMode
            | MixedModes
            | ServiceNetwork { .. }
            | NetworkTwice { .. }
            | Ifname { .. }
            | NoneMode
            | HostnameLength { .. }
            | PortZero
            | PortUnreachable
            | NoCommand
            | Restart(_)
            | Signal { .. }
            | Start { .. }
            | NoProcess { .. } => RefusalKind::Invalid,
            PoolsExhausted | AddressesExhausted { .. } | PortsExhausted => RefusalKind::Exhausted,
            OneInstance { .. }
            | Predefined { .. }
            | HostConnect
            | HostDisconnect
            | HostShared
            | Leaving { .. } => RefusalKind::Forbidden,
            NotInCluster
            | Locked
            | Worker
            | WorkerNetwork
            | NoManager { .. }
            | NoView
            | Stopping => RefusalKind::NotReady,
            Malformed(_)
            | Build { .. }
            | BuildTimeout { .. }
            | Kernel { .. }
            | File { .. }
            | Corrupt { .. }
            | Newer { .. }
            | Cluster { .. } => RefusalKind::Internal,
        }
    }
}
