//! The agent in numbers, for metrics.

use std::time::{Duration, SystemTime};

use swarmnet_types::NodeView;

use crate::local::GossipStatus;

/// An agent at one moment. Counts are since its start.
#[derive(Debug, Clone, Copy, Default)]
pub struct AgentNumbers {
    pub stream_open: bool,
    pub view: ViewNumbers,
    pub applied_revision: u64,
    pub sandboxes: usize,
    pub problems: usize,
    /// Kernel objects put right that others had changed.
    pub repaired: u64,
    /// Of the reconciler.
    pub rounds: u64,
    pub last_round: Duration,
    /// `None`: not in a cluster.
    pub certificate_ends: Option<SystemTime>,
    /// `None`: it does not run.
    pub gossip: Option<(GossipStatus, swarmnet_gossip::StatsSnapshot)>,
    pub dns: swarmnet_dns::StatsSnapshot,
}

/// How much of the cluster a node knows; zero without a view.
#[derive(Debug, Clone, Copy, Default)]
pub struct ViewNumbers {
    pub revision: u64,
    pub nodes: usize,
    pub networks: usize,
    pub services: usize,
    pub endpoints: usize,
}

impl From<&NodeView> for ViewNumbers {
    fn from(view: &NodeView) -> Self {
        Self {
            revision: view.revision.0,
            nodes: view.nodes.len(),
            networks: view.networks.len(),
            services: view.services.len(),
            endpoints: view.endpoints.len(),
        }
    }
}
