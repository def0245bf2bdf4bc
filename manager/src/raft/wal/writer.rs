//! The one thread that writes the log.
//!
//! Input: one ordered queue of requests, so that votes and entries reach the disk in the order Raft gave them. Outputs: segment
//! files, and one answer per request. All that is queued is written with one `pwrite` and flushed with one `fdatasync`.
//!
//! Invariants: nothing is answered `Ok` before it is on disk (except [`Op::Committed`], which needs no flush: losing it costs a
//! replay); a segment is sealed and flushed before the next one exists; after the first error nothing is written any more, because
//! a failed `fdatasync` may have dropped the pages it could not write.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::Receiver;

use super::error::WalError;
use super::format::{self, Place, Tag};
use super::housekeeper::{Housekeeper, Spare, create_spare};
use super::newest;
use super::recover::{Marks, Scan, Segment, segment_path};
use super::seal::{Sealer, SegmentKey};
use crate::raft::disk::{AtRest, Disk};

/// A first segment is this long; each next one four times as long, up to the configured length. A small cluster stays small.
const FIRST_SEGMENT_BYTES: u64 = 1 << 20;
const SEGMENT_GROWTH: u64 = 4;
/// One write takes no more than about this; it bounds the buffer, not a single entry.
const GROUP_BYTES_MAX: usize = 4 << 20;
/// Longest payload of a record: offsets in a segment are `u32`.
pub(super) const PAYLOAD_BYTES_MAX: usize = 1 << 30;

/// One thing to write. The bytes are the caller's encoding.
#[derive(Debug)]
pub(in crate::raft) enum Op {
    Vote(Vec<u8>),
    /// Consecutive entries: index, bytes.
    Append(Vec<(u64, Vec<u8>)>),
    /// Entries from `since` on are gone.
    Truncate {
        since: u64,
    },
    /// Entries up to `upto` are gone, whether they were here or not; `id` is its log id.
    Purge {
        upto: u64,
        id: Vec<u8>,
    },
    /// Written, not flushed.
    Committed(Vec<u8>),
    /// There is another data key: what follows goes into a segment that is sealed with it.
    Roll,
}

/// Called once, from the writer's thread.
pub(in crate::raft) type Done = Box<dyn FnOnce(Result<(), WalError>) + Send>;

pub(super) struct Request {
    pub(super) op: Op,
    pub(super) done: Done,
}

pub(super) struct Writer {
    dir: PathBuf,
    /// Length of a full-grown segment.
    segment_bytes: u64,
    at_rest: AtRest,
    marks: Marks,
    /// Oldest first; the last one is written to.
    segments: VecDeque<Segment>,
    current: Current,
    /// Offset of the next write.
    position: u64,
    /// Everything before this offset is on disk.
    durable: u64,
    housekeeper: Housekeeper,
    /// Encoded records to be written at `position`.
    staged: Vec<u8>,
    /// The answers for what is staged.
    answers: Vec<Done>,
    flush_needed: bool,
    failed: Option<String>,
}

/// The file of the segment that is written to.
struct Current {
    file: File,
    path: PathBuf,
    sealer: Sealer,
    /// Offset of the next record when it was opened.
    end: u64,
    /// Its length.
    bytes: u64,
}

/// What an opening found besides.
struct Parts {
    housekeeper: Housekeeper,
    marks: Marks,
    segments: VecDeque<Segment>,
}

// === impl Writer ===

impl Writer {
    /// Opens the last segment for writing, or makes the first one; clears a torn tail. A segment that is full, or sealed with an older
    /// data key than is in use now, is followed by a new one at once.
    pub(super) fn open(
        dir: &Path,
        segment_bytes: u64,
        at_rest: &AtRest,
        scan: Scan,
    ) -> Result<Self, WalError> {
        let io = |action, path: &Path| {
            let path = path.to_owned();
            move |source| WalError::Io { action, path, source }
        };
        let Scan { recovered, segments, tail } = scan;
        let marks = recovered.marks;
        let housekeeper = Housekeeper::start(dir, &at_rest.disk).map_err(io("serve", dir))?;
        let Some((last, tail)) = segments.back().copied().zip(tail) else {
            let bytes = segment_bytes.min(FIRST_SEGMENT_BYTES);
            let spare =
                create_spare(&*at_rest.disk, dir, bytes).map_err(io("create a segment in", dir))?;
            let made = found_segment(dir, spare, 1, &marks, at_rest)
                .map_err(io("create", &segment_path(dir, 1)))?;
            let parts = Parts { housekeeper, marks, segments };
            return Ok(Self::at(dir, segment_bytes, at_rest, made, parts));
        };
        let path = segment_path(dir, last.number);
        let file = at_rest.disk.open(&path).map_err(io("open", &path))?;
        if tail.torn {
            tracing::warn!(file = %path.display(), offset = tail.end, "cut an unfinished write off the log");
            clear(&*at_rest.disk, (&file, &path), tail.end, tail.file_len)
                .map_err(io("clear the end of", &path))?;
        }
        // Bytes in the page cache may not be on disk yet when only the process died.
        at_rest.disk.sync(&file, &path).map_err(io("flush", &path))?;
        let Some(data_key) = at_rest.keyring.get(last.key) else {
            let keys = at_rest.keyring.file().to_owned();
            return Err(WalError::NoKey { file: path, key: last.key, keys });
        };
        let sealer = Sealer::new(SegmentKey::new(&data_key, last.number))
            .map_err(|err| io("seal", &path)(io::Error::other(err)))?;
        let current =
            Current { file, path: path.clone(), sealer, end: tail.end, bytes: tail.file_len };
        let parts = Parts { housekeeper, marks, segments };
        let mut writer = Self::at(dir, segment_bytes, at_rest, (last, current), parts);
        if tail.sealed {
            writer
                .open_next(writer.next_len(), 0)
                .map_err(io("create the segment after", &path))?;
        } else if last.key != at_rest.keyring.current().0 {
            writer.roll().map_err(io("create the segment after", &path))?;
        }
        Ok(writer)
    }

    /// Writing to `last`, which is the newest of `parts.segments` or the first there is.
    fn at(
        dir: &Path,
        segment_bytes: u64,
        at_rest: &AtRest,
        (last, current): (Segment, Current),
        mut parts: Parts,
    ) -> Self {
        if parts.segments.is_empty() {
            parts.segments.push_back(last);
        }
        Self {
            dir: dir.to_owned(),
            segment_bytes,
            at_rest: at_rest.clone(),
            marks: parts.marks,
            segments: parts.segments,
            position: current.end,
            durable: current.end,
            current,
            housekeeper: parts.housekeeper,
            staged: Vec::new(),
            answers: Vec::new(),
            flush_needed: false,
            failed: None,
        }
    }

    /// Serves the queue until its last sender is gone.
    pub(super) fn run(mut self, queue: &Receiver<Request>) {
        while let Ok(request) = queue.recv() {
            self.take(request);
            while self.staged.len() < GROUP_BYTES_MAX
                && let Ok(request) = queue.try_recv()
            {
                self.take(request);
            }
            let written = self.write_group();
            self.answer(written);
        }
        if self.failed.is_none()
            && let Err(err) = self.at_rest.disk.sync(&self.current.file, &self.current.path)
        {
            tracing::warn!(%err, "cannot flush the log while closing it");
        }
    }

    fn take(&mut self, request: Request) {
        self.answers.push(request.done);
        if self.failed.is_none() {
            let staged = self.stage(request.op);
            if staged.is_err() {
                self.answer(staged);
            }
        }
    }

    /// Answers everything taken since the last answer; an error stops the log.
    fn answer(&mut self, result: io::Result<()>) {
        if let Err(err) = result {
            let cause = format!("{}: {err}", self.current.path.display());
            tracing::error!(%cause, "the Raft log cannot be written and stops");
            self.failed = Some(cause);
        }
        for done in self.answers.drain(..) {
            done(match &self.failed {
                Some(cause) => Err(WalError::Stopped { cause: cause.clone() }),
                None => Ok(()),
            });
        }
    }

    fn stage(&mut self, op: Op) -> io::Result<()> {
        match op {
            Op::Vote(vote) => {
                self.stage_record(Tag::Vote, &[&vote])?;
                self.marks.vote = Some(vote);
            }
            Op::Append(entries) => {
                for (index, entry) in entries {
                    self.stage_record(Tag::Append, &[&index.to_le_bytes(), &entry])?;
                    let current = self.segments.back_mut().expect("a writer has a segment");
                    current.last_index = current.last_index.max(Some(index));
                }
            }
            Op::Truncate { since } => self.stage_record(Tag::Truncate, &[&since.to_le_bytes()])?,
            Op::Purge { upto, id } => {
                self.stage_record(Tag::Purge, &[&upto.to_le_bytes(), &id])?;
                self.marks.purged = Some((upto, id));
            }
            Op::Committed(committed) => {
                self.stage_record(Tag::Committed, &[&committed])?;
                self.marks.committed = Some(committed);
                return Ok(());
            }
            Op::Roll => return self.roll(),
        }
        self.flush_needed = true;
        Ok(())
    }

    fn stage_record(&mut self, tag: Tag, payload: &[&[u8]]) -> io::Result<()> {
        let len = payload.iter().map(|part| part.len()).sum();
        if len > PAYLOAD_BYTES_MAX {
            return Err(io::Error::other(format!("a record of {len} bytes is too long")));
        }
        let needed = format::record_len(len) + format::SEAL_LEN;
        if self.end() + needed as u64 > self.current.bytes {
            self.seal()?;
            self.open_next(self.next_len(), needed as u64)?;
        }
        let place = self.place();
        format::encode_record(&mut self.staged, place, tag, payload, &self.current.sealer);
        Ok(())
    }

    /// Where the next record goes.
    fn end(&self) -> u64 {
        self.position + self.staged.len() as u64
    }

    fn place(&self) -> Place {
        Place {
            segment: self.last().number,
            offset: self.end() as usize,
            durable: u32::try_from(self.durable).expect("a segment is shorter than 4 GiB"),
        }
    }

    fn last(&self) -> Segment {
        *self.segments.back().expect("a writer has a segment")
    }

    /// One `pwrite`, and one flush if anything needs it.
    fn write_group(&mut self) -> io::Result<()> {
        if self.failed.is_some() {
            return Ok(());
        }
        let disk = &self.at_rest.disk;
        disk.write_at(&self.current.file, &self.current.path, &self.staged, self.position)?;
        self.position += self.staged.len() as u64;
        self.staged.clear();
        if std::mem::take(&mut self.flush_needed) {
            disk.sync(&self.current.file, &self.current.path)?;
            self.durable = self.position;
            self.drop_purged_segments();
        }
        if self.position > self.current.bytes / 2 {
            self.housekeeper.prepare(self.next_len());
        }
        Ok(())
    }

    /// Ends the current segment for good. What is staged is on disk afterwards, though not answered yet.
    fn seal(&mut self) -> io::Result<()> {
        let place = self.place();
        format::encode_record(&mut self.staged, place, Tag::Seal, &[], &self.current.sealer);
        self.flush_needed = true;
        self.write_group()
    }

    fn roll(&mut self) -> io::Result<()> {
        let bytes = self.current.bytes;
        self.seal()?;
        self.open_next(bytes, 0)
    }

    /// Goes on in a new segment of `bytes`, or more when a record of `needed` bytes would not fit.
    fn open_next(&mut self, bytes: u64, needed: u64) -> io::Result<()> {
        let marks = postcard::to_stdvec(&self.marks).map_err(io::Error::other)?;
        let head = format::SEGMENT_HEADER_LEN + format::record_len(marks.len());
        let spare = self.housekeeper.take(bytes.max(needed + head as u64))?;
        let number = self.last().number + 1;
        let (segment, current) =
            found_segment(&self.dir, spare, number, &self.marks, &self.at_rest)?;
        (self.position, self.durable) = (current.end, current.end);
        self.current = current;
        self.segments.push_back(segment);
        Ok(())
    }

    fn next_len(&self) -> u64 {
        self.current.bytes.saturating_mul(SEGMENT_GROWTH).min(self.segment_bytes)
    }

    /// Gives up the oldest segments of which every entry is purged. The purge is on disk by now.
    fn drop_purged_segments(&mut self) {
        let Some((upto, _)) = self.marks.purged else { return };
        let mut files = Vec::new();
        while self.segments.len() > 1 && self.segments[0].last_index.is_none_or(|last| last <= upto)
        {
            let oldest = self.segments.pop_front().expect("more than one");
            files.push(segment_path(&self.dir, oldest.number));
        }
        if !files.is_empty() {
            self.housekeeper.remove(files);
        }
    }
}

/// Turns a spare into a segment, sealed with the present data key: head and marks are on disk before the file has its name.
fn found_segment(
    dir: &Path,
    spare: Spare,
    number: u64,
    marks: &Marks,
    at_rest: &AtRest,
) -> io::Result<(Segment, Current)> {
    let (key, data_key) = at_rest.keyring.current();
    let sealer = Sealer::new(SegmentKey::new(&data_key, number)).map_err(io::Error::other)?;
    let mut head = format::encode_segment_header(number, key).to_vec();
    let place = Place { segment: number, offset: head.len(), durable: 0 };
    let marks = postcard::to_stdvec(marks).map_err(io::Error::other)?;
    format::encode_record(&mut head, place, Tag::Checkpoint, &[&marks], &sealer);
    let (disk, path) = (&at_rest.disk, segment_path(dir, number));
    disk.write_at(&spare.file, &spare.path, &head, 0)?;
    disk.sync(&spare.file, &spare.path)?;
    disk.rename(&spare.path, &path)?;
    disk.sync_dir(dir)?;
    newest::write(&**disk, dir, number)?;
    let (end, bytes) = (head.len() as u64, spare.bytes);
    let current = Current { file: spare.file, path, sealer, end, bytes };
    Ok((Segment { number, last_index: None, key }, current))
}

/// Zeroes what an unfinished write left, so that none of it can be taken for a record later.
fn clear(disk: &dyn Disk, (file, path): (&File, &Path), from: u64, to: u64) -> io::Result<()> {
    static ZEROS: [u8; 1 << 16] = [0; 1 << 16];
    let mut at = from;
    while at < to {
        let chunk = (to - at).min(ZEROS.len() as u64);
        disk.write_at(file, path, &ZEROS[..chunk as usize], at)?;
        at += chunk;
    }
    disk.sync(file, path)
}
