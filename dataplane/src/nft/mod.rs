//! nftables as plain data: what a table should hold, what was seen in one, and the operations that lead from one to the
//! other.
//!
//! Input: a desired [`Table`] built with [`RuleBuilder`] and the constructors of [`key`], and an observed one. Output: [`diff`]
//! gives the [`NftOp`]s of **one** atomic batch. Nothing here talks to a kernel; `swarmnet-kernel` encodes the operations and
//! rebuilds observed tables from dumps.
//!
//! Invariants:
//! - `diff(d, d)` is empty, and applying `diff(a, d)` to `a` gives `d` ([`Table::apply`] is the reference, tested by property).
//! - A rule is identified by a hash of its canonical text, kept in its user data: the kernel's own rendering is never parsed
//!   back.
//! - Rules are meant to be few and constant; what changes often are map elements, which cost a few bytes each to change.
//!
//! How it scales: comparing is linear in rules and elements; an operation list is linear in what differs.

pub mod key;

mod diff;
mod expr;
mod load;
mod model;
mod rule;
mod table;
mod text;

pub use diff::{NftOp, diff};
pub use expr::{
    CmpOp, CtDirection, CtKey, Expr, FibKey, FibResult, LimitUnit, MetaKey, NatKind, NatRange,
    PayloadBase, Reg, Reject, Verdict, ct_state, ct_status,
};
pub use load::Load;
pub use model::NftModelError;
pub use rule::{IfName, PortEnd, Rule, RuleBuilder, RuleId};
pub use table::{
    Chain, ChainKind, Datatype, Elem, ElemData, Elems, Family, Hook, HookPoint, Map, MapData,
    MapSpec, Policy, Ranges, Table, TableId,
};

#[cfg(test)]
mod tests;
