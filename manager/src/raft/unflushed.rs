//! What a leader has told Raft of before its own disk has it: leader and followers write an entry at the same time (Ongaro,
//! "Consensus: Bridging Theory and Practice", 10.2.1).
//!
//! openraft 0.9 sends an entry to followers only after `append` was answered, so that an answer after the flush costs a write two
//! flushes, one after the other. The store therefore answers at once for entries of this node's own leadership, and notes them here.
//! openraft may then count them as this node's before they are. So nothing that follows from such an entry leaves this node
//! until it is on disk: it is not applied, and no message says that it is committed. With that, what is committed anywhere is on
//! the disks of a majority, as before.
//!
//! Another leader never finds such entries here: its vote is saved first, behind them in the same log.

use std::collections::VecDeque;

use tokio::sync::watch;

use super::wal::WalError;

/// Clones share it.
#[derive(Debug, Clone, Default)]
pub(super) struct Unflushed(watch::Sender<Debt>);

#[derive(Debug, Default)]
struct Debt {
    /// The first index of each append that is on its way to the disk, in order.
    appends: VecDeque<u64>,
    /// Set once and for good: the log writes nothing after its first error.
    failed: Option<String>,
}

/// An entry that Raft was told of will not reach the disk. openraft stops of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the log of this manager was not written: {reason}")]
pub(super) struct NotFlushed {
    reason: String,
}

// === impl Unflushed ===

impl Unflushed {
    /// Notes an append that starts at index `first` and is about to be answered.
    pub(super) fn begin(&self, first: u64) -> Result<(), NotFlushed> {
        self.0.borrow().check()?;
        self.0.send_modify(|debt| debt.appends.push_back(first));
        Ok(())
    }

    /// The oldest noted append is on disk, or failed.
    pub(super) fn end(&self, result: Result<(), WalError>) {
        self.0.send_modify(|debt| {
            debt.appends.pop_front();
            if let Err(err) = result {
                debt.failed.get_or_insert_with(|| err.to_string());
            }
        });
    }

    /// Waits until no entry up to `index` is missing on this node's disk. Cancel-safe.
    pub(super) async fn on_disk(&self, index: u64) -> Result<(), NotFlushed> {
        let mut debt = self.0.subscribe();
        let settled = debt.wait_for(|debt| {
            debt.failed.is_some() || debt.appends.front().is_none_or(|first| index < *first)
        });
        settled.await.expect("the sender is held here").check()
    }
}

impl Debt {
    fn check(&self) -> Result<(), NotFlushed> {
        match &self.failed {
            Some(reason) => Err(NotFlushed { reason: reason.clone() }),
            None => Ok(()),
        }
    }
}
