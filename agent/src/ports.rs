//! Who else listens on ports of this node (S12), asked of the kernel.
//!
//! A port is checked before the first rule for it is made. One that was free then stays ours for as long as it is wanted: a program
//! that binds to it later gets no traffic, but nothing that works is taken away. One that was held is asked about again until it is
//! free.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use swarmnet_dataplane::desired::PublicationKey;
use swarmnet_kernel::Netns;
use swarmnet_kernel::sockdiag::{self, Listener, Transport};
use swarmnet_types::Protocol;

use crate::desired::PortWitness;

/// The listeners of the node's own namespace.
#[derive(Debug)]
pub(crate) struct Listeners {
    netns: Netns,
    ours: BTreeSet<PublicationKey>,
    /// Held by others, with the words for it.
    held: BTreeMap<PublicationKey, (u32, String)>,
}

impl Listeners {
    pub(crate) fn new(netns: Netns) -> Self {
        Self { netns, ours: BTreeSet::new(), held: BTreeMap::new() }
    }

    /// Some wanted port is held: asking again later may find it free.
    pub(crate) fn is_waiting(&self) -> bool {
        !self.held.is_empty()
    }

    fn judge(&mut self, wanted: &BTreeSet<PublicationKey>, listeners: &[Listener]) {
        let known = std::mem::take(&mut self.held);
        for key in wanted.iter().filter(|k| !self.ours.contains(*k)).copied().collect::<Vec<_>>() {
            let Some(listener) = listeners.iter().find(|l| conflicts(l, &key)) else {
                self.ours.insert(key);
                continue;
            };
            let inode = listener.inode;
            let words = match known.get(&key) {
                Some((same, words)) if *same == inode => words.clone(),
                _ => holder(inode).unwrap_or_else(|| format!("a socket at {}", listener.addr)),
            };
            self.held.insert(key, (inode, words));
        }
    }
}

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

/// `pid/name` of the process that has the socket open, as `netstat -p` writes it.
fn holder(inode: u32) -> Option<String> {
    let link = format!("socket:[{inode}]");
    let has = |pid: u32| {
        let fds = fs::read_dir(format!("/proc/{pid}/fd")).ok()?;
        let found = fds
            .flatten()
            .any(|fd| fs::read_link(fd.path()).is_ok_and(|l| l.as_os_str() == link.as_str()));
        found.then_some(pid)
    };
    let pids = fs::read_dir("/proc").ok()?.flatten();
    let pid = pids.filter_map(|e| e.file_name().to_str()?.parse().ok()).find_map(has)?;
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    Some(format!("{pid}/{}", name.trim_end()))
}

impl PortWitness for Listeners {
    fn foreign(&mut self, wanted: &BTreeSet<PublicationKey>) -> BTreeMap<PublicationKey, String> {
        self.ours.retain(|key| wanted.contains(key));
        if self.ours.len() == wanted.len() {
            self.held.clear();
            return BTreeMap::new();
        }
        match sockdiag::listeners(&self.netns) {
            Ok(listeners) => self.judge(wanted, &listeners),
            // Without an answer nothing new is published; the next look may have one.
            Err(err) => {
                tracing::warn!(%err, "the listeners of this node are not known");
                let unknown = wanted.iter().filter(|k| !self.ours.contains(*k));
                let words = (0, "nobody knows whom (the kernel did not say)".to_owned());
                self.held = unknown.map(|k| (*k, words.clone())).collect();
            }
        }
        self.held.iter().map(|(key, (_, words))| (*key, words.clone())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(port: u16) -> PublicationKey {
        PublicationKey { ip: None, protocol: Protocol::Tcp, port }
    }

    #[test]
    fn a_held_port_is_named_until_it_is_free_and_then_stays_ours() {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = socket.local_addr().expect("bound").port();
        let mut witness = Listeners::new(Netns::current().expect("a namespace"));
        let wanted = BTreeSet::from([key(port)]);
        let foreign = witness.foreign(&wanted);
        let words = foreign.get(&key(port)).expect("held");
        assert!(words.starts_with(&format!("{}/", std::process::id())), "{words}");
        assert!(witness.is_waiting());
        drop(socket);
        assert!(witness.foreign(&wanted).is_empty());
        assert!(!witness.is_waiting());
        let _later = std::net::TcpListener::bind(("127.0.0.1", port)).expect("free again");
        assert!(witness.foreign(&wanted).is_empty(), "first come, first served");
        assert!(witness.foreign(&BTreeSet::new()).is_empty());
        assert!(!witness.foreign(&wanted).is_empty(), "given up in between");
    }
}
