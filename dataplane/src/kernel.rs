//! The border between planning and doing: what a kernel must be able to do for us.
//!
//! Implemented by `swarmnet-kernel` on Linux and by `crate::model::ModelKernel` in memory.

use std::future::Future;

use crate::actual::{Actual, Scope};
use crate::op::Op;

/// A kernel's network state: looked at as a whole, changed one operation at a time.
pub trait Kernel: Send + Sync {
    type Error: std::error::Error + Send + Sync + 'static;

    /// Everything of ours within `scope`.
    fn observe(&self, scope: &Scope) -> impl Future<Output = Result<Actual, Self::Error>> + Send;

    /// Does one operation, wholly or (where the kernel offers no transaction) so that observing and planning again goes on from
    /// there.
    fn apply(&self, op: &Op) -> impl Future<Output = Result<(), Self::Error>> + Send;
}
