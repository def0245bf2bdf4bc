//! All managers carry out the same entries in the same order, and have the same state and digest after each; also one that was
//! restarted from its snapshot, or took the leader's.
//!
//! A manager that differs hands out what another has given already as soon as it leads.

use swarmnet_manager_core::State;

use crate::raft::{Entry, Index};

pub(crate) const NAME: &str = "agreement";

pub(crate) fn same_entry(
    manager: usize,
    index: Index,
    (known, found): (&Entry, &Entry),
) -> Result<(), String> {
    if known == found {
        return Ok(());
    }
    Err(format!(
        "manager {manager} carried out another entry at {index}: of term {}, others had one of term {}",
        found.term, known.term
    ))
}

/// The digest costs far more than the comparison, so it is compared now and then.
pub(crate) fn same_state(
    index: Index,
    (known, found): (&State, &State),
    digest: bool,
) -> Result<(), String> {
    if known != found || known.revision() != found.revision() {
        return Err(format!("another state at entry {index}"));
    }
    if digest && known.digest() != found.digest() {
        return Err(format!("equal states of entry {index} have different digests"));
    }
    Ok(())
}
