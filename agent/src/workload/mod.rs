//! Processes of `run -d`: started under a shim each, watched, restarted by policy, adopted after a restart of the daemon.

pub mod restart;

pub use restart::RestartPolicy;
