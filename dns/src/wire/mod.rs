//! DNS messages as bytes: the little that the fast path and the forwarder need to know of them (RFC 1035 §4, RFC 6891).
//!
//! Pure. Reads what anybody may have sent: every access is checked, no compression pointer is ever followed, nothing here
//! allocates in proportion to a count that a message claims.

mod message;
pub(crate) mod name;
mod query;

pub(crate) use message::{
    Record, Section, age, is_truncated, rcode, records, set_id, soa_minimum_s, truncate,
};
pub use name::WireName;
pub(crate) use query::{Query, Reject, question_end};

/// RFC 1035 §4.1.1.
pub(crate) const HEADER_LEN: usize = 12;
/// An OPT record without options: root name, type, class, TTL, RDLENGTH (RFC 6891 §6.1.2). 11 = 1 + 2 + 2 + 4 + 2.
pub(crate) const OPT_LEN: usize = 11;
/// Room for one query; what is as long as that is taken for cut, by UDP and by TCP, and is "malformed": a query of one
/// question needs at most 284 bytes, and options of reasonable clients a few dozen.
pub(crate) const QUERY_MAX_BYTES: usize = 1536;
/// Largest answer by UDP to a client that sent no OPT (RFC 1035 §4.2.1).
pub(crate) const UDP_PLAIN_MAX_BYTES: usize = 512;
/// Largest answer of ours by UDP, whatever the client offers. The way is the sandbox's loopback: nothing fragments.
pub(crate) const UDP_EDNS_MAX_BYTES: usize = 4096;
/// What our own OPT records offer (the DNS flag day's size); queries are never larger.
pub(crate) const UDP_OFFER_BYTES: u16 = 1232;

pub(crate) mod flag {
    pub(crate) const RESPONSE: u16 = 0x8000;
    pub(crate) const OPCODE: u16 = 0x7800;
    pub(crate) const AUTHORITATIVE: u16 = 0x0400;
    pub(crate) const TRUNCATED: u16 = 0x0200;
    pub(crate) const RECURSION_DESIRED: u16 = 0x0100;
    pub(crate) const RECURSION_AVAILABLE: u16 = 0x0080;
    pub(crate) const AUTHENTIC_DATA: u16 = 0x0020;
    pub(crate) const CHECKING_DISABLED: u16 = 0x0010;
    pub(crate) const RCODE: u16 = 0x000f;
}

pub(crate) mod code {
    pub(crate) const NO_ERROR: u16 = 0;
    pub(crate) const FORMAT: u16 = 1;
    pub(crate) const SERVER_FAILURE: u16 = 2;
    pub(crate) const NAME_ERROR: u16 = 3;
    pub(crate) const REFUSED: u16 = 5;
    /// Of the extended codes, whose high bits are in OPT (RFC 6891 §6.1.3).
    pub(crate) const BAD_VERSION: u16 = 16;
}

pub(crate) mod kind {
    pub(crate) const A: u16 = 1;
    pub(crate) const SOA: u16 = 6;
    pub(crate) const PTR: u16 = 12;
    pub(crate) const AAAA: u16 = 28;
    pub(crate) const OPT: u16 = 41;
    pub(crate) const IXFR: u16 = 251;
    pub(crate) const AXFR: u16 = 252;
    pub(crate) const ANY: u16 = 255;
}

pub(crate) const CLASS_IN: u16 = 1;

/// The 16-bit number at `at`, or `None` behind the end.
pub(crate) fn u16_at(message: &[u8], at: usize) -> Option<u16> {
    let bytes = message.get(at..at.checked_add(2)?)?;
    Some(u16::from_be_bytes([bytes[0], bytes[1]]))
}

/// The 32-bit number at `at`, or `None` behind the end.
pub(crate) fn u32_at(message: &[u8], at: usize) -> Option<u32> {
    let bytes = message.get(at..at.checked_add(4)?)?;
    Some(u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
}

/// An OPT record of ours: `dnssec_ok` copied from the query (RFC 3225 §3), no options.
pub(crate) fn opt_record(dnssec_ok: bool, extended_rcode: u8) -> [u8; OPT_LEN] {
    let [size_high, size_low] = UDP_OFFER_BYTES.to_be_bytes();
    let do_bit = if dnssec_ok { 0x80 } else { 0 };
    [0, 0, kind::OPT as u8, size_high, size_low, extended_rcode, 0, do_bit, 0, 0, 0]
}

/// An answer without records to a query that parsed: header, question, OPT where the query had one.
pub(crate) fn error_reply(message: &[u8], query: &Query, rcode: u16) -> Vec<u8> {
    let mut reply = Vec::with_capacity(query.question_end + OPT_LEN);
    write_error(message, query, rcode, &mut reply);
    reply
}

/// Likewise, into an empty buffer.
pub(crate) fn write_error(message: &[u8], query: &Query, rcode: u16, reply: &mut Vec<u8>) {
    let kept = query.flags & (flag::RECURSION_DESIRED | flag::CHECKING_DISABLED);
    let flags = flag::RESPONSE | flag::RECURSION_AVAILABLE | kept | (rcode & flag::RCODE);
    reply.extend_from_slice(&query.id.to_be_bytes());
    reply.extend_from_slice(&flags.to_be_bytes());
    reply.extend_from_slice(&[0, 1, 0, 0, 0, 0, 0, u8::from(query.edns.is_some())]);
    reply.extend_from_slice(&message[HEADER_LEN..query.question_end]);
    if let Some(edns) = query.edns {
        reply.extend_from_slice(&opt_record(edns.dnssec_ok, (rcode >> 4) as u8));
    }
}

#[cfg(test)]
mod tests;
