//! The small workers between the parts of the agent: each turns the newest value of one `watch` into another, or into a file.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use swarmnet_gossip::{Doubts, GossipHandle, Liveness, Local, Sightings};
use swarmnet_runtime::Supervisor;
use swarmnet_runtime::reconcile::StatusReceiver;
use swarmnet_types::{NodeId, NodeView, Role};
use tokio::sync::watch;
use tokio::time::sleep;

use crate::liveness;
use crate::local::error::chain;
use crate::managers::ManagerPool;
use crate::session::Applied;
use crate::target::Status;
use crate::view_file;

/// Views are written at most this often: a crash in between costs deltas, which the next manager sends again.
const KEEP_EVERY: Duration = Duration::from_millis(50);
/// Between two attempts to open the gossip's socket.
const GOSSIP_RETRY: Duration = Duration::from_secs(3);

/// What the reconciler has brought about becomes what the managers are told. A held wish has no revision and says nothing.
pub(crate) async fn acknowledge(
    mut rounds: StatusReceiver<Status>,
    applied: watch::Sender<Applied>,
) {
    while rounds.changed().await.is_ok() {
        let Some(round) = rounds.borrow_and_update().clone() else { continue };
        let status = &round.status;
        let revision = status.stamp.revision.0;
        let next = Applied {
            revision,
            failures: status.complaints().cloned().collect(),
            overlay_mtu_bytes: status.overlay_mtu_bytes,
            repaired: status.repaired,
        };
        applied.send_if_modified(|now| {
            let changed = *now != next;
            *now = next;
            changed
        });
    }
}

/// Keeps the newest view on the disk; without one the file goes.
pub(crate) async fn keep_view(mut views: watch::Receiver<Option<Arc<NodeView>>>, path: PathBuf) {
    while views.changed().await.is_ok() {
        let view = views.borrow_and_update().clone();
        let path = path.clone();
        let keep = move || match view {
            Some(view) => view_file::write(&path, &view),
            None => view_file::remove(&path),
        };
        match tokio::task::spawn_blocking(keep).await {
            Ok(Ok(())) => {}
            Ok(Err(err)) => tracing::warn!(err = %chain(&err), "the view is not on the disk"),
            // The runtime is going down.
            Err(_) => return,
        }
        sleep(KEEP_EVERY).await;
    }
}

/// The running gossip, once it runs. Clones share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct GossipSlot(Arc<Mutex<Option<GossipHandle>>>);

impl GossipSlot {
    pub(crate) fn get(&self) -> Option<GossipHandle> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn put(&self, handle: GossipHandle) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(handle);
    }
}

/// Starts the gossip and hands on its verdicts.
#[derive(Debug)]
pub(crate) struct FollowGossip {
    pub(crate) me: Local,
    /// Answers echoes whenever this node's network works.
    pub(crate) witness: Option<IpAddr>,
    pub(crate) view: watch::Receiver<Option<Arc<NodeView>>>,
    pub(crate) verdicts: watch::Sender<Arc<Liveness>>,
    pub(crate) doubts: watch::Sender<Arc<Doubts>>,
    pub(crate) slot: GossipSlot,
    /// Is told where managers may be besides where the view has them.
    pub(crate) pool: ManagerPool,
}

impl FollowGossip {
    /// Until `supervisor` stops. The gossip itself runs under it too.
    pub(crate) async fn run(self, supervisor: Supervisor) {
        let stop = supervisor.token().clone();
        // cancel-safe: the verdicts are replaced as a whole; a start that is dropped leaves workers of the same supervisor.
        stop.run_until_cancelled(self.follow(&supervisor)).await;
    }

    async fn follow(self, supervisor: &Supervisor) {
        let handle = loop {
            let view = self.view.clone();
            let known = self.verdicts.borrow().clone();
            match liveness::start((self.me, self.witness), &known, view, supervisor).await {
                Ok(Some(handle)) => break handle,
                Ok(None) => return,
                Err(err) => {
                    tracing::error!(
                        err = %chain(&err),
                        "no gossip yet: the death of a node will not be seen"
                    );
                    sleep(GOSSIP_RETRY).await;
                }
            }
        };
        let (mut verdicts, mut doubts) = (handle.liveness(), handle.doubts());
        let mut sightings = handle.sightings();
        self.slot.put(handle);
        loop {
            // cancel-safe: watches lose nothing.
            let open = tokio::select! {
                open = verdicts.changed() => {
                    self.verdicts.send_replace(Arc::clone(&verdicts.borrow_and_update()));
                    open
                }
                open = sightings.changed() => {
                    self.pool.hint(self.hints(&sightings.borrow_and_update()));
                    open
                }
                open = doubts.changed() => {
                    self.doubts.send_replace(Arc::clone(&doubts.borrow_and_update()));
                    open
                }
            };
            if open.is_err() {
                return;
            }
        }
    }

    /// Of nodes that are heard elsewhere: those that are managers, or that the view does not have. Who they are, TLS finds out.
    fn hints(&self, sightings: &Sightings) -> Vec<SocketAddr> {
        let view = self.view.borrow();
        let may_manage = |node: &NodeId| {
            let known = view.as_ref().and_then(|view| view.nodes.get(node));
            known.is_none_or(|known| known.role == Role::Manager)
        };
        sightings.iter().filter(|(node, _)| may_manage(node)).map(|(_, addr)| *addr).collect()
    }
}
