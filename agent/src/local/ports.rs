//! `-p`: which ports of the node a sandbox gets.
//!
//! Pure: wishes, what is taken and by whom come in; granted maps go out. One owner for each port: a sandbox of ours, a service of
//! the cluster, or a foreign program (`sw:P15`).

use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;

use swarmnet_types::{Name, Protocol, Publication};

use super::error::LocalError;
use super::objects::{LocalObjects, PortMap};

/// Docker's fallback when the kernel does not tell.
pub const EPHEMERAL_DEFAULT: RangeInclusive<u16> = 49_153..=65_535;

/// A socket of some program on the node that takes new clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listener {
    pub protocol: Protocol,
    pub addr: SocketAddr,
}

/// Who may be in the way, besides our own sandboxes.
#[derive(Debug, Clone)]
pub struct Others {
    pub listeners: Vec<Listener>,
    /// Name of the service, its publication; those that this node answers for.
    pub published: Vec<(Name, Publication)>,
    pub ephemeral: RangeInclusive<u16>,
    /// Ports of the range that must not be chosen (`net.ipv4.ip_local_reserved_ports`).
    pub reserved: Vec<RangeInclusive<u16>>,
}

impl Default for Others {
    fn default() -> Self {
        Self {
            listeners: Vec::new(),
            published: Vec::new(),
            ephemeral: EPHEMERAL_DEFAULT,
            reserved: Vec::new(),
        }
    }
}

/// Grants all wishes or none. `cursor` is the port chosen last: the next is tried first.
///
/// # Errors
/// `sw:P15`.
pub fn grant(
    objects: &LocalObjects,
    wishes: &[PortMap],
    others: &Others,
    cursor: &mut u16,
) -> Result<Vec<PortMap>, LocalError> {
    let mut granted: Vec<PortMap> = Vec::new();
    for wish in wishes {
        if wish.port == 0 {
            return Err(LocalError::PortZero);
        }
        let map = if wish.host_port == 0 {
            let free = |map: &PortMap| check(objects, &granted, map, others).is_ok();
            choose(*wish, others, *cursor, free).ok_or(LocalError::PortsExhausted)?
        } else {
            check(objects, &granted, wish, others)?;
            *wish
        };
        if wish.host_port == 0 {
            *cursor = map.host_port;
        }
        granted.push(map);
    }
    Ok(granted)
}

/// The next free port of the ephemeral range behind the cursor.
fn choose(
    wish: PortMap,
    others: &Others,
    cursor: u16,
    free: impl Fn(&PortMap) -> bool,
) -> Option<PortMap> {
    let (first, last) = (*others.ephemeral.start(), *others.ephemeral.end());
    let start = if (first..last).contains(&cursor) { cursor + 1 } else { first };
    (start..=last)
        .chain(first..start)
        .filter(|port| !others.reserved.iter().any(|r| r.contains(port)))
        .map(|host_port| PortMap { host_port, ..wish })
        .find(free)
}

fn check(
    objects: &LocalObjects,
    granted: &[PortMap],
    map: &PortMap,
    others: &Others,
) -> Result<(), LocalError> {
    let host = map.host();
    if granted.iter().any(|g| g.conflicts(map)) {
        return Err(LocalError::PortTwice { host });
    }
    let owner = objects.sandboxes.values().find(|s| s.ports.iter().any(|p| p.conflicts(map)));
    if let Some(sandbox) = owner {
        return Err(LocalError::PortTaken { host, sandbox: sandbox.name.clone() });
    }
    if let Some((service, _)) = others.published.iter().find(|(_, p)| published(p, map)) {
        return Err(LocalError::PortPublished { host, service: service.clone() });
    }
    if others.listeners.iter().any(|l| listens(l, map)) {
        return Err(LocalError::PortForeign { host, protocol: map.protocol });
    }
    Ok(())
}

fn published(publication: &Publication, map: &PortMap) -> bool {
    let ips = match (publication.ip, map.host_ip) {
        (Some(a), Some(b)) => a == b,
        _ => true,
    };
    ips && publication.protocol == map.protocol && publication.published == map.host_port
}

/// Would the foreign socket have got packets that the map takes? A listener on one address of the node is in the way of a map on
/// every address; one on loopback only as well, because the map answers on loopback too.
fn listens(listener: &Listener, map: &PortMap) -> bool {
    let any = |ip: IpAddr| ip.is_unspecified();
    let at = listener.addr.ip();
    let ips = match map.host_ip {
        None => true,
        // `::` takes IPv4 as well unless IPV6_V6ONLY is set, which the kernel's listing does not say for all.
        Some(ip) => at == ip || (any(at) && (at.is_ipv6() || ip.is_ipv4())),
    };
    ips && listener.protocol == map.protocol && listener.addr.port() == map.host_port
}

/// `net.ipv4.ip_local_port_range`: two numbers.
pub fn parse_range(text: &str) -> Option<RangeInclusive<u16>> {
    let mut numbers = text.split_whitespace().map(str::parse::<u16>);
    match (numbers.next()?, numbers.next()?) {
        (Ok(first), Ok(last)) if 0 < first && first <= last => Some(first..=last),
        _ => None,
    }
}

/// `net.ipv4.ip_local_reserved_ports`: `8080,9148-9200`.
pub fn parse_reserved(text: &str) -> Vec<RangeInclusive<u16>> {
    let part = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(first.trim().parse().ok()?..=last.trim().parse().ok()?)
    };
    text.trim().split(',').filter_map(part).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(host_ip: Option<&str>, host_port: u16) -> PortMap {
        let host_ip = host_ip.map(|ip| ip.parse().expect("an address"));
        PortMap { host_ip, host_port, port: 80, protocol: Protocol::Tcp }
    }

    fn listener(addr: &str) -> Others {
        let addr = addr.parse().expect("an address");
        let listeners = vec![Listener { protocol: Protocol::Tcp, addr }];
        Others { listeners, ..Others::default() }
    }

    fn granted(wishes: &[PortMap], others: &Others) -> Result<Vec<u16>, String> {
        let maps = grant(&LocalObjects::default(), wishes, others, &mut 0);
        maps.map(|m| m.iter().map(|p| p.host_port).collect()).map_err(|e| e.to_string())
    }

    #[test]
    fn ephemeral_ports_come_in_turn_around_what_is_reserved() {
        let others = Others {
            ephemeral: 40_000..=40_003,
            reserved: parse_reserved("8080,40001-40002\n"),
            ..Others::default()
        };
        assert_eq!(granted(&[map(None, 0), map(None, 0)], &others), Ok(vec![40_000, 40_003]));
        let err = granted(&[map(None, 0), map(None, 0), map(None, 0)], &others);
        assert_eq!(err, Err("all ports are allocated".into()));
        let mut cursor = 40_000;
        let one = grant(&LocalObjects::default(), &[map(None, 0)], &others, &mut cursor);
        assert_eq!((one.expect("free")[0].host_port, cursor), (40_003, 40_003));
    }

    #[test]
    fn a_foreign_listener_keeps_its_port() {
        for addr in ["0.0.0.0:80", "[::]:80", "127.0.0.1:80"] {
            let err = granted(&[map(None, 80)], &listener(addr)).expect_err(addr);
            assert_eq!(err, "failed to bind host port 0.0.0.0:80/tcp: address already in use");
        }
        assert!(granted(&[map(None, 81)], &listener("0.0.0.0:80")).is_ok());
        assert!(granted(&[map(Some("192.0.2.1"), 80)], &listener("127.0.0.1:80")).is_ok());
        assert!(granted(&[map(Some("192.0.2.1"), 80)], &listener("[::]:80")).is_err());
        assert!(granted(&[map(Some("2001:db8::1"), 80)], &listener("0.0.0.0:80")).is_ok());
        let udp = PortMap { protocol: Protocol::Udp, ..map(None, 80) };
        assert!(granted(&[udp], &listener("0.0.0.0:80")).is_ok());
    }

    #[test]
    fn one_request_cannot_take_a_port_twice() {
        let err = granted(&[map(None, 80), map(Some("192.0.2.1"), 80)], &Others::default());
        assert!(err.expect_err("twice").contains("port is already allocated"));
        assert_eq!(
            granted(&[PortMap { port: 0, ..map(None, 80) }], &Others::default()),
            Err("invalid port 0: want 1 to 65535".into())
        );
    }

    #[test]
    fn the_kernels_texts_are_read() {
        assert_eq!(parse_range("32768\t60999\n"), Some(32_768..=60_999));
        assert_eq!(parse_range("x"), None);
        assert_eq!(parse_reserved("\n"), Vec::<RangeInclusive<u16>>::new());
    }
}
