//! The Linux side of `swarmnet_dataplane::Kernel`: observes what is ours, carries out one operation at a time.
//!
//! Namespaces are known by where the last observation or `AddNetns` said they are. Handles into the node's namespace and the
//! overlays' stay open, one of each; who comes while they are in use gets some of his own. Handles into sandboxes are opened for one
//! operation (about 0.1 ms) and closed, because an open socket would keep a sandbox alive after its workload has gone. The operation
//! does not wait for the close ([`closer`]).
//!
//! What an error means is decided in `settle` alone.

mod apply;
mod closer;
mod echo;
mod observe;
mod post;
mod watch;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use swarmnet_dataplane::{Actual, Kernel, Ns, Op, Scope};

use self::closer::Closer;
use self::echo::Echoes;
use self::post::Post;
use crate::error::KernelError;
use crate::netns::Netns;
use crate::nft::Nft;
use crate::route::Route;

pub use self::watch::{Sight, Watch};

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
    /// Handles into [`Ns::Node`] and [`Ns::Overlay`] that stay open; `None` while in use.
    idle: Mutex<BTreeMap<Ns, Option<Handles>>>,
    closer: Closer,
    post: Post,
    echoes: Mutex<Echoes>,
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
        let post = Post::open()?;
        post.follow(Ns::Node, &node)?;
        let idle = Mutex::new(BTreeMap::from([(Ns::Node, Some(handles))]));
        let (places, closer) = (Mutex::default(), Closer::start());
        let echoes = Mutex::default();
        let inner = Inner { node, places, idle, closer, post, echoes };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Says where namespaces are that nobody has observed yet: for operations planned without an observation.
    pub fn locate(&self, places: impl IntoIterator<Item = (Ns, PathBuf)>) {
        lock(&self.inner.places).extend(places);
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
        blocking(move || {
            lock(&inner.echoes).expect(&op, Instant::now());
            settle(&op, inner.apply(&op))
        })
        .await
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
        // Before anything is looked at or done there.
        self.post.follow(ns, &netns)?;
        let (mut handles, owner) = self.take(ns, netns)?;
        let result = work(&mut handles);
        // After a failure of the socket itself answers may be queued that belong to nothing: it is closed.
        let sound = !matches!(result, Err(KernelError::NetlinkIo { .. }));
        let spare = {
            let mut idle = lock(&self.idle);
            if owner && !sound {
                idle.remove(&ns);
            }
            // Without a place the namespace was removed meanwhile.
            match idle.get_mut(&ns).filter(|_| owner) {
                Some(place) => place.replace(handles),
                None => Some(handles),
            }
        };
        if let Some(spare) = spare {
            self.closer.close(spare);
        }
        result
    }

    /// Handles, and whether they are the ones that stay open.
    fn take(&self, ns: Ns, netns: Netns) -> Result<(Handles, bool), KernelError> {
        if !matches!(ns, Ns::Node | Ns::Overlay) {
            return Ok((Handles::open(netns)?, false));
        }
        let before = lock(&self.idle).insert(ns, None);
        let owner = !matches!(before, Some(None));
        if let Some(kept) = before.flatten() {
            if kept.netns == netns {
                return Ok((kept, owner));
            }
            // A namespace that was removed and made anew under its path is another one.
            self.closer.close(kept);
        }
        let opened = Handles::open(netns);
        if opened.is_err() && owner {
            lock(&self.idle).remove(&ns);
        }
        Ok((opened?, owner))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;
    use std::thread;

    use super::*;

    fn kernel() -> LinuxKernel {
        LinuxKernel::new(Netns::anonymous().expect("needs root")).expect("a kernel")
    }

    /// Tells sockets that are open apart.
    fn which(handles: &Handles) -> String {
        format!("{:?} {:?}", handles.route, handles.nft)
    }

    #[test]
    fn the_handles_that_stay_open_are_the_same_whoever_ends_last() {
        let kernel = kernel();
        let used =
            || kernel.inner.with(Ns::Node, |handles| Ok(which(handles))).expect("no failure");
        let before = used();
        let step = Barrier::new(2);
        thread::scope(|scope| {
            let late = || {
                kernel.inner.with(Ns::Node, |handles| {
                    step.wait();
                    step.wait();
                    Ok(which(handles))
                })
            };
            let first = kernel.inner.with(Ns::Node, |_| {
                let late = scope.spawn(late);
                step.wait();
                Ok(late)
            });
            step.wait();
            let late = first.expect("no failure").join().expect("no panic").expect("no failure");
            assert_ne!(late, before, "of its own");
        });
        assert_eq!(used(), before);
    }

    #[test]
    fn handles_whose_socket_failed_are_replaced_by_others_that_stay() {
        let kernel = kernel();
        let failed = kernel.inner.with(Ns::Node, |_| {
            let err = std::io::ErrorKind::TimedOut.into();
            Err::<(), _>(KernelError::NetlinkIo { err })
        });
        failed.expect_err("handed on");
        let used =
            || kernel.inner.with(Ns::Node, |handles| Ok(which(handles))).expect("no failure");
        assert_eq!(used(), used());
    }
}
