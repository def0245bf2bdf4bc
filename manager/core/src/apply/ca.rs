//! The CA and its replacement.
//!
//! A rotation is a fact of the state: from its first entry on, nodes trust both CAs, certificates are signed by the new one, and
//! tokens name it. It ends in the entry that leaves no node without (its last renewal, or the removal of the last node that was
//! away): the same transaction drops the old CA. So there is no loop that could stop half way with the leader.

use swarmnet_types::NodeId;

use crate::command::RotateCa;
use crate::outcome::Outcome;
use crate::rejection::Rejection;
use crate::secret::Secret;
use crate::state::txn::Txn;
use crate::state::{NodeTls, Rotation, Tokens};

/// Roots a node may trust at once: the present, the next, and as many that were given up.
const ROOTS_MAX: usize = 8;

impl Txn<'_> {
    pub(super) fn rotate_ca(&mut self, rotate: &RotateCa) -> Result<Outcome, Rejection> {
        let mut cluster = self.initialised()?.clone();
        let present = cluster.ca.fingerprint;
        if rotate.from != present {
            return Err(Rejection::CaMoved);
        }
        if rotate.to.fingerprint != present {
            // A second rotation takes the place of the first: the present CA stays the one that all trust.
            cluster.rotation = Some(Rotation {
                to: rotate.to.clone(),
                cross_pem: rotate.cross_pem.clone(),
                started_ms: self.now_ms,
            });
        } else if cluster.rotation.take().is_none() {
            return Err(Rejection::CaIdentical);
        }
        let secret = |secret: &Secret| secret.clone();
        cluster.tokens =
            Tokens { worker: secret(&rotate.worker_token), manager: secret(&rotate.manager_token) };
        self.put_cluster(cluster);
        self.void_tokens();
        Ok(Outcome::Done)
    }

    pub(super) fn set_node_tls(
        &mut self,
        node: NodeId,
        tls: &NodeTls,
    ) -> Result<Outcome, Rejection> {
        self.member(node)?;
        if tls.roots.len() > ROOTS_MAX {
            return Err(Rejection::TooManyRoots { max: ROOTS_MAX });
        }
        let mut record = self.record(node).cloned().unwrap_or_default();
        record.tls = tls.clone();
        self.set_record(node, Some(record));
        Ok(Outcome::Done)
    }

    /// Drops the old CA when no node needs it any more.
    pub(super) fn end_rotation(&mut self) {
        if self.rotation_progress().is_none_or(|p| !p.missing.is_empty()) {
            return;
        }
        let Some(mut cluster) = self.cluster().cloned() else { return };
        if let Some(rotation) = cluster.rotation.take() {
            cluster.ca = rotation.to;
            self.put_cluster(cluster);
        }
    }
}
