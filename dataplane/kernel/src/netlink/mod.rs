//! Netlink: one socket for all the kernel's families, and the codec of those that no library of ours speaks.
//!
//! Messages of the route family are `rtnetlink`'s types ([`Message::route`]); nftables, connection tracking, sock_diag and nexthop
//! objects are written and read here.
//!
//! Synchronous on purpose. The kernel does the work of a request inside `sendmsg`, so an answer is queued before the call
//! returns. `rtnetlink`'s handle would need a worker for each namespace, takes 3.6 times as long for the same operations one by
//! one (447 against 123 ms for 4,000 entries), waits for ever when an answer is lost, on which ours gives up, and drops what it
//! cannot read (`docs/kernel-notes.md`). Many messages go in one call for nftables, connection tracking and sock_diag. Callers that
//! must not block for the milliseconds of a large dump move to a blocking thread.
//!
//! Invariants: a socket belongs to the namespace it was opened in, for life, and **keeps that namespace alive**: sockets into
//! sandboxes are opened for one piece of work and dropped.

mod attr;
mod message;
mod port;
mod socket;
mod stream;

pub(crate) use attr::{Attrs, be16, be32, ne32};
pub(crate) use message::Message;
pub(crate) use port::is_ours;
pub use socket::Protocol;
pub(crate) use socket::{Frame, Socket, frames, refusal};
pub(crate) use stream::{Notice, Stream};
