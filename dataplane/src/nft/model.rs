//! What the kernel does with operations, on plain data: the reference that [`super::diff`] is tested against and that model
//! kernels use.
//!
//! It is as strict as nf_tables: a chain or map in use cannot be removed, a reference must exist, a key cannot be added twice.

use super::diff::NftOp;
use super::table::{Chain, Elem, ElemData, Map, Table};

/// Why an operation would be refused. Nothing of the batch is applied then.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NftModelError {
    /// ENOENT.
    #[error("{op}: no such object")]
    Missing { op: String },
    /// EEXIST.
    #[error("{op}: exists already")]
    Exists { op: String },
    /// EBUSY.
    #[error("{op}: in use")]
    Busy { op: String },
}

impl Table {
    /// Applies one batch: all of it or nothing. `table` is what is there now; the result is what is there after.
    ///
    /// # Errors
    /// [`NftModelError`], as nf_tables would answer.
    pub fn apply(
        table: Option<&Self>,
        id: &super::TableId,
        ops: &[NftOp],
    ) -> Result<Option<Self>, NftModelError> {
        let mut state = table.cloned();
        for op in ops {
            match op {
                NftOp::AddTable => {
                    state.get_or_insert_with(|| Self::new(id.family, id.name.clone()));
                }
                NftOp::DelTable => state = None,
                op => {
                    let table = state.as_mut().ok_or_else(|| missing(op))?;
                    table.apply_op(op)?;
                }
            }
        }
        Ok(state)
    }

    fn apply_op(&mut self, op: &NftOp) -> Result<(), NftModelError> {
        match op {
            NftOp::AddTable | NftOp::DelTable => Ok(()),
            NftOp::AddCounter { name } => {
                self.counters.insert(name.clone()).then_some(()).ok_or_else(|| exists(op))
            }
            NftOp::DelCounter { name } if self.uses_counter(name) => Err(busy(op)),
            NftOp::DelCounter { name } => {
                self.counters.remove(name).then_some(()).ok_or_else(|| missing(op))
            }
            NftOp::AddMap { name, spec } => {
                let map = Map { spec: spec.clone(), elements: super::Elems::new() };
                insert_new(&mut self.maps, name, map, op)
            }
            NftOp::DelMap { name } if self.uses_map(name) => Err(busy(op)),
            NftOp::DelMap { name } => self.maps.remove(name).map(drop).ok_or_else(|| missing(op)),
            NftOp::AddElems { map, elems, .. } => self.add_elems(map, elems, op),
            NftOp::DelElems { map, elems, .. } => {
                let map = self.maps.get_mut(map).ok_or_else(|| missing(op))?;
                elems
                    .keys()
                    .try_for_each(|k| map.elements.remove(k).map(drop).ok_or_else(|| missing(op)))
            }
            NftOp::AddChain { name, hook } => {
                let chain = Chain { hook: hook.clone(), rules: Vec::new() };
                insert_new(&mut self.chains, name, chain, op)
            }
            NftOp::DelChain { name } => self.del_chain(name, op),
            NftOp::FlushChain { name } => {
                self.chains.get_mut(name).map(|c| c.rules.clear()).ok_or_else(|| missing(op))
            }
            NftOp::AddRule { chain, rule } => {
                let known = rule.exprs().iter().all(|e| {
                    e.map().is_none_or(|m| self.maps.contains_key(m))
                        && e.chain().is_none_or(|c| self.chains.contains_key(c))
                        && e.counter().is_none_or(|c| self.counters.contains(c))
                });
                let chain = self.chains.get_mut(chain).filter(|_| known);
                chain.map(|c| c.rules.push(rule.clone())).ok_or_else(|| missing(op))
            }
        }
    }

    fn add_elems(
        &mut self,
        map: &str,
        elems: &super::Elems,
        op: &NftOp,
    ) -> Result<(), NftModelError> {
        if !elems.values().filter_map(target).all(|c| self.chains.contains_key(c)) {
            return Err(missing(op));
        }
        let map = self.maps.get_mut(map).ok_or_else(|| missing(op))?;
        elems.iter().try_for_each(|(key, elem)| {
            match map.elements.insert(key.clone(), elem.clone()) {
                Some(_) => Err(exists(op)),
                None => Ok(()),
            }
        })
    }

    fn del_chain(&mut self, name: &str, op: &NftOp) -> Result<(), NftModelError> {
        let chain = self.chains.get(name).ok_or_else(|| missing(op))?;
        if !chain.rules.is_empty() || self.uses_chain(name) {
            return Err(busy(op));
        }
        self.chains.remove(name);
        Ok(())
    }

    fn uses_chain(&self, name: &str) -> bool {
        self.exprs().any(|e| e.chain() == Some(name))
            || self.maps.values().flat_map(|m| m.elements.values()).any(|e| target(e) == Some(name))
    }

    fn uses_map(&self, name: &str) -> bool {
        self.exprs().any(|e| e.map() == Some(name))
    }

    fn uses_counter(&self, name: &str) -> bool {
        self.exprs().any(|e| e.counter() == Some(name))
    }

    fn exprs(&self) -> impl Iterator<Item = &super::Expr> {
        self.chains.values().flat_map(|c| &c.rules).flat_map(super::Rule::exprs)
    }
}

fn target(elem: &Elem) -> Option<&str> {
    match &elem.data {
        ElemData::Verdict(verdict) => verdict.chain(),
        ElemData::None | ElemData::Value(_) => None,
    }
}

fn insert_new<T>(
    map: &mut std::collections::BTreeMap<String, T>,
    name: &str,
    value: T,
    op: &NftOp,
) -> Result<(), NftModelError> {
    match map.insert(name.to_owned(), value) {
        Some(_) => Err(exists(op)),
        None => Ok(()),
    }
}

fn missing(op: &NftOp) -> NftModelError {
    NftModelError::Missing { op: op.to_string() }
}

fn exists(op: &NftOp) -> NftModelError {
    NftModelError::Exists { op: op.to_string() }
}

fn busy(op: &NftOp) -> NftModelError {
    NftModelError::Busy { op: op.to_string() }
}
