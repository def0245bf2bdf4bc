//! Managers and agents in this process, over real mTLS on the loopback: renewal, versions, and whatever a peer may send.
#![forbid(unsafe_code)]

mod calls;
mod formats;
mod joins;
mod message;
mod node;
mod raw;
mod recorded;
mod renewal;
mod storm;
mod versions;
