//! Objects as JSON in Docker's field names, so that scripts written for `docker … inspect` and `docker … ls --format` work; what
//! is ours stands beside them.

pub(crate) mod agent;
pub(crate) mod cluster;
pub(crate) mod duration;
pub(crate) mod event;
pub(crate) mod filter;
pub(crate) mod manager;
pub(crate) mod network;
pub(crate) mod node;
pub(crate) mod sandbox;
pub(crate) mod service;
pub(crate) mod stamp;
pub(crate) mod trace;
