//! Connections to backends that are gone, from the wish that dropped them until they are deleted.
//!
//! No observation shows them, so a deletion that failed, or that a round which looked at the kernel could not plan, would never be
//! planned again: it is owed here until it succeeds or the address is in use once more. In memory only: after a restart of the
//! daemon there is no earlier wish to compare with.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use swarmnet_dataplane::{Desired, Ns, Op, dead_flows, is_dead_flow};

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Flows {
    owed: BTreeSet<(Ns, IpAddr)>,
    /// Up to this wish everything is in `owed` or done.
    last: Option<Arc<Desired>>,
}

impl Flows {
    /// Adds what the step to `wish` leaves behind, and forgets what is in use again. Returns what is to be deleted.
    pub(super) fn turn_to(&mut self, wish: &Arc<Desired>) -> Vec<(Ns, IpAddr)> {
        if let Some(last) = self.last.replace(Arc::clone(wish))
            && !Arc::ptr_eq(&last, wish)
        {
            self.owed.extend(dead_flows(&last, wish));
        }
        self.owed.retain(|(ns, addr)| is_dead_flow(wish, *ns, *addr));
        self.owed.iter().copied().collect()
    }

    pub(super) fn done(&mut self, (ns, addr): (Ns, IpAddr)) {
        self.owed.remove(&(ns, addr));
    }
}

/// The operation for one of them.
pub(super) const fn deletion((ns, reply_src): (Ns, IpAddr)) -> Op {
    Op::KillFlows { ns, reply_src }
}
