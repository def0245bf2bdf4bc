//! The objects of this node: local networks, sandboxes, port maps; persisted, with one writer.
//!
//! [`objects`] is what others read; [`border`] is what this module needs of them.

pub mod border;
pub mod objects;

pub use border::{AgentStatus, KernelStatus, Managers, NoManager, Peer, Standing, StatusSource};
pub use objects::{
    Attachment, DnsSettings, LocalObjects, Owner, PortMap, ProcessRecord, ProcessSpec,
    SandboxRecord, SandboxState,
};
