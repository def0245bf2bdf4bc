//! What others changed in some namespaces is put right there, without a look at the others: what a round costs then does not grow with
//! the sandboxes of the node.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use swarmnet_dataplane::{Ns, Plan, plan_within};

use super::blame::Owners;
use super::{Located, Status, Target};
use crate::desired::Wish;
use crate::local::error::chain;
use crate::resolver::Names;

/// Namespaces in which another program changed something, until a round looks at them. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Suspects(Arc<Mutex<BTreeSet<Ns>>>);

impl Suspects {
    pub fn add(&self, more: impl IntoIterator<Item = Ns>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend(more);
    }

    pub(super) fn take(&self) -> BTreeSet<Ns> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl<K: Located, N: Names> Target<K, N> {
    /// After the wish itself is brought about. Whether all is as wished in these namespaces; if not, the next round looks at all.
    pub(super) async fn heal(
        &mut self,
        wish: &Wish,
        suspects: BTreeSet<Ns>,
        owners: &Owners,
        status: &mut Status,
    ) -> bool {
        let plan = match self.look_within(wish, suspects).await {
            Ok(plan) => plan,
            Err(problem) => {
                status.common.push(problem);
                self.committed = None;
                return false;
            }
        };
        self.repaired += plan.ops.len() as u64;
        status.tell_conflicts(&plan);
        let mut whole = true;
        for op in &plan.ops {
            whole &= self.apply(op, owners, status).await;
        }
        if !whole {
            self.committed = None;
        }
        whole
    }

    /// Looks at more namespaces until the plan for them is whole: a broken pair of links concerns two.
    async fn look_within(&mut self, wish: &Wish, mut within: BTreeSet<Ns>) -> Result<Plan, String> {
        loop {
            let scope = wish.desired.scope_within(&within);
            let mut actual = self.kernel.observe(&scope).await.map_err(|err| chain(&err))?;
            match plan_within(&mut actual, &wish.desired, &within) {
                Ok(plan) => {
                    self.sysctls.keep(plan.sysctls_before(&actual));
                    return Ok(plan);
                }
                Err(more) => within.extend(more),
            }
        }
    }
}
