//! After the last fault all managers have one state, every node's view is what the leader's state has for it, its kernel has that
//! view, gossip holds everyone for alive, no call is open, and the state has no endpoint whose sandbox is gone.
//!
//! Safety alone is had by doing nothing. What is left over is an address that is never given again.

pub(crate) const NAME: &str = "converged";

/// What is still missing, by whom.
pub(crate) fn check(missing: &[String], after_ms: u64) -> Result<(), String> {
    if missing.is_empty() {
        return Ok(());
    }
    Err(format!("{after_ms} ms after the last fault: {}", missing.join("; ")))
}
