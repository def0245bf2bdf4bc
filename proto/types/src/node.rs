//! Nodes: the machines of a cluster.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::network::StringMap;
use crate::service::WordError;
use crate::{DualStack, NodeId, NodeIndex, Revision, Role};

/// May a node get new work?
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Availability {
    #[default]
    Active,
    /// What is there stays; nothing new.
    Pause,
    /// What is there leaves balancing and names.
    Drain,
}

impl fmt::Display for Availability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Active => "active",
            Self::Pause => "pause",
            Self::Drain => "drain",
        })
    }
}

impl FromStr for Availability {
    type Err = WordError;

    fn from_str(word: &str) -> Result<Self, WordError> {
        match word.to_ascii_lowercase().as_str() {
            "active" => Ok(Self::Active),
            "pause" => Ok(Self::Pause),
            "drain" => Ok(Self::Drain),
            _ => Err(WordError {
                what: "availability",
                word: word.to_owned(),
                allowed: "active, pause, drain",
            }),
        }
    }
}

/// A node as the cluster keeps it. Whether it is alive is not here: gossip tells that.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    pub id: NodeId,
    pub index: NodeIndex,
    pub name: String,
    pub role: Role,
    pub availability: Availability,
    /// Where its control port (managers) and gossip answer.
    pub addr: SocketAddr,
    /// Its VTEP: where VXLAN datagrams to it go.
    pub data_path: IpAddr,
    /// Its own address in the ingress fabric, of both families.
    pub fabric: DualStack,
    pub version: String,
    pub labels: StringMap,
    pub joined_ms: u64,
    pub created: Revision,
    pub changed: Revision,
}

/// The facts about itself that a node brings when it joins or comes back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeDescription {
    pub name: String,
    pub addr: SocketAddr,
    pub data_path: IpAddr,
    pub version: String,
}
