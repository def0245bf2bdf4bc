//! The reconciler of this node: one wish for kernel and names, brought about in one order.
//!
//! A change is planned against the wish that was brought about last, which costs what differs; at the start, after an error, when a
//! foreign change is seen and every few minutes the kernel is observed instead, and any drift is healed.
//!
//! Order of a round: names of sandboxes that go (their sockets keep namespaces alive), kernel, names of sandboxes that are there. A
//! failed operation does not stop the others; it is reported, and the next round observes.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use swarmnet_dataplane::{Desired, Kernel, Ns, Plan, plan, update};
use swarmnet_kernel::LinuxKernel;
use swarmnet_runtime::{Reason, ReconcileStatus, Reconciler};
use swarmnet_types::SandboxId;

use crate::desired::{Stamp, Wish};
use crate::local::error::chain;
use crate::local::files::{self, Format};
use crate::resolver::Resolver;

const RETRY_FIRST: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(10);
const SYSCTLS: Format = Format { name: "swarmnet-sysctls", version: 1 };

/// What a round brought about.
#[derive(Debug, Clone, Default)]
pub struct Status {
    pub stamp: Stamp,
    /// What failed for one sandbox.
    pub sandboxes: BTreeMap<SandboxId, String>,
    /// Operations that failed and belong to no one sandbox.
    pub failed: Vec<String>,
    /// What cannot be had on this node.
    pub problems: Vec<String>,
    /// Objects put right that others had changed, since the start.
    pub repaired: u64,
    retry_after: Option<Duration>,
}

impl ReconcileStatus for Status {
    fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }
}

/// See the module.
#[derive(Debug)]
pub struct Target {
    kernel: LinuxKernel,
    resolver: Resolver,
    /// What the kernel holds, as far as we know; `None`: look.
    committed: Option<Arc<Desired>>,
    /// Values of the host's sysctls before we changed them, on the disk at `sysctls_file`.
    sysctls: BTreeMap<String, String>,
    sysctls_file: PathBuf,
    failures: u32,
    repaired: u64,
    /// The node is in a cluster whose view it does not have yet: nothing may be removed on account of that.
    hold: bool,
}

impl Target {
    /// With `hold` nothing is done before the first wish that follows from a view.
    pub fn new(kernel: LinuxKernel, resolver: Resolver, sysctls_file: PathBuf, hold: bool) -> Self {
        let sysctls = files::read(&sysctls_file, SYSCTLS).ok().flatten().unwrap_or_default();
        Self { kernel, resolver, committed: None, sysctls, sysctls_file, failures: 0, repaired: 0, hold }
    }

    async fn observe(&mut self, wish: &Wish) -> Result<Plan, String> {
        let scope = wish.desired.scope(self.committed.as_deref(), |_| true);
        let actual = self.kernel.observe(&scope).await.map_err(|err| chain(&err))?;
        let plan = plan(&actual, &wish.desired);
        self.keep(plan.sysctls_before(&actual));
        Ok(plan)
    }

    /// Remembers what the host had before us, for the day we leave.
    fn keep(&mut self, before: BTreeMap<String, String>) {
        let mut all = before;
        all.extend(self.sysctls.clone());
        if all == self.sysctls {
            return;
        }
        if let Err(err) = files::write(&self.sysctls_file, SYSCTLS, &all) {
            tracing::warn!(err = %chain(&err), "the host's own sysctls are not on the disk");
        }
        self.sysctls = all;
    }

    async fn apply(&self, plan: &Plan, status: &mut Status) -> bool {
        let mut whole = true;
        for op in &plan.ops {
            tracing::debug!(%op, "apply");
            let Err(err) = self.kernel.apply(op).await else { continue };
            whole = false;
            let text = format!("{op}: {}", chain(&err));
            tracing::warn!(problem = text, "an operation failed");
            match op.ns() {
                Ns::Sandbox(id) => drop(status.sandboxes.insert(id, text)),
                Ns::Node | Ns::Overlay => status.failed.push(text),
            }
        }
        whole
    }
}

impl Reconciler for Target {
    type Desired = Arc<Wish>;
    type Status = Status;

    async fn reconcile(&mut self, wish: &Arc<Wish>, reason: Reason) -> Status {
        let mut status =
            Status { stamp: wish.stamp, problems: wish.problems.to_vec(), ..Status::default() };
        self.resolver.remove_surplus(&wish.names);
        let look = reason.wants_full_round() || self.committed.is_none();
        let plan = match (&self.committed, look) {
            (Some(old), false) => Ok(update(old, &wish.desired)),
            _ => self.observe(wish).await,
        };
        let mut whole = false;
        let mut again = false;
        match plan {
            Ok(plan) => {
                if look && self.committed.as_ref() == Some(&wish.desired) {
                    self.repaired += plan.ops.len() as u64;
                }
                status.problems.extend(plan.conflicts.iter().map(|(ns, name)| {
                    format!("{ns}: link {name} belongs to another program: rename or remove it")
                }));
                again = plan.wants_round;
                whole = self.apply(&plan, &mut status).await;
            }
            Err(problem) => status.failed.push(problem),
        }
        for (id, err) in self.resolver.bring(&wish.names) {
            whole = false;
            status.sandboxes.entry(id).or_insert_with(|| chain(&err));
        }
        if whole {
            self.failures = 0;
            self.committed = (!again).then(|| Arc::clone(&wish.desired));
            status.retry_after = again.then_some(Duration::ZERO);
        } else {
            self.committed = None;
            let delay = RETRY_FIRST.saturating_mul(1 << self.failures.min(10)).min(RETRY_MAX);
            self.failures += 1;
            status.retry_after = Some(delay);
        }
        status.repaired = self.repaired;
        if wish.desired.networks.is_empty() {
            // Nothing keeps the overlays' namespace but us.
            self.kernel.release();
        }
        status
    }
}
