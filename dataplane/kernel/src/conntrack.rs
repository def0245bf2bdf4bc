//! Connection tracking: flows are deleted so that their next packet is judged anew, and asked who answers them.
//!
//! Deletion is by filter, in one request (Linux 6.10 for addresses, long before for marks). Kernels that know no address filter
//! get one deletion for each flow of a dump, which walks the whole table: 0.15 s for a thousand flows was seen.
//!
//! **IPv6 addresses are never filtered by the kernel**: up to at least 6.18 `ctnetlink_filter_match_tuple` has the comparison
//! upside down and deletes every flow *but* those asked for (seen; kept as a test of ours, that others survive).

use std::net::{IpAddr, SocketAddr};

use crate::error::KernelError;
use crate::netlink::{Attrs, Message, Protocol, Socket, be16};
use crate::netns::Netns;

/// `NFNL_SUBSYS_CTNETLINK` and its messages.
const SUBSYSTEM: u16 = 1;
const CT_GET: u16 = SUBSYSTEM << 8 | 1;
const CT_DELETE: u16 = SUBSYSTEM << 8 | 2;

const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;

const CTA_TUPLE_ORIG: u16 = 1;
const CTA_TUPLE_REPLY: u16 = 2;
const CTA_MARK: u16 = 8;
const CTA_ID: u16 = 12;
const CTA_MARK_MASK: u16 = 21;
const CTA_FILTER: u16 = 25;
const CTA_FILTER_REPLY_FLAGS: u16 = 2;
/// `CTA_FILTER_FLAG(CTA_IP_SRC)`: only the tuple's source address is compared.
const FILTER_IP_SRC: u32 = 1;
const CTA_TUPLE_IP: u16 = 1;
const CTA_IP_V4_SRC: u16 = 1;
const CTA_IP_V4_DST: u16 = 2;
const CTA_IP_V6_SRC: u16 = 3;
const CTA_IP_V6_DST: u16 = 4;
const CTA_TUPLE_PROTO: u16 = 2;
const CTA_PROTO_NUM: u16 = 1;
const CTA_PROTO_SRC_PORT: u16 = 2;
const CTA_PROTO_DST_PORT: u16 = 3;
/// Identifier, type, code.
const CTA_PROTO_ICMP: [u16; 3] = [4, 5, 6];
const CTA_PROTO_ICMPV6: [u16; 3] = [7, 8, 9];
/// Protocol number and the type of an echo request.
const ICMP: (u8, u8) = (1, 8);
const ICMPV6: (u8, u8) = (58, 128);

/// A flow as its first packet was sent, before any translation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    Ports {
        /// 6 is TCP, 17 UDP.
        protocol: u8,
        from: SocketAddr,
        to: SocketAddr,
    },
    Echo {
        from: IpAddr,
        to: IpAddr,
        identifier: u16,
    },
}

/// A handle on the flows of one namespace. It keeps the namespace alive.
#[derive(Debug)]
pub struct Conntrack {
    socket: Socket,
}

impl Conntrack {
    pub fn open(netns: &Netns) -> Result<Self, KernelError> {
        Ok(Self { socket: Socket::open(netns, Protocol::Netfilter)? })
    }

    /// Who answers the flow: the destination it was translated to, or its own; the port is 0 for an echo. `None` when no such flow
    /// is tracked.
    pub fn answered_by(&mut self, flow: &Flow) -> Result<Option<SocketAddr>, KernelError> {
        let (from, to) = flow.ends();
        let mut get = Message::new(CT_GET, 0, &nfgenmsg(from));
        get.nest(CTA_TUPLE_ORIG, |m| {
            m.nest(CTA_TUPLE_IP, |m| match (from, to) {
                (IpAddr::V6(from), IpAddr::V6(to)) => {
                    m.bytes(CTA_IP_V6_SRC, &from.octets()).bytes(CTA_IP_V6_DST, &to.octets());
                }
                (IpAddr::V4(from), IpAddr::V4(to)) => {
                    m.bytes(CTA_IP_V4_SRC, &from.octets()).bytes(CTA_IP_V4_DST, &to.octets());
                }
                // No such flow can be: the kernel says so.
                _ => {}
            });
            m.nest(CTA_TUPLE_PROTO, |m| flow.write_protocol(m));
        });
        match self.socket.get("find a flow", get) {
            Ok((_, body)) => Ok(answerer(Attrs(body.get(4..).unwrap_or_default()))),
            Err(err) if err.is_gone() || err.errno() == Some(libc::EINVAL) => Ok(None),
            Err(err) => Err(err),
        }
    }

    /// Deletes the flows that are answered by `addr`, whatever address the client asked. None is fine.
    pub fn delete_by_reply_source(&mut self, addr: IpAddr) -> Result<(), KernelError> {
        let what = format!("delete flows answered by {addr}");
        let IpAddr::V4(v4) = addr else { return self.delete_each(&what, addr) };
        let mut delete = Message::new(CT_DELETE, 0, &nfgenmsg(addr));
        delete.nest(CTA_TUPLE_REPLY, |m| {
            m.nest(CTA_TUPLE_IP, |m| {
                m.bytes(CTA_IP_V4_SRC, &v4.octets());
            });
        });
        delete.nest(CTA_FILTER, |m| {
            m.u32(CTA_FILTER_REPLY_FLAGS, FILTER_IP_SRC);
        });
        match self.socket.request(&what, delete) {
            Err(err) if err.is_gone() => Ok(()),
            Err(err) if matches!(err.errno(), Some(libc::EINVAL | libc::EOPNOTSUPP)) => {
                self.delete_each(&what, addr)
            }
            other => other,
        }
    }

    /// Deletes the flows whose mark, under `mask`, is `mark`.
    pub fn delete_by_mark(&mut self, mark: u32, mask: u32) -> Result<(), KernelError> {
        for family in [AF_INET, AF_INET6] {
            let mut delete = Message::new(CT_DELETE, 0, &[family, 0, 0, 0]);
            delete.be32(CTA_MARK, mark).be32(CTA_MARK_MASK, mask);
            match self.socket.request(&format!("delete flows marked {mark:#x}"), delete) {
                Err(err) if err.is_gone() => {}
                other => other?,
            }
        }
        Ok(())
    }

    fn delete_each(&mut self, what: &str, addr: IpAddr) -> Result<(), KernelError> {
        let list = Message::new(CT_GET, 0, &nfgenmsg(addr));
        let requests: Vec<Message> =
            self.socket.dump("list flows", &list, |found: &mut Vec<_>, body| {
                let attrs = Attrs(body.get(4..).unwrap_or_default());
                found.extend(delete_one(attrs, addr));
            })?;
        let requests = requests.into_iter().map(|request| (what, request));
        for result in self.socket.request_all(requests)? {
            match result {
                // Ended by itself in between.
                Err(err) if err.is_gone() => {}
                other => other?,
            }
        }
        Ok(())
    }
}

impl Flow {
    const fn ends(&self) -> (IpAddr, IpAddr) {
        match *self {
            Self::Ports { from, to, .. } => (from.ip(), to.ip()),
            Self::Echo { from, to, .. } => (from, to),
        }
    }

    fn write_protocol(&self, message: &mut Message) {
        match *self {
            Self::Ports { protocol, from, to } => {
                message
                    .u8(CTA_PROTO_NUM, protocol)
                    .be16(CTA_PROTO_SRC_PORT, from.port())
                    .be16(CTA_PROTO_DST_PORT, to.port());
            }
            Self::Echo { from, identifier, .. } => {
                let ((number, request), [id, kind, code]) = if from.is_ipv6() {
                    (ICMPV6, CTA_PROTO_ICMPV6)
                } else {
                    (ICMP, CTA_PROTO_ICMP)
                };
                message
                    .u8(CTA_PROTO_NUM, number)
                    .be16(id, identifier)
                    .u8(kind, request)
                    .u8(code, 0);
            }
        }
    }
}

/// Source of the replies of a listed flow.
fn answerer(flow: Attrs<'_>) -> Option<SocketAddr> {
    let reply = flow.nested(CTA_TUPLE_REPLY);
    let ip = reply.nested(CTA_TUPLE_IP);
    let v4 = ip.get(CTA_IP_V4_SRC).and_then(|b| <[u8; 4]>::try_from(b).ok()).map(IpAddr::from);
    let v6 = ip.get(CTA_IP_V6_SRC).and_then(|b| <[u8; 16]>::try_from(b).ok()).map(IpAddr::from);
    let port = reply.nested(CTA_TUPLE_PROTO).get(CTA_PROTO_SRC_PORT).and_then(be16);
    Some(SocketAddr::new(v4.or(v6)?, port.unwrap_or_default()))
}

/// `struct nfgenmsg` of the address' family.
fn nfgenmsg(addr: IpAddr) -> [u8; 4] {
    let family = if addr.is_ipv6() { AF_INET6 } else { AF_INET };
    [family, 0, 0, 0]
}

/// The deletion of a listed flow, when it is answered by `addr`.
fn delete_one(flow: Attrs<'_>, addr: IpAddr) -> Option<Message> {
    let source = flow.nested(CTA_TUPLE_REPLY).nested(CTA_TUPLE_IP);
    let matches = match addr {
        IpAddr::V4(addr) => source.get(CTA_IP_V4_SRC)? == addr.octets(),
        IpAddr::V6(addr) => source.get(CTA_IP_V6_SRC)? == addr.octets(),
    };
    if !matches {
        return None;
    }
    let mut delete = Message::new(CT_DELETE, 0, &nfgenmsg(addr));
    delete.bytes(CTA_TUPLE_ORIG | 0x8000, flow.get(CTA_TUPLE_ORIG)?);
    // The id tells the flow from a later one with the same addresses.
    delete.bytes(CTA_ID, flow.get(CTA_ID)?);
    Some(delete)
}
