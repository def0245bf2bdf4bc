//! A node's view never goes back to an earlier revision while its daemon runs.
//!
//! An older view lacks what came since: the node would take down links of sandboxes that exist, on the word of a manager that was
//! away. (A daemon that starts anew begins with the view on its disk, which may be some milliseconds old.)

use swarmnet_types::NodeView;

pub(crate) const NAME: &str = "forward";

pub(crate) fn check(agent: usize, old: &NodeView, new: &NodeView) -> Result<(), String> {
    if new.revision >= old.revision {
        return Ok(());
    }
    Err(format!("agent {agent} went from revision {} back to {}", old.revision, new.revision))
}
