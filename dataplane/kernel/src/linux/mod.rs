//! The Linux side of `swarmnet_dataplane::Kernel`: observes what is ours, carries out one operation at a time.
//!
//! Namespaces are known by where the last observation or `AddNetns` said they are. Handles into the node's namespace and the
//! overlays' stay open; handles into sandboxes are opened for one operation (about 0.1 ms) and closed, because an open socket would
//! keep a sandbox alive after its workload has gone. The operation does not wait for the close ([`closer`]).
//!
//! What an error means is decided in `settle` alone.

mod apply;
mod closer;
mod observe;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use swarmnet_dataplane::{Actual, Kernel, Ns, Op, Scope};

use self::closer::Closer;
use crate::error::KernelError;
use crate::netns::Netns;
use crate::nft::Nft;
use crate::route::Route;

/// The kernel of this machine, as one node uses it.
#[derive(Debug, Clone)]
pub struct LinuxKernel {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    node: Netns,
    /// Where namespaces other than the node's are.
    places: Mutex<BTreeMap<Ns, PathBuf>>,
    /// Open handles of [`Ns::Node`] and [`Ns::Overlay`]; taken while in use.
    idle: Mutex<BTreeMap<Ns, Handles>>,
    closer: Closer,
}

/// What one namespace is worked on with.
#[derive(Debug)]
struct Handles {
    netns: Netns,
    route: Route,
    nft: Nft,
}

impl LinuxKernel {
    /// For a node whose own namespace is `node`.
    ///
    /// # Errors
    /// Without the right to use netlink there (CAP_NET_ADMIN, and CAP_SYS_ADMIN to enter namespaces).
    pub fn new(node: Netns) -> Result<Self, KernelError> {
        let handles = Handles::open(node.clone())?;
        let idle = Mutex::new(BTreeMap::from([(Ns::Node, handles)]));
        let inner = Inner { node, places: Mutex::default(), idle, closer: Closer::start() };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Says where namespaces are that nobody has observed yet: for operations planned without an observation.
    pub fn locate(&self, places: impl IntoIterator<Item = (Ns, PathBuf)>) {
        lock(&self.inner.places).extend(places);
    }

    /// Netlink ports that nftables changes of ours in the node's namespace come from, for [`crate::nft::Monitor`].
    pub fn nft_ports(&self) -> Vec<u32> {
        let idle = lock(&self.inner.idle);
        idle.values().map(|handles| handles.nft.port()).collect()
    }

    /// Closes the handles into the overlays' namespace, so that it can go. They are opened again on use.
    pub fn release(&self) {
        lock(&self.inner.idle).remove(&Ns::Overlay);
    }
}

impl Kernel for LinuxKernel {
    type Error = KernelError;

    async fn observe(&self, scope: &Scope) -> Result<Actual, KernelError> {
        let (inner, scope) = (Arc::clone(&self.inner), scope.clone());
        blocking(move || inner.observe(&scope)).await
    }

    async fn apply(&self, op: &Op) -> Result<(), KernelError> {
        let (inner, op) = (Arc::clone(&self.inner), op.clone());
        blocking(move || settle(&op, inner.apply(&op))).await
    }
}

/// The one place where an errno gets its meaning. Deleting what is not there is done, whether the object, its link or its namespace
/// is missing. Everything else goes to the caller: EEXIST on an addition means that its view is stale
/// ([`KernelError::is_stale`]), and it observes and plans again, for what exists may differ.
fn settle(op: &Op, result: Result<(), KernelError>) -> Result<(), KernelError> {
    let removal = match op {
        Op::DelNetns { .. }
        | Op::DelLink { .. }
        | Op::DelAddr { .. }
        | Op::DelRoute { .. }
        | Op::DelRule { .. }
        | Op::DelNexthop { .. }
        | Op::DelNeighbour { .. }
        | Op::DelFdb { .. }
        | Op::KillFlows { .. } => true,
        Op::SetForwardAccept { matches, .. } => matches.is_empty(),
        Op::AddNetns { .. }
        | Op::AddLink { .. }
        | Op::AddVeth { .. }
        | Op::SetLink { .. }
        | Op::AddAddr { .. }
        | Op::PutRoute { .. }
        | Op::AddRule { .. }
        | Op::PutNexthop { .. }
        | Op::PutNeighbour { .. }
        | Op::PutFdb { .. }
        | Op::SetSysctl { .. }
        | Op::Nft { .. } => false,
    };
    match result {
        Err(err) if removal && err.is_gone() => Ok(()),
        other => other,
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, KernelError> + Send + 'static,
) -> Result<T, KernelError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(join) => match join.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The runtime is going down and did not start the work.
            Err(_) => Err(KernelError::ShuttingDown),
        },
    }
}

/// The maps are whole after each statement, so a panic elsewhere does not spoil them.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Handles {
    fn open(netns: Netns) -> Result<Self, KernelError> {
        Ok(Self { route: Route::open(&netns)?, nft: Nft::open(&netns)?, netns })
    }
}

impl Inner {
    fn netns(&self, ns: Ns) -> Result<Netns, KernelError> {
        if ns == Ns::Node {
            return Ok(self.node.clone());
        }
        let path = lock(&self.places).get(&ns).cloned();
        Netns::open(path.ok_or(KernelError::UnknownNetns { ns })?)
    }

    /// Runs `work` with handles into the namespace. Concurrent users get handles of their own.
    fn with<T>(
        &self,
        ns: Ns,
        work: impl FnOnce(&mut Handles) -> Result<T, KernelError>,
    ) -> Result<T, KernelError> {
        let netns = self.netns(ns)?;
        // A namespace that was removed and made anew under its path is another one.
        let kept = lock(&self.idle).remove(&ns).filter(|handles| handles.netns == netns);
        let mut handles = match kept {
            Some(handles) => handles,
            None => Handles::open(netns)?,
        };
        let result = work(&mut handles);
        // After a failure of the socket itself answers may be queued that belong to nothing: it is closed.
        let sound = !matches!(result, Err(KernelError::NetlinkIo { .. }));
        if sound && matches!(ns, Ns::Node | Ns::Overlay) {
            lock(&self.idle).insert(ns, handles);
        } else {
            self.closer.close(handles);
        }
        result
    }
}
