//! What must hold in every run, one file for each, with the reason it matters.
//!
//! | file | what | from |
//! |---|---|---|
//! | `unique` | no address, MAC, VNI, port, slot is given twice | architecture, invariant 3 |
//! | `agreement` | the same log, the same state and digest on every manager | architecture, invariant 3 |
//! | `acknowledged` | what a client was told is so, was done once, and stays | Raft §5.3; `writer.rs` |
//! | `forward` | a node's view never goes back | architecture, invariant 5 |
//! | `told` | a view is what the state said at its revision: nothing goes that nobody took away | architecture, invariant 5 |
//! | `held` | a living sandbox keeps what it was granted, and nobody else has it | architecture, invariants 3 and 5 |
//! | `plane` | the kernel is as the view and the verdicts say, and as it was before there is a view | architecture, invariants 5 and 6 |
//! | `names` | a sandbox's names lead to its own networks only, and to all that is ready there | nomenclature: network |
//! | `converged` | after the faults are over, all managers and all nodes agree, and nothing is left over | architecture, invariant 9 |

pub(crate) mod acknowledged;
pub(crate) mod agreement;
pub(crate) mod converged;
pub(crate) mod forward;
pub(crate) mod held;
pub(crate) mod names;
pub(crate) mod plane;
pub(crate) mod told;
pub(crate) mod unique;
