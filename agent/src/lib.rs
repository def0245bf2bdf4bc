//! The agent: what every node runs. It keeps the node's kernel, names and processes as the cluster and the node's own user
//! want them.
//!
//! Inputs: the node's slice of the replicated state by one stream from a manager (`session`), liveness by gossip, the calls of
//! the local user on a unix socket (`api`). Outputs: kernel objects (through `swarmnet_kernel`), DNS answers, processes.
//! Invariants: an agent never needs a manager to keep what exists; it removes nothing on account of a missing message; it talks
//! to managers by gRPC only, also inside one process.
#![forbid(unsafe_code)]

pub mod agent;
pub mod api;
pub mod desired;
pub mod drain;
pub mod liveness;
pub mod local;
pub mod managers;
mod merge;
pub mod numbers;
pub mod open_files;
pub mod paths;
mod ports;
pub mod renew;
pub mod resolver;
pub mod session;
pub mod shim;
pub mod target;
pub mod trace;
pub mod underlay;
pub mod verdicts;
pub mod view_file;
mod watch;
mod workers;
pub mod workload;

pub use agent::{Agent, AgentConfig, ClusterEntry};
