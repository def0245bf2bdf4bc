//! The only crate that touches the kernel's network state: namespaces, links, addresses, routes, neighbours, nftables,
//! conntrack, sysctls, sockets inside namespaces, and the start of workloads in them.
//!
//! It carries out; it decides nothing. What to do comes as operations of `swarmnet-dataplane`; what is there is observed afresh.
//! What it did last is remembered for one purpose only: to tell notices of others' changes from echoes of its own ([`Watch`]).
//!
//! Netlink is spoken directly (`netlink/`; the route family in the types of `rtnetlink`): no `ip`, `nft` or other program is
//! needed. Calls block for as long as the kernel works (microseconds to a few milliseconds); namespaces are entered only on a
//! thread of their own ([`netns::Netns::run`]).
#![forbid(unsafe_code)]

pub mod conntrack;
pub mod error;
mod linux;
mod netlink;
pub mod netns;
pub mod nft;
pub mod route;
pub mod sockdiag;
pub mod sockets;
pub mod sysctl;
pub mod underlay;
pub mod workload;

pub use error::{KernelError, Refusal};
pub use linux::{LinuxKernel, Sight, Watch};
pub use netlink::Protocol;
pub use netns::Netns;
