//! The one place for the nouns of swarmnet: identifiers, addresses, wishes (`…Spec`), what the replicated state hands to a
//! node (`NodeView`), and the grammar of publications.
//!
//! Values here are plain data with checked constructors: no I/O, no async, no clock, no randomness. Every other crate may
//! depend on this one; this one depends on none of ours.
#![forbid(unsafe_code)]

pub mod addr;
pub mod id;
pub mod name;

pub use addr::{DualStack, Mac, Subnet, Vni};
pub use id::{ClusterId, EndpointId, NetworkId, NodeId, NodeIndex, Revision, SandboxId, ServiceId};
