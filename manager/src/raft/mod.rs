//! Consensus of the managers: openraft on our own log, snapshots and transport.
//!
//! ```text
//!  control API ─ propose ─▶ proposer ─ Batch ─▶ openraft ─▶ store ─▶ wal (one writer thread, one fdatasync per batch)
//!                                                 │  ▲
//!                             transport ─ gRPC ───┘  └─── service ◀─ gRPC ─ other managers
//!                                                 ▼
//!  readers ◀─ StateHandle ◀───────────── state_machine ─▶ ApplyHook (dispatcher), snapshot files
//! ```
//! [`RaftNode`] is the only door. openraft's types are pinned in `types.rs` and leave this module nowhere; the state, its
//! commands and their meaning belong to `swarmnet-manager-core`.
//!
//! Files under [`RaftConfig::dir`]: `log/` (see `wal`), `snapshots/` (see `snapshot.rs`), both encrypted, and `keys` (see `keyring.rs`).
//! All formats carry a version; a newer or damaged file refuses the start, is named, and stays as it is.

pub mod backup;
mod config;
mod disk;
mod error;
mod folder;
mod keyring;
mod node;
mod proposer;
mod recast;
mod service;
mod snapshot;
mod state_machine;
mod status;
mod store;
mod transport;
mod types;
mod unflushed;
mod wal;

#[cfg(test)]
mod tests;

pub use config::RaftConfig;
pub use error::{Damage, Leader, ProposeError, QUORUM_LOST, RaftError, WalError};
pub use keyring::{Keyring, KeyringError, Lock};
pub use node::RaftNode;
pub use recast::Remains;
pub use service::RaftGrpc;
pub use snapshot::SnapshotDamage;
pub use state_machine::{Applied, ApplyHook, StateHandle};
pub use status::{Leadership, Member, RaftStatus, Role};
pub use transport::Connector;
