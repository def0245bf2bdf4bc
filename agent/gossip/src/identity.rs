//! What foca knows a member by. Its `addr()` is the node, so that a node that moves or restarts replaces its old self (C12);
//! the network addresses ride beside it.
//!
//! Equality is node and generation alone: all else is fixed for one generation.

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};
use swarmnet_types::NodeId;

/// Steps of [`Identity::renew`] grow to this power of two at most: 2^40 ms are 34 years.
const STRIDE_LOG2_MAX: u8 = 40;

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Identity {
    pub(crate) node: NodeId,
    /// Unix ms at the start of the agent, then growing; the higher one is the truth about the node.
    pub(crate) generation: u64,
    /// Where its gossip listens.
    pub(crate) gossip: SocketAddr,
    /// Where its VXLAN listens; the address echoes go to.
    pub(crate) vtep: IpAddr,
    /// The agent said good-bye for good.
    pub(crate) left: bool,
    /// How often this process renewed; decides the next step. Of no meaning to others.
    #[serde(skip)]
    pub(crate) renewals: u8,
}

impl Identity {
    pub(crate) const fn new(
        node: NodeId,
        generation: u64,
        gossip: SocketAddr,
        vtep: IpAddr,
    ) -> Self {
        Self { node, generation, gossip, vtep, left: false, renewals: 0 }
    }

    /// The next self of this identity. Steps double: an agent that started with its clock set back is below the generation
    /// its peers remember, and must get above it in few tries.
    pub(crate) fn next(&self) -> Self {
        let step = 1u64 << self.renewals.min(STRIDE_LOG2_MAX);
        Self {
            generation: self.generation.saturating_add(step),
            renewals: self.renewals.saturating_add(1),
            ..*self
        }
    }
}

impl PartialEq for Identity {
    fn eq(&self, other: &Self) -> bool {
        (self.node, self.generation) == (other.node, other.generation)
    }
}

impl Eq for Identity {}

impl foca::Identity for Identity {
    type Addr = NodeId;

    fn renew(&self) -> Option<Self> {
        // One that has left stays dead.
        (!self.left).then(|| self.next())
    }

    fn addr(&self) -> NodeId {
        self.node
    }

    fn win_addr_conflict(&self, adversary: &Self) -> bool {
        self.generation > adversary.generation
    }
}

#[cfg(test)]
mod tests {
    use foca::Identity as _;

    use super::*;

    fn identity(generation: u64) -> Identity {
        let addr = "192.0.2.1:7946".parse::<SocketAddr>().unwrap();
        Identity::new(NodeId::from_bytes([1; 16]), generation, addr, addr.ip())
    }

    #[test]
    fn a_renewed_self_wins_over_the_old_one() {
        let old = identity(5);
        let new = old.renew().unwrap();
        assert!(new.win_addr_conflict(&old) && !old.win_addr_conflict(&new));
        assert_eq!(new.addr(), old.addr());
        assert_ne!(new, old);
    }

    #[test]
    fn a_clock_set_back_by_a_year_is_overtaken_in_few_renewals() {
        let year_ms = 365 * 24 * 3600 * 1000;
        let mut me = identity(1);
        for _ in 0..36 {
            me = me.renew().unwrap();
        }
        assert!(me.generation > year_ms);
    }

    #[test]
    fn one_that_left_does_not_renew() {
        let me = Identity { left: true, ..identity(1) };
        assert!(me.renew().is_none());
    }

    #[test]
    fn the_wire_keeps_what_peers_need() {
        let me = identity(7).next();
        let bytes = postcard::to_stdvec(&me).unwrap();
        assert!(bytes.len() <= 48, "{} bytes", bytes.len());
        let read: Identity = postcard::from_bytes(&bytes).unwrap();
        assert_eq!((read, read.gossip, read.vtep, read.left), (me, me.gossip, me.vtep, false));
    }
}
