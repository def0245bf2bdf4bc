//! The strict reader of queries: one question, at most one OPT record, nothing else. Whatever does not fit is not answered
//! here but handed to the slow path, or dropped when answering it could do harm.

use super::{
    HEADER_LEN, OPT_LEN, QUERY_MAX_BYTES, UDP_EDNS_MAX_BYTES, UDP_PLAIN_MAX_BYTES, WireName, flag,
    kind, u16_at,
};

/// A query of the usual shape.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Query {
    pub(crate) id: u16,
    pub(crate) flags: u16,
    pub(crate) name: WireName,
    pub(crate) kind: u16,
    pub(crate) class: u16,
    /// Offset behind the question.
    pub(crate) question_end: usize,
    pub(crate) edns: Option<Edns>,
}

/// What the query's OPT record says (RFC 6891 §6.1.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Edns {
    pub(crate) payload_bytes: u16,
    pub(crate) version: u8,
    pub(crate) dnssec_ok: bool,
    pub(crate) has_options: bool,
}

/// Why a message is no [`Query`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reject {
    /// Too short for a header, or a response. Must not be answered: two servers could keep each other busy for ever.
    Silent,
    /// A query, but none of the usual shape: another opcode, several questions, further records, garbage.
    Odd,
}

impl Query {
    /// # Errors
    /// See [`Reject`].
    pub(crate) fn parse(message: &[u8]) -> Result<Self, Reject> {
        let header = message.get(..HEADER_LEN).ok_or(Reject::Silent)?;
        let word = |i: usize| u16::from_be_bytes([header[2 * i], header[2 * i + 1]]);
        let flags = word(1);
        if flags & flag::RESPONSE != 0 {
            return Err(Reject::Silent);
        }
        let usual_counts = word(2) == 1 && word(3) == 0 && word(4) == 0 && word(5) <= 1;
        let is_cut = message.len() >= QUERY_MAX_BYTES;
        if flags & (flag::OPCODE | flag::TRUNCATED) != 0 || !usual_counts || is_cut {
            return Err(Reject::Odd);
        }
        let (name, name_end) = WireName::read(message, HEADER_LEN).ok_or(Reject::Odd)?;
        let kind = u16_at(message, name_end).ok_or(Reject::Odd)?;
        let class = u16_at(message, name_end + 2).ok_or(Reject::Odd)?;
        let question_end = name_end + 4;
        let edns = match word(5) {
            0 if message.len() == question_end => None,
            1 => Some(Edns::parse(&message[question_end..]).ok_or(Reject::Odd)?),
            _ => return Err(Reject::Odd),
        };
        Ok(Self { id: word(0), flags, name, kind, class, question_end, edns })
    }

    /// How long an answer by UDP may be.
    pub(crate) fn udp_limit_bytes(&self) -> usize {
        self.edns.map_or(UDP_PLAIN_MAX_BYTES, |edns| {
            usize::from(edns.payload_bytes).clamp(UDP_PLAIN_MAX_BYTES, UDP_EDNS_MAX_BYTES)
        })
    }
}

impl Edns {
    /// `bytes` must be one OPT record and nothing behind it.
    fn parse(bytes: &[u8]) -> Option<Self> {
        let (&root, _) = bytes.split_first()?;
        if root != 0 || u16_at(bytes, 1)? != kind::OPT {
            return None;
        }
        let payload_bytes = u16_at(bytes, 3)?;
        let version = *bytes.get(6)?;
        let dnssec_ok = u16_at(bytes, 7)? & 0x8000 != 0;
        let options_bytes = usize::from(u16_at(bytes, 9)?);
        let options = bytes.get(OPT_LEN..)?;
        (options.len() == options_bytes && are_options(options)).then_some(Self {
            payload_bytes,
            version,
            dnssec_ok,
            has_options: options_bytes > 0,
        })
    }
}

/// Whether `bytes` are whole options, each behind its code and length (RFC 6891 §6.1.2).
fn are_options(mut bytes: &[u8]) -> bool {
    while !bytes.is_empty() {
        let Some(len) = u16_at(bytes, 2) else { return false };
        let Some(rest) = bytes.get(4 + usize::from(len)..) else { return false };
        bytes = rest;
    }
    true
}

/// The offset behind the only question of a response; `None` when it has none, or several, or a broken one.
pub(crate) fn question_end(message: &[u8]) -> Option<usize> {
    if u16_at(message, 4)? != 1 {
        return None;
    }
    let (_, name_end) = WireName::read(message, HEADER_LEN)?;
    (name_end + 4 <= message.len()).then_some(name_end + 4)
}
