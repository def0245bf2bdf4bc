//! A cluster that goes on with one manager, after the others were lost or on another machine.

use swarmnet_types::{NodeId, Role};

use crate::command::{Founder, NodeChange};
use crate::outcome::Outcome;
use crate::rejection::Rejection;
use crate::state::txn::Txn;

impl Txn<'_> {
    /// All but the founder are workers from now on; nothing else of the cluster changes.
    pub(super) fn refound(&mut self, founder: &Founder) -> Result<Outcome, Rejection> {
        let (me, outcome) = match founder {
            Founder::Known { node, description } => {
                self.describe_node(*node, description)?;
                let change = |role| NodeChange {
                    node: node.to_string(),
                    role: Some(role),
                    ..NodeChange::default()
                };
                self.update_node(&change(Role::Manager))?;
                (*node, Outcome::NodeUpdated { node: *node })
            }
            Founder::New(join) => {
                let (index, fabric) = self.join_node(join)?;
                (join.node, Outcome::NodeJoined { node: join.node, index, fabric })
            }
        };
        let others: Vec<NodeId> = self.managers().map(|n| n.id).filter(|id| *id != me).collect();
        for other in others {
            let (node, role) = (other.to_string(), Some(Role::Worker));
            self.update_node(&NodeChange { node, role, ..NodeChange::default() })?;
        }
        let mut cluster = self.initialised()?.clone();
        cluster.generation += 1;
        self.put_cluster(cluster);
        Ok(outcome)
    }
}
