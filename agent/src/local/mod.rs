//! The objects of this node: local networks, sandboxes, port maps; persisted, with one writer.
//!
//! [`objects`] is what others read; [`border`] is what this module needs of them.

pub mod addresses;
pub mod border;
pub mod cluster;
pub mod error;
pub mod files;
pub mod host;
pub mod lookup;
pub mod naming;
pub mod networks;
pub mod objects;
pub mod outbox;
pub mod ports;
pub mod process;
pub mod resolv;
pub mod sandboxes;
pub mod store;

pub use border::{
    AgentStatus, GossipStatus, KernelStatus, Managers, NoManager, OwnCertificate, Peer, Session,
    Standing,
};
pub use error::LocalError;
pub use objects::{
    Attachment, DnsSettings, LocalObjects, Owner, PortMap, ProcessRecord, ProcessSpec,
    SandboxRecord, SandboxState,
};
pub use store::LocalStore;
