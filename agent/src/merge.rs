//! The worker that turns every change of an input into a new wish.
//!
//! Inputs: the `watch`es of view, liveness, local objects, underlay, the host's own sysctls and settings. Output: the `watch` of the wish.
//! While a wanted port is held by another program it also looks again every few seconds (S12).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use swarmnet_gossip::Liveness;
use swarmnet_kernel::Netns;
use swarmnet_types::NodeView;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use crate::desired::{Inputs, Merger, Wish};
use crate::local::LocalObjects;
use crate::ports::Listeners;
use crate::underlay::Underlay;

/// Between two looks at a port that another program holds.
const PORTS_EVERY: Duration = Duration::from_secs(5);

/// Sysctls as they were before this node changed them.
pub(crate) type HostSysctls = Arc<BTreeMap<String, String>>;

/// Whom the merge listens to.
#[derive(Debug)]
pub(crate) struct Sources {
    pub(crate) view: watch::Receiver<Option<Arc<NodeView>>>,
    pub(crate) liveness: watch::Receiver<Arc<Liveness>>,
    pub(crate) local: watch::Receiver<Arc<LocalObjects>>,
    pub(crate) underlay: watch::Receiver<Arc<Underlay>>,
    pub(crate) sysctls: watch::Receiver<HostSysctls>,
    /// Accept rules in other programs' forward chains that drop.
    pub(crate) forward_accept: watch::Receiver<bool>,
    /// The node is in a cluster whose view it does not have yet.
    pub(crate) held: watch::Receiver<bool>,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Merge {
    merger: Merger,
    witness: Listeners,
    sources: Sources,
    inputs: Inputs,
}

impl Merge {
    /// `inputs` are filled in from the sources.
    pub(crate) fn new(inputs: Inputs, sources: Sources, netns: Netns) -> Self {
        Self { merger: Merger::new(), witness: Listeners::new(netns), sources, inputs }
    }

    /// The wish for what the sources hold now.
    pub(crate) fn wish(&mut self) -> Wish {
        let Self { sources, inputs, .. } = self;
        inputs.view.clone_from(&sources.view.borrow_and_update());
        inputs.liveness = Arc::clone(&sources.liveness.borrow_and_update());
        inputs.local = Arc::clone(&sources.local.borrow_and_update());
        inputs.underlay = Arc::clone(&sources.underlay.borrow_and_update());
        inputs.options.restore_sysctls = (**sources.sysctls.borrow_and_update()).clone();
        inputs.options.forward_accept = *sources.forward_accept.borrow_and_update();
        inputs.held = *sources.held.borrow_and_update() && inputs.view.is_none();
        let wish = self.merger.merge(&self.inputs, &mut self.witness);
        // The next delta changes the view in place when nobody else holds it.
        self.inputs.view = None;
        wish
    }

    /// Runs until a source is gone.
    pub(crate) async fn run(mut self, wishes: watch::Sender<Arc<Wish>>) {
        loop {
            let look_at = Instant::now() + PORTS_EVERY;
            let sources = &mut self.sources;
            // cancel-safe: watches lose nothing, and the deadline is made anew each time.
            let open = tokio::select! {
                open = sources.view.changed() => open,
                open = sources.liveness.changed() => open,
                open = sources.local.changed() => open,
                open = sources.underlay.changed() => open,
                open = sources.sysctls.changed() => open,
                open = sources.forward_accept.changed() => open,
                open = sources.held.changed() => open,
                () = sleep_until(look_at), if self.witness.is_waiting() => Ok(()),
            };
            if open.is_err() {
                return;
            }
            wishes.send_replace(Arc::new(self.wish()));
        }
    }
}
