//! The entries that lead to one task: in an overlay, on a bridge, or in the ingress fabric.

use std::net::{IpAddr, SocketAddr};

use swarmnet_dataplane::desired::{Network as Built, Overlay};
use swarmnet_dataplane::{FdbTo, LinkName, Ns, Object, RouteKey, names};
use swarmnet_gossip::Condition;
use swarmnet_types::{Endpoint, Mac, Node, Scope};

use super::Walk;
use crate::desired::fabric;
use crate::desired::scene::Scene;
use crate::trace::Evidence;
use crate::trace::backend;
use crate::trace::hop::{Hop, HopKind, listed};
use crate::trace::place::{Place, Spot, spot};

impl<'a> Walk<'a> {
    fn is_here(&self, spot: &Spot<'_>) -> bool {
        let me = self.scene.cluster.as_ref().map(|c| c.me.id);
        spot.network.spec.scope == Scope::Local || Some(spot.endpoint.node) == me
    }

    fn node_of(&self, endpoint: &Endpoint) -> Option<&'a Node> {
        self.scene.node(endpoint.node)
    }

    /// What leads to an endpoint of a network that the sandbox is on.
    pub(super) fn endpoint(&mut self, spot: Spot<'a>, addr: IpAddr) {
        let networks = &self.evidence.wish.desired.networks;
        let overlay = match networks.get(&spot.network.id) {
            Some(Built::Overlay(overlay)) => Some(overlay),
            Some(Built::Bridge(_) | Built::Host | Built::None) | None => None,
        };
        if self.is_here(&spot) {
            self.neighbour_here(spot, overlay, addr);
        } else if let (Some(node), Some(overlay)) = (self.node_of(spot.endpoint), overlay)
            && self.node(node)
        {
            let vxlan = names::overlay_vxlan(overlay.vni);
            let at = (Ns::Overlay, &vxlan);
            self.neighbour(at, addr, spot.endpoint.mac);
            self.forwarding(at, spot.endpoint.mac, node);
            self.vtep(node);
        }
    }

    /// A task on this node: the far pair, and on an overlay its own entries.
    fn neighbour_here(&mut self, spot: Spot<'a>, overlay: Option<&'a Overlay>, addr: IpAddr) {
        let Spot { endpoint, .. } = spot;
        let desired = &self.evidence.wish.desired;
        let inside = Ns::Sandbox(endpoint.sandbox);
        let sandbox = desired.sandboxes.get(&endpoint.sandbox);
        let Some(wished) = sandbox.and_then(|s| s.endpoints.get(&endpoint.id)) else {
            let (why, remedy) = backend::why_hidden(self.scene, endpoint);
            let hop = Hop::good(HopKind::Links, format!("to {}", endpoint.name), "none");
            self.push(hop.broken(why, remedy));
            return;
        };
        let (port_ns, port) = (
            if overlay.is_some() { Ns::Overlay } else { Ns::Node },
            names::endpoint_link(endpoint.id),
        );
        let objects = [
            (port_ns, Object::Link(&port)),
            (inside, Object::Link(&wished.ifname)),
            (inside, Object::Addresses(&wished.ifname)),
        ];
        let found = listed([port.as_str(), wished.ifname.as_str()]);
        let hop = Hop::good(HopKind::Links, format!("to {} on this node", endpoint.name), found);
        let hop = self.checked(hop, &objects);
        self.push(hop);
        if let Some(overlay) = overlay {
            self.neighbour((Ns::Overlay, &names::overlay_vxlan(overlay.vni)), addr, endpoint.mac);
            self.forwarding_here(&port, endpoint.mac);
        }
    }

    /// The node that has the task. Whether it may still be reached.
    pub(super) fn node(&mut self, node: &Node) -> bool {
        let me = self.scene.cluster.as_ref().is_some_and(|c| c.me.id == node.id);
        let state = self.scene.inputs.liveness.get(&node.id).map(|s| s.condition);
        let hop = |found: &str| Hop::good(HopKind::Node, node.name.clone(), found);
        let hop = match state {
            _ if me => hop("this node"),
            None => hop("no verdict of gossip yet"),
            Some(Condition::Alive) => hop("alive by gossip"),
            Some(Condition::AgentLost) => {
                hop("its daemon is silent, its kernel answers: what runs there runs on")
            }
            Some(Condition::Dead) => {
                let broken = hop("dead by gossip").broken(
                    format!("{} is dead: nothing leads to its tasks until it is back", node.name),
                    format!(
                        "bring {0} back: `swarmnet agent status` on {0} says how it fares",
                        node.name
                    ),
                );
                self.push(broken);
                return false;
            }
        };
        self.push(hop);
        true
    }

    fn neighbour(&mut self, (ns, link): (Ns, &LinkName), addr: IpAddr, mac: Mac) {
        let seen = self.seen(ns).and_then(|s| s.neighbours.get(&(link.clone(), addr)));
        let found = seen.map_or_else(|| "none".to_owned(), ToString::to_string);
        let hop = Hop::good(HopKind::Neighbour, format!("{addr} on {link}"), found);
        let drifts = self.drift(&[(ns, Object::Neighbour(link, addr))]).is_some();
        let hop = match (drifts, seen) {
            (false, _) => hop,
            (true, None) => hop.broken(
                format!("neighbour {addr} on {link} is missing: wanted is {mac}"),
                self.mend(),
            ),
            (true, Some(_)) => hop
                .broken(format!("neighbour {addr} on {link} is not {mac}, as wanted"), self.mend()),
        };
        self.push(hop);
    }

    /// The entry that sends frames to another node.
    fn forwarding(&mut self, (ns, link): (Ns, &LinkName), mac: Mac, node: &Node) {
        let vtep = fabric::vtep(self.scene, node);
        let seen = self.seen(ns).and_then(|s| s.fdb.get(&(link.clone(), mac)));
        let found = match seen {
            None => "none".to_owned(),
            Some(FdbTo::Vtep(vtep)) => format!("to {vtep}"),
            Some(other) => other.to_string(),
        };
        let hop = Hop::good(HopKind::Fdb, format!("{mac} on {link}"), found);
        let drifts = self.drift(&[(ns, Object::Fdb(link, mac))]).is_some();
        let to = format!("{vtep} ({})", node.name);
        let hop = match (drifts, seen) {
            (false, _) => hop,
            (true, None) => {
                hop.broken(format!("FDB entry {mac} on {link} for {to} is missing"), self.mend())
            }
            (true, Some(_)) => hop.broken(
                format!("FDB entry {mac} on {link} does not lead to {to}, as wanted"),
                self.mend(),
            ),
        };
        self.push(hop);
    }

    /// The entry that sends frames out of a port of the overlay's bridge.
    fn forwarding_here(&mut self, port: &LinkName, mac: Mac) {
        let seen = self.seen(Ns::Overlay).and_then(|s| s.fdb.get(&(port.clone(), mac)));
        let found = seen.map_or_else(|| "none".to_owned(), |_| format!("out of {port}"));
        let hop = Hop::good(HopKind::Fdb, format!("{mac} on {port}"), found);
        let hop = match self.drift(&[(Ns::Overlay, Object::Fdb(port, mac))]) {
            None => hop,
            Some(_) => {
                hop.broken(format!("FDB entry {mac} on {port} is missing or wrong"), self.mend())
            }
        };
        self.push(hop);
    }

    /// The other end of the tunnel: this node's route there, and after a silence its echo.
    fn vtep(&mut self, node: &Node) {
        let vtep = fabric::vtep(self.scene, node);
        let (subject, name) = (format!("{vtep} ({})", node.name), &node.name);
        let hop = |found: String| Hop::good(HopKind::Vtep, subject.clone(), found);
        let echoes = self.evidence.probe.iter().flat_map(|p| &p.vteps);
        let silent = echoes.clone().any(|(at, answers)| *at == vtep && !answers);
        let hop = match self.evidence.routes.get(&(Ns::Node, vtep)) {
            Some(None) => hop("no route".to_owned()).broken(
                format!("this node has no route to {vtep}, the VTEP of {name}"),
                format!("`ip route get {vtep}` on this node must find one"),
            ),
            Some(Some(path)) => {
                let found = format!("by {} from {}", path.link, path.source);
                if silent { self.cut_off(hop(found), node) } else { hop(found) }
            }
            None => hop("not looked at".to_owned()),
        };
        self.push(hop);
    }

    fn cut_off(&self, hop: Hop, node: &Node) -> Hop {
        let port = self.scene.cluster.as_ref().map_or(0, |c| c.view.cluster.data_path_port);
        let (me, name) =
            (self.scene.cluster.as_ref().map_or("this node", |c| c.me.name.as_str()), &node.name);
        hop.broken(
            format!("the VTEP of {name} does not answer an echo from this node"),
            format!(
                "the underlay between {me} and {name} does not pass packets: check links, routes and firewalls (UDP {port})"
            ),
        )
    }

    // === the ingress fabric ===

    pub(super) fn fabric_task(&self, addr: IpAddr) -> Option<&'a Endpoint> {
        fabric_task(self.scene, addr)
    }

    /// What leads from this node to a backend of a published port.
    pub(super) fn fabric(&mut self, addr: IpAddr) {
        let Some(endpoint) = self.fabric_task(addr) else { return };
        let me = self.scene.cluster.as_ref().map(|c| c.me.id);
        match self.node_of(endpoint).filter(|n| Some(n.id) != me) {
            Some(node) => self.fabric_remote(addr, node),
            None => self.fabric_here(addr, endpoint),
        }
    }

    fn fabric_remote(&mut self, addr: IpAddr, node: &'a Node) {
        if !self.node(node) {
            return;
        }
        let id = names::nexthop_id(node.index, addr.is_ipv6());
        let objects =
            [(Ns::Node, Object::Route(names::host(addr))), (Ns::Node, Object::Nexthop(id))];
        let hop = self.checked(self.node_route(addr), &objects);
        self.push(hop);
        let swing = names::swing();
        let mac = names::fabric_mac(node.index);
        let gateway = match addr {
            IpAddr::V4(_) => node.fabric.v4.map(IpAddr::V4),
            IpAddr::V6(_) => Some(IpAddr::V6(names::fabric_link_local(node.index))),
        };
        if let Some(gateway) = gateway {
            self.neighbour((Ns::Node, &swing), gateway, mac);
        }
        self.forwarding((Ns::Node, &swing), mac, node);
        self.vtep(node);
    }

    /// By the sandbox's node link, or by the bridge that it is on.
    fn fabric_here(&mut self, addr: IpAddr, endpoint: &Endpoint) {
        let by_link = self
            .scene
            .sandbox(endpoint.sandbox)
            .is_some_and(|r| r.fabric.as_ref().is_some_and(|f| f.addrs.contains(addr)));
        let route = [(Ns::Node, Object::Route(names::host(addr)))];
        if by_link {
            let hop = self.checked(self.node_route(addr), &route);
            self.push(hop);
        }
        let outer = if by_link {
            names::node_link(endpoint.sandbox)
        } else {
            names::endpoint_link(endpoint.id)
        };
        let subject = format!("to {} on this node", endpoint.name);
        let hop = Hop::good(HopKind::Links, subject, outer.to_string());
        let hop = self.checked(hop, &[(Ns::Node, Object::Link(&outer))]);
        self.push(hop);
    }

    fn node_route(&self, addr: IpAddr) -> Hop {
        let key = RouteKey::new(RouteKey::MAIN, names::host(addr));
        let seen = self.seen(Ns::Node).and_then(|s| s.routes.get(&key));
        let found = seen.map_or_else(|| "none".to_owned(), ToString::to_string);
        Hop::good(HopKind::Route, format!("{addr} on this node"), found)
    }
}

/// The task that has an address in the ingress fabric, or that a port map of this node leads to.
fn fabric_task<'a>(scene: &Scene<'a>, addr: IpAddr) -> Option<&'a Endpoint> {
    let ingress = scene.cluster.as_ref().and_then(|c| c.ingress);
    let in_fabric = ingress.and_then(|n| spot(scene, n, addr)).map(|s| s.endpoint);
    let records = scene.inputs.local.sandboxes.values();
    let mut here = records.flat_map(|r| r.attachments.iter().map(|a| &a.endpoint).chain(&r.fabric));
    in_fabric.or_else(|| here.find(|e| e.addrs.contains(addr)))
}

/// Who may be met at a place: whoever took the probe, or all that may.
pub(in crate::trace) fn met<'a>(
    evidence: &'a Evidence,
    scene: &Scene<'a>,
    place: &Place<'a>,
) -> Vec<&'a Endpoint> {
    let taken = evidence.taken_by();
    let desired = &evidence.wish.desired;
    match place {
        Place::Vip(network, service) => {
            let wished = desired.services.get(&(network.id, service.id));
            let all = wished.iter().flat_map(|s| s.backends.iter().copied());
            let addrs = taken.map_or_else(|| all.collect(), |one| vec![one]);
            addrs.into_iter().filter_map(|a| Some(spot(scene, network, a)?.endpoint)).collect()
        }
        Place::Port(port) => {
            let publication = desired.publications.get(&port.key);
            let all = publication.iter().flat_map(|p| p.backends.iter().map(SocketAddr::ip));
            let addrs = taken.map_or_else(|| all.collect(), |one| vec![one]);
            addrs.into_iter().filter_map(|a| fabric_task(scene, a)).collect()
        }
        Place::Endpoint(spot) => vec![spot.endpoint],
        Place::Own
        | Place::PortElsewhere(..)
        | Place::Node(_)
        | Place::OtherNetwork(..)
        | Place::Nobody(_)
        | Place::Outside => Vec::new(),
    }
}

/// The VTEP in front of an endpoint of another node.
pub(in crate::trace) fn vtep(scene: &Scene<'_>, endpoint: &Endpoint) -> Option<IpAddr> {
    let cluster = scene.cluster.as_ref()?;
    let node = cluster.view.nodes.get(&endpoint.node).filter(|n| n.id != cluster.me.id)?;
    Some(fabric::vtep(scene, node))
}
