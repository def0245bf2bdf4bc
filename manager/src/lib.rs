//! A manager: consensus ([`raft`]), the services it offers to nodes and operators, and their wiring.
//!
//! One mTLS listener serves `Join`, `Admission`, `Control`, `Dispatcher`, `ManagerPeer` and `Raft`; who may call what is one table
//! (`authority`). Every write becomes a proposal (`writer`): the manager that is asked builds it, the leader commits it, and the
//! answer is read from the asked manager's own state once it has applied it.
//!
//! Must not: change the state anywhere but by a proposal; know anything of agents but what travels by gRPC.
#![forbid(unsafe_code)]

mod acks;
mod admission;
mod authority;
mod ca;
mod control;
mod dispatcher;
mod ephemeral;
mod error;
mod group;
mod join;
mod lock;
mod manager;
mod observe;
mod peer;
pub mod raft;
mod recovery;
mod seat;
mod standing;
mod vault;
mod writer;

pub use ca::CERT_EXPIRY_MIN;
pub use error::ManagerError;
pub use manager::{
    Founding, InitConfig, Liveness, Manager, ManagerConfig, NodeCondition, Routes, init,
};
pub use observe::{Objects, Observed, Observer, ServedAgent};
pub use recovery::{RestoreConfig, Revived, force_new_cluster, restore};
