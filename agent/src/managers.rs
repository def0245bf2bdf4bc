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
    /// `None`: the node's key is locked.
    tls: Option<TlsStore>,
    addrs: Vec<SocketAddr>,
    /// Where managers may be, by the gossip; tried after `addrs`, none of which it repeats.
    hints: Vec<SocketAddr>,
    /// Index of the one to use, in both.
    at: usize,
    channels: BTreeMap<SocketAddr, Channel>,
    /// Why no manager serves this node.
    trouble: Option<String>,
}

/// See the module.
#[derive(Debug, Clone, Default)]
pub struct ManagerPool(Arc<Mutex<Option<Known>>>);

impl ManagerPool {
    fn known(&self) -> MutexGuard<'_, Option<Known>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// This node is in a cluster now, with these managers, asked in this order.
    pub fn enter(&self, standing: Standing, tls: TlsStore, addrs: Vec<SocketAddr>) {
        *self.known() = Some(Known::new(standing, Some(tls), addrs));
    }

    /// This node is in a cluster, and cannot call anybody before it is unlocked.
    pub fn enter_locked(&self, standing: Standing) {
        *self.known() = Some(Known::new(standing, None, Vec::new()));
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
        let hints = known.hints.clone();
        known.replace(addrs.to_vec(), hints);
    }

    /// Managers may be here as well.
    pub fn hint(&self, hints: Vec<SocketAddr>) {
        if let Some(known) = self.known().as_mut() {
            let addrs = known.addrs.clone();
            known.replace(addrs, hints);
        }
    }

    /// The manager to use, and a channel to it.
    pub fn current(&self) -> Option<(SocketAddr, Channel)> {
        let mut guard = self.known();
        let known = guard.as_mut()?;
        let addr = known.all().nth(known.at)?;
        let tls = known.tls.clone()?;
        let channel = known
            .channels
            .entry(addr)
            .or_insert_with(|| swarmnet_pki::channel(addr, Role::Manager, &tls));
        Some((addr, channel.clone()))
    }

    /// The manager at this address, if there is one, is to be used next.
    pub fn prefer(&self, addr: SocketAddr) {
        if let Some(known) = self.known().as_mut()
            && let Some(at) = known.position(addr)
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
            && known.all().next().is_some()
        {
            known.at = (known.at + 1) % known.all().count();
        }
    }

    /// Why no manager serves this node; `None` when one does.
    pub(crate) fn set_trouble(&self, trouble: Option<String>) {
        if let Some(known) = self.known().as_mut() {
            known.trouble = trouble;
        }
    }

    /// What an operator is to know of the way to the managers.
    pub(crate) fn trouble(&self) -> Option<String> {
        self.known().as_ref().and_then(|k| k.trouble.clone())
    }

    /// This node is a manager that waits for the operator's key.
    pub fn is_locked(&self) -> bool {
        self.known().as_ref().is_some_and(|k| k.tls.is_none())
    }

    pub fn tls(&self) -> Option<TlsStore> {
        self.known().as_ref().and_then(|k| k.tls.clone())
    }
}

impl Known {
    fn new(standing: Standing, tls: Option<TlsStore>, addrs: Vec<SocketAddr>) -> Self {
        let (hints, channels) = (Vec::new(), BTreeMap::new());
        Self { standing, tls, addrs, hints, at: 0, channels, trouble: None }
    }

    fn all(&self) -> impl Iterator<Item = SocketAddr> {
        self.addrs.iter().chain(&self.hints).copied()
    }

    fn position(&self, addr: SocketAddr) -> Option<usize> {
        self.all().position(|a| a == addr)
    }

    /// The order stays this node's own, so that the agents of a manager that dies go to all the others.
    fn replace(&mut self, addrs: Vec<SocketAddr>, mut hints: Vec<SocketAddr>) {
        let used = self.all().nth(self.at);
        self.addrs.retain(|addr| addrs.contains(addr));
        for addr in addrs {
            if !self.addrs.contains(&addr) {
                self.addrs.insert(rand::random_range(0..=self.addrs.len()), addr);
            }
        }
        let addrs = &self.addrs;
        hints.retain(|hint| !addrs.contains(hint));
        self.hints = hints;
        self.at = used.and_then(|used| self.position(used)).unwrap_or(0);
        let (addrs, hints) = (&self.addrs, &self.hints);
        self.channels.retain(|addr, _| addrs.contains(addr) || hints.contains(addr));
    }
}

#[async_trait]
impl Managers for ManagerPool {
    fn standing(&self) -> Option<Standing> {
        self.known().as_ref().map(|k| k.standing)
    }

    fn is_locked(&self) -> bool {
        Self::is_locked(self)
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

#[cfg(test)]
mod tests {
    use swarmnet_types::{ClusterId, NodeId};

    use super::*;

    fn addr(n: u8) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, n], 2377))
    }

    #[test]
    fn hints_are_tried_after_the_managers_and_forgotten_when_they_are_among_them() {
        let (node, cluster) = (NodeId::from_bytes([1; 16]), ClusterId::from_bytes([2; 16]));
        let standing = Standing { node, cluster, role: Role::Worker };
        let pool = ManagerPool::default();
        pool.hint(vec![addr(9)]);
        assert_eq!(pool.standing(), None, "outside a cluster there is nothing to hint at");
        pool.enter_locked(standing);
        let used = || pool.known().as_ref().and_then(|k| k.all().nth(k.at));
        let all = || pool.known().as_ref().map(|k| k.all().collect::<Vec<_>>());
        pool.update(&[addr(2)]);
        pool.hint(vec![addr(2), addr(9)]);
        assert_eq!(all(), Some(vec![addr(2), addr(9)]));
        pool.rotate();
        assert_eq!(used(), Some(addr(9)));
        pool.hint(vec![addr(8), addr(9)]);
        assert_eq!(used(), Some(addr(9)), "the one in use stays in use");
        pool.update(&[addr(9)]);
        assert_eq!((used(), all()), (Some(addr(9)), Some(vec![addr(9), addr(8)])));
        pool.rotate();
        pool.rotate();
        assert_eq!(used(), Some(addr(9)));
    }

    #[test]
    fn the_order_is_the_nodes_own_and_stays_when_managers_come_and_go() {
        let (node, cluster) = (NodeId::from_bytes([1; 16]), ClusterId::from_bytes([2; 16]));
        let pool = ManagerPool::default();
        pool.enter_locked(Standing { node, cluster, role: Role::Worker });
        let all = || pool.known().as_ref().map(|k| k.addrs.clone()).unwrap_or_default();
        let managers: Vec<SocketAddr> = (1..=5).map(addr).collect();
        pool.update(&managers);
        let own = all();
        pool.update(&managers[..4]);
        let left: Vec<SocketAddr> = own.iter().copied().filter(|a| *a != addr(5)).collect();
        assert_eq!(all(), left);
        pool.update(&[&managers[..4], &[addr(6)]].concat());
        assert_eq!(all().into_iter().filter(|a| *a != addr(6)).collect::<Vec<_>>(), left);
        assert_eq!(all().len(), 5);
    }
}
