//! Allocators of what only a cluster has: pools and the ingress network's defaults, VXLAN identifiers, published ports.
//! Addresses and blocks of pools come from `swarmnet-ipam`, which an agent uses too. All only look; the transaction takes.
//!
//! What is taken follows from the objects (endpoints, virtual addresses, networks, publications) and is kept as spans by the
//! index, so nothing can leak. Only cursors are state of their own: each allocator hands out in turn and comes back to a
//! freed value after all the others (`sw:T42`).

pub(crate) mod pools;
pub(crate) mod ports;
