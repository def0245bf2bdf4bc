//! The data plane of one node: the real merge and the real reconciler over the model kernel. The kernel outlives the daemon.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures_util::FutureExt as _;
use swarmnet_agent::desired::names::NamesWish;
use swarmnet_agent::desired::{Inputs, Merger, PortWitness, Wish};
use swarmnet_agent::resolver::Names;
use swarmnet_agent::target::{Located, Status, Suspects, SysctlMemory, Target};
use swarmnet_dataplane::desired::PublicationKey;
use swarmnet_dataplane::model::{ModelError, ModelKernel};
use swarmnet_dataplane::{Actual, Kernel, Netns, Ns, Op, Scope, plan};
use swarmnet_runtime::{Reason, Reconciler as _};
use swarmnet_types::SandboxId;

/// Shares a [`ModelKernel`]: the trait of the agent cannot be given to it here otherwise.
#[derive(Debug, Clone)]
struct Shared(Arc<ModelKernel>);

impl Kernel for Shared {
    type Error = ModelError;

    async fn observe(&self, scope: &Scope) -> Result<Actual, ModelError> {
        self.0.observe(scope).await
    }

    async fn apply(&self, op: &Op) -> Result<(), ModelError> {
        self.0.apply(op).await
    }
}

impl Located for Shared {
    fn locate(&self, _: Vec<(Ns, PathBuf)>) {}
}

/// Resolvers that are never asked.
#[derive(Debug)]
struct NoNames;

impl Names for NoNames {
    fn remove_surplus(&mut self, _: &BTreeMap<SandboxId, NamesWish>) {}

    fn bring(&mut self, _: &BTreeMap<SandboxId, NamesWish>) -> BTreeMap<SandboxId, String> {
        BTreeMap::new()
    }
}

/// Nobody else listens here.
struct Nobody;

impl PortWitness for Nobody {
    fn foreign(&mut self, _: &BTreeSet<PublicationKey>) -> BTreeMap<PublicationKey, String> {
        BTreeMap::new()
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Plane {
    kernel: Arc<ModelKernel>,
    merger: Merger,
    target: Target<Shared, NoNames>,
    reason: Reason,
}

impl Plane {
    /// A daemon's half, on a kernel that may hold what an earlier one made.
    pub(crate) fn start(kernel: Arc<ModelKernel>, dir: &Path) -> Self {
        let sysctls = SysctlMemory::open(dir.join("sysctls.json")).expect("a folder of our own");
        let target = Target::new(
            Shared(Arc::clone(&kernel)),
            NoNames,
            Arc::new(sysctls),
            Suspects::default(),
        );
        Self { kernel, merger: Merger::new(), target, reason: Reason::Start }
    }

    pub(crate) fn bring(&mut self, inputs: &Inputs) -> (Wish, Status) {
        let wish = Arc::new(self.merger.merge(inputs, &mut Nobody));
        let status = self.target.reconcile(&wish, self.reason).now_or_never();
        let status = status.expect("the model kernel never waits");
        let again = swarmnet_runtime::ReconcileStatus::retry_after(&status).is_some();
        self.reason = if again { Reason::Retry } else { Reason::DesiredChanged };
        (Arc::unwrap_or_clone(wish), status)
    }

    /// What is to be done still.
    pub(crate) fn undone(&self, wish: &Wish) -> Vec<String> {
        let scope = wish.desired.scope(None, |_| true);
        let actual =
            self.kernel.observe(&scope).now_or_never().expect("the model kernel never waits");
        let plan = plan(&actual.expect("the model kernel can be looked at"), &wish.desired);
        plan.ops.iter().map(ToString::to_string).collect()
    }

    pub(crate) fn seen(&self) -> Actual {
        self.kernel.seen()
    }

    pub(crate) fn add_netns(&self, sandbox: SandboxId, path: PathBuf) {
        let netns = Netns { path, ours: false };
        self.fail(None);
        // It may be there already: the daemon died before it wrote the record.
        let _ = self.kernel.apply_now(&Op::AddNetns { ns: Ns::Sandbox(sandbox), netns });
    }

    pub(crate) fn remove_netns(&self, sandbox: SandboxId, path: PathBuf) {
        let netns = Netns { path, ours: false };
        self.fail(None);
        let _ = self.kernel.apply_now(&Op::DelNetns { ns: Ns::Sandbox(sandbox), netns });
    }

    /// The operation after so many from now fails once; of earlier orders nothing is left.
    pub(crate) fn fail(&self, after: Option<usize>) {
        self.kernel.fail(after);
    }
}
