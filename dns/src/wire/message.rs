//! Responses of upstream resolvers: where their records lie, how old they may get, and how they are cut. Record data is not
//! interpreted, so that whatever an upstream says passes through unchanged (new types, signatures, DO and AD bits).

use super::{HEADER_LEN, OPT_LEN, flag, kind, question_end, u16_at, u32_at};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Section {
    Answer,
    Authority,
    Additional,
}

/// Where one record lies in its message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) section: Section,
    pub(crate) kind: u16,
    pub(crate) ttl_s: u32,
    pub(crate) ttl_at: usize,
    pub(crate) data_at: usize,
    pub(crate) data_bytes: usize,
}

/// All records of a message with one question, or `None` when it is malformed or has bytes behind its end.
pub(crate) fn records(message: &[u8]) -> Option<Vec<Record>> {
    let mut at = question_end(message)?;
    let mut found = Vec::new();
    let sections = [(Section::Answer, 6), (Section::Authority, 8), (Section::Additional, 10)];
    for (section, count_at) in sections {
        for _ in 0..u16_at(message, count_at)? {
            let name_end = skip_name(message, at)?;
            let data_bytes = usize::from(u16_at(message, name_end + 8)?);
            let record = Record {
                section,
                kind: u16_at(message, name_end)?,
                ttl_s: u32_at(message, name_end + 4)?,
                ttl_at: name_end + 4,
                data_at: name_end + 10,
                data_bytes,
            };
            at = record.data_at + data_bytes;
            if at > message.len() {
                return None;
            }
            found.push(record);
        }
    }
    (at == message.len()).then_some(found)
}

/// The offset behind a name that may end in a pointer. The pointer is not followed.
fn skip_name(message: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match *message.get(at)? {
            0 => return Some(at + 1),
            len @ 1..=63 => at += 1 + usize::from(len),
            0xc0.. => return Some(at + 2),
            _ => return None,
        }
    }
}

/// How long a negative answer holds by its SOA record: the lesser of its TTL and its MINIMUM field (RFC 2308 §5), which is
/// the last of five numbers at the record's end.
pub(crate) fn soa_minimum_s(message: &[u8], soa: &Record) -> Option<u32> {
    let minimum_at = (soa.data_at + soa.data_bytes).checked_sub(4)?;
    if soa.kind != kind::SOA || minimum_at < soa.data_at {
        return None;
    }
    Some(u32_at(message, minimum_at)?.min(soa.ttl_s))
}

/// The message with every TTL less `elapsed_s`, but at least `floor_s`. OPT has flags where others have a TTL.
pub(crate) fn age(message: &mut [u8], records: &[Record], elapsed_s: u32, floor_s: u32) {
    for record in records.iter().filter(|r| r.kind != kind::OPT) {
        let ttl_s = record.ttl_s.saturating_sub(elapsed_s).max(floor_s);
        message[record.ttl_at..record.ttl_at + 4].copy_from_slice(&ttl_s.to_be_bytes());
    }
}

/// The message cut to `limit_bytes` with TC set: the client asks again by TCP. Kept are the question, as many answers as
/// fit (all that a client gets which never asks again: musl before 1.2.4) and the OPT record without its options, as RFC
/// 6891 §7 asks for. What goes is the tail, so that compression pointers, which point backwards, stay right.
pub(crate) fn truncate(message: &[u8], records: &[Record], limit_bytes: usize) -> Option<Vec<u8>> {
    let opt = records.iter().find(|r| r.kind == kind::OPT);
    let body_bytes = limit_bytes.saturating_sub(if opt.is_some() { OPT_LEN } else { 0 });
    let (mut end, mut count) = (question_end(message)?, 0_u16);
    for record in records.iter().take_while(|r| r.section == Section::Answer) {
        let record_end = record.data_at + record.data_bytes;
        if record_end > body_bytes {
            break;
        }
        (end, count) = (record_end, count + 1);
    }
    let mut cut = message.get(..end)?.to_vec();
    let flags = u16_at(message, 2)? | flag::TRUNCATED;
    cut[2..4].copy_from_slice(&flags.to_be_bytes());
    cut[6..8].copy_from_slice(&count.to_be_bytes());
    cut[8..HEADER_LEN].fill(0);
    if let Some(opt) = opt {
        let fixed_at = opt.data_at.checked_sub(OPT_LEN)?;
        cut.push(0); // the root, whatever the upstream wrote there
        cut.extend_from_slice(message.get(fixed_at + 1..fixed_at + OPT_LEN - 2)?);
        cut.extend_from_slice(&[0, 0]);
        cut[11] = 1;
    }
    Some(cut)
}

pub(crate) fn set_id(message: &mut [u8], id: u16) {
    message[..2].copy_from_slice(&id.to_be_bytes());
}

pub(crate) fn rcode(message: &[u8]) -> Option<u16> {
    Some(u16_at(message, 2)? & flag::RCODE)
}

pub(crate) fn is_truncated(message: &[u8]) -> bool {
    u16_at(message, 2).is_some_and(|flags| flags & flag::TRUNCATED != 0)
}
