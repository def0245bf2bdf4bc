//! Links, addresses, routes, rules, nexthops, neighbours and forwarding entries of one namespace, by rtnetlink.
//!
//! [`Route`] is one socket; each file holds the verbs and the dump of one kind of object. Objects are named, never numbered: an
//! interface index is looked up for one request and forgotten, because a device may be made anew under its name at any time.
//!
//! Sources: `include/uapi/linux/{rtnetlink,if_link,if_bridge,neighbour,fib_rules,nexthop}.h`.

mod addr;
mod fdb;
mod link;
mod links;
mod lookup;
mod monitor;
mod neighbour;
mod nexthop;
mod routes;
mod rule;
mod wire;

pub use fdb::FdbEntry;
pub use link::NewLink;
pub use links::{LinkSeen, Links};
pub use monitor::{NetChange, NetMonitor};
pub use routes::RouteSeen;

use crate::error::KernelError;
use crate::netlink::{Protocol, Socket};
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
}
