//! Notice of what others do to the network of the node, of the overlays and of the sandboxes: a flushed table, a removed link, a new
//! address.
//!
//! Inputs: notifications of the kernel from all of these namespaces, a clock. Outputs: rounds of the reconciler that look where
//! something was changed, and the `watch` of the underlay. What is our own doing is not reported ([`swarmnet_kernel::Watch`]); when to
//! look, and where, is decided in [`suspicion`].

mod suspicion;

use std::sync::Arc;
use std::time::Duration;

use swarmnet_kernel::{KernelError, LinuxKernel, Netns, Sight, Watch};
use swarmnet_runtime::Waker;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use self::suspicion::{GAP, Look, Suspicion};
use crate::local::error::chain;
use crate::merge::HostSysctls;
use crate::target::Suspects;
use crate::underlay::{self, Underlay};

/// The longest time between two looks at the node's own addresses.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// After a subscription failed.
const REOPEN_AFTER: Duration = Duration::from_secs(2);

/// Who is told.
#[derive(Debug)]
pub(crate) struct Watcher {
    pub(crate) netns: Netns,
    pub(crate) kernel: LinuxKernel,
    pub(crate) suspects: Suspects,
    pub(crate) waker: Waker,
    pub(crate) underlay: watch::Sender<Arc<Underlay>>,
    pub(crate) sysctls: watch::Receiver<HostSysctls>,
}

impl Watcher {
    /// Never ends by itself. `subscription` is older than the first round, so that nothing is missed; one that fails is opened again,
    /// and everything is looked at.
    pub(crate) async fn run(self, subscription: Watch) {
        let mut opened = Ok(subscription);
        loop {
            if let Err(err) = self.follow(opened).await {
                tracing::warn!(err = %chain(&err), "changes by other programs are seen late");
            }
            tokio::time::sleep(REOPEN_AFTER).await;
            opened = self.kernel.watch();
            self.waker.wake();
        }
    }

    async fn follow(&self, opened: Result<Watch, KernelError>) -> Result<(), KernelError> {
        let mut others = opened?;
        let mut look_at = Instant::now() + LOOK_EVERY;
        let mut suspicion = Suspicion::default();
        loop {
            let due = suspicion.due();
            // cancel-safe: the subscription keeps what was not returned; the deadlines live outside.
            tokio::select! {
                biased;
                () = sleep_until(due.unwrap_or(look_at)), if due.is_some() => {
                    self.ask(suspicion.take(Instant::now()));
                }
                () = sleep_until(look_at) => {
                    look_at = Instant::now() + LOOK_EVERY;
                    self.look();
                }
                sights = others.next() => {
                    let now = Instant::now();
                    for sight in sights? {
                        tracing::debug!(?sight, "another program's doing");
                        if matches!(sight, Sight::Underlay | Sight::Lost) {
                            look_at = look_at.min(now + GAP);
                        }
                        suspicion.note(sight, now);
                    }
                }
            }
        }
    }

    fn ask(&self, look: Option<Look>) {
        match look {
            Some(Look::At(namespaces)) => {
                self.suspects.add(namespaces);
                self.waker.notice();
            }
            Some(Look::Everywhere) => self.waker.wake(),
            None => {}
        }
    }

    /// About a millisecond of netlink, every ten seconds.
    fn look(&self) {
        let before = Arc::clone(&self.sysctls.borrow());
        match underlay::discover(&self.netns, &before) {
            Ok(seen) => {
                self.underlay.send_if_modified(|now| {
                    let changed = **now != seen;
                    if changed {
                        *now = Arc::new(seen);
                    }
                    changed
                });
            }
            Err(err) => tracing::warn!(err = %chain(&err), "the node's addresses are not known"),
        }
    }
}
