//! Consensus as a whole: the storage suite of openraft, and managers that talk over real gRPC on the loopback.

mod cluster;
mod faults;
mod recast;
mod storage;
mod support;
mod unflushed;
