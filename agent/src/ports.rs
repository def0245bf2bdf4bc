//! Who else listens on ports of this node (S12), asked of the kernel.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use swarmnet_dataplane::desired::PublicationKey;
use swarmnet_kernel::Netns;
use swarmnet_kernel::sockdiag::{self, Listener, Transport};
use swarmnet_types::Protocol;

use crate::desired::PortWitness;

/// The listeners of the node's own namespace.
#[derive(Debug)]
pub(crate) struct Listeners(pub(crate) Netns);

fn conflicts(listener: &Listener, key: &PublicationKey) -> bool {
    let transport = match key.protocol {
        Protocol::Tcp => Transport::Tcp,
        Protocol::Udp => Transport::Udp,
        Protocol::Sctp => return false,
    };
    let every = [IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)];
    match key.ip {
        Some(ip) => listener.conflicts(transport, ip, key.port),
        None => every.iter().any(|ip| listener.conflicts(transport, *ip, key.port)),
    }
}

impl PortWitness for Listeners {
    fn foreign(&mut self, wanted: &BTreeSet<PublicationKey>) -> BTreeMap<PublicationKey, String> {
        if wanted.is_empty() {
            return BTreeMap::new();
        }
        let listeners = sockdiag::listeners(&self.0).unwrap_or_else(|err| {
            tracing::warn!(%err, "the listeners of this node are not known");
            Vec::new()
        });
        let mut foreign = BTreeMap::new();
        for key in wanted {
            if let Some(listener) = listeners.iter().find(|l| conflicts(l, key)) {
                foreign
                    .insert(*key, format!("a program on this node listens on {}", listener.addr));
            }
        }
        foreign
    }
}
