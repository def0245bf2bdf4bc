//! The replicated state: durable tables, and what is derived from them.
//!
//! Durable (serialized, in the digest): [`tables::Tables`]. Derived (rebuilt on load): [`index::Index`], which answers every
//! "who uses this" question, and the [`ChangeLog`] and [`EventLog`] of recent revisions, which start empty, so that a loaded state
//! hands out snapshots before deltas. Everything changes through [`txn::Txn`] only.

pub(crate) mod digest;
pub(crate) mod index;
mod lookup;
mod read;
mod recent;
pub(crate) mod tables;
pub(crate) mod txn;

pub use digest::Digest;
pub use read::RotationProgress;
pub use read::Usage;
pub use recent::CLOCK_SKEW_MS_MAX;
pub use tables::{
    CertificateAuthority, Cluster, FurtherToken, ManagerLock, NodeRecord, NodeTls, Revoked,
    Rotation, TokenEnd, Tokens,
};

use serde::de::{Error as _, SeqAccess, Visitor};
use serde::ser::SerializeTuple;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use swarmnet_types::Revision;

use crate::events::EventLog;
use crate::view::log::ChangeLog;
use index::Index;
use tables::Tables;

/// Version of the serialized form. A state of a newer one is refused when it is read.
pub const FORMAT: u32 = 1;

/// Everything the cluster agrees on, at one revision.
#[derive(Debug, Clone, Default)]
pub struct State {
    pub(crate) tables: Tables,
    pub(crate) index: Index,
    pub(crate) log: ChangeLog,
    pub(crate) events: EventLog,
}

impl State {
    fn from_tables(tables: Tables) -> Self {
        let index = Index::of(&tables);
        let log = ChangeLog::starting_at(tables.revision);
        let events = EventLog::starting_at(tables.revision);
        Self { tables, index, log, events }
    }

    /// The log index that was applied last.
    pub fn revision(&self) -> Revision {
        self.tables.revision
    }

    /// The same for equal states, on every machine and version of this format.
    pub fn digest(&self) -> Digest {
        digest::of(&self.tables)
    }
}

/// Equal in all that is replicated.
impl PartialEq for State {
    fn eq(&self, other: &Self) -> bool {
        self.tables == other.tables
    }
}

impl Eq for State {}

/// The format's number comes first, so that a reader can refuse before it meets a layout it does not know.
impl Serialize for State {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut tuple = serializer.serialize_tuple(2)?;
        tuple.serialize_element(&FORMAT)?;
        tuple.serialize_element(&self.tables)?;
        tuple.end()
    }
}

impl<'de> Deserialize<'de> for State {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_tuple(2, StateVisitor)
    }
}

struct StateVisitor;

impl<'de> Visitor<'de> for StateVisitor {
    type Value = State;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a format number and the tables of a cluster state")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<State, A::Error> {
        let format: u32 = seq.next_element()?.ok_or_else(|| A::Error::invalid_length(0, &self))?;
        if format != FORMAT {
            return Err(A::Error::custom(format_args!(
                "cluster state of format {format}: this version reads format {FORMAT}"
            )));
        }
        let tables = seq.next_element()?.ok_or_else(|| A::Error::invalid_length(1, &self))?;
        Ok(State::from_tables(tables))
    }
}
