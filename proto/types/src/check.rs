//! Checks of a wished network that need no state: the addressing flags as texts (`sw:C2`–`sw:C7`) and the whole spec
//! (`sw:C9`, `sw:C13`, `sw:C15`, `sw:C18`, `sw:C19`).
//!
//! Every fault of a request is found and named in one answer. The command line, the local drivers and the replicated state
//! run the same functions. What needs other networks (overlap, taken names) is not here.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::addr::AddrError;
use crate::network::{OptionError, PREDEFINED, option};
use crate::{Driver, NetworkSpec, Scope, Subnet, SubnetSpec};

/// Label that only networks made by Docker itself carry (`sw:C19`).
const PREDEFINED_LABEL: &str = "com.docker.swarm.predefined";

/// Unspecified, loopback, link-local of IPv6, multicast and broadcast (RFC 6890, RFC 4291): no address of a sandbox.
const RESERVED: [&str; 7] = [
    "0.0.0.0/8",
    "127.0.0.0/8",
    "224.0.0.0/4",
    "255.255.255.255/32",
    "::/127",
    "fe80::/10",
    "ff00::/8",
];

/// One thing that is wrong with a wished network. Texts are Docker's where Docker has one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum SpecFault {
    #[error("every ip-range or gateway must have a corresponding subnet")]
    Count,
    #[error("{err}")]
    Subnet { err: AddrError },
    #[error("multiple overlapping subnet configuration is not supported ({a} and {b})")]
    Overlap { a: Subnet, b: Subnet },
    #[error("no matching subnet for range {range}")]
    RangeOrphan { range: String },
    #[error("cannot configure multiple ranges ({first}, {second}) on the same subnet ({subnet})")]
    Ranges { first: Subnet, second: Subnet, subnet: Subnet },
    #[error("invalid ip-range {range}: invalid CIDR address")]
    RangeSyntax { range: String },
    #[error("invalid ip-range {range}: it should be {should}")]
    RangeHostBits { range: String, should: IpNet },
    #[error("invalid ip-range {range}: CIDR block is bigger than its parent subnet {subnet}")]
    RangeBigger { range: Subnet, subnet: Subnet },
    #[error("invalid ip-range {range}: parent subnet {subnet} doesn't contain ip-range")]
    RangeOutside { range: Subnet, subnet: Subnet },
    #[error("invalid ip-range {range}: parent subnet is an {} block", family(*.subnet))]
    RangeFamily { range: Subnet, subnet: Subnet },
    #[error("no matching subnet for gateway {gateway}")]
    GatewayOrphan { gateway: IpAddr },
    #[error(
        "cannot configure multiple gateways ({first}, {second}) for the same subnet ({subnet})"
    )]
    Gateways { first: IpAddr, second: IpAddr, subnet: Subnet },
    #[error("invalid gateway {gateway}: not an IP address")]
    GatewaySyntax { gateway: String },
    #[error("invalid gateway {gateway}: parent subnet {subnet} doesn't contain this address")]
    GatewayOutside { gateway: IpAddr, subnet: Subnet },
    #[error("invalid gateway {gateway}: it is the network or broadcast address of {subnet}")]
    GatewayReserved { gateway: IpAddr, subnet: Subnet },
    #[error("no matching subnet for aux-address {addr}")]
    AuxOrphan { addr: IpAddr },
    #[error("invalid auxiliary address {name}: {addr} is not an IP address")]
    AuxSyntax { name: String, addr: String },
    #[error(
        "invalid auxiliary address {name}: parent subnet {subnet} doesn't contain this address"
    )]
    AuxOutside { name: String, subnet: Subnet },
    #[error("invalid subnet {subnet}: it is IPv6 and --ipv6 is not set")]
    NoIpv6 { subnet: Subnet },
    #[error("invalid subnet {subnet}: it is IPv4 and IPv4 is switched off")]
    NoIpv4 { subnet: Subnet },
    #[error("invalid subnet {subnet}: no host may have an address of {reserved}")]
    Reserved { subnet: Subnet, reserved: Subnet },
    #[error("IPv4 or IPv6 must be enabled")]
    NoFamily,
    #[error("{name} is a pre-defined network and cannot be created")]
    Predefined { name: String },
    #[error("cannot downgrade network scope for overlay networks")]
    OverlayLocal,
    #[error(
        "driver {driver} makes networks of one node only; use -d overlay for a cluster network"
    )]
    LocalDriver { driver: Driver },
    #[error("Ingress network can only be global scope network")]
    IngressLocal,
    #[error("ingress network cannot be attachable")]
    IngressAttachable,
    #[error("ingress network cannot be internal")]
    IngressInternal,
    #[error("only overlay driver is currently supported for ingress network")]
    IngressDriver,
    #[error(
        "label com.docker.swarm.predefined is for internally created predefined networks and cannot be applied by users"
    )]
    Label,
    #[error(
        "driver-opt \"encrypted\": this version cannot encrypt an overlay; leave it out or say encrypted=false"
    )]
    Encrypted,
    #[error("{err}")]
    Option { err: OptionError },
}

fn family(subnet: Subnet) -> &'static str {
    if subnet.is_ipv6() { "IPv6" } else { "IPv4" }
}

/// All faults of one request, never empty, in the order found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpecFaults(pub Vec<SpecFault>);

impl fmt::Display for SpecFaults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("invalid network config: ")?;
        for (i, fault) in self.0.iter().enumerate() {
            write!(f, "{}{fault}", if i == 0 { "" } else { "; " })?;
        }
        Ok(())
    }
}

impl std::error::Error for SpecFaults {}

fn done<T>(value: T, faults: Vec<SpecFault>) -> Result<T, SpecFaults> {
    if faults.is_empty() { Ok(value) } else { Err(SpecFaults(faults)) }
}

// === flags as texts ===

/// What `--subnet`, `--ip-range`, `--gateway` and `--aux-address NAME=IP` said, each in the order given.
#[derive(Debug, Clone, Copy, Default)]
pub struct Addressing<'a> {
    pub subnets: &'a [String],
    pub ranges: &'a [String],
    pub gateways: &'a [String],
    pub aux: &'a [(String, String)],
}

impl Addressing<'_> {
    /// Each range, gateway and auxiliary address put with the subnet that holds it.
    ///
    /// # Errors
    /// Every fault of every flag (`sw:C2`–`sw:C7`, `sw:C15`).
    pub fn assemble(&self) -> Result<Vec<SubnetSpec>, SpecFaults> {
        let mut faults = Vec::new();
        if self.subnets.len() < self.ranges.len().max(self.gateways.len()) {
            faults.push(SpecFault::Count);
        }
        let mut specs: Vec<SubnetSpec> = Vec::new();
        for text in self.subnets {
            match text.parse() {
                Ok(subnet) => specs.push(SubnetSpec::plain(subnet)),
                Err(err) => faults.push(SpecFault::Subnet { err }),
            }
        }
        overlaps(&specs, &mut faults);
        for text in self.ranges {
            place_range(text, &mut specs, &mut faults);
        }
        for text in self.gateways {
            place_gateway(text, &mut specs, &mut faults);
        }
        for (name, text) in self.aux {
            place_aux(name, text, &mut specs, &mut faults);
        }
        done(specs, faults)
    }
}

fn overlaps(specs: &[SubnetSpec], faults: &mut Vec<SpecFault>) {
    for (i, a) in specs.iter().enumerate() {
        for b in &specs[i + 1..] {
            if a.subnet.overlaps(&b.subnet) {
                faults.push(SpecFault::Overlap { a: a.subnet, b: b.subnet });
            }
        }
    }
}

fn holding(specs: &mut [SubnetSpec], addr: IpAddr) -> Option<&mut SubnetSpec> {
    specs.iter_mut().find(|s| s.subnet.contains(addr))
}

fn place_range(text: &str, specs: &mut [SubnetSpec], faults: &mut Vec<SpecFault>) {
    let range: Subnet = match text.parse() {
        Ok(range) => range,
        Err(AddrError::HostBits { text, should }) => {
            return faults.push(SpecFault::RangeHostBits { range: text, should });
        }
        Err(_) => return faults.push(SpecFault::RangeSyntax { range: text.to_owned() }),
    };
    if let Some(spec) =
        specs.iter().find(|s| s.subnet != range && range.net().contains(&s.subnet.net()))
    {
        return faults.push(SpecFault::RangeBigger { range, subnet: spec.subnet });
    }
    let Some(spec) = holding(specs, range.net().network()) else {
        return faults.push(SpecFault::RangeOrphan { range: text.to_owned() });
    };
    match spec.ip_range {
        Some(first) => {
            faults.push(SpecFault::Ranges { first, second: range, subnet: spec.subnet });
        }
        None => spec.ip_range = Some(range),
    }
}

fn place_gateway(text: &str, specs: &mut [SubnetSpec], faults: &mut Vec<SpecFault>) {
    let Ok(gateway) = text.parse::<IpAddr>() else {
        return faults.push(SpecFault::GatewaySyntax { gateway: text.to_owned() });
    };
    let Some(spec) = holding(specs, gateway) else {
        return faults.push(SpecFault::GatewayOrphan { gateway });
    };
    match spec.gateway {
        Some(first) => {
            faults.push(SpecFault::Gateways { first, second: gateway, subnet: spec.subnet });
        }
        None => spec.gateway = Some(gateway),
    }
}

fn place_aux(name: &str, text: &str, specs: &mut [SubnetSpec], faults: &mut Vec<SpecFault>) {
    let Ok(addr) = text.parse::<IpAddr>() else {
        return faults.push(SpecFault::AuxSyntax { name: name.to_owned(), addr: text.to_owned() });
    };
    match holding(specs, addr) {
        Some(spec) => drop(spec.aux_addresses.insert(name.to_owned(), addr)),
        None => faults.push(SpecFault::AuxOrphan { addr }),
    }
}

// === whole specs ===

/// Everything about a wished network that can be judged without knowing other networks.
///
/// # Errors
/// Every fault, in one value.
pub fn network(spec: &NetworkSpec) -> Result<(), SpecFaults> {
    let mut faults = Vec::new();
    identity(spec, &mut faults);
    if !spec.ipv4 && !spec.ipv6 {
        faults.push(SpecFault::NoFamily);
    }
    overlaps(&spec.subnets, &mut faults);
    for subnet in &spec.subnets {
        match (subnet.subnet.is_ipv6(), spec.ipv4, spec.ipv6) {
            (true, _, false) => faults.push(SpecFault::NoIpv6 { subnet: subnet.subnet }),
            (false, false, _) => faults.push(SpecFault::NoIpv4 { subnet: subnet.subnet }),
            _ => {}
        }
        if let Some(reserved) = reserved(subnet.subnet) {
            faults.push(SpecFault::Reserved { subnet: subnet.subnet, reserved });
        }
        inside(subnet, &mut faults);
    }
    options(spec, &mut faults);
    done((), faults)
}

/// Of [`RESERVED`], the block that the subnet has addresses of.
fn reserved(subnet: Subnet) -> Option<Subnet> {
    let blocks = RESERVED.iter().map(|block| block.parse().expect("a subnet"));
    blocks.into_iter().find(|block: &Subnet| block.overlaps(&subnet))
}

fn identity(spec: &NetworkSpec, faults: &mut Vec<SpecFault>) {
    let name = spec.name.as_str();
    if PREDEFINED.contains(&name) || name == "default" {
        faults.push(SpecFault::Predefined { name: name.to_owned() });
    }
    match (spec.driver, spec.scope) {
        (Driver::Overlay, Scope::Local) => faults.push(SpecFault::OverlayLocal),
        (Driver::Overlay, Scope::Cluster) | (_, Scope::Local) => {}
        (driver, Scope::Cluster) => faults.push(SpecFault::LocalDriver { driver }),
    }
    if spec.labels.contains_key(PREDEFINED_LABEL) {
        faults.push(SpecFault::Label);
    }
    if !spec.ingress {
        return;
    }
    for (wrong, fault) in [
        (spec.driver != Driver::Overlay, SpecFault::IngressDriver),
        (spec.scope == Scope::Local, SpecFault::IngressLocal),
        (spec.attachable, SpecFault::IngressAttachable),
        (spec.internal, SpecFault::IngressInternal),
    ] {
        if wrong {
            faults.push(fault);
        }
    }
}

fn inside(spec: &SubnetSpec, faults: &mut Vec<SpecFault>) {
    let subnet = spec.subnet;
    if let Some(range) = spec.ip_range {
        if range.is_ipv6() != subnet.is_ipv6() {
            faults.push(SpecFault::RangeFamily { range, subnet });
        } else if range.prefix_len() < subnet.prefix_len() {
            faults.push(SpecFault::RangeBigger { range, subnet });
        } else if !subnet.overlaps(&range) {
            faults.push(SpecFault::RangeOutside { range, subnet });
        }
    }
    if let Some(gateway) = spec.gateway {
        if !subnet.contains(gateway) {
            faults.push(SpecFault::GatewayOutside { gateway, subnet });
        } else if subnet.is_edge(gateway) {
            faults.push(SpecFault::GatewayReserved { gateway, subnet });
        }
    }
    for (name, addr) in &spec.aux_addresses {
        if !subnet.contains(*addr) {
            faults.push(SpecFault::AuxOutside { name: name.clone(), subnet });
        }
    }
}

fn options(spec: &NetworkSpec, faults: &mut Vec<SpecFault>) {
    let mut note = |err| faults.push(SpecFault::Option { err });
    if let Err(err) = spec.mtu_bytes() {
        note(err);
    }
    if let Err(err) = spec.wanted_vni() {
        note(err);
    }
    match spec.flag(option::ENCRYPTED, false) {
        // Accepting the word without the deed would send in clear what the user wants sealed.
        Ok(true) => faults.push(SpecFault::Encrypted),
        Ok(false) => {}
        Err(err) => note(err),
    }
}

#[cfg(test)]
mod tests;
