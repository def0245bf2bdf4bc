//! One served sandbox as both threads see it: its names, and the scope in which its slow work lives.

use std::sync::Arc;

use arc_swap::ArcSwap;
use swarmnet_types::SandboxId;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::names::SandboxNames;
use crate::notice::Notices;
use crate::stats::Stats;

/// Queries of one sandbox that may wait for the slow path at a time; Docker's number. Above it: "server failure" at once.
const SLOW_QUERIES_MAX: usize = 1024;

#[derive(Debug)]
pub(crate) struct Sandbox {
    pub(crate) id: SandboxId,
    pub(crate) names: ArcSwap<SandboxNames>,
    pub(crate) stats: Arc<Stats>,
    pub(crate) notices: Arc<Notices>,
    pub(crate) scope: Scope,
}

impl Sandbox {
    pub(crate) fn new(
        id: SandboxId,
        names: Arc<SandboxNames>,
        stats: Arc<Stats>,
        notices: Arc<Notices>,
    ) -> Self {
        Self { id, names: ArcSwap::new(names), stats, notices, scope: Scope::default() }
    }
}

/// All slow workers of one sandbox. Whatever runs in it has ended, and let go of its sockets, when [`Scope::end`] returns.
#[derive(Debug, Clone, Default)]
pub(crate) struct Scope {
    workers: TaskTracker,
    /// Of those: the ones that [`Scope::is_full`] counts.
    queries: TaskTracker,
    ended: CancellationToken,
}

impl Scope {
    /// Runs `work` on the slow thread until it is done or the scope ends. Must be called on that thread.
    pub(crate) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        let ended = self.ended.clone();
        self.workers.spawn(async move {
            // cancel-safe: on the end of the scope the work is dropped whole, which is what is wanted.
            ended.run_until_cancelled_owned(work).await;
        });
    }

    /// Likewise for a query that waits for upstream resolvers.
    pub(crate) fn spawn_query(&self, work: impl Future<Output = ()> + Send + 'static) {
        self.spawn(self.queries.track_future(work));
    }

    pub(crate) fn is_full(&self) -> bool {
        self.queries.len() >= SLOW_QUERIES_MAX
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.ended.is_cancelled()
    }

    pub(crate) async fn end(&self) {
        self.ended.cancel();
        self.workers.close();
        self.workers.wait().await;
    }
}
