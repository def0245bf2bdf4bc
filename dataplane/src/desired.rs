//! What the agent wants of this node's kernel: the cluster's view, who is alive, and the node's own objects, already merged.
//!
//! Input of every planner. Values that are many and rarely change are behind [`Arc`]: two wishes that share one are known to be
//! equal there without being compared, which is what makes a small change among 10,000 services cheap.
//!
//! Invariants the agent keeps: what is dead or draining is not among backends; what is gone or on a dead node is neither among
//! remote endpoints nor among fabric tasks; a port that a foreign program listens on (S12) is not among publications; a
//! publication in host mode lists this node's tasks only.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use ipnet::IpNet;
use swarmnet_types::{
    Algorithm, Driver, DualStack, EndpointId, Mac, NetworkId, NodeIndex, Protocol, SandboxId,
    ServiceId, Subnet, Vni,
};

use crate::object::{LinkName, Netns};

/// The whole wish. Empty (`Desired::default()`) is a node that leaves: everything of ours goes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Desired {
    /// `None` outside a cluster: no overlays, no ingress.
    pub fabric: Option<Fabric>,
    pub host: Host,
    /// Where the overlays' hidden namespace is bound; needed when there is an overlay.
    pub overlay_netns: PathBuf,
    pub networks: BTreeMap<NetworkId, Network>,
    pub sandboxes: BTreeMap<SandboxId, Arc<Sandbox>>,
    /// Services that sandboxes here may call, for each network that is here: at most services × networks of the node.
    pub services: BTreeMap<(NetworkId, ServiceId), Arc<Service>>,
    /// Ports of this node: publications of services and port maps of sandboxes alike.
    pub publications: BTreeMap<PublicationKey, Arc<Publication>>,
    pub options: Options,
}

/// What the operator may switch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Put one kind of accept rule into other programs' forward chains that drop by policy (Docker, ufw).
    pub forward_accept: bool,
    /// Values to give back to sysctls of the node's namespace that nothing wants any more; what
    /// [`crate::Plan::sysctls_before`] said before the first change.
    pub restore_sysctls: BTreeMap<String, String>,
}

impl Default for Options {
    fn default() -> Self {
        Self { forward_accept: true, restore_sysctls: BTreeMap::new() }
    }
}

/// This node in the cluster's underlay and ingress fabric.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fabric {
    pub index: NodeIndex,
    /// This node's addresses in the fabric, on `swing`.
    pub addrs: DualStack,
    /// This node's VTEP; all VTEPs of a cluster are of one family.
    pub vtep: IpAddr,
    pub vxlan_port: u16,
    /// Largest layer-3 packet of the underlay.
    pub underlay_mtu_bytes: u32,
    /// Living or not: traffic of a node that comes back must pass before gossip has told so.
    pub peers: Arc<BTreeMap<NodeIndex, Peer>>,
    /// Fabric addresses of tasks on *other* nodes that live.
    pub tasks: Arc<BTreeMap<EndpointId, FabricTask>>,
    /// Underlay addresses of all nodes, this one included: as clients they get the entry node's fabric address, and sandboxes
    /// may not talk to their control ports.
    pub node_addrs: BTreeSet<IpAddr>,
    /// Ports of the daemons (control, gossip) that sandboxes may not reach on any node.
    pub control_ports: BTreeSet<(Protocol, u16)>,
}

/// How the host is set up, found by the agent before it changes anything.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Host {
    /// `net.ipv4.conf.all.rp_filter` is 1.
    pub strict_rp_filter: bool,
    /// Links that take router advertisements although they are not ours (`accept_ra` is 1). Forwarding would end that, so it
    /// becomes 2.
    pub accept_ra_links: BTreeSet<LinkName>,
}

/// Another node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    pub vtep: IpAddr,
    /// Its own addresses in the fabric.
    pub fabric: DualStack,
}

/// A task on another node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FabricTask {
    pub addrs: DualStack,
    pub node: NodeIndex,
}

/// A network that has an endpoint here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Network {
    Overlay(Overlay),
    Bridge(Bridge),
    Host,
    None,
}

impl Network {
    pub const fn driver(&self) -> Driver {
        match self {
            Self::Overlay(_) => Driver::Overlay,
            Self::Bridge(_) => Driver::Bridge,
            Self::Host => Driver::Host,
            Self::None => Driver::None,
        }
    }
}

/// One layer-2 network over several nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Overlay {
    pub vni: Vni,
    /// [`crate::mtu::vxlan_mtu_bytes`] unless the user set one.
    pub mtu_bytes: u32,
    /// Broadcast and multicast reach every endpoint (head-end replication).
    pub multicast: bool,
    /// Endpoints on other nodes that live.
    pub remotes: Arc<BTreeMap<EndpointId, Remote>>,
    /// Of the other nodes with an endpoint on it: who may send for it. Living or not, as [`Fabric::peers`].
    pub vteps: Arc<BTreeSet<IpAddr>>,
}

/// An endpoint on another node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remote {
    pub addrs: DualStack,
    pub mac: Mac,
    pub vtep: IpAddr,
}

/// A bridge on this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bridge {
    pub name: LinkName,
    pub subnets: Vec<BridgeSubnet>,
    pub mtu_bytes: u32,
    /// Outgoing packets get the node's address.
    pub masquerade: bool,
    /// Endpoints may talk to each other.
    pub icc: bool,
    /// No way out and none in.
    pub internal: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BridgeSubnet {
    pub subnet: Subnet,
    /// On the bridge itself.
    pub gateway: IpAddr,
}

/// A network stack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sandbox {
    pub netns: Netns,
    pub endpoints: BTreeMap<EndpointId, Endpoint>,
    pub node_link: Option<NodeLink>,
    pub default_v4: Option<DefaultRoute>,
    pub default_v6: Option<DefaultRoute>,
    /// High port of the resolver, which loopback's ingress puts in place of 127.0.0.11:53.
    pub dns_port: Option<u16>,
}

/// What joins a sandbox to a network of this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    pub network: NetworkId,
    /// Name inside the sandbox.
    pub ifname: LinkName,
    /// With the prefix length of their subnets.
    pub addrs: Vec<IpNet>,
    pub mac: Mac,
}

/// The routed link to the node: the way out, and the way in for published ports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeLink {
    /// Name inside the sandbox.
    pub ifname: LinkName,
    /// The sandbox's addresses in the ingress fabric.
    pub addrs: DualStack,
    /// The sandbox may open connections to the outside.
    pub egress: bool,
}

/// Where packets for nowhere in particular leave a sandbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DefaultRoute {
    NodeLink,
    /// By a gateway that is on this link inside the sandbox.
    Gateway {
        gateway: IpAddr,
        ifname: LinkName,
    },
}

/// A service as a sandbox on one network sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    pub vip: DualStack,
    pub algorithm: Algorithm,
    /// Addresses in that network, or outside the cluster, of both families.
    pub backends: BTreeSet<IpAddr>,
}

/// What tells publications apart: no two are equal in this on one node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct PublicationKey {
    /// Only on this address of the node.
    pub ip: Option<IpAddr>,
    pub protocol: Protocol,
    pub port: u16,
}

/// Where a published port leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publication {
    pub algorithm: Algorithm,
    /// Fabric addresses, bridge addresses or addresses outside the cluster, of both families.
    pub backends: BTreeSet<SocketAddr>,
    /// Clients outside these are dropped; empty: everyone may. The node's own processes always may.
    pub allow_from: BTreeSet<IpNet>,
}
