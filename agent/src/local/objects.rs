//! What exists on this node only, and what the reconcilers read of it: local networks and sandboxes.
//!
//! Plain data, without I/O. One writer: [`LocalStore`](super::store::LocalStore), which persists a change before it publishes
//! it. Values are behind `Arc`, so that a reader's snapshot and a comparison of two snapshots cost a pointer for each object.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use swarmnet_types::{
    AttachmentSpec, Condition, Driver, DualStack, Endpoint, HostName, Name, Network, NetworkId,
    Protocol, ResolverOption, SandboxId, SearchDomain, ServiceId, StringMap,
};

use crate::workload::RestartPolicy;

/// One snapshot of the node's own objects.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LocalObjects {
    /// Rises with every change: what a caller waits for in the kernel. Starts anew with the daemon.
    pub generation: u64,
    /// Local networks, the three predefined ones included. `subnets` is empty for `host` and `none`.
    pub networks: BTreeMap<NetworkId, Arc<Network>>,
    /// Every sandbox of this node, whatever its networks.
    pub sandboxes: BTreeMap<SandboxId, Arc<SandboxRecord>>,
}

/// How far a sandbox is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SandboxState {
    /// Its namespace exists, the kernel objects are being built.
    Attaching,
    Ready,
    /// Everything in it and for it is to be taken down; the namespace goes after that.
    Leaving,
}

/// One sandbox: a network stack on this node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SandboxRecord {
    pub id: SandboxId,
    /// Unique on the node.
    pub name: Name,
    pub hostname: HostName,
    /// Where its network namespace is mounted. With the `host` network: where the daemon's own one is.
    pub netns: PathBuf,
    /// The namespace lies under `/run/netns` and bears the sandbox's name.
    pub named: bool,
    /// In the order of the user; the first is `eth0` unless named otherwise.
    pub attachments: Vec<Attachment>,
    /// Its address in the ingress fabric, when the cluster granted one.
    pub fabric: Option<Endpoint>,
    pub service: Option<ServiceId>,
    /// The name of the service it asked to be a task of.
    pub service_name: Option<Name>,
    pub dns: DnsSettings,
    /// `-p`, granted: every host port is a number.
    pub ports: Vec<PortMap>,
    pub labels: StringMap,
    pub created_ms: u64,
    pub process: Option<ProcessRecord>,
    /// The process whose end takes the sandbox with it.
    pub owner: Option<Owner>,
    pub state: SandboxState,
    /// It went with a reboot and is to be made again; `Leaving` until then.
    #[serde(default)]
    pub comes_back: bool,
}

/// A sandbox's place on one network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attachment {
    /// As wished.
    pub spec: AttachmentSpec,
    /// As granted: by the cluster, or by this node (`node` is then this node, or zero outside a cluster). No addresses on
    /// `host` and `none`.
    pub endpoint: Endpoint,
    /// The network as it was when the endpoint was granted: what the node builds from when no manager answers.
    pub network: Network,
    /// Interface name inside the sandbox; empty for `host` and `none`.
    pub ifname: String,
}

/// `-p`: a port of this node that leads to one of the sandbox's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PortMap {
    /// `None`: every address of the node, of both families.
    pub host_ip: Option<IpAddr>,
    /// 0 in a wish: the node chooses.
    pub host_port: u16,
    pub port: u16,
    pub protocol: Protocol,
}

/// How a sandbox resolves names.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct DnsSettings {
    /// `--dns`; empty: the node's own.
    pub servers: Vec<IpAddr>,
    /// `--dns-search`; empty: the node's own; `.` alone: none.
    pub search: Vec<SearchDomain>,
    pub options: Vec<ResolverOption>,
    /// `--add-host`.
    pub extra_hosts: Vec<(HostName, IpAddr)>,
}

/// A supervised process and what its user last asked of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessRecord {
    pub spec: ProcessSpec,
    /// The user stopped it: no restart policy brings it back.
    pub stopped: bool,
}

/// What `run -d` runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessSpec {
    /// Never empty.
    pub argv: Vec<String>,
    /// `KEY=value`.
    pub env: Vec<String>,
    /// `user[:group]`, names or numbers; empty: root.
    pub user: String,
    /// Empty: `/`.
    pub workdir: String,
    pub restart: RestartPolicy,
    /// The sandbox goes when the process has ended for good.
    pub remove_when_done: bool,
    /// Signal number sent first by `stop`.
    pub stop_signal: i32,
}

/// A process told from a later one with the same number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    pub pid: u32,
    /// Field 22 of `/proc/PID/stat`, in clock ticks since boot.
    pub start_ticks: u64,
}

impl SandboxRecord {
    /// It has no stack of its own: nothing is built for it.
    pub fn shares_host_stack(&self) -> bool {
        self.attachments.iter().any(|a| a.network.spec.driver == Driver::Host)
    }

    /// Is one of its networks one that answers names (N3)? Its resolver is then 127.0.0.11.
    pub fn resolves_names(&self) -> bool {
        self.attachments.iter().any(|a| a.network.resolves_names())
    }

    /// Endpoints granted by the cluster, the fabric's included.
    pub fn cluster_endpoints(&self) -> impl Iterator<Item = &Endpoint> {
        let cluster = |a: &&Attachment| a.network.spec.scope == swarmnet_types::Scope::Cluster;
        self.attachments.iter().filter(cluster).map(|a| &a.endpoint).chain(&self.fabric)
    }

    /// Sets the condition of every endpoint, local ones included.
    pub fn set_condition(&mut self, now: Condition) {
        let all = self.attachments.iter_mut().map(|a| &mut a.endpoint).chain(&mut self.fabric);
        all.for_each(|e| e.condition = now);
    }

    /// Every address of the sandbox, in the order of its attachments.
    pub fn addrs(&self) -> impl Iterator<Item = IpAddr> {
        let addrs: Vec<DualStack> = self.attachments.iter().map(|a| a.endpoint.addrs).collect();
        addrs.into_iter().flat_map(|a| a.iter().collect::<Vec<_>>())
    }
}

impl PortMap {
    /// Would one packet be for both?
    pub fn conflicts(&self, other: &Self) -> bool {
        let ips = match (self.host_ip, other.host_ip) {
            (Some(a), Some(b)) => a == b,
            _ => true,
        };
        ips && self.protocol == other.protocol && self.host_port == other.host_port
    }

    /// The host side as Docker's messages write it.
    pub fn host(&self) -> SocketAddr {
        SocketAddr::new(
            self.host_ip.unwrap_or(std::net::Ipv4Addr::UNSPECIFIED.into()),
            self.host_port,
        )
    }
}
