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

#[cfg(test)]
mod tests {
    use swarmnet_dataplane::LinkName;

    use super::*;

    fn device(name: &str, addrs: &[&str]) -> Interface {
        Interface {
            name: LinkName::new(name).expect("a name"),
            kind: if name == "lo" { LinkKind::Loopback } else { LinkKind::Other },
            mtu_bytes: 1500,
            up: name != "down0",
            ours: name.starts_with("br-"),
            addrs: addrs.iter().map(|a| a.parse().expect("a net")).collect(),
        }
    }

    fn one() -> Vec<Interface> {
        vec![
            device("lo", &["127.0.0.1/8"]),
            device("eth0", &["192.0.2.1/24", "2001:db8::1/64"]),
            device("down0", &["10.9.0.1/24"]),
            device("br-1", &["172.18.0.1/16"]),
        ]
    }

    fn sentence(interfaces: &[Interface], text: &str) -> String {
        advertise(interfaces, text, 2377).expect_err("no choice").to_string()
    }

    #[test]
    fn the_only_candidate_is_chosen_and_ipv4_goes_first() {
        let chosen = advertise(&one(), "", 2377).expect("one candidate");
        assert_eq!(chosen.addr.to_string(), "192.0.2.1:2377");
        for (text, addr) in [
            ("eth0", "192.0.2.1:2377"),
            ("eth0:2400", "192.0.2.1:2400"),
            ("192.0.2.1:2400", "192.0.2.1:2400"),
            ("2001:db8::1", "[2001:db8::1]:2377"),
            ("[2001:db8::1]:2400", "[2001:db8::1]:2400"),
        ] {
            let chosen = advertise(&one(), text, 2377).expect(text);
            assert_eq!(chosen.addr.to_string(), addr, "{text}");
        }
    }

    #[test]
    fn an_ambiguous_choice_names_the_candidates() {
        let several = [device("eth0", &["192.0.2.1/24", "192.0.2.2/24"])];
        assert_eq!(
            sentence(&several, ""),
            "could not choose an IP address to advertise since this system has multiple addresses on interface eth0 (192.0.2.1 and 192.0.2.2) - specify one with --advertise-addr"
        );
        assert_eq!(
            sentence(&several, "eth0"),
            "interface eth0 has more than one IPv4 address (192.0.2.1 and 192.0.2.2)"
        );
        let two = [device("eth0", &["192.0.2.1/24"]), device("eth1", &["198.51.100.1/24"])];
        assert_eq!(
            sentence(&two, ""),
            "could not choose an IP address to advertise since this system has multiple addresses on different interfaces (192.0.2.1 on eth0 and 198.51.100.1 on eth1) - specify one with --advertise-addr"
        );
        assert!(sentence(&two, "203.0.113.9").starts_with("must specify a listening address"));
        assert_eq!(
            sentence(&[device("eth0", &[])], "eth0"),
            "interface eth0 has no usable IPv4 or IPv6 address"
        );
    }

    #[test]
    fn bad_words_are_refused_with_dockers_sentences() {
        for text in ["0.0.0.0", "::", "224.0.0.1", "eth9", ":2377", "eth0:x", "eth0:0", "[::1"] {
            assert!(sentence(&one(), text).starts_with("advertise address must be"), "{text}");
        }
        let at: SocketAddr = "192.0.2.1:2377".parse().expect("an address");
        assert_eq!(listen(&one(), "", at), Ok("0.0.0.0:2377".parse().expect("an address")));
        assert_eq!(listen(&one(), "nope", at), Err(AddressError::Listen));
        for text in ["192.0.2.1:4789", "0.0.0.0", "nope"] {
            assert_eq!(data_path(&one(), text, at.ip()), Err(AddressError::DataPath), "{text}");
        }
        assert_eq!(data_path(&one(), "eth0", at.ip()), Ok(at.ip()));
    }

    #[test]
    fn an_address_translated_on_the_way_leaves_the_data_path_at_home() {
        let chosen = advertise(&one(), "203.0.113.9:2400", 2377).expect("behind NAT");
        assert_eq!(chosen.addr.to_string(), "203.0.113.9:2400");
        assert_eq!(chosen.local.to_string(), "192.0.2.1");
    }
}
