//! When to look, and where: what was seen becomes one look for many changes. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use swarmnet_dataplane::{LinkName, Ns};
use swarmnet_kernel::Sight;
use tokio::time::Instant;

/// Between the first sight of a change and the look: changes come in bursts. Changed rules are looked at at once: a filter may be gone.
const SETTLE: Duration = Duration::from_millis(50);
/// Between two looks at one [`Area`], whatever others do meanwhile; with the settling well below the second in which drift must be healed.
pub(super) const GAP: Duration = Duration::from_millis(300);

/// Where to look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Look {
    At(BTreeSet<Ns>),
    Everywhere,
}

/// What has an interval of its own: a workload that changes its rules without end delays sandboxes, but not the node's filters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Area {
    Node,
    Overlay,
    Sandboxes,
    /// Notices were lost.
    Everything,
}

impl Area {
    const fn of(ns: Ns) -> Self {
        match ns {
            Ns::Node => Self::Node,
            Ns::Overlay => Self::Overlay,
            Ns::Sandbox(_) => Self::Sandboxes,
        }
    }
}

/// What was seen since the last look.
#[derive(Debug, Default)]
pub(super) struct Suspicion {
    namespaces: BTreeSet<Ns>,
    /// Links that are not as they should be; a moment later they may be.
    links: BTreeSet<(Ns, LinkName)>,
    due: BTreeMap<Area, Instant>,
    last: BTreeMap<Area, Instant>,
}

impl Suspicion {
    pub(super) fn note(&mut self, sight: Sight, now: Instant) {
        let (area, settled) = match sight {
            Sight::Rules { ns, .. } => {
                self.namespaces.insert(ns);
                (Area::of(ns), now)
            }
            Sight::Object { ns } => {
                self.namespaces.insert(ns);
                (Area::of(ns), now + SETTLE)
            }
            Sight::Link { ns, name, right: false } => {
                self.links.insert((ns, name));
                (Area::of(ns), now + SETTLE)
            }
            Sight::Link { ns, name, right: true } => {
                self.links.remove(&(ns, name));
                return;
            }
            Sight::Lost => (Area::Everything, now + SETTLE),
            Sight::Underlay => return,
        };
        let due = self.last.get(&area).map_or(settled, |last| settled.max(*last + GAP));
        let before = self.due.entry(area).or_insert(due);
        *before = due.min(*before);
    }

    /// When [`Self::take`] is to be called.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due.values().min().copied()
    }

    /// Where it is time to look; `None` when everything seen there has become right again.
    pub(super) fn take(&mut self, now: Instant) -> Option<Look> {
        let is_due: BTreeSet<Area> =
            self.due.extract_if(.., |_, at| *at <= now).map(|(area, _)| area).collect();
        let of_due = |ns: Ns| is_due.contains(&Area::of(ns));
        let mut found: BTreeSet<Ns> = self.namespaces.extract_if(.., |ns| of_due(*ns)).collect();
        found.extend(self.links.extract_if(.., |(ns, _)| of_due(*ns)).map(|(ns, _)| ns));
        self.last.extend(found.iter().map(|ns| (Area::of(*ns), now)));
        if is_due.contains(&Area::Everything) {
            self.last.insert(Area::Everything, now);
            return Some(Look::Everywhere);
        }
        (!found.is_empty()).then_some(Look::At(found))
    }
}

#[cfg(test)]
mod tests {
    use swarmnet_types::SandboxId;

    use super::*;

    const BOX: Ns = Ns::Sandbox(SandboxId::from_bytes([7; 16]));

    fn rules(ns: Ns) -> Sight {
        Sight::Rules { ns, program: "nft".to_owned() }
    }

    fn link(right: bool) -> Sight {
        let name = LinkName::new("eth0").expect("a name");
        Sight::Link { ns: BOX, name, right }
    }

    fn at<const N: usize>(namespaces: [Ns; N]) -> Look {
        Look::At(namespaces.into())
    }

    #[test]
    fn changed_rules_are_looked_at_at_once_and_other_things_a_moment_later() {
        let now = Instant::now();
        let mut seen = Suspicion::default();
        assert_eq!((seen.due(), seen.take(now)), (None, None));
        seen.note(Sight::Object { ns: Ns::Overlay }, now);
        assert_eq!(seen.due(), Some(now + SETTLE));
        seen.note(rules(BOX), now);
        assert_eq!(seen.due(), Some(now));
        assert_eq!(seen.take(now), Some(at([BOX])), "nothing else is looked at");
        assert_eq!((seen.due(), seen.take(now)), (Some(now + SETTLE), None), "once");
        assert_eq!(seen.take(now + SETTLE), Some(at([Ns::Overlay])));
        assert_eq!(seen.due(), None);
    }

    #[test]
    fn a_program_that_changes_rules_without_end_gets_a_look_at_intervals() {
        let begun = Instant::now();
        let mut seen = Suspicion::default();
        seen.note(rules(Ns::Node), begun);
        assert_eq!(seen.take(begun), Some(at([Ns::Node])));
        for after in 1..10 {
            seen.note(rules(Ns::Node), begun + Duration::from_millis(after));
            assert_eq!(seen.due(), Some(begun + GAP));
        }
        // Not at the cost of others.
        seen.note(rules(BOX), begun);
        assert_eq!(seen.take(begun), Some(at([BOX])));
        let later = begun + 3 * GAP;
        seen.take(begun + GAP);
        seen.note(rules(Ns::Node), later);
        assert_eq!(seen.due(), Some(later));
    }

    #[test]
    fn a_link_that_becomes_right_by_itself_is_not_looked_at() {
        let now = Instant::now();
        let mut seen = Suspicion::default();
        seen.note(link(false), now);
        seen.note(link(true), now);
        assert_eq!(seen.take(now + SETTLE), None);
        seen.note(link(true), now);
        seen.note(link(false), now);
        assert_eq!(seen.take(now + SETTLE), Some(at([BOX])));
    }

    #[test]
    fn after_a_loss_everything_is_looked_at() {
        let now = Instant::now();
        let mut seen = Suspicion::default();
        seen.note(rules(BOX), now);
        seen.note(Sight::Lost, now);
        assert_eq!(seen.take(now + SETTLE), Some(Look::Everywhere));
        seen.note(Sight::Underlay, now);
        assert_eq!(
            (seen.due(), seen.take(now)),
            (None, None),
            "others' links are not ours to heal"
        );
    }
}
