//! Notice that links, addresses, routes, rules, neighbours or nexthops of a namespace changed, whoever did it.
//!
//! A notice is a reason to look again, not a description: what changed is told coarsely, and a loss is told as everything.

use std::collections::BTreeSet;

use rtnetlink::MulticastGroup;

use super::nexthop::{DELNEXTHOP, NEWNEXTHOP};
use crate::error::KernelError;
use crate::netlink::{Notice, Protocol, Stream, frames};
use crate::netns::Netns;

const GROUPS: [MulticastGroup; 9] = [
    MulticastGroup::Link,
    MulticastGroup::Neigh,
    MulticastGroup::Ipv4Ifaddr,
    MulticastGroup::Ipv6Ifaddr,
    MulticastGroup::Ipv4Route,
    MulticastGroup::Ipv6Route,
    MulticastGroup::Ipv4Rule,
    MulticastGroup::Ipv6Rule,
    MulticastGroup::Nexthop,
];

/// What kind of object changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum NetChange {
    Link,
    Addr,
    Route,
    Rule,
    /// Neighbours and forwarding entries.
    Neighbour,
    Nexthop,
}

impl NetChange {
    const ALL: [Self; 6] =
        [Self::Link, Self::Addr, Self::Route, Self::Rule, Self::Neighbour, Self::Nexthop];
}

/// A subscription in one namespace. It keeps the namespace alive.
#[derive(Debug)]
pub struct NetMonitor {
    stream: Stream,
}

impl NetMonitor {
    /// # Panics
    /// Outside a tokio runtime.
    pub fn open(netns: &Netns) -> Result<Self, KernelError> {
        let groups = GROUPS.map(|group| group as u32);
        Ok(Self { stream: Stream::open(netns, Protocol::Route, &groups)? })
    }

    /// Waits for the next change. Cancel-safe.
    pub async fn next(&mut self) -> Result<BTreeSet<NetChange>, KernelError> {
        loop {
            let changes: BTreeSet<_> = match self.stream.next().await? {
                Notice::Lost => NetChange::ALL.into(),
                Notice::Data(data) => {
                    frames(&data).filter_map(|frame| kind(frame.message_type())).collect()
                }
            };
            if !changes.is_empty() {
                return Ok(changes);
            }
        }
    }
}

/// By its number alone: `rtnetlink` cannot read a notice about a nexthop, and none may be missed.
const fn kind(message: u16) -> Option<NetChange> {
    Some(match message {
        libc::RTM_NEWLINK | libc::RTM_DELLINK => NetChange::Link,
        libc::RTM_NEWADDR | libc::RTM_DELADDR => NetChange::Addr,
        libc::RTM_NEWROUTE | libc::RTM_DELROUTE => NetChange::Route,
        libc::RTM_NEWRULE | libc::RTM_DELRULE => NetChange::Rule,
        libc::RTM_NEWNEIGH | libc::RTM_DELNEIGH => NetChange::Neighbour,
        NEWNEXTHOP | DELNEXTHOP => NetChange::Nexthop,
        _ => return None,
    })
}
