//! Notice that links, addresses, routes, rules, neighbours or nexthops of a namespace changed, whoever did it.
//!
//! A notice is a reason to look again, not a description: what changed is told coarsely, and a loss is told as everything.

use std::collections::BTreeSet;

use super::wire::{
    DELADDR, DELLINK, DELNEIGH, DELNEXTHOP, DELROUTE, DELRULE, NEWADDR, NEWLINK, NEWNEIGH,
    NEWNEXTHOP, NEWROUTE, NEWRULE,
};
use crate::error::KernelError;
use crate::netlink::{Notice, Protocol, Stream, frames};
use crate::netns::Netns;

/// `RTNLGRP_*`: link, neigh, and for both families address, route, rule; nexthop.
const GROUPS: [u32; 9] = [1, 3, 5, 7, 8, 9, 11, 19, 32];

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
        Ok(Self { stream: Stream::open(netns, Protocol::Route, &GROUPS)? })
    }

    /// Waits for the next change. Cancel-safe.
    pub async fn next(&mut self) -> Result<BTreeSet<NetChange>, KernelError> {
        loop {
            let changes: BTreeSet<_> = match self.stream.next().await? {
                Notice::Lost => NetChange::ALL.into(),
                Notice::Data(data) => frames(&data).filter_map(|f| kind(f.kind)).collect(),
            };
            if !changes.is_empty() {
                return Ok(changes);
            }
        }
    }
}

const fn kind(message: u16) -> Option<NetChange> {
    Some(match message {
        NEWLINK | DELLINK => NetChange::Link,
        NEWADDR | DELADDR => NetChange::Addr,
        NEWROUTE | DELROUTE => NetChange::Route,
        NEWRULE | DELRULE => NetChange::Rule,
        NEWNEIGH | DELNEIGH => NetChange::Neighbour,
        NEWNEXTHOP | DELNEXTHOP => NetChange::Nexthop,
        _ => return None,
    })
}
