//! Notice of changes that others make to the ruleset (a flush by `nft -f`, `systemctl restart nftables`).
//!
//! Every transaction ends with a message that carries its generation and who made it. Our own are known by the netlink ports of
//! our handles. When the socket overflows the loss itself is reported as a change: nothing can be missed silently.

use std::collections::BTreeSet;

use super::Generation;
use super::decode::{decode_generation, family_of};
use super::dump::attrs;
use super::wire::{self, msg};
use crate::error::KernelError;
use crate::netlink::{Notice, Protocol, Stream, frames};
use crate::netns::Netns;

/// `NFNLGRP_NFTABLES`.
const GROUP: u32 = 7;
/// `NFTA_GEN_PROC_NAME`.
const PROGRAM: u16 = 3;

/// A change that was not ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// After the change; `None` when notifications were lost.
    pub generation: Option<Generation>,
    /// Tables touched, as far as told: family number and name.
    pub tables: BTreeSet<(u8, String)>,
    /// The program that did it.
    pub program: Option<String>,
}

/// A subscription in one namespace. It keeps the namespace alive.
#[derive(Debug)]
pub struct Monitor {
    stream: Stream,
    own_ports: BTreeSet<u32>,
    /// Tables named by messages of the transaction that is being read.
    pending: BTreeSet<(u8, String)>,
}

impl Monitor {
    /// Subscribes. `own_ports` are the ports of the handles that make our changes ([`super::Nft::port`]).
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn open(
        netns: &Netns,
        own_ports: impl IntoIterator<Item = u32>,
    ) -> Result<Self, KernelError> {
        let stream = Stream::open(netns, Protocol::Netfilter, &[GROUP])?;
        let own_ports = own_ports.into_iter().collect();
        Ok(Self { stream, own_ports, pending: BTreeSet::new() })
    }

    /// Waits for the next change of another program.
    ///
    /// Cancel-safe: what was read is kept.
    pub async fn next(&mut self) -> Result<Change, KernelError> {
        loop {
            match self.stream.next().await? {
                Notice::Data(data) => {
                    if let Some(change) = self.read(&data) {
                        return Ok(change);
                    }
                }
                Notice::Lost => {
                    let tables = std::mem::take(&mut self.pending);
                    return Ok(Change { generation: None, tables, program: None });
                }
            }
        }
    }

    /// One datagram: messages of one transaction; its last one says who made it.
    fn read(&mut self, data: &[u8]) -> Option<Change> {
        let mut change = None;
        for frame in frames(data) {
            let Some(message) = wire::message_of(frame.message_type()) else { continue };
            if message != msg::NEWGEN {
                // The table's name is attribute 1 of every object.
                let name = attrs(frame.payload()).text(1);
                self.pending.extend(family_of(frame.payload()).zip(name));
                continue;
            }
            let tables = std::mem::take(&mut self.pending);
            if !self.own_ports.contains(&frame.port_number()) {
                let generation = decode_generation(frame.payload()).map(Generation);
                let program = attrs(frame.payload()).text(PROGRAM);
                change = Some(merge(change, Change { generation, tables, program }));
            }
        }
        change
    }
}

/// Several transactions in one datagram are one change: the newest generation, all tables.
fn merge(earlier: Option<Change>, mut later: Change) -> Change {
    if let Some(mut earlier) = earlier {
        later.tables.append(&mut earlier.tables);
    }
    later
}
