//! The grammar of publications (`sw:P1`–`sw:P9`) and what it stands for.
//!
//! Long form: `published=5000,target=80[,protocol=tcp][,mode=ingress][,ip=ADDR][,nodes=LABEL=VALUE][,allow-from=CIDR]…`.
//! Short forms: `80`, `5000:80`, `5000-5002:80-82/udp`, `1.2.3.4:5000:80`, `[::1]:5000:80`.
//! Error texts are Docker's where Docker has one.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// Ports the cluster chooses from when the user names none (`sw:§1.3`).
pub const DYNAMIC_PORTS: std::ops::RangeInclusive<u16> = 30_000..=32_767;

/// A transport protocol that can be published.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    #[default]
    Tcp,
    Udp,
    Sctp,
}

impl Protocol {
    /// IANA protocol number.
    pub const fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
            Self::Sctp => 132,
        }
    }

    fn parse(word: &str) -> Option<Self> {
        match word {
            "tcp" => Some(Self::Tcp),
            "udp" => Some(Self::Udp),
            "sctp" => Some(Self::Sctp),
            _ => None,
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        })
    }
}

/// Which nodes answer on a published port.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum PublishMode {
    /// Every node, for tasks anywhere.
    #[default]
    Ingress,
    /// Nodes with a task, for that task.
    Host,
}

impl fmt::Display for PublishMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ingress => "ingress",
            Self::Host => "host",
        })
    }
}

/// `label=value`: only nodes that carry it publish.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NodeSelector {
    pub label: String,
    pub value: String,
}

/// One wished publication; ranges are several.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PublishSpec {
    /// `None`: the cluster chooses from [`DYNAMIC_PORTS`].
    pub published: Option<u16>,
    pub target: u16,
    pub protocol: Protocol,
    pub mode: PublishMode,
    /// Answer on this address only.
    pub ip: Option<IpAddr>,
    pub nodes: Option<NodeSelector>,
    /// Clients outside these are dropped; empty: everyone may.
    pub allow_from: Vec<IpNet>,
}

/// One granted publication.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Publication {
    pub published: u16,
    pub target: u16,
    pub protocol: Protocol,
    pub mode: PublishMode,
    pub ip: Option<IpAddr>,
    pub nodes: Option<NodeSelector>,
    pub allow_from: Vec<IpNet>,
}

impl Publication {
    /// Two publications that no packet could tell apart (S2): same protocol and port, addresses and node sets that overlap.
    pub fn conflicts(&self, other: &Self) -> bool {
        let ips = match (self.ip, other.ip) {
            (Some(a), Some(b)) => a == b,
            _ => true,
        };
        let nodes = match (&self.nodes, &other.nodes) {
            (Some(a), Some(b)) => a.label != b.label || a.value == b.value,
            _ => true,
        };
        self.protocol == other.protocol && self.published == other.published && ips && nodes
    }
}

impl fmt::Display for Publication {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(ip) = self.ip {
            write!(f, "{}:", bracketed(ip))?;
        }
        write!(f, "{}:{}/{} ({})", self.published, self.target, self.protocol, self.mode)
    }
}

fn bracketed(ip: IpAddr) -> String {
    if ip.is_ipv6() { format!("[{ip}]") } else { ip.to_string() }
}

/// Why a number is no port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PortFault {
    Syntax,
    Range,
}

impl fmt::Display for PortFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Syntax => "invalid syntax",
            Self::Range => "value out of range",
        })
    }
}

/// What is wrong with a publication that a user wrote.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    #[error("missing mandatory field 'target'")]
    NoTarget,
    #[error("invalid field: {field} (want key=value)")]
    Field { field: String },
    #[error(
        "invalid field key: {key} (want published, target, protocol, mode, ip, nodes or allow-from)"
    )]
    Key { key: String },
    #[error("field given twice: {key}")]
    Twice { key: String },
    #[error("invalid protocol value '{value}' (want tcp, udp or sctp)")]
    ProtocolValue { value: String },
    #[error("invalid publish mode value ({value}): must be either 'ingress' or 'host'")]
    Mode { value: String },
    #[error("invalid {side} port ({value}): value must be an integer: {fault}")]
    LongPort { side: &'static str, value: String, fault: PortFault },
    #[error("invalid address ({value}): want an IPv4 or IPv6 address")]
    Ip { value: String },
    #[error("invalid node selector ({value}): want nodes=LABEL=VALUE")]
    Selector { value: String },
    #[error("invalid allow-from ({value}): want a network such as 192.0.2.0/24")]
    AllowFrom { value: String },
    #[error("no port specified: {text}<empty>")]
    Empty { text: String },
    #[error("invalid proto: {proto}")]
    Proto { proto: String },
    #[error("invalid containerPort: {port}")]
    ContainerPort { port: String },
    #[error("invalid hostPort: {port}")]
    HostPort { port: String },
    #[error("invalid IP address: {ip}")]
    HostIp { ip: String },
    #[error("invalid ranges specified for container and host Ports: {container} and {host}")]
    Ranges { container: String, host: String },
}

/// Parses one text of either form; a range gives one spec for each port, in order. Never empty.
///
/// # Errors
/// See [`PublishError`].
pub fn parse(text: &str) -> Result<Vec<PublishSpec>, PublishError> {
    if text.contains('=') { long(text).map(|spec| vec![spec]) } else { short(text) }
}

// === long form ===

fn long(text: &str) -> Result<PublishSpec, PublishError> {
    let mut spec = PublishSpec {
        published: None,
        target: 0,
        protocol: Protocol::Tcp,
        mode: PublishMode::Ingress,
        ip: None,
        nodes: None,
        allow_from: Vec::new(),
    };
    let mut seen = Vec::new();
    for field in text.split(',') {
        let (key, value) = field
            .trim()
            .split_once('=')
            .ok_or_else(|| PublishError::Field { field: field.to_owned() })?;
        let key = key.to_ascii_lowercase();
        if key != "allow-from" && seen.contains(&key) {
            return Err(PublishError::Twice { key });
        }
        set(&mut spec, &key, value)?;
        seen.push(key);
    }
    if spec.target == 0 { Err(PublishError::NoTarget) } else { Ok(spec) }
}

fn set(spec: &mut PublishSpec, key: &str, value: &str) -> Result<(), PublishError> {
    let lower = value.to_ascii_lowercase();
    match key {
        "published" => {
            spec.published = Some(long_port("published", value)?).filter(|p| *p != 0);
        }
        "target" => spec.target = long_port("target", value)?,
        "protocol" => {
            spec.protocol = Protocol::parse(&lower)
                .ok_or_else(|| PublishError::ProtocolValue { value: value.to_owned() })?;
        }
        "mode" => {
            spec.mode = match lower.as_str() {
                "ingress" => PublishMode::Ingress,
                "host" => PublishMode::Host,
                _ => return Err(PublishError::Mode { value: value.to_owned() }),
            };
        }
        "ip" => {
            let ip = address(value).ok_or_else(|| PublishError::Ip { value: value.to_owned() })?;
            spec.ip = Some(ip).filter(|ip| !ip.is_unspecified());
        }
        "nodes" => {
            let (label, wanted) = value
                .split_once('=')
                .filter(|(label, _)| !label.is_empty())
                .ok_or_else(|| PublishError::Selector { value: value.to_owned() })?;
            spec.nodes = Some(NodeSelector { label: label.to_owned(), value: wanted.to_owned() });
        }
        "allow-from" => spec.allow_from.push(
            parse_net(value).ok_or_else(|| PublishError::AllowFrom { value: value.to_owned() })?,
        ),
        _ => return Err(PublishError::Key { key: key.to_owned() }),
    }
    Ok(())
}

/// A network, or an address that stands for itself alone.
fn parse_net(text: &str) -> Option<IpNet> {
    text.parse()
        .ok()
        .or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))
        .map(|n: IpNet| n.trunc())
}

fn long_port(side: &'static str, value: &str) -> Result<u16, PublishError> {
    port_number(value).map_err(|fault| PublishError::LongPort {
        side,
        value: value.to_owned(),
        fault,
    })
}

fn port_number(value: &str) -> Result<u16, PortFault> {
    if value.is_empty() || !value.bytes().all(|b| b.is_ascii_digit()) {
        return Err(PortFault::Syntax);
    }
    value.parse().map_err(|_| PortFault::Range)
}

// === short form ===

fn short(text: &str) -> Result<Vec<PublishSpec>, PublishError> {
    let (rest, proto) = text.split_once('/').unwrap_or((text, "tcp"));
    let protocol = Protocol::parse(&proto.to_ascii_lowercase())
        .ok_or_else(|| PublishError::Proto { proto: proto.to_owned() })?;
    let (rest, container) = rest.rsplit_once(':').map_or((None, rest), |(r, c)| (Some(r), c));
    if container.is_empty() {
        return Err(PublishError::Empty { text: text.to_owned() });
    }
    let (ip, host) = match rest {
        None => (None, ""),
        Some(rest) => match rest.rsplit_once(':') {
            None => (None, rest),
            Some((ip, host)) => (host_ip(ip)?, host),
        },
    };
    let targets = range(container)
        .ok_or_else(|| PublishError::ContainerPort { port: container.to_owned() })?;
    let published = match host {
        "" => None,
        _ => Some(range(host).ok_or_else(|| PublishError::HostPort { port: host.to_owned() })?),
    };
    let pairs = pair(published, targets).ok_or_else(|| PublishError::Ranges {
        container: container.to_owned(),
        host: host.to_owned(),
    })?;
    let spec = |(published, target)| PublishSpec {
        published,
        target,
        protocol,
        mode: PublishMode::Ingress,
        ip,
        nodes: None,
        allow_from: Vec::new(),
    };
    Ok(pairs.into_iter().map(spec).collect())
}

fn host_ip(text: &str) -> Result<Option<IpAddr>, PublishError> {
    let bare = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).unwrap_or(text);
    if bare.is_empty() {
        return Ok(None);
    }
    let ip = address(bare).ok_or_else(|| PublishError::HostIp { ip: text.to_owned() })?;
    Ok(Some(ip).filter(|ip| !ip.is_unspecified()))
}

/// An address that a host may have, or the unspecified one.
fn address(text: &str) -> Option<IpAddr> {
    text.parse().ok().filter(|ip: &IpAddr| !ip.is_multicast())
}

/// First and last port, both at least 1, in order.
fn range(text: &str) -> Option<(u16, u16)> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (port_number(first).ok()?, port_number(last).ok()?);
    (first != 0 && first <= last).then_some((first, last))
}

/// One to one, or several published ports on one target (`sw:P3`).
fn pair(published: Option<(u16, u16)>, targets: (u16, u16)) -> Option<Vec<(Option<u16>, u16)>> {
    let Some((first, last)) = published else {
        return Some((targets.0..=targets.1).map(|t| (None, t)).collect());
    };
    let hosts = first..=last;
    if targets.0 == targets.1 {
        return Some(hosts.map(|p| (Some(p), targets.0)).collect());
    }
    (last - first == targets.1 - targets.0)
        .then(|| hosts.zip(targets.0..=targets.1).map(|(p, t)| (Some(p), t)).collect())
}

impl FromStr for Protocol {
    type Err = PublishError;

    fn from_str(word: &str) -> Result<Self, PublishError> {
        Self::parse(&word.to_ascii_lowercase())
            .ok_or_else(|| PublishError::ProtocolValue { value: word.to_owned() })
    }
}

impl fmt::Display for PublishSpec {
    /// The long form; [`parse`] reads it back.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(published) = self.published {
            write!(f, "published={published},")?;
        }
        write!(f, "target={},protocol={},mode={}", self.target, self.protocol, self.mode)?;
        if let Some(ip) = self.ip {
            write!(f, ",ip={ip}")?;
        }
        if let Some(NodeSelector { label, value }) = &self.nodes {
            write!(f, ",nodes={label}={value}")?;
        }
        self.allow_from.iter().try_for_each(|net| write!(f, ",allow-from={net}"))
    }
}

#[cfg(test)]
mod tests;
