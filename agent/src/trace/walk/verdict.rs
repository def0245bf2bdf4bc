//! The last hop: the probe, and what follows from its end.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use swarmnet_types::{Endpoint, Network, Protocol};

use super::Walk;
use crate::trace::backend;
use crate::trace::hop::{Hop, HopKind};
use crate::trace::place::{Place, spot};
use crate::trace::probe::{Outcome, Probe};

/// What was sent, as one word.
fn word(probe: &Probe) -> String {
    probe.port.map_or_else(|| "echo".to_owned(), |port| format!("{port}/{}", probe.protocol))
}

fn subject(probe: &Probe) -> String {
    match probe.port {
        None => format!("echo {}", probe.to),
        Some(port) => format!("{} {}", probe.protocol, SocketAddr::new(probe.to, port)),
    }
}

fn ms(took: Duration) -> String {
    format!("{:.1} ms", took.as_secs_f64() * 1e3)
}

impl Walk<'_> {
    /// Who took the probe, when connection tracking says so.
    pub(in crate::trace) fn chosen(&self) -> Option<String> {
        let addr = self.evidence.taken_by()?;
        Some(self.words_for(addr))
    }

    /// An address with the name of whoever has it, wherever.
    fn words_for(&self, addr: IpAddr) -> String {
        let attached = || self.scene.networks_of(self.record);
        let on = |network: &&Network| spot(self.scene, network, addr).is_some();
        match (attached().find(on), self.fabric_task(addr)) {
            (Some(network), _) => self.named(network, addr),
            (None, Some(endpoint)) => format!("{addr} ({})", self.who(endpoint)),
            (None, None) => addr.to_string(),
        }
    }

    /// The hop of the probe, when one was sent.
    pub(super) fn verdict(&mut self, place: &Place<'_>) {
        let Some(probe) = &self.evidence.probe else { return };
        let taken = self.chosen().map(|who| format!(", taken by {who}")).unwrap_or_default();
        let hop = |found: String| Hop::good(HopKind::Probe, subject(probe), found + &taken);
        let hop = match &probe.outcome {
            Outcome::Answered => {
                let connects = probe.port.is_some() && probe.protocol == Protocol::Tcp;
                let word = if connects { "connected" } else { "answered" };
                hop(format!("{word} in {}", ms(probe.took)))
            }
            Outcome::Refused => {
                let (why, remedy) = self.refused(place, probe);
                hop(format!("refused in {}", ms(probe.took))).broken(why, remedy)
            }
            Outcome::Silent => self.silent(place, probe, hop),
            Outcome::Unreachable(err) => hop("unreachable".to_owned()).broken(
                format!("the kernel or a router says: {err}"),
                "see the hops before, and `ip route` where they are good",
            ),
            Outcome::Failed(err) => hop("not sent".to_owned()).broken(
                format!("the probe could not be sent: {err}"),
                "see the daemon's log of this node",
            ),
        };
        self.push(hop);
    }

    /// Who was to answer.
    fn answerer<'p>(&'p self, place: &Place<'p>) -> Option<&'p Endpoint> {
        let taken = self.evidence.taken_by();
        match place {
            Place::Endpoint(spot) => Some(spot.endpoint),
            Place::Vip(network, _) => Some(spot(self.scene, network, taken?)?.endpoint),
            Place::Port(_) => self.fabric_task(taken?),
            _ => None,
        }
    }

    /// Who was to answer, in words, and a way to look there.
    fn there(&self, place: &Place<'_>, probe: &Probe) -> (String, String) {
        if let Some(endpoint) = self.answerer(place) {
            let (who, name) = (self.who(endpoint), &endpoint.name);
            let node = backend::node_name(self.scene, endpoint);
            return (who, format!("on {node}: `swarmnet ps` and `swarmnet logs {name}`"));
        }
        let look = match place {
            Place::Vip(_, service) | Place::PortElsewhere(_, service) => {
                format!("see its tasks: `swarmnet service ps {}`", service.name)
            }
            _ => "look there what listens, and what is filtered".to_owned(),
        };
        (self.words_for(probe.to), look)
    }

    fn refused(&self, place: &Place<'_>, probe: &Probe) -> (String, String) {
        let (who, look) = self.there(place, probe);
        let what = word(probe);
        let published = self.evidence.wish.desired.publications.keys();
        let mut same =
            published.filter(|key| Some(key.port) == probe.port && key.protocol == probe.protocol);
        match place {
            Place::Own if same.next().is_some() => (
                format!("nothing in {} listens on {what}", self.record.name),
                "the port is published on the node's addresses, not on the sandbox's own: trace to one of those"
                    .to_owned(),
            ),
            Place::Node(_) => (
                format!("nothing there listens on {what}, and no service publishes it"),
                "publish it: `swarmnet service publish`".to_owned(),
            ),
            _ => (format!("{who} refuses {what}: nothing listens there"), look),
        }
    }

    fn silent(&self, place: &Place<'_>, probe: &Probe, hop: impl Fn(String) -> Hop) -> Hop {
        let within = format!("no answer within {} s", self.question.timeout.as_secs_f32());
        let (who, look) = self.there(place, probe);
        let what = word(probe);
        match (probe.echo, probe.protocol, probe.port) {
            // A program need not answer what it does not understand.
            (Some(true), Protocol::Udp, Some(_)) => {
                hop(format!("{within} and no refusal; an echo is answered"))
            }
            (Some(true), ..) => hop(within).broken(
                format!("{who} answers an echo but not {what}: a filter drops it, or the program does not accept"),
                look,
            ),
            _ => hop(within).broken(
                format!("nothing comes back from {who}, an echo neither"),
                self.other_side(place, look),
            ),
        }
    }

    /// When all is as it should be here, the other node has to be asked.
    fn other_side(&self, place: &Place<'_>, look: String) -> String {
        match self.answerer(place) {
            Some(endpoint) => format!(
                "look from the other side, on {}: `swarmnet trace {} {}`",
                backend::node_name(self.scene, endpoint),
                endpoint.name,
                self.record.name
            ),
            None => look,
        }
    }
}
