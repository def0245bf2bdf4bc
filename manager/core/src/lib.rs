//! The replicated state of a cluster, pure: [`State`], every [`Command`] that can change it, and what each node is told of it.
//!
//! Input: [`Proposal`]s in log order. Output: [`Outcome`] or [`Rejection`] for the caller, [`NodeView`](swarmnet_types::NodeView)
//! and [`ViewDelta`](swarmnet_types::ViewDelta) for the nodes. The same log gives the same bytes on every manager
//! ([`State::digest`]).
//!
//! Must never: read a clock, draw a random number, do I/O. The leader puts time and randomness into the proposal.
//! No crate of ours but `swarmnet-types` is known here.
#![forbid(unsafe_code)]

mod alloc;
mod apply;
mod command;
mod events;
mod ids;
mod outcome;
mod rejection;
mod secret;
mod state;
mod view;

pub use command::{
    AddBackend, Attach, ClusterChange, ClusterInit, Command, CreateNetwork, CreateToken, Founder,
    JoinNode, NetworkChange, NodeChange, Proposal, Publish, RemoveNetwork, RemoveNode, RotateCa,
    ServiceChange, Unpublish,
};
pub use events::{Action, Attributes, Event, Subject};
pub use outcome::Outcome;
pub use rejection::{Holder, Matched, Noun, Rejection};
pub use secret::Secret;
pub use state::{
    CLOCK_SKEW_MS_MAX, CertificateAuthority, Cluster, Digest, FORMAT, FurtherToken, ManagerLock,
    NodeRecord, NodeTls, Revoked, Rotation, RotationProgress, State, TokenEnd, Tokens, Usage,
};
pub use view::push::{NoPush, Push, Pushed};
