//! A node's view is, at every moment, exactly what the replicated state had for it at the view's revision.
//!
//! So nothing leaves a view, and with it the kernel, because a message was lost, came twice or in another order; and nothing stays
//! that is gone.

use swarmnet_types::NodeView;

pub(crate) const NAME: &str = "told";

pub(crate) fn check(agent: usize, known: &NodeView, found: &NodeView) -> Result<(), String> {
    // Revisions in which nothing concerned anyone lie between.
    let mut known = known.clone();
    known.revision = found.revision;
    if known == *found {
        return Ok(());
    }
    let delta = found.delta_to(&known);
    let first: Vec<_> = delta.changes.iter().take(3).collect();
    Err(format!(
        "agent {agent} at revision {} lacks {} changes, such as {first:?}",
        found.revision,
        delta.changes.len()
    ))
}
