//! One checked response of an upstream resolver: how long it holds, and how it is handed to a client.
//!
//! Pure. The bytes stay as the upstream wrote them (DNSSEC records and bits, unknown types); only the id, the question's
//! case, the TTLs and, for a client that takes less, the tail are changed.

use crate::wire::{self, HEADER_LEN, Query, Record, Section, code, flag, kind};

/// Longest time that an answer is kept: an upstream's mistake should not outlive an hour.
const POSITIVE_S_MAX: u32 = 3600;
/// Longest time for "no such name" and empty answers: new names should not stay unknown for long.
const NEGATIVE_S_MAX: u32 = 60;

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Response {
    message: Vec<u8>,
    records: Vec<Record>,
}

/// How TTLs are shown to the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Age {
    /// This much less than the upstream said.
    Seconds(u32),
    /// Past its time (RFC 8767 §4 recommends 30 seconds).
    Stale,
}

const STALE_TTL_S: u32 = 30;

impl Response {
    /// `message` when it answers `asked` (the bytes sent, which parsed as `query`) and is well formed.
    pub(super) fn check(message: Vec<u8>, asked: &[u8], query: &Query) -> Option<Self> {
        let flags = wire::u16_at(&message, 2)?;
        let same_id = message.get(..2)? == asked.get(..2)?;
        if !same_id || flags & flag::RESPONSE == 0 || flags & flag::OPCODE != 0 {
            return None;
        }
        // Some resolvers change the question's case; the comparison therefore ignores it, as RFC 4343 has it. Lengths of
        // labels are below 64 and no letters.
        let end = wire::question_end(&message)?;
        let question = message.get(HEADER_LEN..end)?;
        if !question.eq_ignore_ascii_case(asked.get(HEADER_LEN..query.question_end)?) {
            return None;
        }
        let records = wire::records(&message)?;
        Some(Self { message, records })
    }

    pub(super) fn len(&self) -> usize {
        self.message.len()
    }

    pub(super) fn is_truncated(&self) -> bool {
        wire::is_truncated(&self.message)
    }

    /// Whether another server might do better.
    pub(super) fn is_failure(&self) -> bool {
        matches!(wire::rcode(&self.message), Some(code::SERVER_FAILURE | code::REFUSED))
    }

    /// How long it may be kept (RFC 2308 §5 for negative ones); `None` when not at all.
    pub(super) fn lifetime_s(&self) -> Option<u32> {
        let rcode = wire::rcode(&self.message)?;
        if self.is_truncated() || !matches!(rcode, code::NO_ERROR | code::NAME_ERROR) {
            return None;
        }
        let answers = || self.records.iter().filter(|r| r.section == Section::Answer);
        let least_s = answers().map(|r| r.ttl_s).min();
        let asked_kind = wire::u16_at(&self.message, wire::question_end(&self.message)? - 4)?;
        // A chain of aliases that ends nowhere is negative too: it has records, but not of the type asked for.
        let positive = rcode == code::NO_ERROR
            && answers().any(|r| r.kind == asked_kind || asked_kind == kind::ANY);
        let lifetime_s = if positive {
            least_s?.min(POSITIVE_S_MAX)
        } else {
            let soa = self
                .records
                .iter()
                .find(|r| r.section == Section::Authority && r.kind == kind::SOA)?;
            let minimum_s = wire::soa_minimum_s(&self.message, soa)?;
            least_s.map_or(minimum_s, |s| s.min(minimum_s)).min(NEGATIVE_S_MAX)
        };
        (lifetime_s > 0).then_some(lifetime_s)
    }

    /// The reply to the client that sent `asked`, no longer than `limit_bytes`; true when it had to be cut.
    pub(super) fn reply(
        &self,
        asked: &[u8],
        query: &Query,
        age: Age,
        limit_bytes: usize,
    ) -> (Vec<u8>, bool) {
        let mut reply = self.message.clone();
        match age {
            Age::Seconds(elapsed_s) => wire::age(&mut reply, &self.records, elapsed_s, 0),
            Age::Stale => wire::age(&mut reply, &self.records, u32::MAX, STALE_TTL_S),
        }
        let cut = (reply.len() > limit_bytes)
            .then(|| wire::truncate(&reply, &self.records, limit_bytes))
            .flatten();
        let is_cut = cut.is_some();
        let mut reply = cut.unwrap_or(reply);
        wire::set_id(&mut reply, query.id);
        reply[HEADER_LEN..query.question_end]
            .copy_from_slice(&asked[HEADER_LEN..query.question_end]);
        (reply, is_cut)
    }
}
