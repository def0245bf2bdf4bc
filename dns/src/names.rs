//! What one sandbox sees: the zones of its networks in lookup order, and where everything else goes.
//!
//! Pure. The rules, in one place:
//! - A name is looked up bare in every zone in order, then as `<name>.<network>`; of several matching networks the one with
//!   the shortest name wins (`a.b.c` is `a.b` on `c` before `a` on `b.c`), as Docker's resolver tries them.
//! - A known name answers every type here: with addresses, or empty. It is never forwarded, whatever the type.
//! - The pointer of an address in one of the sandbox's subnets is answered here too, with a name or with "no such name".
//! - Everything else is not ours. That includes single labels: Docker forwards them, and search-less setups rely on it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use crate::forward::Forwarder;
use crate::wire::{WireName, kind};
use crate::zone::{Addresses, Zone};

/// Swarm says 600 and its users suffer from it; a change must be seen within seconds (product D5).
pub const TTL_S_DEFAULT: u32 = 5;

/// What happens to queries for names that are not ours.
#[derive(Debug, Clone)]
pub enum Forward {
    /// They are refused and never leave this process: the sandbox is on internal networks only (CVE-2024-29018). Refused, not
    /// "no such name", because the name may well exist: only this resolver will not say.
    Never,
    To(Arc<Forwarder>),
}

/// The names of one sandbox. Cheap: zones and forwarders are shared.
#[derive(Debug, Clone)]
pub struct SandboxNames {
    /// In lookup order: the first zone that knows a name answers.
    pub zones: Vec<Arc<Zone>>,
    pub forward: Forward,
    pub ttl_s: u32,
}

/// The record types that tables hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecordKind {
    A,
    Aaaa,
    Ptr,
    /// Every other type, of which local names have none.
    Other,
}

impl RecordKind {
    pub(crate) fn from_wire(kind: u16) -> Self {
        match kind {
            kind::A => Self::A,
            kind::AAAA => Self::Aaaa,
            kind::PTR => Self::Ptr,
            _ => Self::Other,
        }
    }
}

/// What the tables say about a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lookup<'a> {
    /// Never empty.
    V4(&'a [Ipv4Addr]),
    /// Never empty.
    V6(&'a [Ipv6Addr]),
    /// A whole name in wire form, with the root.
    Pointer(&'a [u8]),
    /// The name is known, but has no record of that type.
    NoData,
    /// A pointer question for an address of ours that has no name.
    NoName,
    NotOurs,
}

impl SandboxNames {
    pub fn new(zones: Vec<Arc<Zone>>, forward: Forward) -> Self {
        Self { zones, forward, ttl_s: TTL_S_DEFAULT }
    }

    pub fn lookup(&self, name: &WireName, kind: RecordKind) -> Lookup<'_> {
        if let Some(found) = self.lookup_forward(name.as_bytes(), kind) {
            return found;
        }
        match name.reverse_addr() {
            Some(addr) => self.lookup_reverse(addr, kind),
            None => Lookup::NotOurs,
        }
    }

    fn lookup_forward(&self, name: &[u8], kind: RecordKind) -> Option<Lookup<'_>> {
        let bare = self.zones.iter().filter_map(|zone| zone.bare(name));
        pick(bare, kind).or_else(|| {
            let qualified = self.zones.iter().filter_map(|zone| zone.qualified(name));
            // Names with dots are rare and zones few: a pass per length of the part before the network.
            let longest = qualified.clone().map(|(host_bytes, _)| host_bytes).max()?;
            pick(qualified.filter(|(len, _)| *len == longest).map(|(_, addrs)| addrs), kind)
        })
    }

    fn lookup_reverse(&self, addr: IpAddr, kind: RecordKind) -> Lookup<'_> {
        match self.zones.iter().find_map(|zone| zone.pointer(addr)) {
            Some(name) if kind == RecordKind::Ptr => Lookup::Pointer(name),
            Some(_) => Lookup::NoData,
            None if self.zones.iter().any(|zone| zone.owns(addr)) => Lookup::NoName,
            None => Lookup::NotOurs,
        }
    }
}

/// The first of these that has the family; "no data" when all lack it; `None` when there are none.
fn pick<'a>(
    candidates: impl Iterator<Item = &'a Addresses>,
    kind: RecordKind,
) -> Option<Lookup<'a>> {
    let mut found = None;
    for addrs in candidates {
        match kind {
            RecordKind::A if !addrs.v4.is_empty() => return Some(Lookup::V4(&addrs.v4)),
            RecordKind::Aaaa if !addrs.v6.is_empty() => return Some(Lookup::V6(&addrs.v6)),
            _ => found = Some(Lookup::NoData),
        }
    }
    found
}

#[cfg(test)]
mod tests;
