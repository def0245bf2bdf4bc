//! The one place for the nouns of swarmnet: identifiers, addresses, wishes (`…Spec`), what the replicated state hands to a
//! node (`NodeView`), and the grammar of publications.
//!
//! Values here are plain data with checked constructors: no I/O, no async, no clock, no randomness. Every other crate may
//! depend on this one; this one depends on none of ours.
#![forbid(unsafe_code)]

pub mod addr;
pub mod check;
pub mod endpoint;
pub mod host;
pub mod id;
pub mod name;
pub mod network;
pub mod node;
pub mod publish;
pub mod refusal;
pub mod role;
pub mod service;
pub mod view;

pub use addr::{DualStack, Mac, Subnet, Vni};
pub use endpoint::{Condition, Endpoint};
pub use host::{HostError, HostName, ResolverOption, SearchDomain};
pub use id::{
    ClusterId, EndpointId, NetworkId, NodeId, NodeIndex, Revision, SandboxId, ServiceId, TokenId,
};
pub use name::Name;
pub use network::{AttachmentSpec, Driver, Network, NetworkSpec, Scope, StringMap, SubnetSpec};
pub use node::{Availability, Node, NodeDescription};
pub use publish::{Protocol, Publication, PublishMode, PublishSpec};
pub use refusal::RefusalKind;
pub use role::Role;
pub use service::{Algorithm, EndpointMode, Service, ServiceSpec};
pub use view::{ClusterView, GossipKey, NodeView, ViewChange, ViewDelta};
