//! What a node remembers of its place in a cluster, beside its identity: `node.json`.

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};
use swarmnet_agent::local::files::{self, Format};
use swarmnet_agent::paths::Paths;
use swarmnet_types::{NodeDescription, NodeIndex};

use crate::error::CliError;

const FORMAT: Format = Format { name: "swarmnet-node", version: 1 };

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Place {
    pub(super) name: String,
    pub(super) index: NodeIndex,
    /// Where others reach this node's control port and gossip.
    pub(super) addr: SocketAddr,
    /// Where the control port listens.
    pub(super) listen: SocketAddr,
    pub(super) data_path: IpAddr,
    /// Managers known at the join; the view has newer ones.
    pub(super) managers: Vec<SocketAddr>,
}

impl Place {
    pub(super) fn load(paths: &Paths) -> Result<Option<Self>, CliError> {
        files::read(&paths.node(), FORMAT).map_err(CliError::failure)
    }

    pub(super) fn store(&self, paths: &Paths) -> Result<(), CliError> {
        files::write(&paths.node(), FORMAT, self).map_err(CliError::failure)
    }

    pub(super) fn description(&self) -> NodeDescription {
        NodeDescription {
            name: self.name.clone(),
            addr: self.addr,
            data_path: self.data_path,
            version: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }
}
