//! The first hop: a name, asked of the sandbox's own resolver, against the zones that the sandbox should see.

use std::collections::BTreeSet;
use std::net::IpAddr;

use swarmnet_dns::client::Reply;
use swarmnet_dns::{Forward, Lookup, RecordKind, SandboxNames, WireName};
use swarmnet_types::Network;

use super::ask::Said;
use super::hop::{Hop, HopKind, listed};
use super::{Evidence, Question, To};
use crate::desired::scene::{Scene, Shown};
use crate::local::SandboxRecord;
use crate::local::resolv;

/// RFC 1035 §4.1.1.
const SERVER_FAILURE: u16 = 2;
const NO_SUCH_NAME: u16 = 3;
const REFUSED: u16 = 5;

/// Must the resolver be asked? Addresses and what is in the sandbox's `hosts` need none; without a name that it could be asked, neither.
pub(super) fn to_ask(question: &Question, record: &SandboxRecord) -> Option<WireName> {
    let To::Name(name) = &question.to else { return None };
    let known = !in_hosts(question, record, name).is_empty();
    if known || !record.resolves_names() { None } else { WireName::from_text(name).ok() }
}

/// The families that are asked for.
pub(super) fn families(question: &Question) -> Vec<bool> {
    question.ipv6.map_or_else(|| vec![false, true], |ipv6| vec![ipv6])
}

/// Where the name leads: the first address of the answer, IPv4 before IPv6. One that is IPv4 in the clothes of IPv6 (RFC 4291 §2.5.5.2)
/// is IPv4, as it is for the kernel.
pub(super) fn address(question: &Question, evidence: &Evidence) -> Option<IpAddr> {
    let name = match &question.to {
        To::Addr(addr) => return Some(addr.to_canonical()),
        To::Name(name) => name,
    };
    let hosts = in_hosts(question, &evidence.record, name);
    if let Some(first) = hosts.first() {
        return Some(first.to_canonical());
    }
    let replies = families(question).into_iter().filter_map(|f| reply(evidence, f));
    replies.flat_map(|r| &r.addrs).next().map(IpAddr::to_canonical)
}

fn reply(evidence: &Evidence, ipv6: bool) -> Option<&Reply> {
    match evidence.answers.get(&ipv6) {
        Some(Said::Reply(reply)) => Some(reply),
        Some(Said::Silence | Said::Failed(_)) | None => None,
    }
}

/// What the C library finds before it asks a resolver.
fn in_hosts(question: &Question, record: &SandboxRecord, name: &str) -> Vec<IpAddr> {
    let families = families(question);
    let text = resolv::hosts(record);
    let line = |line: &str| {
        let mut words = line.split_whitespace();
        let addr: IpAddr = words.next()?.parse().ok()?;
        let named = words.any(|word| word.eq_ignore_ascii_case(name));
        (named && families.contains(&addr.is_ipv6())).then_some(addr)
    };
    let mut found: Vec<IpAddr> = text.lines().filter_map(line).collect();
    found.sort_by_key(IpAddr::is_ipv6);
    found
}

/// The hop.
pub(super) fn hop(question: &Question, scene: &Scene<'_>, evidence: &Evidence, name: &str) -> Hop {
    let record = &evidence.record;
    let hop = |found: String| Hop::good(HopKind::Name, name, found);
    let hosts = in_hosts(question, record, name);
    if !hosts.is_empty() {
        return hop(format!("{} by the sandbox's hosts file", listed(hosts)));
    }
    if !record.resolves_names() {
        return hop("not asked".to_owned()).broken(
            format!("no network of {} resolves names", record.name),
            "give an address, or join a network with names: `swarmnet network connect`",
        );
    }
    let wire = match WireName::from_text(name) {
        Ok(wire) => wire,
        Err(err) => return hop("not asked".to_owned()).broken(err.to_string(), "give a DNS name"),
    };
    let asked = Asked { question, scene, evidence, name, wire };
    let found = hop(asked.found());
    match asked.fault() {
        Some((why, remedy)) => found.broken(why, remedy),
        None => found,
    }
}

struct Asked<'a> {
    question: &'a Question,
    scene: &'a Scene<'a>,
    evidence: &'a Evidence,
    name: &'a str,
    wire: WireName,
}

type Fault = (String, String);

impl Asked<'_> {
    fn replies(&self) -> impl Iterator<Item = (bool, &Reply)> {
        let families = families(self.question).into_iter();
        families.filter_map(|ipv6| Some((ipv6, reply(self.evidence, ipv6)?)))
    }

    fn found(&self) -> String {
        let addrs: Vec<IpAddr> = self.replies().flat_map(|(_, r)| r.addrs.clone()).collect();
        if !addrs.is_empty() {
            return format!("{} by 127.0.0.11", listed(addrs));
        }
        match self.replies().next() {
            None => "no answer of 127.0.0.11".to_owned(),
            Some((_, reply)) => match reply.code {
                0 => "no address by 127.0.0.11".to_owned(),
                SERVER_FAILURE => "server failure by 127.0.0.11".to_owned(),
                NO_SUCH_NAME => "no such name by 127.0.0.11".to_owned(),
                REFUSED => "refused by 127.0.0.11".to_owned(),
                code => format!("error {code} by 127.0.0.11"),
            },
        }
    }

    fn fault(&self) -> Option<Fault> {
        self.unanswered()
            .or_else(|| self.contradiction())
            .or_else(|| self.replies().all(|(_, r)| r.addrs.is_empty()).then(|| self.nothing()))
    }

    fn unanswered(&self) -> Option<Fault> {
        let said =
            families(self.question).into_iter().filter_map(|f| self.evidence.answers.get(&f));
        let why = said.clone().find_map(|said| match said {
            Said::Reply(_) => None,
            Said::Silence => Some(format!(
                "the resolver says nothing within {} s",
                self.question.timeout.as_secs_f32()
            )),
            Said::Failed(err) => Some(format!("the resolver cannot be asked: {err}")),
        })?;
        let remedy = "see `swarmnet agent status` and the daemon's log of this node";
        Some((why, remedy.to_owned()))
    }

    /// The resolver says what the zones do not.
    fn contradiction(&self) -> Option<Fault> {
        self.replies().find_map(|(ipv6, reply)| {
            let wanted = self.wanted(ipv6)?;
            let said: BTreeSet<IpAddr> = reply.addrs.iter().copied().collect();
            let same = if reply.truncated { said.is_subset(&wanted) } else { said == wanted };
            (!same).then(|| {
                let why =
                    format!("the resolver says {}, wanted is {}", listed(&said), listed(&wanted));
                (why, "see `swarmnet agent status` and the daemon's log of this node".to_owned())
            })
        })
    }

    /// `None`: not a name of ours.
    fn wanted(&self, ipv6: bool) -> Option<BTreeSet<IpAddr>> {
        let wish = self.evidence.wish.names.get(&self.evidence.record.id)?;
        let names = SandboxNames::new(wish.zones.clone(), Forward::Never);
        let kind = if ipv6 { RecordKind::Aaaa } else { RecordKind::A };
        match names.lookup(&self.wire, kind) {
            Lookup::V4(found) => Some(found.iter().copied().map(IpAddr::from).collect()),
            Lookup::V6(found) => Some(found.iter().copied().map(IpAddr::from).collect()),
            Lookup::NoData | Lookup::Pointer(_) | Lookup::NoName => Some(BTreeSet::new()),
            Lookup::NotOurs => None,
        }
    }

    /// Why there is no address.
    fn nothing(&self) -> Fault {
        let networks = || self.scene.networks_of(&self.evidence.record);
        if families(self.question).into_iter().any(|f| self.wanted(f).is_some()) {
            return self.hidden(networks());
        }
        if let Some(network) = self.elsewhere() {
            let why = format!(
                "`{}` is on network {network}, which {} is not on",
                self.name, self.evidence.record.name
            );
            let remedy =
                format!("`swarmnet network connect {network} {}`", self.evidence.record.name);
            return (why, remedy);
        }
        let on = listed(networks().map(|n| &n.spec.name));
        let code = self.replies().map(|(_, r)| r.code).max();
        let outside = match code {
            Some(REFUSED) => "and the outside is not asked from internal networks",
            Some(SERVER_FAILURE) => "and the node's own resolvers do not answer",
            _ => "and the outside has no address for it",
        };
        let why = format!("nothing on {on} is called `{}`, {outside}", self.name);
        (why, "see the names with `swarmnet network inspect`".to_owned())
    }

    /// The name is known, and its address is not told.
    fn hidden<'n>(&self, networks: impl Iterator<Item = &'n Network>) -> Fault {
        let host = self.name.split('.').next().unwrap_or(self.name);
        let mut endpoints =
            networks.flat_map(|n| self.scene.cluster.iter().flat_map(move |c| c.endpoints(n.id)));
        let named = endpoints.find(|e| {
            e.name.as_str().eq_ignore_ascii_case(host) && self.scene.shown(e) == Shown::Hidden
        });
        match named {
            Some(endpoint) => super::backend::why_hidden(self.scene, endpoint),
            None => (
                format!("`{}` is known and has no such address", self.name),
                "try the other family, or start a task".to_owned(),
            ),
        }
    }

    /// A network of this node that knows the name, and that the sandbox is not on.
    fn elsewhere(&self) -> Option<String> {
        let cluster = self.scene.cluster.as_ref()?;
        let ours = |network: &Network| {
            network.spec.ingress
                || self.evidence.record.attachments.iter().any(|a| a.endpoint.network == network.id)
        };
        let others = cluster.view.networks.values().filter(|n| !ours(n));
        let mut knowing = others.filter(|n| {
            let service = cluster.services_on(n.id).any(|s| s.name.as_str() == self.name);
            service || cluster.endpoints(n.id).iter().any(|e| e.name.as_str() == self.name)
        });
        knowing.next().map(|n| n.spec.name.to_string())
    }
}
