//! The order of a plan: each operation goes to its stage, stages follow each other in the order of the fields.

use std::collections::BTreeSet;

use crate::object::{LinkName, Ns};
use crate::op::Op;

use super::Plan;

/// Operations by stage, in order.
#[derive(Debug, Default)]
pub(super) struct Stages {
    /// What is compared with was seen, so that what is absent does not exist.
    pub(super) observed: bool,
    /// Filters and what else is static; elements that go.
    pub(super) filters: Vec<Op>,
    pub(super) del_rules: Vec<Op>,
    pub(super) del_routes: Vec<Op>,
    pub(super) del_nexthops: Vec<Op>,
    pub(super) del_entries: Vec<Op>,
    pub(super) del_addrs: Vec<Op>,
    pub(super) del_links: Vec<Op>,
    pub(super) del_netns: Vec<Op>,
    pub(super) add_netns: Vec<Op>,
    pub(super) add_links: Vec<Op>,
    pub(super) sysctls: Vec<Op>,
    /// `netdev` tables: their devices exist now and are down.
    pub(super) device_filters: Vec<Op>,
    pub(super) set_links: Vec<Op>,
    pub(super) up: Vec<Op>,
    pub(super) add_addrs: Vec<Op>,
    pub(super) put_entries: Vec<Op>,
    pub(super) put_nexthops: Vec<Op>,
    pub(super) put_routes: Vec<Op>,
    pub(super) add_rules: Vec<Op>,
    /// Elements that come; tables of sandboxes.
    pub(super) balance: Vec<Op>,
    pub(super) forward: Vec<Op>,
    /// The node table, after the last VXLAN device is gone.
    pub(super) last: Vec<Op>,
    pub(super) conflicts: BTreeSet<(Ns, LinkName)>,
    pub(super) wants_round: bool,
}

impl Stages {
    pub(super) fn finish(self) -> Plan {
        let mut sysctls = self.sysctls;
        // `accept_ra` = 2 before forwarding = 1: the change to forwarding drops routes learned from routers otherwise.
        sysctls.sort_by_key(|op| match op {
            Op::SetSysctl { key, .. } => !key.ends_with("/accept_ra"),
            _ => true,
        });
        let ops = [
            self.filters,
            self.del_rules,
            self.del_routes,
            self.del_nexthops,
            self.del_entries,
            self.del_addrs,
            self.del_links,
            self.del_netns,
            self.add_netns,
            self.add_links,
            sysctls,
            self.device_filters,
            self.set_links,
            self.up,
            self.add_addrs,
            self.put_entries,
            self.put_nexthops,
            self.put_routes,
            self.add_rules,
            self.balance,
            self.forward,
            self.last,
        ];
        Plan { ops: ops.concat(), conflicts: self.conflicts, wants_round: self.wants_round }
    }
}
