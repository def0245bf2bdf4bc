//! Networks: what a user wishes for, and what the cluster (or, for a local network, the node) granted.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{Mac, Name, NetworkId, Revision, Subnet, Vni};

/// A free-form set of `key=value`, in key order.
pub type StringMap = BTreeMap<String, String>;

/// Names of the networks that every node has from the start; nobody can create or remove them (`sw:C9`).
pub const PREDEFINED: [&str; 3] = ["bridge", "host", "none"];

/// Which module of the data plane builds a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Driver {
    /// A Linux bridge on one node, with masquerade.
    Bridge,
    /// The node's own network stack.
    Host,
    /// A network stack with nothing but loopback.
    None,
    /// One layer-2 network over all nodes, by VXLAN (RFC 7348).
    Overlay,
}

impl Driver {
    pub const ALL: [Self; 4] = [Self::Bridge, Self::Host, Self::None, Self::Overlay];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Bridge => "bridge",
            Self::Host => "host",
            Self::None => "none",
            Self::Overlay => "overlay",
        }
    }

    /// Where a network of this driver lives when the user does not say.
    pub const fn default_scope(self) -> Scope {
        match self {
            Self::Overlay => Scope::Cluster,
            Self::Bridge | Self::Host | Self::None => Scope::Local,
        }
    }
}

impl fmt::Display for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// No such driver. The words after the first are Docker's (`sw:C12`).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "could not find plugin {name} in v1 plugin registry: plugin not found (drivers: bridge, host, none, overlay)"
)]
pub struct UnknownDriver {
    name: String,
}

impl FromStr for Driver {
    type Err = UnknownDriver;

    fn from_str(text: &str) -> Result<Self, UnknownDriver> {
        Self::ALL
            .into_iter()
            .find(|d| d.as_str() == text)
            .ok_or_else(|| UnknownDriver { name: text.to_owned() })
    }
}

/// Who knows a network: one node, or the cluster. Docker prints `swarm` for the second; we print `cluster`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    Local,
    Cluster,
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Local => "local",
            Self::Cluster => "cluster",
        })
    }
}

/// One subnet of a network: as wished (`gateway: None` = first address) or as granted (`gateway: Some` unless the driver has
/// none).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubnetSpec {
    pub subnet: Subnet,
    /// Addresses are given from this part only.
    pub ip_range: Option<Subnet>,
    pub gateway: Option<IpAddr>,
    /// Name → address that is never given.
    pub aux_addresses: BTreeMap<String, IpAddr>,
}

impl SubnetSpec {
    pub fn plain(subnet: Subnet) -> Self {
        Self { subnet, ip_range: None, gateway: None, aux_addresses: BTreeMap::new() }
    }
}

/// What a user wishes a network to be. Checks that need no state are in the manager core.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkSpec {
    pub name: Name,
    pub driver: Driver,
    pub scope: Scope,
    /// Empty: one for each wanted family is taken from the pools.
    pub subnets: Vec<SubnetSpec>,
    pub ipv4: bool,
    pub ipv6: bool,
    /// No way out and none in.
    pub internal: bool,
    pub attachable: bool,
    /// The cluster's one ingress network.
    pub ingress: bool,
    pub options: StringMap,
    pub labels: StringMap,
}

/// Names of options that Docker users write; ours and Docker's are synonyms.
pub mod option {
    pub const MTU: [&str; 2] = ["mtu", "com.docker.network.driver.mtu"];
    pub const VNI: [&str; 2] = ["vni", "com.docker.network.driver.overlay.vxlanid_list"];
    pub const BRIDGE_NAME: [&str; 2] = ["bridge.name", "com.docker.network.bridge.name"];
    pub const ICC: [&str; 2] = ["icc", "com.docker.network.bridge.enable_icc"];
    pub const MASQUERADE: [&str; 2] =
        ["masquerade", "com.docker.network.bridge.enable_ip_masquerade"];
    pub const ENCRYPTED: [&str; 2] = ["encrypted", "com.docker.network.driver.overlay.encrypted"];
}

/// An option whose value cannot be what it says.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum OptionError {
    #[error("invalid MTU number: {value} (want 68 to 65535)")]
    Mtu { value: String },
    #[error("invalid vxlan id: {value} (want 4096 to 16777215)")]
    Vni { value: String },
    #[error("driver-opt \"{key}\" is not a valid bool: {value}")]
    Bool { key: String, value: String },
}

impl NetworkSpec {
    /// What Docker makes of a name and a driver alone: IPv4 from the pools, in the driver's own scope.
    pub fn named(name: Name, driver: Driver) -> Self {
        Self {
            name,
            driver,
            scope: driver.default_scope(),
            subnets: Vec::new(),
            ipv4: true,
            ipv6: false,
            internal: false,
            attachable: false,
            ingress: false,
            options: StringMap::new(),
            labels: StringMap::new(),
        }
    }

    fn option(&self, keys: [&str; 2]) -> Option<(&str, &str)> {
        keys.into_iter()
            .find_map(|k| self.options.get_key_value(k))
            .map(|(k, v)| (k.as_str(), v.as_str()))
    }

    /// The MTU of the network's interfaces in bytes when the user set one; 0 means "find it", as in Docker.
    pub fn mtu_bytes(&self) -> Result<Option<u16>, OptionError> {
        let Some((_, value)) = self.option(option::MTU) else { return Ok(None) };
        match value.parse::<u16>() {
            Ok(0) => Ok(None),
            Ok(mtu) if mtu >= 68 => Ok(Some(mtu)),
            _ => Err(OptionError::Mtu { value: value.to_owned() }),
        }
    }

    /// The VNI when the user chose one.
    pub fn wanted_vni(&self) -> Result<Option<Vni>, OptionError> {
        let Some((_, value)) = self.option(option::VNI) else { return Ok(None) };
        value
            .parse::<u32>()
            .ok()
            .filter(|v| *v >= Vni::INGRESS.get())
            .and_then(|v| Vni::new(v).ok())
            .map(Some)
            .ok_or_else(|| OptionError::Vni { value: value.to_owned() })
    }

    /// A boolean option under either of its names; an empty value means true, as `-o encrypted` does.
    pub fn flag(&self, keys: [&str; 2], default: bool) -> Result<bool, OptionError> {
        match self.option(keys) {
            None => Ok(default),
            Some((_, "" | "1" | "t" | "T" | "true" | "TRUE" | "True")) => Ok(true),
            Some((_, "0" | "f" | "F" | "false" | "FALSE" | "False")) => Ok(false),
            Some((k, v)) => Err(OptionError::Bool { key: k.to_owned(), value: v.to_owned() }),
        }
    }

    /// The bridge's interface name when the user chose one.
    pub fn bridge_name(&self) -> Option<&str> {
        self.option(option::BRIDGE_NAME).map(|(_, v)| v).filter(|v| !v.is_empty())
    }
}

/// A network that exists: its wish and what was allocated for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    pub id: NetworkId,
    pub spec: NetworkSpec,
    /// As granted: never empty for a cluster network; gateways filled in.
    pub subnets: Vec<SubnetSpec>,
    /// Overlays only.
    pub vni: Option<Vni>,
    /// Unix time in milliseconds.
    pub created_ms: u64,
    pub created: Revision,
    pub changed: Revision,
}

impl Network {
    /// Does any granted subnet hold this address?
    pub fn contains(&self, addr: IpAddr) -> bool {
        self.subnets.iter().any(|s| s.subnet.contains(addr))
    }

    /// The granted subnet that holds this address.
    pub fn subnet_of(&self, addr: IpAddr) -> Option<&SubnetSpec> {
        self.subnets.iter().find(|s| s.subnet.contains(addr))
    }

    /// Names are answered on every network but the node's predefined ones and the ingress (N3).
    pub fn resolves_names(&self) -> bool {
        !self.spec.ingress && !PREDEFINED.contains(&self.spec.name.as_str())
    }
}

/// How one endpoint is wished to be on one network.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct AttachmentSpec {
    /// Name, id or unique prefix of an id.
    pub network: String,
    pub ipv4: Option<std::net::Ipv4Addr>,
    pub ipv6: Option<std::net::Ipv6Addr>,
    pub mac: Option<Mac>,
    pub aliases: Vec<Name>,
    /// The attachment with the highest wins the default route.
    pub gw_priority: i32,
    pub driver_opts: StringMap,
}
