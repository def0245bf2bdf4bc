//! The bytes of a segment: its header, its records, and how a torn record is told from a corrupt one.
//!
//! ```text
//! segment  = header (32 bytes), records, zeros up to the end of the file
//! header   = magic 8 | version u16 | sealing u8 | 0 | number u64 | data key u32 | 0 × 4 | crc32c of the 28 bytes before
//! record   = 0xA7 | tag | version | len u32 | durable u32 | crc32c of the payload | crc32c of the header | 0x5A
//!            | payload (len bytes) | zeros | 0xC3, so that the whole is a multiple of 8
//! ```
//! All numbers are little-endian. Payloads are encrypted (`seal.rs`); all checksums are over the bytes as they lie on the disk, so damage
//! is found without a key. The header's checksum is salted with the segment's number and the record's offset: a record is
//! valid only where it was written.
//!
//! `durable` is the offset up to which the segment was known to be on disk when the record was made. A record with
//! `durable > x` therefore proves that everything before `x` had been flushed, which is what tells damage from a write that a crash
//! cut short. The last bytes of header and record are never zero, so a record cut at any byte of a zero-filled segment shows it.
//!
//! Pure: no files here.

use super::error::Damage;
use super::seal::{self, Sealer};

/// The format this build writes. A file with a greater number is refused, a smaller one is read.
pub(super) const VERSION: u16 = 1;
/// The encoding of records and of what is in them.
pub(super) const RECORD_VERSION: u8 = 1;
/// How payloads are protected at rest: ChaCha20-Poly1305, as `seal.rs` has it. Other kinds are refused by this build.
const SEALING_CHACHA20_POLY1305: u8 = 1;

pub(super) const SEGMENT_HEADER_LEN: usize = 32;
/// Room for the record that ends a segment: a record without text.
pub(super) const SEAL_LEN: usize = record_len(0);

const SEGMENT_MAGIC: &[u8; 8] = b"SNETWAL\n";
const RECORD_HEADER_LEN: usize = 20;
const RECORD_MAGIC: u8 = 0xa7;
const HEADER_MARK: u8 = 0x5a;
const RECORD_MARK: u8 = 0xc3;
/// Records begin at multiples of this.
pub(super) const ALIGN: usize = 8;
/// The unit that disks write whole.
const SECTOR: usize = 512;

/// What a record says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tag {
    /// First record of each segment: vote, committed and purged as they were.
    Checkpoint = 1,
    Vote = 2,
    /// One log entry: index u64, then the entry.
    Append = 3,
    /// Entries from this index on are gone: index u64.
    Truncate = 4,
    /// Entries up to this index are gone: index u64, then the log id.
    Purge = 5,
    Committed = 6,
    /// Last record of a full segment.
    Seal = 7,
}

impl Tag {
    const fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            1 => Self::Checkpoint,
            2 => Self::Vote,
            3 => Self::Append,
            4 => Self::Truncate,
            5 => Self::Purge,
            6 => Self::Committed,
            7 => Self::Seal,
            _ => return None,
        })
    }
}

/// What stands at an offset of a segment.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Parsed<'a> {
    Record {
        tag: Tag,
        /// Still sealed.
        payload: &'a [u8],
        /// Offset of what follows.
        next: usize,
    },
    /// Nothing was written here.
    End,
    /// A write that did not finish, as far as the bytes tell.
    Torn,
    /// No interrupted write looks like this.
    Damaged(Damage),
}

/// The bytes a record of this text takes.
pub(super) const fn record_len(text_len: usize) -> usize {
    sealed_record_len(text_len + seal::OVERHEAD)
}

const fn sealed_record_len(payload_len: usize) -> usize {
    (RECORD_HEADER_LEN + payload_len + 1).next_multiple_of(ALIGN)
}

/// Where in which segment a record stands, and what was on disk by then.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    pub(super) segment: u64,
    pub(super) offset: usize,
    pub(super) durable: u32,
}

/// Appends one record, its text given in parts, to `out`.
pub(super) fn encode_record(
    out: &mut Vec<u8>,
    place: Place,
    tag: Tag,
    text: &[&[u8]],
    sealer: &Sealer,
) {
    let start = out.len();
    out.resize(start + RECORD_HEADER_LEN, 0);
    sealer.seal(out, place, tag, text);
    let (header, payload) = out[start..].split_at_mut(RECORD_HEADER_LEN);
    let len = payload.len();
    let len32 = u32::try_from(len).expect("the writer refuses entries of 4 GiB");
    header[..3].copy_from_slice(&[RECORD_MAGIC, tag as u8, RECORD_VERSION]);
    header[3..7].copy_from_slice(&len32.to_le_bytes());
    header[7..11].copy_from_slice(&place.durable.to_le_bytes());
    header[11..15].copy_from_slice(&crc32c::crc32c(payload).to_le_bytes());
    let crc = header_crc(place.segment, place.offset, &header[..15]);
    header[15..19].copy_from_slice(&crc.to_le_bytes());
    header[19] = HEADER_MARK;
    out.resize(start + sealed_record_len(len) - 1, 0);
    out.push(RECORD_MARK);
}

/// Reads what stands at `offset` of the segment `bytes`.
pub(super) fn parse_record(bytes: &[u8], segment: u64, offset: usize) -> Parsed<'_> {
    let rest = &bytes[offset.min(bytes.len())..];
    let Some((header, body)) = rest.split_at_checked(RECORD_HEADER_LEN) else {
        return if is_zero(rest) { Parsed::End } else { Parsed::Damaged(Damage::RecordHeader) };
    };
    if is_zero(header) {
        return Parsed::End;
    }
    if !header_is_valid(header, segment, offset) {
        // Either half of a header that straddles two sectors may be missing.
        let torn = header[0] == 0 || header[RECORD_HEADER_LEN - 1] == 0;
        return if torn { Parsed::Torn } else { Parsed::Damaged(Damage::RecordHeader) };
    }
    let len = u32_at(header, 3) as usize;
    let whole = sealed_record_len(len);
    let Some(record) = rest.get(..whole) else {
        return Parsed::Damaged(Damage::RecordLength);
    };
    let (payload, tail) = body[..whole - RECORD_HEADER_LEN].split_at(len);
    let (mark, pad) = tail.split_last().expect("record_len leaves a byte for the mark");
    if crc32c::crc32c(payload) != u32_at(header, 11) || *mark != RECORD_MARK || !is_zero(pad) {
        let torn = *mark == 0 || has_lost_sector(record, offset);
        return if torn { Parsed::Torn } else { Parsed::Damaged(Damage::Checksum) };
    }
    if header[2] > RECORD_VERSION {
        return Parsed::Damaged(Damage::RecordVersion { found: header[2] });
    }
    match Tag::from_byte(header[1]) {
        Some(tag) => Parsed::Record { tag, payload, next: offset + whole },
        None => Parsed::Damaged(Damage::RecordTag { found: header[1] }),
    }
}

/// Whether a record after `offset` proves that what stood at `offset` had been flushed.
pub(super) fn proves_durable(bytes: &[u8], segment: u64, offset: usize) -> bool {
    (offset.next_multiple_of(ALIGN)..bytes.len().saturating_sub(RECORD_HEADER_LEN - 1))
        .step_by(ALIGN)
        .filter(|&at| bytes[at] == RECORD_MAGIC)
        .map(|at| (at, &bytes[at..at + RECORD_HEADER_LEN]))
        .any(|(at, header)| {
            u32_at(header, 7) as usize > offset && header_is_valid(header, segment, at)
        })
}

pub(super) fn encode_segment_header(segment: u64, key: u32) -> [u8; SEGMENT_HEADER_LEN] {
    let mut header = [0; SEGMENT_HEADER_LEN];
    header[..8].copy_from_slice(SEGMENT_MAGIC);
    header[8..10].copy_from_slice(&VERSION.to_le_bytes());
    header[10] = SEALING_CHACHA20_POLY1305;
    header[12..20].copy_from_slice(&segment.to_le_bytes());
    header[20..24].copy_from_slice(&key.to_le_bytes());
    let crc = crc32c::crc32c(&header[..28]);
    header[28..].copy_from_slice(&crc.to_le_bytes());
    header
}

/// Checks the head of a segment; the number of its data key. The version is looked at before the checksum: a newer format may have another one.
pub(super) fn check_segment_header(bytes: &[u8], segment: u64) -> Result<u32, Damage> {
    let header = bytes.get(..SEGMENT_HEADER_LEN).ok_or(Damage::SegmentHeader)?;
    if &header[..8] != SEGMENT_MAGIC {
        return Err(Damage::SegmentHeader);
    }
    let version = u16::from_le_bytes([header[8], header[9]]);
    if version > VERSION {
        return Err(Damage::FileVersion { found: version });
    }
    if crc32c::crc32c(&header[..28]) != u32_at(header, 28)
        || header[12..20] != segment.to_le_bytes()
    {
        return Err(Damage::SegmentHeader);
    }
    if header[10] != SEALING_CHACHA20_POLY1305 {
        return Err(Damage::Sealing { found: header[10] });
    }
    Ok(u32_at(header, 20))
}

pub(super) fn is_zero(bytes: &[u8]) -> bool {
    bytes.iter().all(|&b| b == 0)
}

fn header_is_valid(header: &[u8], segment: u64, offset: usize) -> bool {
    header[0] == RECORD_MAGIC
        && header[RECORD_HEADER_LEN - 1] == HEADER_MARK
        && header_crc(segment, offset, &header[..15]) == u32_at(header, 15)
}

fn header_crc(segment: u64, offset: usize, header: &[u8]) -> u32 {
    let crc = crc32c::crc32c(&segment.to_le_bytes());
    let crc = crc32c::crc32c_append(crc, &(offset as u64).to_le_bytes());
    crc32c::crc32c_append(crc, header)
}

/// Whether the part of the record within some sector is all zero, as when the disk never wrote that sector.
fn has_lost_sector(record: &[u8], offset: usize) -> bool {
    let first = (SECTOR - offset % SECTOR).min(record.len());
    let (head, rest) = record.split_at(first);
    is_zero(head) || rest.chunks(SECTOR).any(is_zero)
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}
