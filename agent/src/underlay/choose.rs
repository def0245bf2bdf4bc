//! Which addresses a node tells others: what the user wrote, or the only candidate there is. Docker's words throughout.

use std::net::{IpAddr, SocketAddr};

use swarmnet_dataplane::LinkKind;
use swarmnet_kernel::underlay::Interface;

/// Why no address could be chosen. Nothing was changed; the user has to say which.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    #[error(
        "listen address must be an IP address or network interface (with optional port number)"
    )]
    Listen,
    #[error(
        "advertise address must be a non-zero IP address or network interface (with optional port number)"
    )]
    Advertise,
    #[error(
        "data path address must be a non-zero IP address or network interface (without a port number)"
    )]
    DataPath,
    #[error("interface {interface} has more than one {family} address ({a} and {b})")]
    SeveralOn { interface: String, family: &'static str, a: IpAddr, b: IpAddr },
    #[error("interface {interface} has no usable IPv4 or IPv6 address")]
    NoneOn { interface: String },
    #[error(
        "could not choose an IP address to advertise since this system has multiple addresses on interface {interface} ({a} and {b}) - specify one with --advertise-addr"
    )]
    AmbiguousOn { interface: String, a: IpAddr, b: IpAddr },
    #[error(
        "could not choose an IP address to advertise since this system has multiple addresses on different interfaces ({a} on {on_a} and {b} on {on_b}) - specify one with --advertise-addr"
    )]
    Ambiguous { a: IpAddr, on_a: String, b: IpAddr, on_b: String },
    #[error("could not find the system's IP address - specify one with --advertise-addr")]
    NotFound,
    #[error(
        "must specify a listening address because the address to advertise is not recognized as a system address, and a system's IP address to use could not be uniquely identified"
    )]
    NotOurs,
}

/// Where others reach this node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Advertised {
    pub addr: SocketAddr,
    /// An address of this host for the VTEP: the advertised one, unless that is translated on the way (NAT).
    pub local: IpAddr,
}

/// `text`: empty, `IP`, `INTERFACE`, either with `:PORT`.
///
/// # Errors
/// [`AddressError`]; an ambiguous choice names the candidates.
pub fn advertise(
    interfaces: &[Interface],
    text: &str,
    default_port: u16,
) -> Result<Advertised, AddressError> {
    if text.is_empty() {
        let local = system_addr(interfaces)?;
        return Ok(Advertised { addr: SocketAddr::new(local, default_port), local });
    }
    let (host, port) = split_port(text).ok_or(AddressError::Advertise)?;
    let port = port.unwrap_or(default_port);
    let ip = match host.parse::<IpAddr>() {
        Ok(ip) if ip.is_unspecified() || ip.is_multicast() => return Err(AddressError::Advertise),
        Ok(ip) => ip,
        Err(_) => named(interfaces, host, AddressError::Advertise)?,
    };
    let ours = interfaces.iter().any(|i| i.addrs.iter().any(|net| net.addr() == ip));
    let local =
        if ours { ip } else { system_addr(interfaces).map_err(|_| AddressError::NotOurs)? };
    Ok(Advertised { addr: SocketAddr::new(ip, port), local })
}

/// `text`: as of [`advertise`]; empty: every address. `advertised` tells the family of "every".
///
/// # Errors
/// [`AddressError`].
pub fn listen(
    interfaces: &[Interface],
    text: &str,
    advertised: SocketAddr,
) -> Result<SocketAddr, AddressError> {
    let every = if advertised.is_ipv6() { IpAddr::from([0u16; 8]) } else { IpAddr::from([0; 4]) };
    if text.is_empty() {
        return Ok(SocketAddr::new(every, advertised.port()));
    }
    let (host, port) = split_port(text).ok_or(AddressError::Listen)?;
    let ip = match host.parse::<IpAddr>() {
        Ok(ip) => ip,
        Err(_) => named(interfaces, host, AddressError::Listen)?,
    };
    Ok(SocketAddr::new(ip, port.unwrap_or(advertised.port())))
}

/// `text`: empty (`default`), `IP` or `INTERFACE`.
///
/// # Errors
/// [`AddressError`].
pub fn data_path(
    interfaces: &[Interface],
    text: &str,
    default: IpAddr,
) -> Result<IpAddr, AddressError> {
    match text.parse::<IpAddr>() {
        _ if text.is_empty() => Ok(default),
        Ok(ip) if ip.is_unspecified() || ip.is_multicast() => Err(AddressError::DataPath),
        Ok(ip) => Ok(ip),
        Err(_) => named(interfaces, text, AddressError::DataPath),
    }
}

/// Host and port of `host`, `host:port`, `[v6]:port`, a bare IPv6 address; `None` when it is none of these.
fn split_port(text: &str) -> Option<(&str, Option<u16>)> {
    if let Some(rest) = text.strip_prefix('[') {
        let (host, rest) = rest.split_once(']')?;
        let port = match rest {
            "" => None,
            rest => Some(port(rest.strip_prefix(':')?)?),
        };
        return Some((host, port));
    }
    match text.split_once(':') {
        Some((_, rest)) if rest.contains(':') => Some((text, None)),
        Some((host, rest)) if !host.is_empty() => Some((host, Some(port(rest)?))),
        Some(_) => None,
        None => Some((text, None)),
    }
}

fn port(text: &str) -> Option<u16> {
    text.parse().ok().filter(|p| *p > 0)
}

/// The address of a device; its IPv4 one when it has one of each family.
fn named(
    interfaces: &[Interface],
    name: &str,
    unknown: AddressError,
) -> Result<IpAddr, AddressError> {
    let found = interfaces.iter().find(|i| i.name.as_str() == name).ok_or(unknown)?;
    match &of_family(found)[..] {
        [] => Err(AddressError::NoneOn { interface: name.to_owned() }),
        [one] => Ok(*one),
        [a, b, ..] => Err(AddressError::SeveralOn {
            interface: name.to_owned(),
            family: if a.is_ipv6() { "IPv6" } else { "IPv4" },
            a: *a,
            b: *b,
        }),
    }
}

/// A device's addresses of its preferred family: the IPv4 ones, or the IPv6 ones when it has no IPv4.
fn of_family(interface: &Interface) -> Vec<IpAddr> {
    let of = |ipv6: bool| {
        let addrs = interface.addrs.iter().map(ipnet::IpNet::addr);
        addrs.filter(|a| a.is_ipv6() == ipv6).collect::<Vec<_>>()
    };
    Some(of(false)).filter(|v4| !v4.is_empty()).unwrap_or_else(|| of(true))
}

/// The one address of this system that others could reach (`sw:M8`).
fn system_addr(interfaces: &[Interface]) -> Result<IpAddr, AddressError> {
    let usable = |i: &&Interface| i.up && !i.ours && i.kind != LinkKind::Loopback;
    let found: Vec<(&Interface, Vec<IpAddr>)> = interfaces
        .iter()
        .filter(usable)
        .map(|i| (i, of_family(i)))
        .filter(|(_, addrs)| !addrs.is_empty())
        .collect();
    match &found[..] {
        [] => Err(AddressError::NotFound),
        [(_, addrs)] if addrs.len() == 1 => Ok(addrs[0]),
        [(interface, addrs)] => Err(AddressError::AmbiguousOn {
            interface: interface.name.to_string(),
            a: addrs[0],
            b: addrs[1],
        }),
        [(on_a, a), (on_b, b), ..] => Err(AddressError::Ambiguous {
            a: a[0],
            on_a: on_a.name.to_string(),
            b: b[0],
            on_b: on_b.name.to_string(),
        }),
    }
}
