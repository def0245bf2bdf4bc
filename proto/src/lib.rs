//! The wire of swarmnet: generated messages and gRPC traits, and their conversions from and to `swarmnet_types`.
//!
//! Generated types stay at the border: handlers and clients convert with `From`/`TryFrom` (`convert/`) as soon as a message has
//! arrived and as late as one is sent. A message that cannot be what it says is a [`Malformed`], never a panic.
#![forbid(unsafe_code)]

mod convert;
mod status;
mod terse;
pub mod wire;

pub use convert::Malformed;
pub use status::{refused, sentence};
pub use terse::{Terse, TerseLayer};

/// Generated from `swarmnet/v1/*.proto`.
#[allow(
    clippy::all,
    clippy::pedantic,
    clippy::allow_attributes_without_reason,
    clippy::unwrap_used,
    missing_debug_implementations,
    unreachable_pub,
    reason = "generated code"
)]
pub mod v1 {
    tonic::include_proto!("swarmnet.v1");
}

/// The encoded `FileDescriptorSet` of all services.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
