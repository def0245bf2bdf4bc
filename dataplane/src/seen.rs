//! What observed tables do, in plain words: read back from the same maps that [`mod@crate::plan`] writes.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use crate::actual::NsState;
use crate::desired::PublicationKey;
use crate::names::TABLE;
use crate::nft::{Family, Table, TableId};
use crate::render::{balance, publish};

/// What becomes of a new connection to a virtual address, or to a published port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Balancing<T> {
    /// Nothing knows of it.
    Unknown,
    /// Known, without a backend: refused at once.
    Refused,
    /// One of these is picked.
    Among(BTreeSet<T>),
}

/// Where a sandbox leads packets to a virtual address.
pub fn vip(sandbox: &NsState, vip: IpAddr) -> Balancing<IpAddr> {
    inet(sandbox).map_or(Balancing::Unknown, |table| balance::held(table, vip))
}

/// Where the node leads packets to a published port, of one family.
pub fn port(node: &NsState, key: &PublicationKey, ipv6: bool) -> Balancing<SocketAddr> {
    inet(node).map_or(Balancing::Unknown, |table| publish::held(table, key, ipv6))
}

fn inet(state: &NsState) -> Option<&Table> {
    let id = TableId { family: Family::Inet, name: TABLE.to_owned() };
    state.tables.as_ref()?.get(&id)
}
