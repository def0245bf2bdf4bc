//! Endpoints: what joins a sandbox to a network, and in what condition it is.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{DualStack, EndpointId, Mac, Name, NetworkId, NodeId, Revision, SandboxId, ServiceId};

/// How an endpoint fares, as the agent of its node reports it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Condition {
    /// Reserved; not yet reachable.
    Starting,
    /// In the kernel of its node: in names and balancing.
    Ready,
    /// Its health check fails: out of balancing.
    Unhealthy,
    /// Leaving: nothing new is sent to it, what is open goes on.
    Draining,
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Starting => "starting",
            Self::Ready => "ready",
            Self::Unhealthy => "unhealthy",
            Self::Draining => "draining",
        })
    }
}

/// An endpoint that exists.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    pub id: EndpointId,
    pub network: NetworkId,
    pub node: NodeId,
    pub sandbox: SandboxId,
    /// The sandbox's name: unique on its node, answered by DNS.
    pub name: Name,
    /// Answered by DNS too when it differs.
    pub hostname: String,
    pub aliases: Vec<Name>,
    pub addrs: DualStack,
    pub mac: Mac,
    pub service: Option<ServiceId>,
    /// Its number within the service, from 1, the lowest free at its birth.
    pub slot: Option<u32>,
    pub condition: Condition,
    pub created_ms: u64,
    pub created: Revision,
    pub changed: Revision,
}
