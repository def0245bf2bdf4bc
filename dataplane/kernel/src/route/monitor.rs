//! Notices that links, addresses, routes, rules, neighbours or nexthops of a namespace changed, whoever did it: read as far as it
//! takes to tell whether they concern us ([`crate::Watch`]).

use std::net::IpAddr;

use ipnet::IpNet;
use rtnetlink::MulticastGroup;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::link::LinkHeader;
use rtnetlink::packet_route::neighbour::NeighbourState;
use rtnetlink::packet_route::route::RouteHeader;
use swarmnet_dataplane::names::ROUTE_PROTOCOL;
use swarmnet_dataplane::{Link, LinkName, PortFlags};
use swarmnet_types::Mac;

use super::neighbour::Entry;
use super::nexthop::{DELNEXTHOP, NEWNEXTHOP};
use super::{addr, fdb, links, nexthop, rule};
use crate::netlink::Frame;

pub(crate) const GROUPS: [MulticastGroup; 9] = [
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

/// What a notice says of one object: how it is now, or that it is gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Told {
    /// Without its master's name.
    Link {
        name: LinkName,
        link: Link,
        has_master: bool,
    },
    LinkGone {
        name: LinkName,
    },
    /// As a port of a bridge.
    Port {
        name: LinkName,
        flags: Option<PortFlags>,
    },
    /// It left its bridge.
    PortGone {
        name: LinkName,
    },
    Addr {
        addr: IpNet,
        gone: bool,
    },
    /// `by_request`: the kernel, and programs that use ioctl, have no port.
    Neighbour {
        addr: IpAddr,
        gone: bool,
        by_request: bool,
    },
    /// A forwarding entry of a kind that we make.
    Entry {
        mac: Mac,
        gone: bool,
    },
    /// A route, rule or nexthop with our protocol number.
    Routing,
    /// A route, rule or nexthop of somebody else.
    OthersRouting,
}

/// `None` for what can never concern us.
pub(crate) fn read(frame: &Frame<'_>) -> Option<Told> {
    let (kind, body) = (frame.message_type(), frame.payload());
    let routing = |ours: bool| if ours { Told::Routing } else { Told::OthersRouting };
    Some(match kind {
        libc::RTM_NEWLINK | libc::RTM_DELLINK => return link(kind == libc::RTM_DELLINK, body),
        libc::RTM_NEWADDR | libc::RTM_DELADDR => {
            let (_, addr) = addr::decode(body)?;
            Told::Addr { addr, gone: kind == libc::RTM_DELADDR }
        }
        libc::RTM_NEWNEIGH | libc::RTM_DELNEIGH => {
            return neighbour(kind == libc::RTM_DELNEIGH, frame.port_number() != 0, body);
        }
        libc::RTM_NEWROUTE | libc::RTM_DELROUTE => {
            let header = RouteHeader::parse(body).ok()?;
            routing(u8::from(header.protocol) == ROUTE_PROTOCOL)
        }
        libc::RTM_NEWRULE | libc::RTM_DELRULE => routing(rule::decode(body).is_some()),
        NEWNEXTHOP | DELNEXTHOP => routing(nexthop::protocol(body) == Some(ROUTE_PROTOCOL)),
        _ => return None,
    })
}

fn link(gone: bool, body: &[u8]) -> Option<Told> {
    let family = LinkHeader::parse(body).ok()?.interface_family;
    let (_, seen, master) = links::decode(body)?;
    let (name, link) = (seen.name, seen.link);
    Some(match (family, gone) {
        (AddressFamily::Bridge, false) => Told::Port { name, flags: link.port },
        (AddressFamily::Bridge, true) => Told::PortGone { name },
        (AddressFamily::Unspec, false) => Told::Link { name, link, has_master: master.is_some() },
        (AddressFamily::Unspec, true) => Told::LinkGone { name },
        // Of one address family only.
        _ => return None,
    })
}

fn neighbour(gone: bool, by_request: bool, body: &[u8]) -> Option<Told> {
    let seen = Entry::decode(body)?;
    if seen.family == AddressFamily::Bridge {
        return fdb::is_of_our_kind(&seen).then_some(Told::Entry { mac: seen.mac?, gone });
    }
    let addr = seen.dst.filter(|addr| !addr.is_multicast())?;
    // A deletion on request is told as a failure first.
    Some(Told::Neighbour { addr, gone: gone || seen.is(NeighbourState::Failed), by_request })
}
