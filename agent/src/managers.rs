//! The way to the managers: which there are, and which of them answered last.
//!
//! Clones share one pool. Outside a cluster it is empty. Channels connect when they are first used and again after a failure, so
//! handing one out never blocks.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use swarmnet_pki::TlsStore;
use swarmnet_types::Role;
use tonic::transport::Channel;

use crate::local::{Managers, NoManager, Standing};

#[derive(Debug)]
struct Known {
    standing: Standing,
    tls: TlsStore,
    addrs: Vec<SocketAddr>,
    /// Index of the one to use.
    at: usize,
    channels: BTreeMap<SocketAddr, Channel>,
}

/// See the module.
#[derive(Debug, Clone, Default)]
pub struct ManagerPool(Arc<Mutex<Option<Known>>>);

impl ManagerPool {
    fn known(&self) -> MutexGuard<'_, Option<Known>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// This node is in a cluster now, with these managers, the preferred one first.
    pub fn enter(&self, standing: Standing, tls: TlsStore, addrs: Vec<SocketAddr>) {
        let channels = BTreeMap::new();
        *self.known() = Some(Known { standing, tls, addrs, at: 0, channels });
    }

    pub fn leave(&self) {
        *self.known() = None;
    }

    /// The managers as the cluster has them now. The one in use stays in use while it is among them.
    pub fn update(&self, addrs: &[SocketAddr]) {
        let mut guard = self.known();
        let Some(known) = guard.as_mut() else { return };
        if addrs.is_empty() {
            return;
        }
        let used = known.addrs.get(known.at).copied();
        known.addrs = addrs.to_vec();
        known.at = used.and_then(|u| addrs.iter().position(|a| *a == u)).unwrap_or(0);
        known.channels.retain(|addr, _| addrs.contains(addr));
    }

    /// The manager to use, and a channel to it.
    pub fn current(&self) -> Option<(SocketAddr, Channel)> {
        let mut guard = self.known();
        let known = guard.as_mut()?;
        let addr = *known.addrs.get(known.at)?;
        let tls = known.tls.clone();
        let channel = known
            .channels
            .entry(addr)
            .or_insert_with(|| swarmnet_pki::channel(addr, Role::Manager, &tls));
        Some((addr, channel.clone()))
    }

    /// The manager at this address, if there is one, is to be used next.
    pub fn prefer(&self, addr: SocketAddr) {
        if let Some(known) = self.known().as_mut()
            && let Some(at) = known.addrs.iter().position(|a| *a == addr)
        {
            known.at = at;
        }
    }

    /// What the node's certificate says it is now.
    pub fn set_role(&self, role: Role) {
        if let Some(known) = self.known().as_mut() {
            known.standing.role = role;
        }
    }

    /// This manager did not do: another one's turn, unless someone has moved on already.
    pub fn gave_up(&self, addr: SocketAddr) {
        if self.current().is_some_and(|(now, _)| now == addr) {
            self.rotate();
        }
    }

    /// The next manager's turn.
    pub fn rotate(&self) {
        if let Some(known) = self.known().as_mut()
            && !known.addrs.is_empty()
        {
            known.at = (known.at + 1) % known.addrs.len();
        }
    }

    pub fn tls(&self) -> Option<TlsStore> {
        self.known().as_ref().map(|k| k.tls.clone())
    }
}

#[async_trait]
impl Managers for ManagerPool {
    fn standing(&self) -> Option<Standing> {
        self.known().as_ref().map(|k| k.standing)
    }

    async fn channel(&self) -> Result<Channel, NoManager> {
        let tried = || match self.known().as_ref() {
            Some(known) => known.addrs.iter().map(ToString::to_string).collect(),
            None => Vec::new(),
        };
        let current = self.current().map(|(_, channel)| channel);
        current.ok_or_else(|| NoManager { tried: tried() })
    }

    fn failed(&self) {
        self.rotate();
    }
}
