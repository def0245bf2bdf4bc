//! What every daemon of swarmnet runs on: supervised workers, backoff, readiness, and the one reconcile loop.
//!
//! A *worker* is a tokio task that has a name and an owner. Invariants kept here, so that no daemon has to:
//! - only [`Supervisor`] spawns; a critical worker cannot end unseen, and every worker ends at shutdown;
//! - only [`reconcile`] loops from a wish to the world; nobody writes a second such loop;
//! - nothing in this crate knows what swarmnet does: no networks, no kernel, no RPC.
#![forbid(unsafe_code)]

pub mod backoff;
pub mod ready;
pub mod reconcile;
pub mod supervisor;

pub use backoff::{Backoff, BackoffError, Delays};
pub use ready::{BlockReady, Ready};
pub use reconcile::{Reason, ReconcileHandle, ReconcileStatus, Reconciler, Stamped, Waker};
pub use supervisor::{CriticalEnd, EndKind, Scoped, ShutdownReport, Supervisor};
