//! How many files the daemon may open, and that its workloads do not inherit that.
//!
//! A shell gives a process 1,024, and often allows it many more if it asks. A node with many sandboxes needs them: sockets of the
//! resolver, gossip, streams. Programs in sandboxes get what the daemon was started with, as without us: some still use `select`,
//! which cannot count beyond 1,024, and some close every file that they might have.

use std::sync::OnceLock;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// The soft limit that this process was started with.
static AT_START: OnceLock<Option<u64>> = OnceLock::new();

/// Lets this process open as many files as it is allowed to. Once per process, before it opens many.
pub fn raise() {
    let limit = getrlimit(Resource::Nofile);
    AT_START.get_or_init(|| limit.current);
    set(Rlimit { current: limit.maximum, ..limit });
}

/// What a workload may open; `None` when there is no limit, or this process never raised its own.
pub(crate) fn at_start() -> Option<u64> {
    AT_START.get().copied().flatten()
}

/// Takes the limit on: of this process and all that it starts.
pub(crate) fn lower_to(files: u64) {
    let limit = getrlimit(Resource::Nofile);
    set(Rlimit { current: Some(limit.maximum.map_or(files, |most| files.min(most))), ..limit });
}

/// A limit between nothing and the hard one is always granted; a kernel that thinks otherwise leaves what was.
fn set(limit: Rlimit) {
    if let Err(err) = setrlimit(Resource::Nofile, limit) {
        tracing::warn!(%err, "cannot change the limit on open files");
    }
}
