//! The owner of all workers of a process.
//!
//! Inputs: futures with names. Outputs: the end of a critical worker by [`Supervisor::wait`], the report of
//! [`Supervisor::shutdown`], and one log line for each worker that ends otherwise than asked.
//!
//! Supervisors form a tree: stopping one stops its descendants and waits for them. Three kinds of worker:
//! - *critical*: its end, by return or panic, before anyone asked for it stops the whole tree from the root, with its name;
//! - *scoped*: bound to a handle, aborted when the handle is dropped;
//! - *transient*: may end by itself (a connection, a single job); a panic in it is logged and costs only itself.
//!
//! Stopping has two phases. *Graceful*: the token of [`Supervisor::token`] is cancelled, workers finish what they hold. *Abort*:
//! after the deadline what still runs is dropped at its next await. A worker that never awaits cannot be stopped: the report
//! names it as stuck. Dropping a `Supervisor` stops nothing: it is a handle, and workers hold clones of it.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::task::{JoinError, JoinHandle};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;
use tracing::Instrument;

/// How long an aborted worker may take to reach its next await before it is called stuck.
const ABORT_GRACE: Duration = Duration::from_secs(1);

/// A handle to the owner of workers; clones share one owner.
#[derive(Debug, Clone)]
pub struct Supervisor {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    /// Names from the root, joined by `/`: `swarmnetd/gossip`.
    path: String,
    /// Phase one; cancelled with the parent's.
    graceful: CancellationToken,
    /// Phase two; cancelled with the parent's.
    abort: CancellationToken,
    tracker: TaskTracker,
    parent: Option<Arc<Inner>>,
    root: Arc<Root>,
}

/// What the whole tree shares.
#[derive(Debug)]
struct Root {
    graceful: CancellationToken,
    /// The first critical worker that ended; later ends are consequences.
    fault: Mutex<Option<CriticalEnd>>,
    /// Serial number → full name of each running worker of the tree.
    running: Mutex<BTreeMap<u64, String>>,
    next_serial: AtomicU64,
}

/// A critical worker ended before anyone asked it to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CriticalEnd {
    /// Full name: `swarmnetd/gossip/driver`.
    pub worker: String,
    pub kind: EndKind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndKind {
    Returned,
    /// The message was printed by the panic hook.
    Panicked,
}

impl fmt::Display for CriticalEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let how = match self.kind {
            EndKind::Returned => "returned",
            EndKind::Panicked => "panicked",
        };
        write!(f, "critical worker {} {how}", self.worker)
    }
}

/// How a shutdown went.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ShutdownReport {
    /// Workers that did not finish by the deadline and were dropped.
    pub aborted: Vec<String>,
    /// Those of `aborted` that did not even reach an await within a second more.
    pub stuck: Vec<String>,
}

impl ShutdownReport {
    /// Every worker finished by itself.
    pub fn is_clean(&self) -> bool {
        self.aborted.is_empty()
    }
}

/// A worker bound to this handle: dropping the handle aborts it.
#[derive(Debug)]
pub struct Scoped<T> {
    join: JoinHandle<Option<T>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Duty {
    Critical,
    Scoped,
    Transient,
}

// === impl Supervisor ===

impl Supervisor {
    /// The root of a process's tree; its name heads the name of every worker.
    pub fn new(name: &str) -> Self {
        let graceful = CancellationToken::new();
        let root = Arc::new(Root {
            graceful: graceful.clone(),
            fault: Mutex::new(None),
            running: Mutex::new(BTreeMap::new()),
            next_serial: AtomicU64::new(0),
        });
        let inner = Inner {
            path: name.to_owned(),
            graceful,
            abort: CancellationToken::new(),
            tracker: TaskTracker::new(),
            parent: None,
            root,
        };
        Self { inner: Arc::new(inner) }
    }

    /// A supervisor that can be shut down by itself and is shut down with this one. A critical worker of the child is
    /// critical for the whole tree.
    #[must_use]
    pub fn child(&self, name: &str) -> Self {
        let inner = Inner {
            path: format!("{}/{name}", self.inner.path),
            graceful: self.inner.graceful.child_token(),
            abort: self.inner.abort.child_token(),
            tracker: TaskTracker::new(),
            parent: Some(Arc::clone(&self.inner)),
            root: Arc::clone(&self.inner.root),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Cancelled when the graceful phase begins. Workers select on it, first and biased.
    pub fn token(&self) -> &CancellationToken {
        &self.inner.graceful
    }

    pub fn is_stopping(&self) -> bool {
        self.inner.graceful.is_cancelled()
    }

    /// Starts a worker without which the process must not go on.
    pub fn spawn_critical<F>(&self, name: &str, worker: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        // The handle is not needed: the guard inside the worker reports its end.
        drop(self.spawn(name, Duty::Critical, worker));
    }

    /// Starts a worker that lives no longer than the returned handle.
    #[must_use = "dropping the handle aborts the worker"]
    pub fn spawn_scoped<F>(&self, name: &str, worker: F) -> Scoped<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        Scoped { join: self.spawn(name, Duty::Scoped, worker) }
    }

    /// Starts a worker that may end by itself: one connection, one job. It still ends at shutdown.
    pub fn spawn_transient<F>(&self, name: &str, worker: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        drop(self.spawn(name, Duty::Transient, worker));
    }

    /// Begins the graceful phase without waiting for it.
    pub fn stop(&self) {
        self.inner.graceful.cancel();
    }

    /// Resolves when stopping begins: with the critical worker that caused it, or `None` when it was asked for.
    pub async fn wait(&self) -> Option<CriticalEnd> {
        self.inner.graceful.cancelled().await;
        lock(&self.inner.root.fault).clone()
    }

    /// Asks all workers of this supervisor and of its descendants to finish, drops those that have not by `deadline`, and
    /// returns when all are gone (or stuck). Safe to call more than once.
    pub async fn shutdown(&self, deadline: Duration) -> ShutdownReport {
        self.inner.graceful.cancel();
        self.inner.tracker.close();
        if tokio::time::timeout(deadline, self.inner.tracker.wait()).await.is_ok() {
            return ShutdownReport::default();
        }
        let aborted = self.running();
        tracing::warn!(workers = ?aborted, "workers outlived the deadline of the shutdown");
        self.inner.abort.cancel();
        let gone = tokio::time::timeout(ABORT_GRACE, self.inner.tracker.wait()).await;
        let stuck = if gone.is_ok() { Vec::new() } else { self.running() };
        if !stuck.is_empty() {
            tracing::error!(workers = ?stuck, "workers do not react: they never await");
        }
        ShutdownReport { aborted, stuck }
    }

    /// Full names of the workers of this supervisor and of its descendants, oldest first.
    pub fn running(&self) -> Vec<String> {
        let own = format!("{}/", self.inner.path);
        lock(&self.inner.root.running).values().filter(|n| n.starts_with(&own)).cloned().collect()
    }

    #[expect(clippy::disallowed_methods, reason = "the one place that spawns")]
    fn spawn<F>(&self, name: &str, duty: Duty, worker: F) -> JoinHandle<Option<F::Output>>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let guard = WorkerGuard::new(&self.inner, name, duty);
        let span = tracing::info_span!("worker", name = %guard.name);
        let abort = self.inner.abort.clone();
        tokio::spawn(guard.run(abort, worker).instrument(span))
    }
}

// === impl Scoped ===

impl<T> Scoped<T> {
    /// The worker's result; `None` when it was aborted by a shutdown or panicked. Cancel-safe; dropping the future of this
    /// call drops the handle and so aborts the worker.
    pub async fn join(mut self) -> Option<T> {
        match (&mut self.join).await {
            Ok(output) => output,
            Err(err) => {
                log_join_error(&err);
                None
            }
        }
    }

    pub fn is_finished(&self) -> bool {
        self.join.is_finished()
    }
}

impl<T> Drop for Scoped<T> {
    fn drop(&mut self) {
        self.join.abort();
    }
}

fn log_join_error(err: &JoinError) {
    // A panic was already logged by the guard, under the worker's name.
    tracing::debug!(%err, "a joined worker gave no result");
}

/// Lives inside the worker's future: wherever that ends, dropping this reports it, once.
#[derive(Debug)]
struct WorkerGuard {
    serial: u64,
    name: String,
    duty: Duty,
    owner: Arc<Inner>,
    /// Set on a return; a drop without it means panic or abort.
    returned: bool,
    /// Holds the shutdown of the owner and of each ancestor until the worker is gone. Declared last: dropped after the
    /// report below has been made.
    _tracked: Vec<TaskTrackerToken>,
}

impl WorkerGuard {
    fn new(owner: &Arc<Inner>, name: &str, duty: Duty) -> Self {
        let serial = owner.root.next_serial.fetch_add(1, Ordering::Relaxed);
        let name = format!("{}/{name}", owner.path);
        lock(&owner.root.running).insert(serial, name.clone());
        let mut tracked = vec![owner.tracker.token()];
        let mut above = owner.parent.as_ref();
        while let Some(inner) = above {
            tracked.push(inner.tracker.token());
            above = inner.parent.as_ref();
        }
        Self { serial, name, duty, owner: Arc::clone(owner), returned: false, _tracked: tracked }
    }

    /// Runs the worker with the guard inside; `None` when aborted. A method taking `self`, because an `async move` block would
    /// capture single fields and drop the rest too early.
    async fn run<F: Future>(mut self, abort: CancellationToken, worker: F) -> Option<F::Output> {
        let output = tokio::select! {
            biased;
            () = abort.cancelled() => None, // cancel-safe: a token remembers
            output = worker => Some(output), // dropped only in the abort phase, which is its meaning
        };
        self.returned = output.is_some();
        output
    }

    fn end(&self) -> Option<EndKind> {
        match (self.returned, std::thread::panicking()) {
            (true, _) => Some(EndKind::Returned),
            (false, true) => Some(EndKind::Panicked),
            (false, false) => None,
        }
    }
}

impl Drop for WorkerGuard {
    fn drop(&mut self) {
        let root = &self.owner.root;
        lock(&root.running).remove(&self.serial);
        let Some(kind) = self.end() else { return };
        let asked = self.owner.graceful.is_cancelled() && kind == EndKind::Returned;
        match self.duty {
            Duty::Critical if !asked => {
                let end = CriticalEnd { worker: self.name.clone(), kind };
                tracing::error!("{end}: stopping");
                lock(&root.fault).get_or_insert(end);
                root.graceful.cancel();
            }
            Duty::Critical | Duty::Scoped | Duty::Transient => {
                if kind == EndKind::Panicked {
                    tracing::error!(worker = %self.name, "worker panicked");
                }
            }
        }
    }
}

/// The guarded values stay consistent whatever panics, so a poisoned lock is as good as another.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
