//! openraft's log storage on our write-ahead log.
//!
//! Inputs: openraft's calls, one at a time; reads of its replication workers at any time. Output: ops for the WAL, in call order.
//!
//! Entries not purged are kept in memory as well, so no read touches the disk. The snapshot policy bounds them
//! (`RaftConfig::snapshot_every`, `snapshot_bytes`). The memory is changed before the disk: openraft demands that an entry is readable
//! when `append` returns, and tells nobody of it before the flush. When the WAL fails, openraft stops for good, so the two never
//! part while anybody looks.

use std::collections::{BTreeSet, VecDeque};
use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use openraft::storage::{LogFlushed, LogState, RaftLogStorage};
use openraft::{AnyError, OptionalSend, RaftLogId, RaftLogReader};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::oneshot;

use super::disk::AtRest;
use super::error::RaftError;
use super::types::{Entry, LogId, StorageError, StorageIoError, TypeConfig, Vote};
use super::unflushed::Unflushed;
use super::wal::{Op, Recovered, Wal, WalError};

/// One message to a follower carries entries of about this size: it must pass within the 100 ms that openraft gives it, also on a
/// link of 100 Mbit/s.
const REPLICATION_BYTES: usize = 1 << 20;

/// The log. Clones share one; they are the readers of openraft's replication.
#[derive(Debug, Clone)]
pub(super) struct LogStore {
    me: u64,
    wal: Arc<Wal>,
    log: Arc<RwLock<Log>>,
    unflushed: Unflushed,
}

/// What is in memory.
#[derive(Debug, Default)]
struct Log {
    vote: Option<Vote>,
    committed: Option<LogId>,
    purged: Option<LogId>,
    /// Consecutive; with the encoded length of each.
    entries: VecDeque<(Entry, usize)>,
    /// The sum of the lengths.
    bytes: usize,
}

// === impl LogStore ===

impl LogStore {
    /// Opens the log of node `me` in `dir`. Blocks on the disk.
    ///
    /// # Errors
    /// Those of [`WalError`]: nothing was changed then.
    pub(super) fn open(
        dir: &Path,
        segment_bytes: u64,
        me: u64,
        at_rest: &AtRest,
    ) -> Result<Self, RaftError> {
        let (wal, recovered) = Wal::open(dir, segment_bytes, at_rest)?;
        let log = Log::decode(&recovered)
            .map_err(|source| RaftError::LogEntry { dir: dir.to_owned(), source })?;
        let (wal, log) = (Arc::new(wal), Arc::new(RwLock::new(log)));
        Ok(Self { me, wal, log, unflushed: Unflushed::default() })
    }

    /// What Raft was told of before the disk had it.
    pub(super) fn unflushed(&self) -> Unflushed {
        self.unflushed.clone()
    }

    /// Ends the writer and releases the folder; later writes fail. Blocks on the disk.
    pub(super) fn close(&self) {
        self.wal.close();
    }

    /// Numbers of the data keys that the log was sealed with when it was opened.
    pub(super) fn keys(&self) -> &BTreeSet<u32> {
        self.wal.keys()
    }

    /// From here on the log is sealed with the data key that is in use now.
    pub(super) async fn roll(&self) -> Result<(), WalError> {
        self.flushed(Op::Roll).await
    }

    /// The last index that is gone from the log, because a snapshot holds it.
    pub(super) fn purged(&self) -> Option<u64> {
        self.read().purged.map(|id| id.index)
    }

    /// The entries from that index on.
    pub(super) fn entries_since(&self, index: u64) -> Vec<Entry> {
        self.read().slice(index, u64::MAX, usize::MAX)
    }

    /// Bytes of log in memory, as encoded.
    pub(super) fn bytes(&self) -> usize {
        self.read().bytes
    }

    fn read(&self) -> RwLockReadGuard<'_, Log> {
        self.log.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Log> {
        self.log.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands one op to the WAL and waits until it is on disk.
    async fn flushed(&self, op: Op) -> Result<(), WalError> {
        let (done, wait) = oneshot::channel();
        self.wal.submit(op, Box::new(move |result| drop(done.send(result))));
        wait.await.unwrap_or(Err(WalError::Closed))
    }
}

impl Log {
    fn decode(recovered: &Recovered) -> Result<Self, postcard::Error> {
        let optional = |bytes: &Option<Vec<u8>>| bytes.as_deref().map(decode).transpose();
        let entries = recovered.entries.iter();
        let bytes = entries.clone().map(|(_, bytes)| bytes.len()).sum();
        Ok(Self {
            bytes,
            vote: recovered.marks.vote.as_deref().map(decode).transpose()?,
            committed: optional(&recovered.marks.committed)?,
            purged: recovered.marks.purged.as_ref().map(|(_, id)| decode(id)).transpose()?,
            entries: entries
                .map(|(_, bytes)| Ok((decode(bytes)?, bytes.len())))
                .collect::<Result<_, postcard::Error>>()?,
        })
    }

    /// Whether the entry is of this node's own leadership, and that lasts.
    fn leads(&self, me: u64, id: &LogId) -> bool {
        let vote = self.vote.as_ref().map(|vote| &vote.leader_id);
        vote.is_some_and(|leader| leader.node_id == me && *leader == id.leader_id)
    }

    fn last(&self) -> Option<LogId> {
        self.entries.back().map(|(entry, _)| *entry.get_log_id()).or(self.purged)
    }

    /// Position in `entries` of the first index not below `index`.
    fn position(&self, index: u64) -> usize {
        self.entries.partition_point(|(entry, _)| entry.get_log_id().index < index)
    }

    fn push(&mut self, entry: Entry, len: usize) {
        self.entries.push_back((entry, len));
        self.bytes += len;
    }

    /// Forgets the entries from `since` on.
    fn truncate(&mut self, since: u64) {
        let gone = self.entries.split_off(self.position(since));
        self.bytes -= gone.iter().map(|(_, len)| len).sum::<usize>();
    }

    /// Forgets the entries up to `id`.
    fn purge(&mut self, id: LogId) {
        let gone = self.entries.drain(
            ..self.entries.partition_point(|(entry, _)| entry.get_log_id().index <= id.index),
        );
        self.bytes -= gone.map(|(_, len)| len).sum::<usize>();
        self.purged = Some(id);
    }

    /// From `start` on, at most `max` entries, at least one and as many as fit into `bytes`.
    fn slice(&self, start: u64, max: u64, mut bytes: usize) -> Vec<Entry> {
        let mut found = Vec::new();
        let max = usize::try_from(max).unwrap_or(usize::MAX);
        for (entry, len) in self.entries.iter().skip(self.position(start)).take(max) {
            if !found.is_empty() && *len > bytes {
                break;
            }
            bytes = bytes.saturating_sub(*len);
            found.push(entry.clone());
        }
        found
    }
}

impl RaftLogReader<TypeConfig> for LogStore {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry>, StorageError> {
        let start = match range.start_bound() {
            Bound::Included(&start) => start,
            Bound::Excluded(&start) => start + 1,
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(&end) => end + 1,
            Bound::Excluded(&end) => end,
            Bound::Unbounded => u64::MAX,
        };
        let log = self.read();
        let count = log.position(end).saturating_sub(log.position(start));
        Ok(log.slice(start, count as u64, usize::MAX))
    }

    async fn limited_get_log_entries(
        &mut self,
        start: u64,
        end: u64,
    ) -> Result<Vec<Entry>, StorageError> {
        Ok(self.read().slice(start, end.saturating_sub(start), REPLICATION_BYTES))
    }
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig>, StorageError> {
        let log = self.read();
        Ok(LogState { last_purged_log_id: log.purged, last_log_id: log.last() })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), StorageError> {
        let bytes = encode(vote).map_err(|err| StorageIoError::write_vote(&err))?;
        let saved = self.flushed(Op::Vote(bytes)).await;
        saved.map_err(|err| StorageIoError::write_vote(&err))?;
        self.write().vote = Some(*vote);
        Ok(())
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, StorageError> {
        Ok(self.read().vote)
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), StorageError> {
        let Some(committed) = committed else { return Ok(()) };
        let bytes = encode(&committed).map_err(|err| StorageIoError::write(&err))?;
        self.write().committed = Some(committed);
        // Not waited for: only a restart reads it, and an older value costs that restart a wait for the leader.
        self.wal.submit(Op::Committed(bytes), Box::new(|_| {}));
        Ok(())
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, StorageError> {
        Ok(self.read().committed)
    }

    async fn append<I>(
        &mut self,
        entries: I,
        callback: LogFlushed<TypeConfig>,
    ) -> Result<(), StorageError>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let (mut encoded, mut first) = (Vec::new(), None);
        let own = {
            let mut log = self.write();
            for entry in entries {
                let id = *entry.get_log_id();
                first.get_or_insert(id);
                if let Some((last, _)) = log.entries.back()
                    && last.get_log_id().index + 1 != id.index
                {
                    let hole = AnyError::error(format!("{} does not follow {}", id, last.log_id));
                    return Err(StorageIoError::write_log_entry(id, hole).into());
                }
                let bytes =
                    encode(&entry).map_err(|err| StorageIoError::write_log_entry(id, &err))?;
                log.push(entry, bytes.len());
                encoded.push((id.index, bytes));
            }
            first.filter(|id| log.leads(self.me, id))
        };
        if let Some(first) = own {
            self.unflushed.begin(first.index).map_err(|err| StorageIoError::write_logs(&err))?;
            let unflushed = self.unflushed();
            self.wal.submit(Op::Append(encoded), Box::new(move |result| unflushed.end(result)));
            callback.log_io_completed(Ok(()));
        } else {
            let done = |result: Result<(), WalError>| {
                callback.log_io_completed(result.map_err(io::Error::other));
            };
            self.wal.submit(Op::Append(encoded), Box::new(done));
        }
        Ok(())
    }

    async fn truncate(&mut self, log_id: LogId) -> Result<(), StorageError> {
        self.write().truncate(log_id.index);
        let truncated = self.flushed(Op::Truncate { since: log_id.index }).await;
        Ok(truncated.map_err(|err| StorageIoError::write_logs(&err))?)
    }

    async fn purge(&mut self, log_id: LogId) -> Result<(), StorageError> {
        let id = encode(&log_id).map_err(|err| StorageIoError::write_logs(&err))?;
        self.write().purge(log_id);
        let purged = self.flushed(Op::Purge { upto: log_id.index, id }).await;
        Ok(purged.map_err(|err| StorageIoError::write_logs(&err))?)
    }
}

fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, postcard::Error> {
    postcard::to_stdvec(value)
}

fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, postcard::Error> {
    postcard::from_bytes(bytes)
}
