//! Links, addresses, routes, rules, nexthops, neighbours and forwarding entries of one namespace, by `rtnetlink`'s types.
//!
//! [`Route`] is one socket; each file holds the verbs and the dump of one kind of object. Objects are named, never numbered: an
//! interface index is looked up for one request and forgotten, because a device may be made anew under its name at any time.
//!
//! Messages are built and read as the types of `rtnetlink` (links by its builders) and sent by our socket; only nexthop objects,
//! which it does not know, are written by hand.

mod addr;
mod fdb;
mod link;
mod links;
mod lookup;
pub(crate) mod monitor;
mod neighbour;
mod nexthop;
mod nsid;
mod routes;
mod rule;
#[cfg(test)]
mod tests;
mod wire;

pub use fdb::FdbEntry;
pub use link::NewLink;
pub use links::{LinkSeen, Links};
pub(crate) use monitor::Told;
pub use routes::RouteSeen;

use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};

use crate::error::KernelError;
use crate::netlink::{Message, Protocol, Socket};
use crate::netns::Netns;

/// A handle on one namespace. It keeps the namespace alive.
#[derive(Debug)]
pub struct Route {
    socket: Socket,
}

impl Route {
    pub fn open(netns: &Netns) -> Result<Self, KernelError> {
        Ok(Self { socket: Socket::open(netns, Protocol::Route)? })
    }

    fn request(
        &mut self,
        what: &str,
        flags: u16,
        message: RouteNetlinkMessage,
    ) -> Result<(), KernelError> {
        self.socket.request(what, Message::route(flags, message))
    }

    /// What `decode` makes of the messages of a dump.
    fn list<T>(
        &mut self,
        what: &str,
        list: RouteNetlinkMessage,
        decode: impl Fn(&[u8]) -> Option<T>,
    ) -> Result<Vec<T>, KernelError> {
        self.socket.dump(what, &Message::route(0, list), |all: &mut Vec<T>, body| {
            all.extend(decode(body));
        })
    }

    /// The same for IPv4 and IPv6.
    fn list_families<T>(
        &mut self,
        what: &str,
        list: impl Fn(AddressFamily) -> RouteNetlinkMessage,
        decode: impl Fn(&[u8]) -> Option<T>,
    ) -> Result<Vec<T>, KernelError> {
        let mut all = self.list(what, list(AddressFamily::Inet), &decode)?;
        all.extend(self.list(what, list(AddressFamily::Inet6), &decode)?);
        Ok(all)
    }
}
