//! A kernel in memory: what [`crate::Kernel`] promises, as strict as Linux about order, with faults on demand.
//!
//! What exists cannot be added again, nothing hangs on a link or nexthop that is not there, a chain in use stays. Removing a link
//! takes along what hangs on it; removing a namespace, what is in it. Filters are demanded before the first VXLAN device.
//!
//! Namespaces that are not ours exist from the start when [`ModelKernel::with_foreign_netns`] says so.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard};

use crate::actual::{Actual, NsState, Scope};
use crate::kernel::Kernel;
use crate::names::TABLE;
use crate::nft::{self, Family, Table, TableId};
use crate::object::{FdbTo, Link, LinkChange, LinkKind, LinkName, Netns, Ns, RouteKey, RouteTo};
use crate::op::Op;
use crate::plan::detach;

/// Why an operation would be refused. The state is as before.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ModelError {
    #[error("{op}: exists already")]
    Exists { op: String },
    #[error("{op}: what it needs does not exist")]
    Missing { op: String },
    /// A VXLAN device without its filter (X1).
    #[error("{op}: the VXLAN filter is not in place")]
    Unfiltered { op: String },
    /// Asked for by [`ModelKernel::fail`].
    #[error("{op}: injected fault")]
    Injected { op: String },
    #[error(transparent)]
    Nft(#[from] nft::NftModelError),
}

#[derive(Debug, Default)]
struct State {
    actual: Actual,
    /// Both directions.
    pairs: BTreeMap<(Ns, LinkName), (Ns, LinkName)>,
    /// Operations from now on, counted from 0, that fail.
    faults: BTreeSet<usize>,
    applied: usize,
}

/// See the module.
#[derive(Debug)]
pub struct ModelKernel {
    state: Mutex<State>,
}

impl Default for ModelKernel {
    fn default() -> Self {
        let mut state = State::default();
        state.actual.namespaces.insert(Ns::Node, empty(None));
        Self { state: Mutex::new(state) }
    }
}

fn empty(netns: Option<Netns>) -> NsState {
    let mut state = NsState { netns, tables: Some(BTreeMap::new()), ..NsState::default() };
    let mut lo = Link::up(LinkKind::Loopback, String::new());
    lo.up = state.netns.is_none();
    state.links.insert(LinkName::loopback(), lo);
    state
}

impl ModelKernel {
    /// Adds a namespace that another program made.
    #[must_use]
    pub fn with_foreign_netns(self, ns: Ns, netns: Netns) -> Self {
        self.lock().actual.namespaces.insert(ns, empty(Some(netns)));
        self
    }

    /// Changes the state behind the planner's back: drift, links of other programs, their forward chains.
    pub fn meddle(&self, change: impl FnOnce(&mut Actual)) {
        change(&mut self.lock().actual);
    }

    /// The `n`th operations from now, counted from 0, fail once.
    pub fn fail(&self, which: impl IntoIterator<Item = usize>) {
        let mut state = self.lock();
        state.applied = 0;
        state.faults = which.into_iter().collect();
    }

    /// Everything, as [`Kernel::observe`] reports it without limits.
    pub fn seen(&self) -> Actual {
        self.lock().actual.clone()
    }

    /// One operation, at once.
    ///
    /// # Errors
    /// [`ModelError`]; nothing has changed then.
    pub fn apply_now(&self, op: &Op) -> Result<(), ModelError> {
        let mut state = self.lock();
        let number = state.applied;
        state.applied += 1;
        if state.faults.remove(&number) {
            return Err(ModelError::Injected { op: op.to_string() });
        }
        state.apply(op)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Kernel for ModelKernel {
    type Error = ModelError;

    async fn observe(&self, scope: &Scope) -> Result<Actual, ModelError> {
        let mut actual = self.seen();
        actual.namespaces.retain(|ns, _| scope.namespaces.contains_key(ns));
        for (ns, state) in &mut actual.namespaces {
            let looked = &scope.namespaces[ns];
            state.sysctls.retain(|key, _| looked.sysctls.contains(key));
            state.tables = state.tables.take().filter(|_| looked.tables);
        }
        if !scope.forward {
            actual.forward.clear();
        }
        Ok(actual)
    }

    async fn apply(&self, op: &Op) -> Result<(), ModelError> {
        self.apply_now(op)
    }
}

fn missing(op: &Op) -> ModelError {
    ModelError::Missing { op: op.to_string() }
}

fn exists(op: &Op) -> ModelError {
    ModelError::Exists { op: op.to_string() }
}

/// Turns a test into a verdict on an operation.
fn need(condition: bool, op: &Op) -> Result<(), ModelError> {
    if condition { Ok(()) } else { Err(missing(op)) }
}

impl State {
    fn ns(&mut self, op: &Op) -> Result<&mut NsState, ModelError> {
        self.actual.namespaces.get_mut(&op.ns()).ok_or_else(|| missing(op))
    }

    fn apply(&mut self, op: &Op) -> Result<(), ModelError> {
        match op {
            Op::AddNetns { ns, netns } => {
                if self.actual.namespaces.contains_key(ns) {
                    return Err(exists(op));
                }
                self.actual.namespaces.insert(*ns, empty(Some(netns.clone())));
                Ok(())
            }
            Op::DelNetns { ns, .. } => {
                self.del_netns(*ns);
                Ok(())
            }
            Op::AddLink { name, link, .. } => self.add_link(name, link, op),
            Op::AddVeth { ns, name, link, peer_ns, peer_name, peer } => {
                let (outer, inner) = ((*ns, name.clone()), (*peer_ns, peer_name.clone()));
                self.add_veth((outer, link), (inner, peer), op)
            }
            Op::DelLink { ns, name } => {
                self.del_link(*ns, name);
                Ok(())
            }
            Op::Nft { table, ops, .. } => self.nft(table, ops, op),
            Op::KillFlows { .. } => self.ns(op).map(drop),
            Op::SetForwardAccept { chain, matches } => {
                let seen = self.actual.forward.get_mut(chain).ok_or_else(|| missing(op))?;
                seen.clone_from(matches);
                Ok(())
            }
            _ => self.ns(op)?.apply(op),
        }
    }

    fn add_link(&mut self, name: &LinkName, link: &Link, op: &Op) -> Result<(), ModelError> {
        if matches!(link.kind, LinkKind::Vxlan(_)) && !self.filters() {
            return Err(ModelError::Unfiltered { op: op.to_string() });
        }
        let ns = self.ns(op)?;
        if ns.links.contains_key(name) {
            return Err(exists(op));
        }
        ns.links.insert(name.clone(), born(link));
        Ok(())
    }

    /// The node table has a chain before connection tracking that leads VXLAN to a set of senders.
    fn filters(&self) -> bool {
        let node = self.actual.namespaces.get(&Ns::Node).and_then(|ns| ns.tables.as_ref());
        let id = TableId { family: Family::Inet, name: TABLE.to_owned() };
        let chains = node.and_then(|tables| tables.get(&id)).map(|t| t.chains.values());
        let early = |c: &nft::Chain| c.hook.as_ref().is_some_and(|h| h.priority < -200);
        chains.into_iter().flatten().any(|chain| {
            early(chain)
                && chain.rules.iter().flat_map(nft::Rule::exprs).any(|e| e.chain() == Some("vxlan"))
        })
    }

    fn add_veth(
        &mut self,
        (outer, link): ((Ns, LinkName), &Link),
        (inner, peer): ((Ns, LinkName), &Link),
        op: &Op,
    ) -> Result<(), ModelError> {
        for (ns, name) in [&outer, &inner] {
            let state = self.actual.namespaces.get(ns).ok_or_else(|| missing(op))?;
            if state.links.contains_key(name) {
                return Err(exists(op));
            }
        }
        for ((ns, name), link) in [(&outer, link), (&inner, peer)] {
            let state = self.actual.namespaces.get_mut(ns).ok_or_else(|| missing(op))?;
            state.links.insert(name.clone(), born(link));
        }
        self.pairs.insert(outer.clone(), inner.clone());
        self.pairs.insert(inner, outer);
        Ok(())
    }

    fn del_link(&mut self, ns: Ns, name: &LinkName) {
        let Some(state) = self.actual.namespaces.get_mut(&ns) else { return };
        if state.links.remove(name).is_none() {
            return;
        }
        detach(state, name);
        let segment = format!("/conf/{name}/");
        state.sysctls.retain(|key, _| !key.contains(&segment));
        for link in state.links.values_mut().filter(|l| l.master.as_ref() == Some(name)) {
            (link.master, link.port) = (None, None);
        }
        if let Some((peer_ns, peer)) = self.pairs.remove(&(ns, name.clone())) {
            self.del_link(peer_ns, &peer);
        }
    }

    fn del_netns(&mut self, ns: Ns) {
        let Some(state) = self.actual.namespaces.get(&ns) else { return };
        let links: Vec<_> = state.links.keys().cloned().collect();
        for name in &links {
            self.del_link(ns, name);
        }
        self.actual.namespaces.remove(&ns);
    }

    fn nft(&mut self, id: &TableId, ops: &[nft::NftOp], op: &Op) -> Result<(), ModelError> {
        let ns = self.ns(op)?;
        let devices: BTreeSet<&str> = ns.links.keys().map(LinkName::as_str).collect();
        let hooked = ops.iter().filter_map(|op| match op {
            nft::NftOp::AddChain { hook: Some(hook), .. } => hook.device.as_deref(),
            _ => None,
        });
        need(hooked.into_iter().all(|device| devices.contains(device)), op)?;
        let tables = ns.tables.get_or_insert_default();
        match Table::apply(tables.get(id), id, ops)? {
            Some(table) => drop(tables.insert(id.clone(), table)),
            None => drop(tables.remove(id)),
        }
        Ok(())
    }
}

/// As a link is right after its creation.
fn born(link: &Link) -> Link {
    Link { up: false, master: None, port: None, ..link.clone() }
}

impl NsState {
    /// Operations that concern one namespace and no table.
    fn apply(&mut self, op: &Op) -> Result<(), ModelError> {
        match op {
            Op::SetLink { name, change, .. } => self.set_link(name, change, op),
            Op::AddAddr { link, addr, .. } => {
                self.has(link, op)?;
                let new = self.addrs.insert((link.clone(), *addr));
                if new { Ok(()) } else { Err(exists(op)) }
            }
            Op::DelAddr { link, addr, .. } => {
                self.addrs.remove(&(link.clone(), *addr));
                Ok(())
            }
            Op::PutRoute { key, to, .. } => self.put_route(*key, to, op),
            Op::DelRoute { key, .. } => {
                self.routes.remove(key);
                Ok(())
            }
            Op::AddRule { rule, .. } => {
                if self.rules.insert(rule.clone()) {
                    Ok(())
                } else {
                    Err(exists(op))
                }
            }
            Op::DelRule { rule, .. } => {
                self.rules.remove(rule);
                Ok(())
            }
            Op::PutNexthop { id, nexthop, .. } => {
                self.is_up(&nexthop.link, op)?;
                self.nexthops.insert(*id, nexthop.clone());
                Ok(())
            }
            Op::DelNexthop { id, .. } => {
                self.nexthops.remove(id);
                self.routes.retain(|_, to| *to != RouteTo::Nexthop(*id));
                Ok(())
            }
            Op::SetSysctl { key, value, .. } => {
                self.sysctls.insert(key.clone(), value.clone());
                Ok(())
            }
            _ => self.apply_entry(op),
        }
    }

    fn apply_entry(&mut self, op: &Op) -> Result<(), ModelError> {
        match op {
            Op::PutNeighbour { link, addr, mac, .. } => {
                self.has(link, op)?;
                self.neighbours.insert((link.clone(), *addr), *mac);
            }
            Op::DelNeighbour { link, addr, .. } => {
                self.neighbours.remove(&(link.clone(), *addr));
            }
            Op::PutFdb { link, mac, to, .. } => {
                self.has(link, op)?;
                let port = self.links[link].master.is_some();
                need(*to != FdbTo::Port || port, op)?;
                self.fdb.insert((link.clone(), *mac), to.clone());
            }
            Op::DelFdb { link, mac, .. } => {
                self.fdb.remove(&(link.clone(), *mac));
            }
            _ => {}
        }
        Ok(())
    }

    fn has(&self, link: &LinkName, op: &Op) -> Result<(), ModelError> {
        need(self.links.contains_key(link), op)
    }

    fn is_up(&self, link: &LinkName, op: &Op) -> Result<(), ModelError> {
        need(self.links.get(link).is_some_and(|l| l.up), op)
    }

    fn set_link(
        &mut self,
        name: &LinkName,
        change: &LinkChange,
        op: &Op,
    ) -> Result<(), ModelError> {
        if let LinkChange::Master(Some(master)) = change {
            self.has(master, op)?;
        }
        let link = self.links.get_mut(name).ok_or_else(|| missing(op))?;
        match change {
            LinkChange::Mac(mac) => link.mac = Some(*mac),
            LinkChange::MtuBytes(mtu) => link.mtu_bytes = Some(*mtu),
            LinkChange::Up => link.up = true,
            LinkChange::Master(master) => {
                link.master.clone_from(master);
                link.port = None;
            }
            LinkChange::Port(flags) => {
                need(link.master.is_some(), op)?;
                link.port = Some(*flags);
            }
            LinkChange::Alias(alias) => link.alias.clone_from(alias),
        }
        Ok(())
    }

    fn put_route(&mut self, key: RouteKey, to: &RouteTo, op: &Op) -> Result<(), ModelError> {
        match to {
            RouteTo::Nexthop(id) => need(self.nexthops.contains_key(id), op)?,
            RouteTo::Link(link) | RouteTo::Via { link, .. } | RouteTo::Local(link) => {
                self.is_up(link, op)?;
            }
        }
        self.routes.insert(key, to.clone());
        Ok(())
    }
}
