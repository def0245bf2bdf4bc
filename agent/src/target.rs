//! The reconciler of this node: one wish for kernel and names, brought about in one order.
//!
//! A change is planned against the wish that was brought about last, which costs what differs; at the start, after an error, when a
//! foreign change is seen and every few minutes the kernel is observed instead, and any drift is healed. When it is known in which
//! namespaces others changed something ([`Suspects`]), these alone are observed.
//!
//! Order of a round: names of sandboxes that go (their sockets keep namespaces alive), kernel, names of sandboxes that are there. A
//! failed operation does not stop the others; it is reported, and the next round observes.
//!
//! Invariants: a wish that is held changes nothing; a status says of a wish only what was done for it.

mod blame;
mod flows;
mod heal;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use swarmnet_dataplane::mtu::vxlan_mtu_bytes;
use swarmnet_dataplane::{Desired, Kernel, Ns, Op, Plan, plan, update};
use swarmnet_kernel::LinuxKernel;
use swarmnet_runtime::{Reason, ReconcileStatus, Reconciler};
use swarmnet_types::SandboxId;
use tokio::sync::watch;

use self::blame::{Blame, Owners};
use self::flows::Flows;
pub use self::heal::Suspects;
use crate::desired::{Stamp, Wish};
use crate::local::LocalError;
use crate::local::error::chain;
use crate::local::files::{self, Format};
use crate::merge::HostSysctls;
use crate::resolver::Names;

/// The first retry is at once: a stale view is the usual reason, and observing cures it.
const RETRY_SECOND: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(10);
const HELD_RETRY: Duration = Duration::from_mins(1);
const SYSCTLS: Format = Format { name: "swarmnet-sysctls", version: 1 };

/// What a round brought about.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Status {
    pub stamp: Stamp,
    /// What failed for one sandbox.
    pub sandboxes: BTreeMap<SandboxId, String>,
    /// What failed for all of them: the kernel cannot be observed, or a table that all depend on (filters above all) is not in
    /// place.
    pub common: Vec<String>,
    /// Other operations that failed.
    pub failed: Vec<String>,
    /// What cannot be had on this node.
    pub problems: Vec<String>,
    /// Objects put right that others had changed, since the start.
    pub repaired: u64,
    /// Of overlay networks for which the user set none; 0 while there is no fabric.
    pub overlay_mtu_bytes: u32,
    retry_after: Option<Duration>,
}

impl Status {
    /// Everything that is wrong, one sentence each.
    pub fn complaints(&self) -> impl Iterator<Item = &String> {
        let of_kernel = self.common.iter().chain(&self.failed).chain(self.sandboxes.values());
        self.problems.iter().chain(of_kernel)
    }

    fn tell_conflicts(&mut self, plan: &Plan) {
        for (ns, name) in &plan.conflicts {
            let text = format!("{ns}: link {name} belongs to another program: rename or remove it");
            match ns {
                Ns::Sandbox(id) => drop(self.sandboxes.entry(*id).or_insert(text)),
                Ns::Node | Ns::Overlay => self.problems.push(text),
            }
        }
    }

    /// All is as a wish outside any cluster says.
    pub fn is_settled_alone(&self) -> bool {
        self.stamp.revision.0 == 0 && self.retry_after.is_none()
    }

    /// Why a sandbox is not as wished, if it is not.
    pub fn of_sandbox(&self, id: SandboxId) -> Option<&String> {
        self.sandboxes.get(&id).or(self.common.first())
    }
}

impl ReconcileStatus for Status {
    fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }
}

/// The host's sysctls as they were before us: in memory for the merge, on the disk for the next daemon.
#[derive(Debug)]
pub struct SysctlMemory {
    file: PathBuf,
    known: watch::Sender<HostSysctls>,
}

impl SysctlMemory {
    /// Reads what an earlier daemon kept.
    ///
    /// # Errors
    /// A damaged or newer file, with its name.
    pub fn open(file: PathBuf) -> Result<Self, LocalError> {
        let known: BTreeMap<String, String> = files::read(&file, SYSCTLS)?.unwrap_or_default();
        Ok(Self { file, known: watch::Sender::new(Arc::new(known)) })
    }

    pub(crate) fn subscribe(&self) -> watch::Receiver<HostSysctls> {
        self.known.subscribe()
    }

    /// The first value seen counts: a later one may be ours.
    fn keep(&self, before: BTreeMap<String, String>) {
        let old = Arc::clone(&self.known.borrow());
        let mut all = before;
        all.extend((*old).clone());
        self.put(all);
    }

    /// Forgets what has been given back: what the operator sets from now on is his.
    fn forget(&self, desired: &Desired) {
        let old = Arc::clone(&self.known.borrow());
        if old.is_empty() {
            return;
        }
        let mut bare = desired.clone();
        bare.options.restore_sysctls.clear();
        let scope = bare.scope(None, |_| false);
        let wanted = scope.namespaces.get(&Ns::Node).map(|node| &node.sysctls);
        // What this wish did not give back yet stays too.
        let given_back = |key: &String| desired.options.restore_sysctls.contains_key(key);
        let still = |key: &String| wanted.is_some_and(|w| w.contains(key)) || !given_back(key);
        let left = old.iter().filter(|(key, _)| still(key));
        self.put(left.map(|(key, value)| (key.clone(), value.clone())).collect());
    }

    fn put(&self, all: BTreeMap<String, String>) {
        if **self.known.borrow() == all {
            return;
        }
        if let Err(err) = files::write(&self.file, SYSCTLS, &all) {
            tracing::warn!(err = %chain(&err), "the host's own sysctls are not on the disk");
        }
        self.known.send_replace(Arc::new(all));
    }
}

/// A kernel that can be told where namespaces are which nobody has observed yet, so that operations in them can be planned
/// without an observation.
pub trait Located: Kernel {
    fn locate(&self, places: Vec<(Ns, PathBuf)>);
}

impl Located for LinuxKernel {
    fn locate(&self, places: Vec<(Ns, PathBuf)>) {
        Self::locate(self, places);
    }
}

/// See the module.
#[derive(Debug)]
pub struct Target<K, N> {
    kernel: K,
    names: N,
    /// What the kernel holds, as far as we know; `None`: look.
    committed: Option<Arc<Desired>>,
    flows: Flows,
    sysctls: Arc<SysctlMemory>,
    suspects: Suspects,
    /// Rounds that failed one after another.
    failures: u32,
    repaired: u64,
}

impl<K: Located, N: Names> Target<K, N> {
    pub fn new(kernel: K, names: N, sysctls: Arc<SysctlMemory>, suspects: Suspects) -> Self {
        Self {
            kernel,
            names,
            committed: None,
            flows: Flows::default(),
            sysctls,
            suspects,
            failures: 0,
            repaired: 0,
        }
    }

    async fn observe(&mut self, wish: &Wish) -> Result<Plan, String> {
        let scope = wish.desired.scope(self.committed.as_deref(), |_| true);
        let actual = self.kernel.observe(&scope).await.map_err(|err| chain(&err))?;
        let plan = plan(&actual, &wish.desired);
        self.sysctls.keep(plan.sysctls_before(&actual));
        Ok(plan)
    }

    /// Whether the operation was done.
    async fn apply(&mut self, op: &Op, owners: &Owners, status: &mut Status) -> bool {
        tracing::debug!(%op, "apply");
        let Err(err) = self.kernel.apply(op).await else { return true };
        let text = format!("{op}: {}", chain(&err));
        if self.failures > 0 {
            tracing::warn!(problem = text, "an operation failed");
        }
        match owners.blame(op) {
            Blame::Sandbox(id) => drop(status.sandboxes.entry(id).or_insert(text)),
            Blame::All => status.common.push(text),
            Blame::Nobody => status.failed.push(text),
        }
        false
    }

    /// Deletes connections to backends that are gone, once nothing leads to these any more. Whether none is left.
    async fn end_flows(&mut self, wish: &Wish, owners: &Owners, status: &mut Status) -> bool {
        let mut whole = true;
        for flow in self.flows.turn_to(&wish.desired) {
            if self.apply(&flows::deletion(flow), owners, status).await {
                self.flows.done(flow);
            } else {
                whole = false;
            }
        }
        whole
    }

    /// The kernel's half of a round. Whether all is as wished.
    async fn bring_kernel(&mut self, wish: &Wish, reason: Reason, status: &mut Status) -> bool {
        let look = reason.wants_full_round() || self.committed.is_none();
        let suspects =
            if look || reason == Reason::Noticed { self.suspects.take() } else { BTreeSet::new() };
        let planned = match &self.committed {
            Some(old) if !look => {
                let sandboxes = wish.desired.sandboxes.iter();
                let places = sandboxes.map(|(id, s)| (Ns::Sandbox(*id), s.netns.path.clone()));
                self.kernel.locate(places.collect());
                Ok(update(old, &wish.desired))
            }
            _ => self.observe(wish).await,
        };
        let plan = match planned {
            Ok(plan) => plan,
            Err(problem) => {
                status.common.push(problem);
                return false;
            }
        };
        if look && self.committed.as_ref().is_some_and(|c| **c == *wish.desired) {
            self.repaired += plan.ops.len() as u64;
        }
        status.tell_conflicts(&plan);
        let owners = Owners::of(&wish.desired, self.committed.as_deref());
        let mut whole = true;
        for op in &plan.ops {
            whole &= self.apply(op, &owners, status).await;
        }
        if look && whole {
            self.sysctls.forget(&wish.desired);
        }
        self.committed = (whole && !plan.wants_round).then(|| Arc::clone(&wish.desired));
        if plan.wants_round {
            status.retry_after = Some(Duration::ZERO);
        }
        if self.committed.is_some() && !suspects.is_empty() {
            whole = self.heal(wish, suspects, &owners, status).await;
        }
        self.end_flows(wish, &owners, status).await && whole
    }
}

impl<K: Located + 'static, N: Names> Reconciler for Target<K, N> {
    type Desired = Arc<Wish>;
    type Status = Status;

    async fn reconcile(&mut self, wish: &Arc<Wish>, reason: Reason) -> Status {
        if wish.held {
            let waiting = "no view of the cluster is known yet: nothing is changed before";
            return Status {
                common: vec![waiting.to_owned()],
                repaired: self.repaired,
                retry_after: Some(HELD_RETRY),
                ..Status::default()
            };
        }
        let fabric = wish.desired.fabric.as_ref();
        let overlay_mtu_bytes = fabric.map_or(0, |f| vxlan_mtu_bytes(f.underlay_mtu_bytes, f.vtep));
        let problems = wish.problems.to_vec();
        let mut status =
            Status { stamp: wish.stamp, problems, overlay_mtu_bytes, ..Status::default() };
        self.names.remove_surplus(&wish.names);
        let mut whole = self.bring_kernel(wish, reason, &mut status).await;
        for (id, problem) in self.names.bring(&wish.names) {
            whole = false;
            status.sandboxes.entry(id).or_insert(problem);
        }
        if whole {
            self.failures = 0;
        } else {
            let doubled = RETRY_SECOND.saturating_mul(1 << self.failures.saturating_sub(1).min(10));
            let delay = if self.failures == 0 { Duration::ZERO } else { doubled.min(RETRY_MAX) };
            self.failures = self.failures.saturating_add(1);
            status.retry_after = Some(delay);
        }
        status.repaired = self.repaired;
        status
    }
}

#[cfg(test)]
mod tests;
