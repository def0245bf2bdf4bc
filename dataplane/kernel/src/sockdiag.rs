//! Who listens: sockets of a namespace by `sock_diag`, so that publishing never hijacks a port somebody uses (S12), and the end
//! of sockets whose peer is gone.
//!
//! Source: `include/uapi/linux/{sock_diag,inet_diag}.h`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::error::KernelError;
use crate::netlink::{Attrs, Message, Protocol, Socket, be16, ne32};
use crate::netns::Netns;

const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const SOCK_DESTROY: u16 = 21;
/// `inet_diag_req_v2`, `inet_diag_msg`, and the `inet_diag_sockid` in both.
const REQUEST_LEN: usize = 56;
const ANSWER_LEN: usize = 72;
const REQUEST_ID_AT: usize = 8;
const ANSWER_ID_AT: usize = 4;
const ID_LEN: usize = 48;
const INET_DIAG_SKV6ONLY: u16 = 11;

/// Bits of `1 << state`: established TCP and connected UDP, unconnected UDP, listening TCP.
const ESTABLISHED: u32 = 1 << 1;
const UNCONNECTED: u32 = 1 << 7;
const LISTEN: u32 = 1 << 10;

/// Transport whose sockets are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Transport {
    Tcp = 6,
    Udp = 17,
}

/// A socket that takes new connections or datagrams of anyone.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Listener {
    pub transport: Transport,
    pub addr: SocketAddr,
    /// An IPv6 wildcard that does not take IPv4 as well.
    pub v6_only: bool,
    /// Of the socket; `/proc/<pid>/fd` links to `socket:[inode]`.
    pub inode: u32,
}

impl Listener {
    /// Would a publication of `port` at `addr` (unspecified: all addresses of its family) take traffic from this socket?
    pub fn conflicts(&self, transport: Transport, addr: IpAddr, port: u16) -> bool {
        let own = self.addr.ip();
        let dual = own == IpAddr::V6(Ipv6Addr::UNSPECIFIED) && !self.v6_only;
        let same_family = own.is_ipv6() == addr.is_ipv6() || dual;
        let overlap = own.is_unspecified() || addr.is_unspecified() || own == addr;
        // Sockets on loopback serve the node alone, but `localhost:port` must not change its meaning either.
        self.transport == transport && self.addr.port() == port && same_family && overlap
    }
}

/// Listeners of a namespace: TCP and UDP, both families.
pub fn listeners(netns: &Netns) -> Result<Vec<Listener>, KernelError> {
    let mut socket = Socket::open(netns, Protocol::SockDiag)?;
    let mut all = Vec::new();
    for (transport, states) in [(Transport::Tcp, LISTEN), (Transport::Udp, UNCONNECTED)] {
        for ipv6 in [false, true] {
            let list = request(SOCK_DIAG_BY_FAMILY, (ipv6, transport), states, &[0; ID_LEN]);
            let found: Vec<Listener> =
                socket.dump("list listeners", &list, |found: &mut Vec<_>, body| {
                    found.extend(decode(body, transport));
                })?;
            all.extend(found);
        }
    }
    all.sort();
    Ok(all)
}

/// Ends the connected sockets of a namespace whose peer is `peer` (`SOCK_DESTROY`): their owners get ECONNABORTED at once rather
/// than a hang. Returns how many.
///
/// # Errors
/// EOPNOTSUPP on kernels built without it; nothing is ended then.
pub fn destroy_connected_to(netns: &Netns, peer: IpAddr) -> Result<usize, KernelError> {
    let mut socket = Socket::open(netns, Protocol::SockDiag)?;
    let mut ended = 0;
    for transport in [Transport::Tcp, Transport::Udp] {
        let kind = (peer.is_ipv6(), transport);
        let list = request(SOCK_DIAG_BY_FAMILY, kind, ESTABLISHED, &[0; ID_LEN]);
        let ids = socket.dump("list sockets", &list, |found: &mut Vec<Vec<u8>>, body| {
            let id = body.get(ANSWER_ID_AT..ANSWER_ID_AT + ID_LEN);
            let of_peer = id.filter(|id| address(&id[20..36], peer.is_ipv6()) == peer);
            found.extend(of_peer.map(<[u8]>::to_vec));
        })?;
        let destroy =
            |id: &Vec<u8>| ("destroy socket", request(SOCK_DESTROY, kind, ESTABLISHED, id));
        for result in socket.request_all(ids.iter().map(destroy))? {
            match result {
                Err(err) if err.is_gone() => {}
                other => {
                    other?;
                    ended += 1;
                }
            }
        }
    }
    Ok(ended)
}

fn request(message: u16, (ipv6, transport): (bool, Transport), states: u32, id: &[u8]) -> Message {
    let mut body = [0; REQUEST_LEN];
    body[0] = if ipv6 { AF_INET6 } else { AF_INET };
    body[1] = transport as u8;
    body[4..8].copy_from_slice(&states.to_ne_bytes());
    body[REQUEST_ID_AT..].copy_from_slice(id);
    Message::new(message, 0, &body)
}

/// The id: ports (2 + 2), source and destination address (16 + 16), interface, cookie.
fn decode(body: &[u8], transport: Transport) -> Option<Listener> {
    if body.len() < ANSWER_LEN {
        return None;
    }
    let ipv6 = body[0] == AF_INET6;
    let id = &body[ANSWER_ID_AT..];
    let addr = SocketAddr::new(address(&id[4..20], ipv6), be16(id)?);
    let v6_only = Attrs(&body[ANSWER_LEN..]).u8(INET_DIAG_SKV6ONLY) == Some(1);
    Some(Listener { transport, addr, v6_only, inode: ne32(&body[68..])? })
}

fn address(bytes: &[u8], ipv6: bool) -> IpAddr {
    let mut sixteen = [0; 16];
    sixteen.copy_from_slice(bytes);
    if ipv6 {
        Ipv6Addr::from(sixteen).into()
    } else {
        Ipv4Addr::new(sixteen[0], sixteen[1], sixteen[2], sixteen[3]).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conflicts_follow_the_socket_rules() {
        let at = |addr: &str, v6_only| Listener {
            transport: Transport::Tcp,
            addr: addr.parse().expect("an address"),
            v6_only,
            inode: 0,
        };
        let any4 = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        let one4 = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
        let tcp = Transport::Tcp;
        assert!(at("0.0.0.0:80", false).conflicts(tcp, one4, 80));
        assert!(at("192.0.2.1:80", false).conflicts(tcp, any4, 80));
        assert!(!at("192.0.2.2:80", false).conflicts(tcp, one4, 80));
        assert!(at("[::]:80", false).conflicts(tcp, any4, 80));
        assert!(!at("[::]:80", true).conflicts(tcp, any4, 80));
        assert!(!at("0.0.0.0:80", false).conflicts(tcp, one4, 81));
        assert!(!at("0.0.0.0:80", false).conflicts(Transport::Udp, one4, 80));
    }
}
