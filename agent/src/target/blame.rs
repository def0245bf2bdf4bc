//! Whom a failed operation concerns: one sandbox, all of them, or none.

use std::collections::BTreeMap;

use swarmnet_dataplane::{Desired, LinkName, Ns, Op, names};
use swarmnet_types::SandboxId;

/// Who must not be called complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Blame {
    Sandbox(SandboxId),
    All,
    Nobody,
}

/// Link outside the sandboxes → the sandbox it belongs to.
#[derive(Debug)]
pub(super) struct Owners(BTreeMap<LinkName, SandboxId>);

impl Owners {
    /// Of what is wished and of what was there before.
    pub(super) fn of(wish: &Desired, before: Option<&Desired>) -> Self {
        let sandboxes = before.into_iter().chain([wish]).flat_map(|d| &d.sandboxes);
        Self(
            sandboxes
                .flat_map(|(id, sandbox)| {
                    let ends = sandbox.endpoints.keys().map(|e| names::endpoint_link(*e));
                    ends.chain([names::node_link(*id)]).map(|link| (link, *id))
                })
                .collect(),
        )
    }

    pub(super) fn blame(&self, op: &Op) -> Blame {
        let ends = match op {
            Op::AddVeth { ns, peer_ns, .. } => [*ns, *peer_ns],
            _ => [op.ns(), op.ns()],
        };
        if let Some(id) = ends.iter().find_map(sandbox) {
            return Blame::Sandbox(id);
        }
        let of_sysctl = match op {
            // net/ipv4/conf/<link>/<name>
            Op::SetSysctl { key, .. } => key.split('/').nth(3).and_then(LinkName::new),
            _ => None,
        };
        if let Some(id) = link(op).or(of_sysctl.as_ref()).and_then(|name| self.0.get(name)) {
            return Blame::Sandbox(*id);
        }
        match op {
            Op::Nft { .. } | Op::AddNetns { .. } => Blame::All,
            _ => Blame::Nobody,
        }
    }
}

const fn sandbox(ns: &Ns) -> Option<SandboxId> {
    match ns {
        Ns::Sandbox(id) => Some(*id),
        Ns::Node | Ns::Overlay => None,
    }
}

fn link(op: &Op) -> Option<&LinkName> {
    use swarmnet_dataplane::RouteTo::{Link, Local, Via};
    match op {
        Op::AddLink { name, .. }
        | Op::AddVeth { name, .. }
        | Op::DelLink { name, .. }
        | Op::SetLink { name, .. } => Some(name),
        Op::AddAddr { link, .. }
        | Op::DelAddr { link, .. }
        | Op::PutNeighbour { link, .. }
        | Op::DelNeighbour { link, .. }
        | Op::PutFdb { link, .. }
        | Op::DelFdb { link, .. }
        | Op::PutRoute { to: Link(link) | Local(link) | Via { link, .. }, .. } => Some(link),
        _ => None,
    }
}
