//! nf_tables over netlink: batches out, dumps and notifications in. No `nft` program is involved.
//!
//! [`Nft`] is one socket in one namespace. It carries out operations of `swarmnet_dataplane::nft` ([`Nft::commit`]: one atomic
//! batch), reads a table back ([`Nft::observe`]), and looks after our accept rules in foreign forward chains ([`Nft::forward`]).
//! Changes made by others are told by [`crate::Watch`].
//!
//! Sources: `include/uapi/linux/netfilter/nf_tables.h`, `nfnetlink.h`; layouts compared with what `nft --debug=netlink` sends.

mod batch;
mod decode;
mod dump;
mod expr;
mod forward;
pub(crate) mod monitor;
mod wire;

pub use dump::CounterValue;

use std::collections::{BTreeMap, BTreeSet};

use swarmnet_dataplane::nft::{NftOp, Table, TableId};
use swarmnet_dataplane::{ForeignChain, ForwardMatch};

use crate::error::KernelError;
use crate::netlink::{Protocol, Socket};
use crate::netns::Netns;

/// The ruleset's generation: a number that every change, by whomever, increments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Generation(pub u32);

/// A handle on the nf_tables of one namespace. It keeps the namespace alive.
#[derive(Debug)]
pub struct Nft {
    socket: Socket,
}

impl Nft {
    pub fn open(netns: &Netns) -> Result<Self, KernelError> {
        Ok(Self { socket: Socket::open(netns, Protocol::Netfilter)? })
    }

    /// Carries out the operations as one transaction: all or nothing.
    ///
    /// With `generation` the kernel refuses (ERESTART, [`KernelError::is_stale`]) when the ruleset changed since it was read.
    ///
    /// # Errors
    /// [`KernelError::Refused`] names the first operation that failed.
    pub fn commit(
        &mut self,
        table: &TableId,
        ops: &[NftOp],
        generation: Option<Generation>,
    ) -> Result<(), KernelError> {
        if ops.is_empty() {
            return Ok(());
        }
        batch::Batch::encode(table, ops, generation).commit(&mut self.socket)
    }

    /// The table as it is, rules by their identity; `None` when there is no such table.
    pub fn observe(&mut self, table: &TableId) -> Result<Option<Table>, KernelError> {
        dump::table(&mut self.socket, table)
    }

    /// The table together with the generation at which it was whole.
    ///
    /// # Errors
    /// As for `observe`; when others change the ruleset without pause, the last reading with the generation before it, so that a
    /// commit against it is refused rather than wrong.
    pub fn observe_at(
        &mut self,
        table: &TableId,
    ) -> Result<(Option<Table>, Generation), KernelError> {
        const ATTEMPTS: usize = 4;
        let mut before = self.generation()?;
        for _ in 1..ATTEMPTS {
            let seen = self.observe(table)?;
            let after = self.generation()?;
            if after == before {
                return Ok((seen, after));
            }
            before = after;
        }
        Ok((self.observe(table)?, before))
    }

    pub fn generation(&mut self) -> Result<Generation, KernelError> {
        dump::generation(&mut self.socket)
    }

    /// Values of the table's named counters.
    pub fn counters(&mut self, table: &TableId) -> Result<Vec<CounterValue>, KernelError> {
        dump::counters(&mut self.socket, table)
    }

    /// Forward chains of other programs that drop by policy or hold rules of ours, with what ours accept there.
    pub fn forward(
        &mut self,
    ) -> Result<BTreeMap<ForeignChain, BTreeSet<ForwardMatch>>, KernelError> {
        forward::observe(&mut self.socket)
    }

    /// Makes our accept rules at the head of a foreign chain exactly these. Rules of others are not touched.
    pub fn set_forward(
        &mut self,
        chain: &ForeignChain,
        matches: &BTreeSet<ForwardMatch>,
    ) -> Result<(), KernelError> {
        forward::set(&mut self.socket, chain, matches)
    }

    /// All tables of this name, whatever their family.
    pub fn tables_named(&mut self, name: &str) -> Result<Vec<TableId>, KernelError> {
        dump::tables_named(&mut self.socket, name)
    }
}
