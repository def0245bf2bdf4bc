//! From an address on: route, devices, balancing, and for each task that may be meant the entries that lead to it.

mod path;
mod verdict;

use std::fmt::Display;
use std::net::{IpAddr, SocketAddr};

use swarmnet_dataplane::desired::Network as Built;
use swarmnet_dataplane::seen::{self, Balancing};
use swarmnet_dataplane::{LinkName, Ns, NsState, Object, Plan, names, plan};
use swarmnet_types::{Algorithm, Endpoint, Network, Service};

pub(super) use self::path::{met, vtep};

use super::backend;
use super::hop::{Hop, HopKind, listed};
use super::place::{Place, Port, spot};
use super::{Evidence, Question};
use crate::desired::scene::Scene;
use crate::local::SandboxRecord;

/// Operations that are named before "and N more".
const OPS_SHOWN: usize = 3;

pub(super) struct Walk<'a> {
    question: &'a Question,
    evidence: &'a Evidence,
    scene: &'a Scene<'a>,
    record: &'a SandboxRecord,
    plan: Plan,
    hops: Vec<Hop>,
}

impl<'a> Walk<'a> {
    pub(super) fn new(
        question: &'a Question,
        evidence: &'a Evidence,
        scene: &'a Scene<'a>,
    ) -> Self {
        let record = &evidence.record;
        let plan = plan(&evidence.actual, &evidence.wish.desired);
        Self { question, evidence, scene, record, plan, hops: Vec::new() }
    }

    pub(super) fn push(&mut self, hop: Hop) {
        self.hops.push(hop);
    }

    pub(super) fn into_hops(self) -> Vec<Hop> {
        self.hops
    }

    /// Where the sandbox's packets begin.
    fn ns(&self) -> Ns {
        super::run::ns(self.record)
    }

    fn seen(&self, ns: Ns) -> Option<&'a NsState> {
        self.evidence.actual.namespaces.get(&ns)
    }

    /// All hops behind the name.
    pub(super) fn follow(&mut self, place: &Place<'a>, addr: IpAddr) {
        self.address(place, addr);
        if !place.may_be_reached() {
            return;
        }
        if !matches!(place, Place::Own) {
            self.way_out(place, addr);
        }
        match place {
            Place::Vip(network, service) => self.vip(network, service, addr),
            Place::Port(port) => self.port(port, addr),
            Place::Endpoint(spot) => self.endpoint(*spot, addr),
            Place::PortElsewhere(node, _) | Place::Node(Some(node)) => {
                self.node(node);
            }
            Place::Own
            | Place::Node(None)
            | Place::OtherNetwork(..)
            | Place::Nobody(_)
            | Place::Outside => {}
        }
        self.verdict(place);
    }

    fn address(&mut self, place: &Place<'a>, addr: IpAddr) {
        let me = &self.record.name;
        let hop = |found: String| Hop::good(HopKind::Address, addr.to_string(), found);
        let hop = match place {
            Place::Own => hop(format!("{me} itself")),
            Place::Vip(network, service) => {
                hop(format!("virtual address of service {} on {}", service.name, network.spec.name))
            }
            Place::Endpoint(spot) => {
                hop(format!("{} on {}", self.who(spot.endpoint), spot.network.spec.name))
            }
            Place::Port(port) => {
                let of = port.service.map_or_else(
                    || "by a sandbox".to_owned(),
                    |s| format!("by service {}", s.name),
                );
                let (number, protocol) = (port.key.port, port.key.protocol);
                hop(format!("this node, port {number}/{protocol} published {of}"))
            }
            Place::PortElsewhere(node, service) => {
                hop(format!("node {}, published there by service {}", node.name, service.name))
            }
            Place::Node(Some(node)) => hop(format!("node {}", node.name)),
            Place::Node(None) => hop("this node".to_owned()),
            Place::Outside => hop("outside the cluster, or a further address of a node".to_owned()),
            Place::OtherNetwork(who, network) => self.other_network(hop, who, network),
            Place::Nobody(network) => {
                let name = &network.spec.name;
                hop("nobody".to_owned()).broken(
                    format!("nobody on {name} has this address"),
                    format!("see who is there with `swarmnet network inspect {name}`"),
                )
            }
        };
        self.push(hop);
    }

    fn other_network(&self, hop: impl Fn(String) -> Hop, who: &str, network: &Network) -> Hop {
        let (me, name) = (&self.record.name, &network.spec.name);
        let remedy = if network.spec.ingress {
            "it is there for published ports only: use the service's name".to_owned()
        } else {
            format!("`swarmnet network connect {name} {me}`")
        };
        hop(format!("{who} on {name}")).broken(format!("{me} is not on network {name}"), remedy)
    }

    fn who(&self, endpoint: &Endpoint) -> String {
        let node = backend::node_name(self.scene, endpoint);
        format!("{} on {node}", endpoint.name)
    }

    /// An address with whose it is, on a network.
    fn named(&self, network: &'a Network, addr: IpAddr) -> String {
        match spot(self.scene, network, addr) {
            Some(spot) => format!("{addr} ({})", self.who(spot.endpoint)),
            None => addr.to_string(),
        }
    }

    // === what the plan says ===

    /// The operations that would mend these objects, in words.
    fn drift(&self, objects: &[(Ns, Object<'_>)]) -> Option<String> {
        let mut ops: Vec<String> = Vec::new();
        for (ns, object) in objects {
            for op in self.plan.about(*ns, *object).map(ToString::to_string) {
                if !ops.contains(&op) {
                    ops.push(op);
                }
            }
        }
        let more = ops.len().saturating_sub(OPS_SHOWN);
        ops.truncate(OPS_SHOWN);
        let text = ops.join("; ");
        match (ops.is_empty(), more) {
            (true, _) => None,
            (false, 0) => Some(text),
            (false, more) => Some(format!("{text} and {more} more")),
        }
    }

    /// What to do about a kernel that is not as wished.
    fn mend(&self) -> String {
        let usual =
            "the reconciler of this node puts it back; if it stays, see `swarmnet agent status`";
        match self.evidence.complaints.first() {
            None => usual.to_owned(),
            Some(complaint) => format!("{usual}, which says: {complaint}"),
        }
    }

    fn checked(&self, hop: Hop, objects: &[(Ns, Object<'_>)]) -> Hop {
        match self.drift(objects) {
            None => hop,
            Some(ops) => hop.broken(format!("not as wished, to be done: {ops}"), self.mend()),
        }
    }

    // === out of the sandbox ===

    fn way_out(&mut self, place: &Place<'a>, addr: IpAddr) {
        let me = &self.record.name;
        let Some(path) = self.evidence.routes.get(&(self.ns(), addr)) else { return };
        let hop = |found: String| Hop::good(HopKind::Route, format!("{addr} in {me}"), found);
        if let Some(path) = path {
            let good = hop(format!("by {} from {}", path.link, path.source));
            let hop = match self.wanted_link(place).filter(|wanted| **wanted != path.link) {
                None => good,
                Some(wanted) => good.broken(
                    format!("it leaves {me} by {}, wanted is {wanted}", path.link),
                    format!(
                        "something in {me} changed its routes: `swarmnet network disconnect` and `connect` make them anew"
                    ),
                ),
            };
            self.push(hop);
            self.links(&path.link);
            return;
        }
        let mut on = self.scene.networks_of(self.record);
        let why = if on.all(|n| n.spec.internal) {
            format!("{me} has no route: its networks are internal")
        } else {
            let family = if addr.is_ipv6() { "IPv6" } else { "IPv4" };
            format!("{me} has no {family} route there")
        };
        let remedy =
            format!("join a network that leads there: `swarmnet network connect NETWORK {me}`");
        self.push(hop("none".to_owned()).broken(why, remedy));
    }

    /// The sandbox's own link on the network that the address is on.
    fn wanted_link(&self, place: &Place<'a>) -> Option<&'a LinkName> {
        let network = match place {
            Place::Vip(network, _) => network.id,
            Place::Endpoint(spot) => spot.network.id,
            _ => return None,
        };
        let sandbox = self.evidence.wish.desired.sandboxes.get(&self.record.id)?;
        let on = sandbox.endpoints.values().find(|e| e.network == network)?;
        Some(&on.ifname)
    }

    /// The pair that a link of the sandbox is one end of, and what its other end is in.
    fn links(&mut self, inner: &LinkName) {
        let desired = &self.evidence.wish.desired;
        let Some(sandbox) = desired.sandboxes.get(&self.record.id) else { return };
        let inside = Ns::Sandbox(self.record.id);
        let mut links = vec![(inside, inner.clone())];
        if let Some((id, endpoint)) = sandbox.endpoints.iter().find(|(_, e)| e.ifname == *inner) {
            match desired.networks.get(&endpoint.network) {
                Some(Built::Overlay(overlay)) => links.extend([
                    (Ns::Overlay, names::endpoint_link(*id)),
                    (Ns::Overlay, names::overlay_bridge(overlay.vni)),
                    (Ns::Overlay, names::overlay_vxlan(overlay.vni)),
                ]),
                Some(Built::Bridge(bridge)) => links.extend([
                    (Ns::Node, names::endpoint_link(*id)),
                    (Ns::Node, bridge.name.clone()),
                ]),
                Some(Built::Host | Built::None) | None => {}
            }
        } else if sandbox.node_link.as_ref().is_some_and(|link| link.ifname == *inner) {
            links.push((Ns::Node, names::node_link(self.record.id)));
        }
        let found = listed(links.iter().map(|(_, name)| name));
        let mut objects: Vec<_> = links.iter().map(|(ns, l)| (*ns, Object::Link(l))).collect();
        objects.push((inside, Object::Addresses(inner)));
        let hop = Hop::good(HopKind::Links, format!("from {}", self.record.name), found);
        let hop = self.checked(hop, &objects);
        self.push(hop);
    }

    // === balancing ===

    fn vip(&mut self, network: &'a Network, service: &'a Service, vip: IpAddr) {
        let wished = self.wished(network, service, vip);
        let ns = self.ns();
        let held = self.seen(ns).map_or(Balancing::Unknown, |state| seen::vip(state, vip));
        let out = backend::left_out(self.scene, network.id, service);
        let mut found = match &held {
            Balancing::Unknown => "not balanced".to_owned(),
            Balancing::Refused => "refused".to_owned(),
            Balancing::Among(backends) => {
                let backends = backends.iter().map(|b| self.named(network, *b));
                format!("{} {}", how(service.algorithm), listed(backends))
            }
        };
        if !out.is_empty() {
            found = format!("{found}; left out: {}", listed(&out));
        }
        let subject = format!("{vip} of {} in {}", service.name, self.record.name);
        let hop = Hop::good(HopKind::Vip, subject, found);
        let hop = if wished.is_empty() {
            hop.broken(nobody(service, &out), start_one(network, service))
        } else {
            self.as_balanced(hop, (ns, Object::Vip(vip)), (&held, &wished))
        };
        self.push(hop);
        for addr in self.evidence.taken_by().map_or(wished, |one| vec![one]) {
            if let Some(spot) = spot(self.scene, network, addr) {
                self.endpoint(spot, addr);
            }
        }
    }

    /// The table's own words for what it holds are few: what it leads to is compared instead.
    fn as_balanced<T: Ord + Display>(
        &self,
        hop: Hop,
        object: (Ns, Object<'_>),
        (held, wished): (&Balancing<T>, &[T]),
    ) -> Hop {
        if self.drift(&[object]).is_none() {
            return hop;
        }
        let same = matches!(held, Balancing::Among(held) if held.iter().eq(wished));
        let why = if same {
            "the rules that balance are not as wished".to_owned()
        } else {
            format!("not led to {}, as wanted", listed(wished))
        };
        hop.broken(why, self.mend())
    }

    /// The backends that a virtual address should have, of its own family.
    fn wished(&self, network: &Network, service: &Service, vip: IpAddr) -> Vec<IpAddr> {
        let services = &self.evidence.wish.desired.services;
        let backends = services.get(&(network.id, service.id)).into_iter();
        backends
            .flat_map(|s| s.backends.iter().copied())
            .filter(|b| b.is_ipv6() == vip.is_ipv6())
            .collect()
    }

    fn port(&mut self, port: &Port<'a>, addr: IpAddr) {
        let desired = &self.evidence.wish.desired;
        let (key, ipv6) = (port.key, addr.is_ipv6());
        let state = self.seen(Ns::Node);
        let held = state.map_or(Balancing::Unknown, |node| seen::port(node, &key, ipv6));
        let found = match &held {
            Balancing::Unknown => "not answered".to_owned(),
            Balancing::Refused => "refused".to_owned(),
            Balancing::Among(backends) => {
                let backend = |b: &SocketAddr| match self.fabric_task(b.ip()) {
                    Some(endpoint) => format!("{b} ({})", self.who(endpoint)),
                    None => b.to_string(),
                };
                format!("one of {}", listed(backends.iter().map(backend)))
            }
        };
        let subject = format!("{}/{} on this node", key.port, key.protocol);
        let hop = Hop::good(HopKind::Port, subject, found);
        let wished = desired.publications.get(&key);
        let backends: Vec<SocketAddr> = wished
            .iter()
            .flat_map(|p| p.backends.iter().copied())
            .filter(|b| b.is_ipv6() == ipv6)
            .collect();
        let hop = match (wished, backends.is_empty()) {
            (None, _) => self.not_answered(hop, port),
            (Some(_), true) => {
                hop.broken("no task of this address family is ready", "see `swarmnet service ps`")
            }
            (Some(_), false) => {
                self.as_balanced(hop, (Ns::Node, Object::Port { key, ipv6 }), (&held, &backends))
            }
        };
        self.push(hop);
        let all = backends.iter().map(SocketAddr::ip).collect();
        for addr in self.evidence.taken_by().map_or(all, |one| vec![one]) {
            self.fabric(addr);
        }
    }

    /// Published, but not by this node.
    fn not_answered(&self, hop: Hop, port: &Port<'_>) -> Hop {
        let of_port = format!("port {}/{}", port.key.port, port.key.protocol);
        let problem = self.evidence.wish.problems.iter().find(|p| p.starts_with(&of_port));
        match problem {
            Some(problem) => {
                hop.broken(problem.clone(), "free the port on this node, or publish another one")
            }
            None => hop.broken(
                "this node does not answer on it: the publication is for nodes with a task (mode=host), or for other nodes",
                "ask a node that has a task, or publish with mode=ingress",
            ),
        }
    }
}

impl Evidence {
    /// Who took the probe, when somebody chose.
    fn taken_by(&self) -> Option<IpAddr> {
        let probe = self.probe.as_ref()?;
        let chosen = probe.chosen?.ip();
        (chosen != probe.to).then_some(chosen)
    }
}

fn how(algorithm: Algorithm) -> &'static str {
    match algorithm {
        Algorithm::Random => "one of",
        Algorithm::Rr => "in turn",
        Algorithm::Sh => "by client, one of",
    }
}

fn nobody(service: &Service, out: &[String]) -> String {
    if out.is_empty() {
        format!("service {} has no task on this network", service.name)
    } else {
        format!("no task of service {} is ready", service.name)
    }
}

fn start_one(network: &Network, service: &Service) -> String {
    format!(
        "start one: `swarmnet run -d --network {} --service {} -- COMMAND`",
        network.spec.name, service.name
    )
}
