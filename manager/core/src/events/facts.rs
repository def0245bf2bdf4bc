//! What people are told of an object: its facts, by name. A change is told by those that differ.

use std::collections::BTreeMap;

use swarmnet_types::network::StringMap;
use swarmnet_types::{DualStack, Endpoint, Network, NetworkId, Node, NodeId, Service, ServiceId};

use super::{Action, Attributes, Happened, Subject};
use crate::state::txn::Changed;
use crate::state::{Cluster, FurtherToken, NodeRecord, State};

/// Empty: the object has no such thing.
pub(super) type Facts = BTreeMap<String, String>;

/// Names of objects, also of those that are gone with the change.
pub(super) struct Names<'a> {
    state: &'a State,
    changes: &'a [Changed<'a>],
}

impl<'a> Names<'a> {
    pub(super) fn new(state: &'a State, changes: &'a [Changed<'a>]) -> Self {
        Self { state, changes }
    }

    fn find(&self, known: Option<String>, gone: impl Fn(&Changed<'a>) -> Option<String>) -> String {
        known.or_else(|| self.changes.iter().find_map(gone)).unwrap_or_default()
    }

    fn node(&self, id: NodeId) -> String {
        self.find(self.state.node(id).map(|n| n.name.clone()), |changed| match changed {
            Changed::Node(other, Some(old), None) if *other == id => Some(old.name.clone()),
            _ => None,
        })
    }

    fn network(&self, id: NetworkId) -> String {
        let name = |n: &Network| n.spec.name.to_string();
        self.find(self.state.network(id).map(name), |changed| match changed {
            Changed::Network(other, Some(old), None) if *other == id => Some(name(old)),
            _ => None,
        })
    }

    fn service(&self, id: ServiceId) -> String {
        let name = |s: &Service| s.name.to_string();
        self.find(self.state.service(id).map(name), |changed| match changed {
            Changed::Service(other, Some(old), None) if *other == id => Some(name(old)),
            _ => None,
        })
    }
}

/// What differs, with the name of what it belongs to.
pub(super) fn differences(old: &Facts, new: &Facts) -> Option<Attributes> {
    let mut told = Attributes::new();
    let none = String::new();
    for key in old.keys().chain(new.keys()) {
        let (was, is) = (old.get(key).unwrap_or(&none), new.get(key).unwrap_or(&none));
        if was != is {
            told.insert(format!("{key}.old"), was.clone());
            told.insert(format!("{key}.new"), is.clone());
        }
    }
    if told.is_empty() {
        return None;
    }
    let named = ["name", "node", "network"].into_iter();
    told.extend(named.filter_map(|key| Some((key.to_owned(), new.get(key)?.clone()))));
    Some(told)
}

fn facts<const N: usize>(all: [(&str, String); N]) -> Facts {
    all.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

fn labels(labels: &StringMap) -> impl Iterator<Item = (String, String)> {
    labels.iter().map(|(key, value)| (format!("label.{key}"), value.clone()))
}

fn joined(all: impl Iterator<Item = impl ToString>) -> String {
    all.map(|one| one.to_string()).collect::<Vec<_>>().join(",")
}

fn addresses(addrs: DualStack) -> String {
    joined(addrs.iter())
}

pub(super) fn node(n: &Node) -> Facts {
    let mut all = facts([
        ("name", n.name.clone()),
        ("role", n.role.to_string()),
        ("availability", n.availability.to_string()),
        ("address", n.addr.to_string()),
        ("data_path", n.data_path.to_string()),
        ("version", n.version.clone()),
    ]);
    all.extend(labels(&n.labels));
    all
}

pub(super) fn network(n: &Network) -> Facts {
    let mut all = facts([
        ("name", n.spec.name.to_string()),
        ("driver", n.spec.driver.to_string()),
        ("subnets", joined(n.subnets.iter().map(|s| s.subnet))),
    ]);
    all.extend(labels(&n.spec.labels));
    all
}

pub(super) fn service(s: &Service, names: &Names<'_>) -> Facts {
    let mut all = facts([
        ("name", s.name.to_string()),
        ("endpoint_mode", s.endpoint_mode.to_string()),
        ("algorithm", s.algorithm.to_string()),
        ("networks", joined(s.vips.keys().map(|id| names.network(*id)))),
        ("ports", joined(s.publications.iter())),
        ("backends", joined(s.externals.iter().map(|e| &e.name))),
    ]);
    all.extend(labels(&s.labels));
    all
}

pub(super) fn endpoint(e: &Endpoint, names: &Names<'_>) -> Facts {
    facts([
        ("name", e.name.to_string()),
        ("node", names.node(e.node)),
        ("network", names.network(e.network)),
        ("service", e.service.map(|id| names.service(id)).unwrap_or_default()),
        ("addresses", addresses(e.addrs)),
        ("aliases", joined(e.aliases.iter())),
        ("condition", e.condition.to_string()),
    ])
}

pub(super) fn token(t: &FurtherToken) -> Facts {
    let or_none = |n: Option<u64>| n.map_or_else(String::new, |n| n.to_string());
    facts([
        ("role", t.role.to_string()),
        ("uses", t.uses.to_string()),
        ("uses_max", or_none(t.uses_max.map(Into::into))),
        ("expires_ms", or_none(t.expires_ms)),
        ("revoked_ms", or_none(t.revoked_ms)),
    ])
}

/// Another certificate than the one it had; the first one comes with the node.
pub(super) fn renewed(
    id: NodeId,
    old: Option<&NodeRecord>,
    new: Option<&NodeRecord>,
    names: &Names<'_>,
) -> Option<Happened> {
    let (old, new) = (old?, new?);
    if old.tls.until_ms == new.tls.until_ms {
        return None;
    }
    let issuer = new.tls.issuer.map_or_else(String::new, |ca| hex(&ca));
    let attributes = facts([
        ("name", names.node(id)),
        ("issuer", issuer),
        ("until_ms", new.tls.until_ms.to_string()),
    ]);
    Some((Subject::Certificate, Action::Renew, id.to_string(), attributes))
}

/// The cluster's own facts, its standing tokens and its CA.
pub(super) fn of_cluster(old: Option<&Cluster>, new: Option<&Cluster>) -> Vec<Happened> {
    let Some(new) = new else { return Vec::new() };
    let id = new.id.to_string();
    let Some(old) = old else {
        return vec![(Subject::Cluster, Action::Create, id, cluster(new))];
    };
    let mut events = Vec::new();
    if let Some(changed) = differences(&cluster(old), &cluster(new)) {
        events.push((Subject::Cluster, Action::Update, id, changed));
    }
    for (role, was, is) in [
        ("worker", &old.tokens.worker, &new.tokens.worker),
        ("manager", &old.tokens.manager, &new.tokens.manager),
    ] {
        if was != is {
            let attributes = facts([("role", role.to_owned())]);
            events.push((Subject::Token, Action::Rotate, role.to_owned(), attributes));
        }
    }
    events.extend(ca(old, new));
    events
}

fn cluster(c: &Cluster) -> Facts {
    facts([
        ("cert_expiry_ms", c.cert_expiry_ms.to_string()),
        ("pools", joined(c.pools.iter())),
        ("autolock", c.lock.key.is_some().to_string()),
        ("lock_version", c.lock.version.to_string()),
        ("gossip_key", c.gossip_keys.last().map_or_else(String::new, |key| key.id.to_string())),
        ("generation", c.generation.to_string()),
    ])
}

fn ca(old: &Cluster, new: &Cluster) -> Option<Happened> {
    let to = |c: &Cluster| c.rotation.as_ref().map(|r| r.to.fingerprint);
    let present = new.ca.fingerprint;
    let (action, subject) = match (to(old), to(new)) {
        (was, Some(is)) if was != Some(is) => (Action::Rotate, is),
        (Some(was), None) if was == present => (Action::Complete, was),
        (Some(_), None) => (Action::Abandon, present),
        _ => return None,
    };
    let attributes = facts([("present", hex(&present))]);
    Some((Subject::Ca, action, hex(&subject), attributes))
}

fn hex(bytes: &[u8]) -> String {
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits.filter_map(|digit| char::from_digit(digit.into(), 16)).collect()
}
