//! Notice of what others do to the node's network: a flushed table, a removed link, a new address.
//!
//! Inputs: notifications of the kernel in the node's namespace, a clock. Outputs: a full round of the reconciler, and the `watch` of
//! the underlay. Changed rules are looked at at once: a filter may be gone. Links and addresses change in bursts, and many changes
//! are our own: they are answered once, a moment after the first.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use swarmnet_kernel::nft::Monitor;
use swarmnet_kernel::route::{NetChange, NetMonitor};
use swarmnet_kernel::{KernelError, LinuxKernel, Netns};
use swarmnet_runtime::Waker;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use crate::local::error::chain;
use crate::merge::HostSysctls;
use crate::underlay::{self, Underlay};

/// Between a notification, or the look before, and the next look; well below the second in which a flush must be healed.
const SETTLE: Duration = Duration::from_millis(300);
/// The longest time between two looks at the node's own addresses.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// After a subscription failed.
const REOPEN_AFTER: Duration = Duration::from_secs(2);

/// Who is told.
#[derive(Debug)]
pub(crate) struct Watcher {
    pub(crate) netns: Netns,
    pub(crate) kernel: LinuxKernel,
    pub(crate) waker: Waker,
    pub(crate) underlay: watch::Sender<Arc<Underlay>>,
    pub(crate) sysctls: watch::Receiver<HostSysctls>,
}

impl Watcher {
    /// Never ends by itself. A subscription that fails is opened again, and everything is looked at.
    pub(crate) async fn run(self) {
        loop {
            if let Err(err) = self.follow().await {
                tracing::warn!(err = %chain(&err), "changes by other programs are seen late");
            }
            tokio::time::sleep(REOPEN_AFTER).await;
            self.waker.wake();
        }
    }

    async fn follow(&self) -> Result<(), KernelError> {
        let mut tables = Monitor::open(&self.netns, self.kernel.nft_ports())?;
        let mut objects = NetMonitor::open(&self.netns)?;
        let mut look_at = Instant::now() + LOOK_EVERY;
        let mut wake_at: Option<Instant> = None;
        let mut woken = Instant::now();
        loop {
            let due = wake_at.unwrap_or_else(Instant::now);
            // cancel-safe: both monitors keep what was read; the deadlines live outside.
            tokio::select! {
                biased;
                () = sleep_until(due), if wake_at.is_some() => {
                    wake_at = None;
                    woken = Instant::now();
                    self.waker.wake();
                }
                () = sleep_until(look_at) => {
                    look_at = Instant::now() + LOOK_EVERY;
                    self.look();
                }
                changed = tables.next() => {
                    let program = changed?.program.unwrap_or_default();
                    tracing::debug!(program, "another program changed nftables");
                    let at_once = Instant::now().max(woken + SETTLE);
                    wake_at = Some(wake_at.map_or(at_once, |at| at.min(at_once)));
                }
                changed = objects.next() => {
                    if concerns(&changed?) {
                        let soon = Instant::now() + SETTLE;
                        wake_at.get_or_insert(soon);
                        look_at = look_at.min(soon);
                    }
                }
            }
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

/// Neighbours come and go by themselves; ours are permanent and are compared with everything else.
fn concerns(changes: &BTreeSet<NetChange>) -> bool {
    changes.iter().any(|change| *change != NetChange::Neighbour)
}
