//! Managers and agents in this process, over real mTLS on the loopback: renewal, versions, and whatever a peer may send.
#![forbid(unsafe_code)]

mod formats;
mod node;
mod raw;
mod recorded;
mod renewal;
mod versions;
