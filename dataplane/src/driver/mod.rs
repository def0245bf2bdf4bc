//! Network drivers, as CNM means them: what builds a network and joins endpoints to it, behind one trait.
//!
//! A driver is a folder here and an arm in [`of`]. It writes down kernel objects of its network and endpoints; planning, order,
//! filters against spoofing and balancing are common to all.

mod bridge;
mod overlay;

use swarmnet_types::{EndpointId, NetworkId, SandboxId};

use crate::desired::{Bridge, Desired, Endpoint, Network};
use crate::names;
use crate::object::{Link, LinkKind, LinkName, Ns};
use crate::render::{End, Target};

/// One endpoint of one sandbox.
pub(crate) struct Attachment<'a> {
    pub(crate) sandbox: SandboxId,
    pub(crate) id: EndpointId,
    pub(crate) endpoint: &'a Endpoint,
    /// Its place among the sandbox's endpoints, from 0.
    pub(crate) order: usize,
}

/// What a network of one kind is made of.
pub(crate) trait NetworkDriver {
    /// The network itself, once for each node with an endpoint on it.
    fn network(&self, target: &mut Target, id: NetworkId, desired: &Desired);

    /// One endpoint on it.
    fn endpoint(&self, target: &mut Target, at: &Attachment<'_>);

    /// Namespace of the outer ends of its endpoints, where their packets are checked; `None` when it has none.
    fn port_ns(&self) -> Option<Ns>;
}

/// The driver of a network.
pub(crate) fn of(network: &Network) -> &dyn NetworkDriver {
    match network {
        Network::Overlay(overlay) => overlay,
        Network::Bridge(bridge) => bridge,
        Network::Host | Network::None => &Nothing,
    }
}

/// All networks of the bridge driver.
pub(crate) fn bridges(desired: &Desired) -> impl Iterator<Item = (NetworkId, &Bridge)> {
    desired.networks.iter().filter_map(|(id, network)| match network {
        Network::Bridge(bridge) => Some((*id, bridge)),
        Network::Overlay(_) | Network::Host | Network::None => None,
    })
}

/// `host` and `none`: the node's own stack, and a sandbox with nothing but loopback. Neither has links.
struct Nothing;

impl NetworkDriver for Nothing {
    fn network(&self, _: &mut Target, _: NetworkId, _: &Desired) {}

    fn endpoint(&self, _: &mut Target, _: &Attachment<'_>) {}

    fn port_ns(&self) -> Option<Ns> {
        None
    }
}

impl Attachment<'_> {
    pub(crate) fn has_ipv6(&self) -> bool {
        self.endpoint.addrs.iter().any(|a| a.addr().is_ipv6())
    }

    /// The pair that joins the sandbox to a bridge in `ns`, with what is common to all drivers: addresses inside, IPv6 only
    /// where it is used.
    fn join(&self, target: &mut Target, ns: Ns, outer: Link, mtu_bytes: u32) -> LinkName {
        let outer_name = names::endpoint_link(self.id);
        let (inner_ns, inner_name) = (Ns::Sandbox(self.sandbox), self.endpoint.ifname.clone());
        let mut inner = Link::up(LinkKind::Veth, names::alias("endpoint", &self.id));
        inner.mac = Some(self.endpoint.mac);
        inner.mtu_bytes = Some(mtu_bytes);
        inner.no_link_local = !self.has_ipv6();
        target.veth(
            End { ns, name: outer_name.clone(), link: outer },
            End { ns: inner_ns, name: inner_name.clone(), link: inner },
        );
        let inside = target.ns(inner_ns);
        inside.ipv6_only_if(&inner_name, self.has_ipv6());
        for addr in &self.endpoint.addrs {
            inside.address(&inner_name, *addr);
        }
        outer_name
    }

    fn outer(&self, master: LinkName, mtu_bytes: u32) -> Link {
        let mut outer = Link::up(LinkKind::Veth, names::alias("endpoint", &self.id));
        outer.mtu_bytes = Some(mtu_bytes);
        outer.master = Some(master);
        outer
    }
}
