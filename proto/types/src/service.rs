//! Services: a name on networks, a VIP on each, published ports, and the tasks behind them.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::network::StringMap;
use crate::publish::{Publication, PublishSpec};
use crate::{DualStack, Name, NetworkId, Revision, ServiceId};

/// A word that is none of those allowed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid {what} `{word}`: want one of {allowed}")]
pub struct WordError {
    pub what: &'static str,
    pub word: String,
    pub allowed: &'static str,
}

/// How the name of a service is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EndpointMode {
    /// By one virtual address for each network and family, balanced in the caller's sandbox.
    #[default]
    Vip,
    /// By the addresses of its tasks.
    Dnsrr,
}

impl fmt::Display for EndpointMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Vip => "vip",
            Self::Dnsrr => "dnsrr",
        })
    }
}

impl FromStr for EndpointMode {
    type Err = WordError;

    fn from_str(word: &str) -> Result<Self, WordError> {
        match word {
            "vip" => Ok(Self::Vip),
            "dnsrr" => Ok(Self::Dnsrr),
            _ => Err(WordError {
                what: "endpoint mode",
                word: word.to_owned(),
                allowed: "vip, dnsrr",
            }),
        }
    }
}

/// How a new connection chooses its task.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Algorithm {
    /// Uniformly at random.
    #[default]
    Random,
    /// One after the other.
    Rr,
    /// By a hash of the client's address: the same client, the same task, while the set of tasks stays.
    Sh,
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Random => "random",
            Self::Rr => "rr",
            Self::Sh => "sh",
        })
    }
}

impl FromStr for Algorithm {
    type Err = WordError;

    fn from_str(word: &str) -> Result<Self, WordError> {
        match word {
            "random" => Ok(Self::Random),
            "rr" => Ok(Self::Rr),
            "sh" => Ok(Self::Sh),
            _ => Err(WordError {
                what: "balancing algorithm",
                word: word.to_owned(),
                allowed: "random, rr, sh",
            }),
        }
    }
}

/// What a user wishes a service to be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceSpec {
    pub name: Name,
    /// Names, ids or prefixes of cluster networks.
    pub networks: Vec<String>,
    pub endpoint_mode: EndpointMode,
    pub algorithm: Algorithm,
    /// A wished virtual address; it must lie in one of the networks.
    pub vip: DualStack,
    pub publish: Vec<PublishSpec>,
    pub labels: StringMap,
}

impl ServiceSpec {
    pub fn named(name: Name) -> Self {
        Self {
            name,
            networks: Vec::new(),
            endpoint_mode: EndpointMode::default(),
            algorithm: Algorithm::default(),
            vip: DualStack::default(),
            publish: Vec::new(),
            labels: StringMap::new(),
        }
    }
}

/// A backend outside the cluster that an operator added by address.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ExternalBackend {
    pub name: Name,
    pub addr: IpAddr,
}

/// A service that exists.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    pub id: ServiceId,
    pub name: Name,
    pub endpoint_mode: EndpointMode,
    pub algorithm: Algorithm,
    pub labels: StringMap,
    /// The networks it has a name on → its virtual addresses there (empty ones with `dnsrr`).
    pub vips: BTreeMap<NetworkId, DualStack>,
    /// Granted: every port is a number.
    pub publications: Vec<Publication>,
    pub externals: Vec<ExternalBackend>,
    pub created_ms: u64,
    pub created: Revision,
    pub changed: Revision,
}
