//! The one thread that writes the log.
//!
//! Input: one ordered queue of requests, so that votes and entries reach the disk in the order Raft gave them. Outputs: segment
//! files, and one answer per request. All that is queued is written with one `pwrite` and flushed with one `fdatasync`.
//!
//! Invariants: nothing is answered `Ok` before it is on disk (except [`Op::Committed`], which needs no flush: losing it costs a
//! replay); a segment is sealed and flushed before the next one exists; after the first error nothing is written any more, because
//! a failed `fdatasync` may have dropped the pages it could not write.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::Receiver;

use super::error::WalError;
use super::format::{self, Place, Tag};
use super::housekeeper::{Housekeeper, Spare, create_spare, sync_dir};
use super::recover::{Marks, Segment, Tail, segment_path};

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
    marks: Marks,
    /// Oldest first; the last one is written to.
    segments: VecDeque<Segment>,
    file: File,
    /// Offset of the next write.
    position: u64,
    /// Everything before this offset is on disk.
    durable: u64,
    file_len: u64,
    housekeeper: Housekeeper,
    /// Encoded records to be written at `position`.
    staged: Vec<u8>,
    /// The answers for what is staged.
    answers: Vec<Done>,
    flush_needed: bool,
    failed: Option<String>,
}

// === impl Writer ===

impl Writer {
    /// Opens the last segment for writing, or makes the first one; clears a torn tail.
    pub(super) fn open(
        dir: &Path,
        segment_bytes: u64,
        marks: Marks,
        segments: VecDeque<Segment>,
        tail: Option<Tail>,
    ) -> Result<Self, WalError> {
        let io = |action, path: &Path| {
            let path = path.to_owned();
            move |source| WalError::Io { action, path, source }
        };
        let housekeeper = Housekeeper::start(dir).map_err(io("serve", dir))?;
        let (Some(number), Some(tail)) = (segments.back().map(|last| last.number), tail) else {
            let bytes = segment_bytes.min(FIRST_SEGMENT_BYTES);
            let spare = create_spare(dir, bytes).map_err(io("create a segment in", dir))?;
            let (file, end) = found_segment(dir, &spare, 1, &marks)
                .map_err(io("create", &segment_path(dir, 1)))?;
            let segments = VecDeque::from([Segment { number: 1, last_index: None }]);
            let writer = Self::at(dir, segment_bytes, marks, segments, (file, housekeeper));
            return Ok(Self { position: end, durable: end, file_len: bytes, ..writer });
        };
        let path = segment_path(dir, number);
        let file = File::options().read(true).write(true).open(&path).map_err(io("open", &path))?;
        if tail.torn {
            tracing::warn!(file = %path.display(), offset = tail.end, "cut an unfinished write off the log");
            clear(&file, tail.end, tail.file_len).map_err(io("clear the end of", &path))?;
        }
        // Bytes in the page cache may not be on disk yet when only the process died.
        file.sync_data().map_err(io("flush", &path))?;
        let mut writer = Self::at(dir, segment_bytes, marks, segments, (file, housekeeper));
        (writer.position, writer.durable, writer.file_len) = (tail.end, tail.end, tail.file_len);
        if tail.sealed {
            writer.open_next(0).map_err(io("create the segment after", &path))?;
        }
        Ok(writer)
    }

    fn at(
        dir: &Path,
        segment_bytes: u64,
        marks: Marks,
        segments: VecDeque<Segment>,
        (file, housekeeper): (File, Housekeeper),
    ) -> Self {
        Self {
            dir: dir.to_owned(),
            segment_bytes,
            marks,
            segments,
            file,
            position: 0,
            durable: 0,
            file_len: 0,
            housekeeper,
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
            && let Err(err) = self.file.sync_data()
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
            let file = segment_path(&self.dir, self.current().number);
            let cause = format!("{}: {err}", file.display());
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
        if self.end() + needed as u64 > self.file_len {
            self.seal()?;
            self.open_next(needed as u64)?;
        }
        let place = self.place();
        format::encode_record(&mut self.staged, place, tag, payload);
        Ok(())
    }

    /// Where the next record goes.
    fn end(&self) -> u64 {
        self.position + self.staged.len() as u64
    }

    fn place(&self) -> Place {
        Place {
            segment: self.current().number,
            offset: self.end() as usize,
            durable: u32::try_from(self.durable).expect("a segment is shorter than 4 GiB"),
        }
    }

    fn current(&self) -> Segment {
        *self.segments.back().expect("a writer has a segment")
    }

    /// One `pwrite`, and one flush if anything needs it.
    fn write_group(&mut self) -> io::Result<()> {
        if self.failed.is_some() {
            return Ok(());
        }
        self.file.write_all_at(&self.staged, self.position)?;
        self.position += self.staged.len() as u64;
        self.staged.clear();
        if std::mem::take(&mut self.flush_needed) {
            self.file.sync_data()?;
            self.durable = self.position;
            self.drop_purged_segments();
        }
        if self.position > self.file_len / 2 {
            self.housekeeper.prepare(self.next_len());
        }
        Ok(())
    }

    /// Ends the current segment for good. What is staged is on disk afterwards, though not answered yet.
    fn seal(&mut self) -> io::Result<()> {
        let place = self.place();
        format::encode_record(&mut self.staged, place, Tag::Seal, &[]);
        self.flush_needed = true;
        self.write_group()
    }

    /// Goes on in a new segment that has room for `needed` bytes.
    fn open_next(&mut self, needed: u64) -> io::Result<()> {
        let marks = postcard::to_stdvec(&self.marks).map_err(io::Error::other)?;
        let head = format::SEGMENT_HEADER_LEN + format::record_len(marks.len());
        let spare = self.housekeeper.take(self.next_len().max(needed + head as u64))?;
        let number = self.current().number + 1;
        let bytes = spare.bytes;
        let (file, end) = found_segment(&self.dir, &spare, number, &self.marks)?;
        self.file = file;
        (self.position, self.durable, self.file_len) = (end, end, bytes);
        self.segments.push_back(Segment { number, last_index: None });
        Ok(())
    }

    fn next_len(&self) -> u64 {
        self.file_len.saturating_mul(SEGMENT_GROWTH).min(self.segment_bytes)
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

/// Turns a spare into a segment: head and marks are on disk before the file has its name. Returns the offset of the next record.
fn found_segment(dir: &Path, spare: &Spare, number: u64, marks: &Marks) -> io::Result<(File, u64)> {
    let mut head = format::encode_segment_header(number).to_vec();
    let place = Place { segment: number, offset: head.len(), durable: 0 };
    let marks = postcard::to_stdvec(marks).map_err(io::Error::other)?;
    format::encode_record(&mut head, place, Tag::Checkpoint, &[&marks]);
    spare.file.write_all_at(&head, 0)?;
    spare.file.sync_data()?;
    fs::rename(&spare.path, segment_path(dir, number))?;
    sync_dir(dir)?;
    Ok((spare.file.try_clone()?, head.len() as u64))
}

/// Zeroes what an unfinished write left, so that none of it can be taken for a record later.
fn clear(file: &File, from: u64, to: u64) -> io::Result<()> {
    static ZEROS: [u8; 1 << 16] = [0; 1 << 16];
    let mut at = from;
    while at < to {
        let chunk = (to - at).min(ZEROS.len() as u64);
        file.write_all_at(&ZEROS[..chunk as usize], at)?;
        at += chunk;
    }
    file.sync_data()
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{channel, sync_channel};

    use tempfile::TempDir;

    use super::*;

    #[test]
    fn after_a_failed_write_nothing_is_written_any_more() {
        let dir = TempDir::new().unwrap();
        let opened = Writer::open(dir.path(), 1 << 12, Marks::default(), VecDeque::new(), None);
        let mut writer = opened.unwrap();
        let path = segment_path(dir.path(), 1);
        let before = fs::read(&path).unwrap();
        // A handle that cannot be written to stands for a disk that fails.
        writer.file = File::open(&path).unwrap();
        let (queue, requests) = sync_channel(8);
        let (answer, answers) = channel();
        // More than a segment: a rotation must not hide the failure either.
        for index in 1..=6 {
            let answer = answer.clone();
            let done: Done = Box::new(move |result| answer.send(result).unwrap());
            queue.send(Request { op: Op::Append(vec![(index, vec![1; 1000])]), done }).unwrap();
        }
        drop((queue, answer));
        writer.run(&requests);
        let answers: Vec<_> = answers.iter().collect();
        assert_eq!(answers.len(), 6);
        for answer in answers {
            let err = answer.unwrap_err().to_string();
            assert!(err.starts_with("the log stopped after an error: "), "{err}");
        }
        assert_eq!(fs::read(&path).unwrap(), before);
        assert!(!segment_path(dir.path(), 2).exists());
    }
}
