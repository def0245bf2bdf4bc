//! Netlink, spoken directly: one codec and one socket for all the kernel's families (route, netfilter, sock_diag).
//!
//! Synchronous on purpose. The kernel does the work of a request inside `sendmsg`, so an answer is queued before the call
//! returns; an asynchronous handle would need a worker for each namespace and sends one message at a time, where ours packs
//! hundreds into one call. Callers that must not block for the milliseconds of a large dump move to a blocking thread.
//!
//! Invariants: a socket belongs to the namespace it was opened in, for life, and **keeps that namespace alive**: sockets into
//! sandboxes are opened for one piece of work and dropped.

mod attr;
mod message;
mod socket;
mod stream;

pub(crate) use attr::{Attrs, be16, be32, ne32};
pub(crate) use message::{Message, flag};
pub use socket::Protocol;
pub(crate) use socket::{Socket, frames};
pub(crate) use stream::{Notice, Stream};
