//! The pure planners of the data plane: from what a node should do ([`Desired`]) and what its kernel holds ([`Actual`]) to the
//! operations ([`Op`]) between.
//!
//! ```text
//! Desired ──render──▶ Target ─┐
//!                             ├─ compare, order ─▶ Plan (Vec<Op>) ─▶ Kernel::apply
//! Kernel::observe ──▶ Actual ─┘
//! ```
//! Rendering writes down every object that should exist; comparing is one code for all subjects. A change of one service is
//! planned by rendering only what differs between two wishes, with the same functions.
//!
//! Invariants: `plan(d, d)` is empty; a prefix of a plan, then a new plan, converges; equal input gives an equal plan. No clock,
//! no randomness, no I/O, no async runtime.
#![forbid(unsafe_code)]

pub mod actual;
pub mod desired;
mod driver;
pub mod kernel;
#[cfg(any(test, feature = "testing"))]
pub mod model;
pub mod mtu;
pub mod names;
pub mod nft;
pub mod object;
pub mod op;
pub mod plan;
mod render;
pub mod seen;

pub use actual::{Actual, NsScope, NsState, Scope};
pub use desired::Desired;
pub use kernel::Kernel;
pub use object::{
    FdbTo, ForeignChain, ForwardMatch, Link, LinkChange, LinkKind, LinkName, Netns, Nexthop, Ns,
    PortFlags, RouteKey, RouteRule, RouteTo, Vxlan,
};
pub use op::Op;
pub use plan::{Object, Plan, dead_flows, is_dead_flow, plan, plan_within, update};
