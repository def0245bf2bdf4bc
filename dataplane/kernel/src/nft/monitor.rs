//! Notices of changes to a ruleset (a flush by `nft -f`, `systemctl restart nftables`).
//!
//! Every transaction ends with a message that says who made it. Our own are known by the netlink port. What it changed is not read:
//! tables are looked at as a whole.

use super::dump::attrs;
use super::wire::{self, msg};
use crate::netlink::{frames, is_ours};

/// `NFNLGRP_NFTABLES`.
pub(crate) const GROUP: u32 = 7;
/// `NFTA_GEN_PROC_NAME`.
const PROGRAM: u16 = 3;

/// The program whose transaction a datagram ends; `None` for ours, and for what only leads up to an end.
pub(crate) fn program(data: &[u8]) -> Option<String> {
    frames(data)
        .filter(|frame| wire::message_of(frame.message_type()) == Some(msg::NEWGEN))
        .filter(|frame| !is_ours(frame.port_number()))
        .map(|frame| attrs(frame.payload()).text(PROGRAM).unwrap_or_default())
        .last()
}
