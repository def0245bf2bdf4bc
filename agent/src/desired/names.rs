//! The wish for the names of one sandbox, as plain data: the zones it sees, and whom else its resolver asks.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use swarmnet_dns::Zone;

/// What a sandbox's resolver answers.
#[derive(Debug, Clone)]
pub struct NamesWish {
    /// Where the sockets are opened.
    pub netns: PathBuf,
    /// In the order of the sandbox's attachments. Shared: equal pointers mean equal zones.
    pub zones: Vec<Arc<Zone>>,
    pub forward: ForwardWish,
}

/// Who answers for names that are not ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ForwardWish {
    /// Only internal networks: nothing leaves (CVE-2024-29018).
    Never,
    /// The node's own resolvers, asked from the node.
    Node,
    /// These, asked from inside the sandbox.
    Own(Vec<IpAddr>),
}

impl NamesWish {
    /// Nothing would change.
    pub fn is_same(&self, other: &Self) -> bool {
        let zones = self.zones.len() == other.zones.len()
            && self.zones.iter().zip(&other.zones).all(|(a, b)| Arc::ptr_eq(a, b));
        zones && self.netns == other.netns && self.forward == other.forward
    }
}
