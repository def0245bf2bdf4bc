//! A swarmnet manager: consensus, control API, dispatcher, wiring.
#![forbid(unsafe_code)]

pub mod raft;
