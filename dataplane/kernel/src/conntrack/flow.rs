//! Who answers a flow: the destination that it was translated to.
//!
//! A refused connection is forgotten with its reset, so looking it up afterwards comes too late: flows are seen as they begin. The
//! kernel tells of them while somebody listens (`nf_conntrack_events` 2, the default since 5.19, or 1); where that is switched off,
//! what is still there is looked up.

use std::net::{IpAddr, SocketAddr};

use swarmnet_dataplane::nft::key;

use super::{CT_GET, CTA_IP_V4_SRC, CTA_IP_V6_SRC, CTA_TUPLE_IP, CTA_TUPLE_ORIG, CTA_TUPLE_REPLY};
use super::{SUBSYSTEM, nfgenmsg};
use crate::error::KernelError;
use crate::netlink::{Attrs, Message, Protocol, Socket, be16, frames};
use crate::netns::Netns;

/// `NFNLGRP_CONNTRACK_NEW`.
const GROUP_NEW: u32 = 1;
const CT_NEW: u16 = SUBSYSTEM << 8;
const CTA_IP_V4_DST: u16 = 2;
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

/// Sees the flows of one namespace begin. It keeps the namespace alive.
#[derive(Debug)]
pub struct Witness {
    socket: Socket,
}

impl Witness {
    /// Watches from now on.
    pub fn open(netns: &Netns) -> Result<Self, KernelError> {
        let socket = Socket::open(netns, Protocol::Netfilter)?;
        socket.subscribe(GROUP_NEW)?;
        Ok(Self { socket })
    }

    /// Who answers a flow that has begun since [`Self::open`]: the destination it was translated to, or its own; the port is 0 for an
    /// echo. `None` when no such flow was tracked. What else has begun until then is forgotten.
    pub fn answered_by(&mut self, flow: &Flow) -> Result<Option<SocketAddr>, KernelError> {
        loop {
            match self.socket.recv(false) {
                Ok(None) => return self.look_up(flow),
                Ok(Some(data)) => {
                    let mut begun = frames(&data).filter(|f| f.message_type() == CT_NEW);
                    let told = begun
                        .find_map(|f| Some(Attrs(f.payload().get(4..)?)).filter(|a| flow.is(*a)));
                    if let Some(told) = told {
                        return Ok(answerer(told));
                    }
                }
                // More began than the buffer holds.
                Err(err) if err.errno() == Some(libc::ENOBUFS) => {}
                Err(err) => return Err(err),
            }
        }
    }

    fn look_up(&mut self, flow: &Flow) -> Result<Option<SocketAddr>, KernelError> {
        let mut get = Message::new(CT_GET, 0, &nfgenmsg(flow.ends().0));
        get.nest(CTA_TUPLE_ORIG, |m| flow.write(m));
        match self.socket.get("find a flow", get) {
            Ok(body) => Ok(answerer(Attrs(body.get(4..).unwrap_or_default()))),
            // EINVAL: addresses of two families, which no flow has.
            Err(err) if err.is_gone() || err.errno() == Some(libc::EINVAL) => Ok(None),
            Err(err) => Err(err),
        }
    }
}

impl Flow {
    const fn ends(&self) -> (IpAddr, IpAddr) {
        match *self {
            Self::Ports { from, to, .. } => (from.ip(), to.ip()),
            Self::Echo { from, to, .. } => (from, to),
        }
    }

    fn write(&self, message: &mut Message) {
        message.nest(CTA_TUPLE_IP, |m| match self.ends() {
            (IpAddr::V6(from), IpAddr::V6(to)) => {
                m.bytes(CTA_IP_V6_SRC, &from.octets()).bytes(CTA_IP_V6_DST, &to.octets());
            }
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                m.bytes(CTA_IP_V4_SRC, &from.octets()).bytes(CTA_IP_V4_DST, &to.octets());
            }
            _ => {}
        });
        message.nest(CTA_TUPLE_PROTO, |m| self.write_protocol(m));
    }

    fn write_protocol(&self, message: &mut Message) {
        match *self {
            Self::Ports { protocol, from, to } => {
                message
                    .u8(CTA_PROTO_NUM, protocol)
                    .be16(CTA_PROTO_SRC_PORT, from.port())
                    .be16(CTA_PROTO_DST_PORT, to.port());
            }
            Self::Echo { identifier, .. } => {
                let ((number, request), [id, kind, code]) = self.icmp();
                message
                    .u8(CTA_PROTO_NUM, number)
                    .be16(id, identifier)
                    .u8(kind, request)
                    .u8(code, 0);
            }
        }
    }

    const fn icmp(&self) -> ((u8, u8), [u16; 3]) {
        match self.ends().0 {
            IpAddr::V4(_) => (ICMP, CTA_PROTO_ICMP),
            IpAddr::V6(_) => (ICMPV6, CTA_PROTO_ICMPV6),
        }
    }

    /// Is a flow that the kernel tells of this one?
    fn is(&self, told: Attrs<'_>) -> bool {
        let tuple = told.nested(CTA_TUPLE_ORIG);
        let (from, to) = self.ends();
        let source = ip(tuple, [CTA_IP_V4_SRC, CTA_IP_V6_SRC]);
        let destination = ip(tuple, [CTA_IP_V4_DST, CTA_IP_V6_DST]);
        let how = tuple.nested(CTA_TUPLE_PROTO);
        let number = |kind| how.get(kind).and_then(be16);
        let same = match *self {
            Self::Ports { protocol, from, to } => {
                how.u8(CTA_PROTO_NUM) == Some(protocol)
                    && number(CTA_PROTO_SRC_PORT) == Some(from.port())
                    && number(CTA_PROTO_DST_PORT) == Some(to.port())
            }
            Self::Echo { identifier, .. } => {
                let ((protocol, _), [id, ..]) = self.icmp();
                how.u8(CTA_PROTO_NUM) == Some(protocol) && number(id) == Some(identifier)
            }
        };
        same && (source, destination) == (Some(from), Some(to))
    }
}

/// Source of the replies.
fn answerer(flow: Attrs<'_>) -> Option<SocketAddr> {
    let reply = flow.nested(CTA_TUPLE_REPLY);
    let port = reply.nested(CTA_TUPLE_PROTO).get(CTA_PROTO_SRC_PORT).and_then(be16);
    Some(SocketAddr::new(ip(reply, [CTA_IP_V4_SRC, CTA_IP_V6_SRC])?, port.unwrap_or_default()))
}

/// An address of a tuple, of whichever family it has.
fn ip(tuple: Attrs<'_>, kinds: [u16; 2]) -> Option<IpAddr> {
    let addrs = tuple.nested(CTA_TUPLE_IP);
    kinds.into_iter().find_map(|kind| key::read_ip(addrs.get(kind)?))
}
