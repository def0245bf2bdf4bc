//! Names: what a sandbox's resolver at 127.0.0.11 answers.
//!
//! Three layers. [`zone`] and [`names`] are pure tables: the names of one network, and what one sandbox sees. `fast` is one
//! thread that answers address and pointer queries of all sandboxes straight from those tables. `slow` is a second thread
//! for everything else: TCP, odd queries (through hickory), and forwarding to upstream resolvers (`forward`).
//!
//! Sockets come in bound, from whatever network namespace the caller opened them in; this crate enters no namespace. It
//! owns its two threads and every socket that was handed to it, and nothing else.
#![forbid(unsafe_code)]

pub mod client;
mod error;
mod fast;
pub mod forward;
mod handler;
pub mod names;
mod notice;
pub mod resolv_conf;
mod sandbox;
pub mod server;
mod slow;
pub mod stats;
mod wire;
pub mod zone;

pub use error::{NameServerError, ZoneNameError};
pub use forward::{Forwarder, NodeSockets, Order, Transport, UpstreamSockets, Upstreams};
pub use names::{Forward, Lookup, RecordKind, SandboxNames};
pub use server::{Config, Handle, NameServer};
pub use stats::{Stats, StatsSnapshot};
pub use wire::WireName;
pub use zone::{Zone, ZoneBuilder};
