//! `swarmnet trace`: the way of a packet from a sandbox of this node to a name, service or address, looked at hop by hop, and where it
//! breaks (O1).
//!
//! [`explain`] is pure: from what is wished, what the kernel was seen to hold, what the resolver said and what became of one probe, to
//! a list of hops. What "as wished" means is the reconciler's own comparison: a hop is good when the plan from the observation to the
//! wish has nothing to say about its objects. [`Tracer`] gathers all that; nothing here changes anything.
//!
//! Only this node is looked at. Of another one are known: gossip's verdict, and whether its VTEP answers an echo.

mod ask;
mod backend;
mod hop;
mod name;
mod place;
mod probe;
mod run;
mod walk;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use swarmnet_dataplane::{Actual, Ns};
use swarmnet_kernel::underlay::Path;
use swarmnet_types::{Protocol, SandboxId};

pub use self::ask::Said;
pub use self::hop::{Hop, HopKind, Verdict};
pub use self::probe::{Outcome, Probe};
pub use self::run::Tracer;

use self::place::Place;
use self::walk::Walk;
use crate::desired::{Inputs, Wish};
use crate::local::SandboxRecord;

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    pub to: To,
    /// `None`: an echo is sent.
    pub port: Option<u16>,
    pub protocol: Protocol,
    /// Which family; `None`: IPv4 when the name has such an address.
    pub ipv6: Option<bool>,
    /// How long resolver and probe may take, each.
    pub timeout: Duration,
}

/// Where to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum To {
    Name(String),
    Addr(IpAddr),
}

/// All that is known when the hops are explained.
#[derive(Debug, Clone)]
pub struct Evidence {
    /// The sandbox that packets come from.
    pub record: Arc<SandboxRecord>,
    pub inputs: Inputs,
    pub wish: Arc<Wish>,
    pub actual: Actual,
    /// What the reconciler says is wrong.
    pub complaints: Vec<String>,
    /// What the sandbox's resolver said, by family (true is IPv6).
    pub answers: BTreeMap<bool, Said>,
    /// The kernel's routing decisions; `None`: there is no route. What is absent was not asked.
    pub routes: BTreeMap<(Ns, IpAddr), Option<Path>>,
    pub probe: Option<Probe>,
}

/// The way, hop by hop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trace {
    /// The name that was asked for led here, or it was given.
    pub addr: Option<IpAddr>,
    /// Who took the probe, by connection tracking.
    pub chosen: Option<String>,
    pub hops: Vec<Hop>,
}

impl Trace {
    /// Where it breaks.
    pub fn broken(&self) -> Option<&Hop> {
        self.hops.iter().find(|hop| hop.verdict != Verdict::Good)
    }
}

/// What the gathering must know of the answer before it is whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Outlook {
    pub(crate) addr: IpAddr,
    /// A probe may have an answer.
    pub(crate) probe: bool,
    /// The node's table balances, not the sandbox's.
    pub(crate) by_node: bool,
    /// Sandboxes of this node that may be met.
    pub(crate) sandboxes: Vec<SandboxId>,
    /// VTEPs of those who may be met on other nodes: of whoever took the probe, when that is known.
    pub(crate) vteps: BTreeSet<IpAddr>,
}

/// Where the question leads, as far as the resolver's answers tell.
pub(crate) fn outlook(question: &Question, evidence: &Evidence) -> Option<Outlook> {
    let addr = name::address(question, evidence)?;
    let scene = evidence.scene();
    let place = Place::of(&scene, evidence, (addr, question));
    let met = walk::met(evidence, &scene, &place);
    Some(Outlook {
        addr,
        probe: place.may_be_reached(),
        by_node: matches!(place, Place::Port(_)),
        sandboxes: met.iter().map(|e| e.sandbox).collect(),
        vteps: met.iter().filter_map(|e| walk::vtep(&scene, e)).collect(),
    })
}

/// The hops. Ends at the first that leaves nothing to follow: a name without an address, an address that is nobody's.
pub fn explain(question: &Question, evidence: &Evidence) -> Trace {
    let scene = evidence.scene();
    let mut walk = Walk::new(question, evidence, &scene);
    let addr = name::address(question, evidence);
    if let To::Name(name) = &question.to {
        walk.push(name::hop(question, &scene, evidence, name));
    }
    if let Some(addr) = addr {
        let place = Place::of(&scene, evidence, (addr, question));
        walk.follow(&place, addr);
    }
    Trace { addr, chosen: walk.chosen(), hops: walk.into_hops() }
}

#[cfg(test)]
mod tests;
