//! What kind of refusal an error is, whoever refuses.

/// The kind of a refusal: chooses the status code of its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefusalKind {
    /// What was named does not exist.
    NotFound,
    /// Another object is in the way.
    Conflict,
    /// No state would make it right.
    Invalid,
    /// Nothing left to give.
    Exhausted,
    /// Not for this caller or this object.
    Forbidden,
    /// Not now: a manager, a process or the kernel is not there.
    NotReady,
    /// Our own fault or the machine's.
    Internal,
}
