//! The one loop that turns a wish into the world: snapshot the wish → reconcile → publish the status → wait for a reason.
//!
//! Inputs: a `watch` with the newest wish, wakes from outside (a foreign change seen by netlink), the period, and the retry time in
//! the last status. Output: a `watch` with the last status, stamped. The wish is level-triggered: intermediate wishes may be
//! skipped, the newest never is.
//!
//! Reconciling is infallible by type: what failed is in the status, and so is when to try again. The loop ends only with the
//! shutdown, or when the wish's sender is gone, which is a fault of the daemon and stops it (the worker is critical). A round that
//! has begun is finished before the loop looks at the shutdown.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::Supervisor;

/// A part of the world that can be brought to a wish.
pub trait Reconciler: Send + 'static {
    /// The wish; cheap to clone (an `Arc`), because the loop takes it out of the watch before each round.
    type Desired: Clone + Send + Sync + 'static;
    type Status: ReconcileStatus + Send + Sync + 'static;

    /// One round: observe → plan → apply. `reason` tells whether an incremental round will do
    /// ([`Reason::DesiredChanged`], [`Reason::Retry`]) or the world must be observed anew.
    fn reconcile(
        &mut self,
        desired: &Self::Desired,
        reason: Reason,
    ) -> impl Future<Output = Self::Status> + Send;
}

/// What the loop must know of a status.
pub trait ReconcileStatus {
    /// When something is left undone: how long to wait before the next try. `None`: nothing to do before the next reason.
    fn retry_after(&self) -> Option<Duration>;
}

/// Why a round was run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// The first round.
    Start,
    /// There is a newer wish.
    DesiredChanged,
    /// [`Waker::wake`] was called.
    Woken,
    /// [`Waker::notice`] was called: a part of the world may have changed without us, and the reconciler knows which.
    Noticed,
    /// The time of [`ReconcileStatus::retry_after`] is over.
    Retry,
    /// The period is over: heals drift nobody told us of.
    Periodic,
}

impl Reason {
    /// The world may have changed without us: observe it anew instead of trusting what the last round left.
    pub const fn wants_full_round(self) -> bool {
        matches!(self, Self::Start | Self::Woken | Self::Periodic)
    }

    /// The reason of a round that answers what was asked before it began, too.
    fn with(self, asked: Option<Asked>) -> Self {
        match asked {
            Some(Asked::Whole) if !self.wants_full_round() => Self::Woken,
            Some(Asked::Part) if !self.wants_full_round() => Self::Noticed,
            _ => self,
        }
    }
}

/// A status with the round it comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stamped<S> {
    pub status: S,
    pub reason: Reason,
    /// Rounds since the start, this one included.
    pub count: u64,
    /// Duration of the round.
    pub took: Duration,
}

/// The last status; `None` before the first round has ended.
pub type StatusReceiver<S> = watch::Receiver<Option<Arc<Stamped<S>>>>;

/// What wakers asked for since the last round began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Asked {
    Part,
    Whole,
}

/// Asks the loop for a round. Clones wake the same loop.
#[derive(Debug, Clone)]
pub struct Waker(Arc<watch::Sender<Option<Asked>>>);

impl Waker {
    /// A full round. Any number of wakes before the next round begins give one round.
    pub fn wake(&self) {
        self.ask(Asked::Whole);
    }

    /// A round that looks at what the reconciler was told of ([`Reason::Noticed`]). A full round answers it, too.
    pub fn notice(&self) {
        self.ask(Asked::Part);
    }

    fn ask(&self, more: Asked) {
        self.0.send_modify(|asked| *asked = (*asked).max(Some(more)));
    }

    /// What was asked; nobody is woken by it.
    fn take(&self) -> Option<Asked> {
        let mut asked = None;
        self.0.send_if_modified(|now| {
            asked = now.take();
            false
        });
        asked
    }
}

/// The outside of a running loop. Dropping it does not stop the loop: the supervisor does.
#[derive(Debug, Clone)]
pub struct ReconcileHandle<S> {
    status: StatusReceiver<S>,
    waker: Waker,
}

impl<S> ReconcileHandle<S> {
    pub fn status(&self) -> StatusReceiver<S> {
        self.status.clone()
    }

    pub fn waker(&self) -> Waker {
        self.waker.clone()
    }
}

/// Starts the loop as a critical worker. `interval` is the longest time between two full rounds.
pub fn start<R: Reconciler>(
    supervisor: &Supervisor,
    name: &str,
    target: R,
    desired: watch::Receiver<R::Desired>,
    interval: Duration,
) -> ReconcileHandle<R::Status> {
    let (tx, status) = watch::channel(None);
    let (wake, woken) = watch::channel(None);
    let waker = Waker(Arc::new(wake));
    let worker = Worker {
        target,
        desired,
        status: tx,
        woken,
        waker: waker.clone(),
        interval,
        shutdown: supervisor.token().clone(),
    };
    supervisor.spawn_critical(name, worker.run());
    ReconcileHandle { status, waker }
}

struct Worker<R: Reconciler> {
    target: R,
    desired: watch::Receiver<R::Desired>,
    status: watch::Sender<Option<Arc<Stamped<R::Status>>>>,
    /// A watch rather than a notification: what was asked before a round began is answered by that round.
    woken: watch::Receiver<Option<Asked>>,
    /// Also keeps `woken` open when nobody else wants to wake.
    waker: Waker,
    interval: Duration,
    shutdown: CancellationToken,
}

impl<R: Reconciler> Worker<R> {
    async fn run(mut self) {
        let mut reason = Reason::Start;
        let mut count = 0;
        let mut periodic_at = Instant::now() + self.interval;
        loop {
            self.woken.mark_unchanged(); // before the wish is read: a wake after the next line gets a round of its own
            reason = reason.with(self.waker.take());
            let desired = self.desired.borrow_and_update().clone(); // the watch is locked for one clone
            let begun = Instant::now();
            let status = self.target.reconcile(&desired, reason).await;
            let ended = Instant::now();
            if reason.wants_full_round() {
                periodic_at = ended + self.interval;
            }
            let retry_at = status.retry_after().map(|after| ended + after);
            count += 1;
            let took = ended - begun;
            tracing::debug!(?reason, count, ?took, retry = retry_at.is_some(), "reconciled");
            self.status.send_replace(Some(Arc::new(Stamped { status, reason, count, took })));
            let Some(next) = self.next_reason(retry_at, periodic_at).await else { return };
            reason = next;
        }
    }

    /// `None`: the loop is over.
    async fn next_reason(
        &mut self,
        retry_at: Option<Instant>,
        periodic_at: Instant,
    ) -> Option<Reason> {
        let timer = retry_at.map_or(periodic_at, |at| at.min(periodic_at));
        // All arms are cancel-safe (token, watch versions, deadline), and none awaits in its body. Wakes go before
        // changes, or a busy wish would starve them: a woken round takes the newest wish along.
        let reason = tokio::select! {
            biased;
            () = self.shutdown.cancelled() => return None,
            _open = self.woken.changed() => Reason::Noticed, // never closed: self.waker; what it is, `with` finds out
            changed = self.desired.changed() => match changed {
                Ok(()) => Reason::DesiredChanged,
                Err(_closed) => {
                    tracing::error!("nobody holds the wish any more");
                    return None;
                }
            },
            () = sleep_until(timer) => Reason::Retry,
        };
        // A full round that is due goes before an incremental one, however busy the wish is.
        Some(if Instant::now() >= periodic_at { Reason::Periodic } else { reason })
    }
}

#[cfg(test)]
mod tests;
