//! What the node's own objects need of the rest of the agent: the state of the kernel, the managers, and the status of the
//! session. Implemented by the core of the agent; by fakes in tests.

use std::sync::Arc;
use std::time::SystemTime;

use async_trait::async_trait;
use swarmnet_pki::{Fingerprint, NodeIdentity};
use swarmnet_types::{ClusterId, NodeId, NodeView, Role, SandboxId};
use tonic::transport::Channel;

/// What the reconcilers report of a sandbox.
#[async_trait]
pub trait KernelStatus: Send + Sync + std::fmt::Debug {
    /// Resolves when kernel and names are as `LocalObjects` of `generation` (or a later one) says of this sandbox: built and
    /// answering when it is `Attaching` or `Ready`, taken down, with every socket in it closed, when it is `Leaving` or absent.
    ///
    /// # Errors
    /// One sentence why it cannot be built; the reconcilers go on trying.
    async fn wait_applied(&self, sandbox: SandboxId, generation: u64) -> Result<(), String>;
}

/// The node's place in a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    pub node: NodeId,
    pub cluster: ClusterId,
    pub role: Role,
}

/// No manager could be reached; the sentence for the user.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no manager of the cluster answers (tried {})", tried.join(", "))]
pub struct NoManager {
    pub tried: Vec<String>,
}

/// The way to the managers.
#[async_trait]
pub trait Managers: Send + Sync + std::fmt::Debug {
    /// `None`: in no cluster.
    fn standing(&self) -> Option<Standing>;

    /// This node is a manager that waits for the operator's key: it can call nobody.
    fn is_locked(&self) -> bool {
        false
    }

    /// A channel to the manager that answered last, or to another one after [`failed`](Self::failed).
    ///
    /// # Errors
    /// [`NoManager`] when none of them can be connected.
    async fn channel(&self) -> Result<Channel, NoManager>;

    /// The channel handed out last did not carry a call: prefer another manager.
    fn failed(&self);
}

/// How another node fares, as gossip has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    pub node: NodeId,
    pub name: String,
    /// `alive`, `suspect`, `agent-lost` or `dead`.
    pub state: String,
}

/// What `agent status` shows.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AgentStatus {
    pub name: String,
    pub view_revision: u64,
    pub applied_revision: u64,
    /// Address of the manager that serves our stream.
    pub manager: Option<String>,
    /// Kernel objects of ours that others had changed and that were put right.
    pub repaired: u64,
    pub problems: Vec<String>,
    pub peers: Vec<Peer>,
    /// `None`: not in a cluster.
    pub certificate: Option<OwnCertificate>,
    /// `None`: it does not run.
    pub gossip: Option<GossipStatus>,
}

/// How many of the other nodes fare how, as this node's gossip has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct GossipStatus {
    pub alive: usize,
    pub agent_lost: usize,
    pub dead: usize,
    /// Not heard just now; they count as what they were until there is a verdict.
    pub suspected: usize,
    /// More than half of the others are silent: nobody is declared dead.
    pub cut_off: bool,
}

/// This node's certificate, as it is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnCertificate {
    pub starts: SystemTime,
    pub ends: SystemTime,
    pub serial: String,
    /// The root that signed it.
    pub issuer: Option<Fingerprint>,
}

impl OwnCertificate {
    pub fn of(identity: &NodeIdentity) -> Self {
        let peer = identity.peer();
        Self {
            starts: peer.not_before,
            ends: peer.not_after,
            serial: peer.serial.to_string(),
            issuer: identity.issuer(),
        }
    }
}

/// The node's session with the cluster, as far as it is of interest here.
pub trait Session: Send + Sync + std::fmt::Debug {
    fn status(&self) -> AgentStatus;

    /// The last complete view, from a manager or from the disk; `None` outside a cluster and before the first.
    fn view(&self) -> Option<Arc<NodeView>>;
}
