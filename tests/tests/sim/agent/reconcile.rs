//! The real merge and reconciler on the model kernel, and what must hold after each round.

use std::path::PathBuf;
use std::sync::Arc;

use swarmnet_agent::desired::Inputs;
use swarmnet_agent::local::SandboxRecord;
use swarmnet_dataplane::desired::Options;
use swarmnet_types::NodeView;

use crate::Ms;
use crate::context::Context;
use crate::invariants::{names, plane as kernel};

use super::{Agent, Store};

impl Agent {
    pub(super) fn bring_soon(&mut self, context: &mut Context<'_>) {
        let at = context.now + context.rng.between(1, 60);
        self.bring_at = Some(self.bring_at.map_or(at, |before| before.min(at)));
    }

    fn inputs(&self) -> Inputs {
        Inputs {
            view: self.view.clone(),
            liveness: Arc::clone(&self.liveness),
            local: self.objects(),
            underlay: Arc::default(),
            overlay_netns: PathBuf::from("/run/swarmnet/dp"),
            options: Options::default(),
            held: self.view.is_none(),
        }
    }

    pub(super) fn bring(&mut self, context: &mut Context<'_>) {
        self.bring_at = None;
        let fault = context.rng.chance(30).then(|| context.rng.index(20));
        self.plane.fail(fault);
        let inputs = self.inputs();
        let before = inputs.held.then(|| self.plane.seen());
        let (wish, status) = self.plane.bring(&inputs);
        let again = swarmnet_runtime::ReconcileStatus::retry_after(&status);
        self.complaints = status.complaints().cloned().collect();
        if let Some(before) = before {
            let verdict = kernel::untouched(self.me, &before, &self.plane.seen());
            context.truth.hold(kernel::NAME, verdict);
            return;
        }
        let verdict = kernel::follows(self.me, &inputs, &wish);
        context.truth.hold(kernel::NAME, verdict);
        context.truth.hold(names::NAME, names::check(self.me, &inputs, &wish));
        if let Some(after) = again {
            let after = Ms::try_from(after.as_millis()).unwrap_or(Ms::MAX);
            self.bring_at = Some(context.now + after.max(1));
            return;
        }
        self.in_kernel = status.stamp.revision;
        if context.rng.chance(100) {
            let verdict = kernel::whole(self.me, &self.plane.undone(&wish));
            context.truth.hold(kernel::NAME, verdict);
        }
    }

    /// What keeps the node from being as it should be when nothing happens any more.
    pub(crate) fn missing(&mut self, known: &NodeView) -> Option<String> {
        let me = self.me;
        let view = self.view.clone()?;
        let mut known = known.clone();
        known.revision = view.revision;
        if *view != known {
            return Some(format!("agent {me} has an old view"));
        }
        if self.bring_at.is_some() || self.in_kernel != view.revision {
            return Some(format!("agent {me} has an old kernel: {:?}", self.complaints));
        }
        if !self.calls.is_idle() || !self.store.releases.is_empty() || !self.leaving.is_empty() {
            return Some(format!("agent {me} is not done"));
        }
        let others = known.nodes.keys().filter(|n| **n != self.node);
        if let Some(node) = others.into_iter().find(|n| !self.holds_for_alive(**n)) {
            return Some(format!("agent {me} does not hold {} for alive", node.short()));
        }
        None
    }

    /// Of a node at rest: the kernel against the wish.
    pub(crate) fn at_rest(&mut self) -> Result<(), String> {
        self.plane.fail(None);
        let (wish, _) = self.plane.bring(&self.inputs());
        kernel::whole(self.me, &self.plane.undone(&wish))
    }

    pub(crate) fn records(&self) -> impl Iterator<Item = (usize, &SandboxRecord)> {
        self.store.sandboxes.values().map(|r| (self.me, r.as_ref()))
    }

    /// The stop of a process.
    pub(crate) fn into_store(self) -> Store {
        self.store
    }
}
