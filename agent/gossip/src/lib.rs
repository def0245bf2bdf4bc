//! Who is alive now, as seen from this node, without asking a manager.
//!
//! SWIM gossip (by `foca`) between all nodes says which *agents* are heard; an ICMP echo to the VTEP address, which the *kernel*
//! answers, says which nodes are up whatever their agent does. The merge of the two is the [`Liveness`]: a killed agent is
//! [`Condition::AgentLost`] and nothing of its node is evicted; only a node whose agent and kernel are both silent is
//! [`Condition::Dead`], and only while at least half of the peers show that it is not we who are cut off.
//!
//! Inputs: a bound UDP socket, `watch`es of the known [`Members`] and of the [`Keys`], an [`Echo`]. Output: a `watch` of the
//! liveness, and counters. From the inside out:
//! - `track`, `peer`, `table` (pure): signs of life, the verdicts, as a function of inputs and time;
//! - `engine` (no I/O, no clock): foca, its timers, the table; simulations run many of these in virtual time;
//! - `seal`, `replay`, `filter`: what a datagram must pass before foca sees it;
//! - `driver`: the one worker that owns socket and clock.
//!
//! Must never: add a node (an identity the cluster state does not know is ignored), evict anything by itself, write to the state.
#![forbid(unsafe_code)]

mod config;
mod driver;
mod echo;
mod engine;
mod filter;
mod icmp;
mod identity;
mod members;
mod peer;
mod replay;
mod seal;
mod stats;
mod table;
mod track;

pub use driver::{Gossip, GossipConfig, GossipHandle};
pub use echo::Echo;
pub use engine::Engine;
pub use icmp::{Answer as EchoAnswer, IcmpEcho, IcmpError, Kind as EchoKind};
pub use members::{Condition, Doubts, Liveness, Local, Member, Members, NodeState, Sightings};
pub use seal::{Key, Keys};
pub use stats::{Refusal, Refusals, StatsSnapshot};
pub use table::Target;
