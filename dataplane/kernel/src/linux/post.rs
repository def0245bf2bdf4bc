//! The listening post: a namespace of the daemon's own, without a device, which has an id for every namespace that we look after.
//! Two sockets in it hear them all ([`super::watch`]), however many there are, and keep none of them alive.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

use swarmnet_dataplane::Ns;

use super::lock;
use crate::error::KernelError;
use crate::netns::{Netns, NetnsId};
use crate::route::Route;

/// See the module.
#[derive(Debug)]
pub(super) struct Post {
    pub(super) netns: Netns,
    known: Mutex<Known>,
}

#[derive(Debug)]
struct Known {
    route: Route,
    /// What each namespace is and which id it has here.
    ids: BTreeMap<Ns, (NetnsId, i32)>,
    /// The way back; one namespace may be known under several names.
    names: BTreeMap<i32, BTreeSet<Ns>>,
}

impl Post {
    pub(super) fn open() -> Result<Self, KernelError> {
        let netns = Netns::anonymous()?;
        let route = Route::open(&netns)?;
        let known = Known { route, ids: BTreeMap::new(), names: BTreeMap::new() };
        Ok(Self { netns, known: Mutex::new(known) })
    }

    /// From now on what happens in `netns` is heard and told of `ns`.
    pub(super) fn follow(&self, ns: Ns, netns: &Netns) -> Result<(), KernelError> {
        let mut known = lock(&self.known);
        if known.ids.get(&ns).is_some_and(|(id, _)| *id == netns.id()) {
            return Ok(());
        }
        known.forget(ns);
        let nsid = known.route.nsid_of(netns)?;
        known.ids.insert(ns, (netns.id(), nsid));
        known.names.entry(nsid).or_default().insert(ns);
        Ok(())
    }

    pub(super) fn forget(&self, ns: Ns) {
        lock(&self.known).forget(ns);
    }

    /// Namespaces with this id.
    pub(super) fn of(&self, nsid: i32) -> BTreeSet<Ns> {
        lock(&self.known).names.get(&nsid).cloned().unwrap_or_default()
    }
}

impl Known {
    fn forget(&mut self, ns: Ns) {
        let Some((_, nsid)) = self.ids.remove(&ns) else { return };
        if let Some(names) = self.names.get_mut(&nsid) {
            names.remove(&ns);
            if names.is_empty() {
                self.names.remove(&nsid);
            }
        }
    }
}
