//! Which objects the recent revisions touched, and whom that concerns.

use std::collections::{BTreeSet, VecDeque};

use swarmnet_types::{EndpointId, NetworkId, NodeId, Revision, ServiceId};

/// How many changing revisions are remembered; a node that is further behind gets a snapshot.
pub(crate) const REVISIONS_MAX: usize = 4096;
/// How many touches in all, for revisions that touch a lot (about 40 bytes each).
pub(crate) const TOUCHES_MAX: usize = 1 << 17;

/// One object that a revision created, changed or removed, with who could see it before or after.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Touch {
    /// For everyone.
    Cluster,
    /// For everyone.
    Node(NodeId),
    /// For nodes on it, or for everyone (the ingress).
    Network { id: NetworkId, everyone: bool },
    /// Published, so for everyone.
    Service(ServiceId),
    /// For nodes on the network.
    ServiceOn { id: ServiceId, network: NetworkId },
    /// On the ingress, of a published service: for everyone.
    Endpoint(EndpointId),
    /// For nodes on the network.
    EndpointOn { id: EndpointId, network: NetworkId },
    /// On the ingress, of no published service: for its own node.
    OwnEndpoint { id: EndpointId, node: NodeId },
    /// The node got its first endpoint on the network or lost its last: all of the network is new to it, or gone.
    Presence { node: NodeId, network: NetworkId },
}

/// Touches by revision, ascending, without revisions that touched nothing.
#[derive(Debug, Clone, Default)]
pub(crate) struct ChangeLog {
    /// All that was touched after this revision is here.
    floor: Revision,
    entries: VecDeque<(Revision, BTreeSet<Touch>)>,
    touches: usize,
}

impl ChangeLog {
    pub(crate) fn starting_at(floor: Revision) -> Self {
        Self { floor, ..Self::default() }
    }

    /// Several proposals may share a revision.
    pub(crate) fn push(&mut self, revision: Revision, mut touched: BTreeSet<Touch>) {
        if touched.is_empty() {
            return;
        }
        if self.entries.back().is_some_and(|(last, _)| *last == revision)
            && let Some((_, last)) = self.entries.pop_back()
        {
            self.touches -= last.len();
            touched.extend(last);
        }
        self.touches += touched.len();
        self.entries.push_back((revision, touched));
        while (self.entries.len() > REVISIONS_MAX || self.touches > TOUCHES_MAX)
            && let Some((revision, touched)) = self.entries.pop_front()
        {
            self.touches -= touched.len();
            self.floor = revision;
        }
    }

    /// Everything touched after `since`; `None` when that is no longer known.
    pub(crate) fn after(&self, since: Revision) -> Option<impl Iterator<Item = &Touch> + Clone> {
        if since < self.floor {
            return None;
        }
        let from = self.entries.partition_point(|(revision, _)| *revision <= since);
        Some(self.entries.range(from..).flat_map(|(_, touched)| touched))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(n: u8) -> BTreeSet<Touch> {
        BTreeSet::from([Touch::Node(NodeId::from_bytes([n; 16]))])
    }

    #[test]
    fn what_is_forgotten_is_said() {
        let mut log = ChangeLog::starting_at(Revision(10));
        assert!(log.after(Revision(9)).is_none());
        assert_eq!(log.after(Revision(10)).map(Iterator::count), Some(0));
        for n in 11..=11 + REVISIONS_MAX as u64 {
            log.push(Revision(n), node(1));
        }
        assert!(log.after(Revision(10)).is_none());
        assert_eq!(log.after(Revision(11)).map(Iterator::count), Some(REVISIONS_MAX));
    }

    #[test]
    fn proposals_of_one_revision_are_one_entry() {
        let mut log = ChangeLog::default();
        log.push(Revision(1), node(1));
        log.push(Revision(1), node(2));
        log.push(Revision(2), BTreeSet::new());
        assert_eq!((log.entries.len(), log.touches), (1, 2));
        assert_eq!(log.after(Revision(1)).map(Iterator::count), Some(0));
    }
}
