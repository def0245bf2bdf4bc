//! Reads the segments of a folder back: what the log held when the process ended.
//!
//! Input: the folder, and the keys its segments are sealed with. Output: [`Recovered`]. Nothing on disk is changed here: a torn tail is only reported, and the caller clears it
//! after everything else proved sound.
//!
//! A tail is taken for torn only in the last segment, and only if no intact record after it was written on top of it
//! (`format::proves_durable`). Everything else that does not parse is damage and refuses the start.

use std::collections::VecDeque;
use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::error::{Damage, WalError};
use super::format::{self, Parsed, Tag};
use super::newest::{self, Newest};
use super::seal::SegmentKey;
use crate::raft::disk::{AtRest, Disk};

/// What the log says besides its entries. The bytes are the caller's encoding.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::raft) struct Marks {
    pub(in crate::raft) vote: Option<Vec<u8>>,
    pub(in crate::raft) committed: Option<Vec<u8>>,
    /// Index and id of the last purged entry.
    pub(in crate::raft) purged: Option<(u64, Vec<u8>)>,
}

/// What the folder held.
#[derive(Debug, Default, PartialEq, Eq)]
pub(in crate::raft) struct Recovered {
    pub(in crate::raft) marks: Marks,
    /// Index and bytes of the entries not purged, without a hole.
    pub(in crate::raft) entries: VecDeque<(u64, Vec<u8>)>,
}

/// A segment file that exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Segment {
    pub(super) number: u64,
    /// The greatest index appended in it, also if the entry was truncated later.
    pub(super) last_index: Option<u64>,
    /// Number of its data key.
    pub(super) key: u32,
}

/// Where the last segment ends.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Tail {
    /// Offset of the next record.
    pub(super) end: u64,
    pub(super) file_len: u64,
    /// The segment is full: the next record opens another.
    pub(super) sealed: bool,
    /// Bytes of an unfinished write stand after `end`.
    pub(super) torn: bool,
}

/// Everything [`scan`] learns.
#[derive(Debug, Default)]
pub(super) struct Scan {
    pub(super) recovered: Recovered,
    /// By number, consecutive.
    pub(super) segments: VecDeque<Segment>,
    /// `None`: there is no segment yet.
    pub(super) tail: Option<Tail>,
}

pub(super) fn segment_path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number:016x}.wal"))
}

/// Reads all segments, oldest first.
///
/// # Errors
/// As of [`WalError`]: damage with file and offset, a newer format, a missing segment.
pub(super) fn scan(dir: &Path, at_rest: &AtRest) -> Result<Scan, WalError> {
    let numbers = segment_numbers(dir)?;
    check_end(&*at_rest.disk, dir, numbers.last().copied())?;
    let mut scan = Scan::default();
    for (at, &number) in numbers.iter().enumerate() {
        if number != numbers[0] + at as u64 {
            return Err(WalError::Missing { file: segment_path(dir, numbers[0] + at as u64) });
        }
        let path = segment_path(dir, number);
        let bytes = at_rest.disk.read(&path).map_err(|source| WalError::Io {
            action: "read",
            path: path.clone(),
            source,
        })?;
        let key = format::check_segment_header(&bytes, number)
            .map_err(|damage| located(path.clone(), 0, damage))?;
        let Some(data_key) = at_rest.keyring.get(key) else {
            let keys = at_rest.keyring.file().to_owned();
            return Err(WalError::NoKey { file: path, key, keys });
        };
        let opener = SegmentKey::new(&data_key, number);
        let mut reader = SegmentReader { number, bytes: &bytes, opener, last_index: None };
        let last = at + 1 == numbers.len();
        let tail = reader
            .replay(&mut scan.recovered, last)
            .map_err(|(offset, damage)| located(path, offset, damage))?;
        scan.segments.push_back(Segment { number, last_index: reader.last_index, key });
        scan.tail = Some(tail);
    }
    check_start(&scan.recovered, dir, numbers.first().copied())?;
    Ok(scan)
}

fn segment_numbers(dir: &Path) -> Result<Vec<u64>, WalError> {
    let io = |source| WalError::Io { action: "list", path: dir.to_owned(), source };
    let mut numbers = Vec::new();
    for entry in fs::read_dir(dir).map_err(io)? {
        let name = entry.map_err(io)?.file_name();
        let number = name.to_str().and_then(|name| name.strip_suffix(".wal"));
        numbers.extend(number.and_then(|digits| u64::from_str_radix(digits, 16).ok()));
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// The newest segment must be there.
fn check_end(disk: &dyn Disk, dir: &Path, last: Option<u64>) -> Result<(), WalError> {
    let file = newest::path(dir);
    let expected = match newest::read(disk, dir) {
        Ok(Newest::Segment(number)) => number,
        Ok(Newest::Absent) => return Ok(()),
        Ok(Newest::Damaged) => {
            return Err(WalError::Corrupt { file, offset: 0, damage: Damage::Newest });
        }
        Err(source) => return Err(WalError::Io { action: "read", path: file, source }),
    };
    match last {
        Some(last) if last >= expected => Ok(()),
        _ => Err(WalError::Missing { file: segment_path(dir, expected) }),
    }
}

/// The oldest entry must follow the last purged one: segments are removed only after their entries were purged.
fn check_start(recovered: &Recovered, dir: &Path, first: Option<u64>) -> Result<(), WalError> {
    let Some(number) = first else { return Ok(()) };
    let Some((purged, _)) = &recovered.marks.purged else {
        // Nothing was ever purged, so no segment was ever removed.
        let is_whole = number == 1;
        return if is_whole {
            Ok(())
        } else {
            Err(WalError::Missing { file: segment_path(dir, 1) })
        };
    };
    let Some((found, _)) = recovered.entries.front() else { return Ok(()) };
    if *found == purged + 1 {
        return Ok(());
    }
    let damage = Damage::Sequence { expected: purged + 1, found: *found };
    Err(WalError::Corrupt { file: segment_path(dir, number), offset: 0, damage })
}

fn located(file: PathBuf, offset: usize, damage: Damage) -> WalError {
    let known = u32::from(format::VERSION);
    match damage {
        Damage::FileVersion { found } => {
            WalError::UnknownVersion { file, found: u32::from(found), known }
        }
        Damage::RecordVersion { found } => WalError::UnknownVersion {
            file,
            found: u32::from(found),
            known: u32::from(format::RECORD_VERSION),
        },
        damage => WalError::Corrupt { file, offset: offset as u64, damage },
    }
}

/// One segment and what was seen in it.
struct SegmentReader<'a> {
    number: u64,
    bytes: &'a [u8],
    opener: SegmentKey,
    last_index: Option<u64>,
}

// === impl SegmentReader ===

impl SegmentReader<'_> {
    /// Applies all records of the segment. The error carries the offset.
    fn replay(&mut self, log: &mut Recovered, last: bool) -> Result<Tail, (usize, Damage)> {
        let first = format::SEGMENT_HEADER_LEN;
        let mut offset = first;
        loop {
            let at = |damage| (offset, damage);
            match format::parse_record(self.bytes, self.number, offset) {
                Parsed::Record { tag, .. } if (tag == Tag::Checkpoint) != (offset == first) => {
                    let damage =
                        if offset == first { Damage::NoCheckpoint } else { Damage::Payload };
                    return Err(at(damage));
                }
                Parsed::Record { tag, payload, next } => {
                    let text = self.opener.open(offset, tag, payload);
                    let text = text.ok_or(at(Damage::Seal))?;
                    if tag == Tag::Seal {
                        return Ok(self.tail(next, true));
                    }
                    self.apply(log, tag, &text).map_err(at)?;
                    offset = next;
                }
                _ if offset == first => return Err(at(Damage::NoCheckpoint)),
                Parsed::Damaged(damage) => return Err(at(damage)),
                Parsed::End | Parsed::Torn if !last => return Err(at(Damage::NoSeal)),
                Parsed::End | Parsed::Torn => {
                    if format::proves_durable(self.bytes, self.number, offset) {
                        return Err(at(Damage::Hole));
                    }
                    return Ok(self.tail(offset, false));
                }
            }
        }
    }

    fn tail(&self, end: usize, sealed: bool) -> Tail {
        let torn = !sealed && !format::is_zero(&self.bytes[end.min(self.bytes.len())..]);
        Tail { end: end as u64, file_len: self.bytes.len() as u64, sealed, torn }
    }

    fn apply(&mut self, log: &mut Recovered, tag: Tag, text: &[u8]) -> Result<(), Damage> {
        match tag {
            Tag::Checkpoint => {
                log.marks = postcard::from_bytes(text).map_err(|_| Damage::Payload)?;
            }
            Tag::Vote => log.marks.vote = Some(text.to_vec()),
            Tag::Committed => log.marks.committed = Some(text.to_vec()),
            Tag::Append => {
                let (index, entry) = split_index(text)?;
                let expected = log.entries.back().map_or(index, |(last, _)| last + 1);
                if index != expected {
                    return Err(Damage::Sequence { expected, found: index });
                }
                self.last_index = self.last_index.max(Some(index));
                log.entries.push_back((index, entry.to_vec()));
            }
            Tag::Truncate => {
                let (since, _) = split_index(text)?;
                log.entries.truncate(log.entries.partition_point(|(index, _)| *index < since));
            }
            Tag::Purge => {
                let (upto, id) = split_index(text)?;
                log.entries.drain(..log.entries.partition_point(|(index, _)| *index <= upto));
                log.marks.purged = Some((upto, id.to_vec()));
            }
            // Ends the replay.
            Tag::Seal => return Err(Damage::Payload),
        }
        Ok(())
    }
}

fn split_index(text: &[u8]) -> Result<(u64, &[u8]), Damage> {
    let (index, rest) = text.split_first_chunk().ok_or(Damage::Payload)?;
    Ok((u64::from_le_bytes(*index), rest))
}
