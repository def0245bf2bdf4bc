//! What a client was told is what the state made of its request, the request is in the history for good, and it was done once,
//! however often the client had to ask.
//!
//! An acknowledged write that is lost is a sandbox with an address of somebody else's; one that is done twice is a leak, or an error
//! for a user whose wish was granted.

use swarmnet_manager_core::{Outcome, Rejection};
use swarmnet_types::Revision;

use crate::truth::First;

pub(crate) const NAME: &str = "acknowledged";

pub(crate) fn done_once(what: &str, times: usize) -> Result<(), String> {
    if times <= 1 { Ok(()) } else { Err(format!("done {times} times: {what}")) }
}

/// The client was told of success, at this revision; the history goes up to the last.
pub(crate) fn done(
    what: &str,
    first: Option<&First>,
    (revision, outcome, last): (Revision, &Outcome, Revision),
) -> Result<(), String> {
    match first {
        Some((at, Ok(known))) if known == outcome && (*at..=last).contains(&revision) => Ok(()),
        Some((at, verdict)) => Err(format!(
            "a client heard {outcome:?} at {revision}, the history says {verdict:?} at {at}: {what}"
        )),
        None => Err(format!("a client heard of what is not in the history: {what}")),
    }
}

pub(crate) fn refused(
    what: &str,
    first: Option<&First>,
    rejection: &Rejection,
) -> Result<(), String> {
    match first {
        Some((_, Err(known))) if known == rejection => Ok(()),
        found => Err(format!("a client heard {rejection:?}, the history says {found:?}: {what}")),
    }
}
