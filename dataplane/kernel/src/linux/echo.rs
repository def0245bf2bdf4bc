//! Which notices are only the echo of what we did. Pure.
//!
//! Requests for routes, rules and nexthops leave our netlink port in the notice; those for links, addresses, neighbours and
//! forwarding entries do not, or not always. So it is kept what we did last to such an object, and a notice that says the same is an
//! echo. Links are kept for good, as they should be: the kernel tells of them for many reasons of its own (a carrier comes up).
//!
//! In doubt it is no echo: that costs a look that finds nothing. But for one case: other flags
//! of a bridge port are taken for our own doing for [`MEMORY`] after a change of ours to that link, which passes through the defaults.
//!
//! Scale: one entry for each link of ours; others for [`MEMORY`], at most [`ENTRIES_MAX`].

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use swarmnet_dataplane::names::{MARKER, NODE_LINK_GATEWAY_V4, NODE_LINK_GATEWAY_V6};
use swarmnet_dataplane::{Link, LinkChange, LinkKind, LinkName, Ns, Op};
use swarmnet_types::Mac;

use crate::route::Told;

/// Notices are queued by the time that the operation has returned; this is how late they may be read.
const MEMORY: Duration = Duration::from_secs(5);
/// A few megabytes. Beyond it the oldest are forgotten, and their echoes cost a look.
const ENTRIES_MAX: usize = 16_384;

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    Addr(IpNet),
    Neighbour(IpAddr),
    Entry(Mac),
    Port(LinkName),
}

/// What a notice means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Meaning {
    /// Ours, or nothing that we look after.
    Nothing,
    /// A link of ours is as it should be, or is not.
    Link { name: LinkName, right: bool },
    /// Something of ours may be changed.
    Doubt,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Echoes {
    links: BTreeMap<(Ns, LinkName), Link>,
    /// Whether it was removed, and when.
    done: BTreeMap<(Ns, Key), (bool, Instant)>,
    /// In the order of time.
    order: VecDeque<(Instant, (Ns, Key))>,
}

impl Echoes {
    /// An operation is about to be carried out.
    pub(super) fn expect(&mut self, op: &Op, now: Instant) {
        let (ns, key, gone) = match op {
            Op::AddLink { ns, name, link } => return self.expect_link((*ns, name, link), now),
            Op::AddVeth { ns, name, link, peer_ns, peer_name, peer } => {
                self.expect_link((*ns, name, link), now);
                return self.expect_link((*peer_ns, peer_name, peer), now);
            }
            Op::SetLink { ns, name, change } => return self.expect_change(*ns, name, change, now),
            Op::DelLink { ns, name } => {
                self.links.remove(&(*ns, name.clone()));
                return;
            }
            Op::DelNetns { ns, .. } => return self.links.retain(|(at, _), _| at != ns),
            Op::AddAddr { ns, addr, .. } => (ns, Key::Addr(*addr), false),
            Op::DelAddr { ns, addr, .. } => (ns, Key::Addr(*addr), true),
            Op::PutNeighbour { ns, addr, .. } => (ns, Key::Neighbour(*addr), false),
            Op::DelNeighbour { ns, addr, .. } => (ns, Key::Neighbour(*addr), true),
            Op::PutFdb { ns, mac, .. } => (ns, Key::Entry(*mac), false),
            Op::DelFdb { ns, mac, .. } => (ns, Key::Entry(*mac), true),
            Op::AddNetns { .. }
            | Op::PutRoute { .. }
            | Op::DelRoute { .. }
            | Op::AddRule { .. }
            | Op::DelRule { .. }
            | Op::PutNexthop { .. }
            | Op::DelNexthop { .. }
            | Op::SetSysctl { .. }
            | Op::Nft { .. }
            | Op::KillFlows { .. }
            | Op::SetForwardAccept { .. } => return,
        };
        self.remember((*ns, key), gone, now);
    }

    fn expect_link(&mut self, (ns, name, link): (Ns, &LinkName, &Link), now: Instant) {
        let newborn = Link { up: false, master: None, port: None, ..link.clone() };
        self.links.insert((ns, name.clone()), newborn);
        self.remember((ns, Key::Port(name.clone())), false, now);
    }

    fn expect_change(&mut self, ns: Ns, name: &LinkName, change: &LinkChange, now: Instant) {
        let at = (ns, name.clone());
        if *name == LinkName::loopback() && !self.links.contains_key(&at) {
            self.links.insert(at.clone(), loopback());
        }
        self.remember((ns, Key::Port(name.clone())), false, now);
        let Some(link) = self.links.get_mut(&at) else { return };
        match change {
            LinkChange::Mac(mac) => link.mac = Some(*mac),
            LinkChange::MtuBytes(mtu) => link.mtu_bytes = Some(*mtu),
            LinkChange::Up => link.up = true,
            LinkChange::Master(master) => link.master.clone_from(master),
            LinkChange::Port(flags) => link.port = Some(*flags),
            LinkChange::Alias(alias) => link.alias.clone_from(alias),
        }
    }

    fn remember(&mut self, at: (Ns, Key), gone: bool, now: Instant) {
        let is_old = |(then, _): &(Instant, _)| now.duration_since(*then) > MEMORY;
        while self.order.len() >= ENTRIES_MAX || self.order.front().is_some_and(is_old) {
            let Some((then, at)) = self.order.pop_front() else { break };
            // It may have been done again since.
            if self.done.get(&at).is_some_and(|(_, last)| *last == then) {
                self.done.remove(&at);
            }
        }
        self.order.push_back((now, at.clone()));
        self.done.insert(at, (gone, now));
    }

    /// Links of ours in a namespace, as an observation found them. What we did ourselves is known better: an observation may be of a
    /// change by others.
    pub(super) fn observed(&mut self, ns: Ns, links: &BTreeMap<LinkName, Link>) {
        self.links.retain(|(at, name), _| *at != ns || links.contains_key(name));
        for (name, link) in links {
            self.links.entry((ns, name.clone())).or_insert_with(|| link.clone());
        }
    }

    /// What a notice that no request of ours is named in means.
    pub(super) fn judge(&mut self, ns: Ns, told: Told, now: Instant) -> Meaning {
        let (key, gone) = match told {
            Told::Link { name, link, has_master } => {
                return self.judge_link((ns, name), &link, has_master);
            }
            Told::LinkGone { name } => {
                let ours = self.links.remove(&(ns, name.clone())).is_some();
                return match ns {
                    _ if ours => Meaning::Link { name, right: false },
                    // It may have been in the way of one of ours.
                    Ns::Node | Ns::Sandbox(_) => Meaning::Doubt,
                    Ns::Overlay => Meaning::Nothing,
                };
            }
            Told::Port { name, flags } => {
                let wanted = self.links.get(&(ns, name.clone())).and_then(|link| link.port);
                // The kernel tells of ports for reasons of its own, too: the forwarding delay is over.
                if wanted.is_none() || flags == wanted {
                    return Meaning::Nothing;
                }
                (Key::Port(name), false)
            }
            Told::PortGone { name } => {
                let link = self.links.get(&(ns, name));
                let missed = link.is_some_and(|link| link.master.is_some());
                return if missed { Meaning::Doubt } else { Meaning::Nothing };
            }
            Told::Addr { addr, gone } => {
                if is_the_kernels_own(addr.addr()) {
                    return Meaning::Nothing;
                }
                (Key::Addr(addr), gone)
            }
            // All of the kernel's own are in sandboxes and on the node; of ours there it tells us no more than that.
            Told::Neighbour { addr, gone, by_request: false }
                if !gone || ns != Ns::Overlay && !is_gateway(addr) =>
            {
                return Meaning::Nothing;
            }
            Told::Neighbour { addr, gone, .. } => (Key::Neighbour(addr), gone),
            Told::Entry { .. } if matches!(ns, Ns::Sandbox(_)) => return Meaning::Nothing,
            Told::Entry { mac, gone } => (Key::Entry(mac), gone),
            Told::Routing => return Meaning::Doubt,
            Told::OthersRouting => return Meaning::Nothing,
        };
        let last = self.done.get(&(ns, key));
        let is_echo =
            last.is_some_and(|(did, at)| *did == gone && now.duration_since(*at) <= MEMORY);
        if is_echo { Meaning::Nothing } else { Meaning::Doubt }
    }

    fn judge_link(&self, at: (Ns, LinkName), seen: &Link, has_master: bool) -> Meaning {
        let Some(wanted) = self.links.get(&at) else {
            let ours = seen.alias.starts_with(MARKER) || at.0 == Ns::Overlay;
            return if ours && seen.kind != LinkKind::Loopback || at.0 == Ns::Node {
                Meaning::Doubt
            } else {
                Meaning::Nothing
            };
        };
        let right = (seen.up || !wanted.up)
            && wanted.mac.is_none_or(|mac| seen.mac == Some(mac))
            && wanted.mtu_bytes.is_none_or(|mtu| seen.mtu_bytes == Some(mtu))
            && has_master == wanted.master.is_some()
            && seen.alias == wanted.alias;
        Meaning::Link { name: at.1, right }
    }
}

fn loopback() -> Link {
    Link {
        kind: LinkKind::Loopback,
        mac: None,
        mtu_bytes: None,
        up: false,
        master: None,
        port: None,
        no_link_local: true,
        alias: String::new(),
    }
}

fn is_the_kernels_own(addr: IpAddr) -> bool {
    addr.is_loopback() || matches!(addr, IpAddr::V6(v6) if v6.is_unicast_link_local())
}

fn is_gateway(addr: IpAddr) -> bool {
    addr == NODE_LINK_GATEWAY_V4 || addr == NODE_LINK_GATEWAY_V6
}

#[cfg(test)]
mod tests;
