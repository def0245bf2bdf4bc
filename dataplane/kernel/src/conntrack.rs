//! Connection tracking: flows are deleted so that their next packet is judged anew ([`Conntrack`]), and seen as they
//! begin, to tell who answers them ([`Witness`]).
//!
//! Deletion is by filter, in one request (Linux 6.10). Kernels that know no address filter
//! get one deletion for each flow of a dump, which walks the whole table: 0.15 s for a thousand flows was seen.
//!
//! **IPv6 addresses are never filtered by the kernel**: up to at least 6.18 `ctnetlink_filter_match_tuple` has the comparison
//! upside down and deletes every flow *but* those asked for (seen; kept as a test of ours, that others survive).

use std::net::IpAddr;

use crate::error::KernelError;
use crate::netlink::{Attrs, Message, Protocol, Socket};
use crate::netns::Netns;

mod flow;

pub use flow::{Flow, Witness};

/// `NFNL_SUBSYS_CTNETLINK` and its messages.
const SUBSYSTEM: u16 = 1;
const CT_GET: u16 = SUBSYSTEM << 8 | 1;
const CT_DELETE: u16 = SUBSYSTEM << 8 | 2;

const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;

const CTA_TUPLE_ORIG: u16 = 1;
const CTA_TUPLE_REPLY: u16 = 2;
const CTA_ID: u16 = 12;
const CTA_FILTER: u16 = 25;
const CTA_FILTER_REPLY_FLAGS: u16 = 2;
/// `CTA_FILTER_FLAG(CTA_IP_SRC)`: only the tuple's source address is compared.
const FILTER_IP_SRC: u32 = 1;
const CTA_TUPLE_IP: u16 = 1;
const CTA_IP_V4_SRC: u16 = 1;
const CTA_IP_V6_SRC: u16 = 3;

/// A handle on the flows of one namespace. It keeps the namespace alive.
#[derive(Debug)]
pub struct Conntrack {
    socket: Socket,
}

impl Conntrack {
    pub fn open(netns: &Netns) -> Result<Self, KernelError> {
        Ok(Self { socket: Socket::open(netns, Protocol::Netfilter)? })
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
