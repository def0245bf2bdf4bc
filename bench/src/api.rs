//! Calls of a lab's managers: gRPC over mTLS with a node's own certificate, from that node's namespace. It is the path that the
//! daemons use; only the process start of the command line is left out.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use swarmnet_pki::{NodeIdentity, TlsStore};
use swarmnet_types::{Role, SandboxId};
use tokio::runtime::Builder;
use tonic::transport::Channel;

use crate::lab::Lab;
use crate::load::within;

/// Where managers of a lab listen: the default of `manager init`.
const CONTROL_PORT: u16 = 2377;

/// A node's way to one manager.
#[derive(Debug)]
pub(crate) struct Api {
    netns: PathBuf,
    to: SocketAddr,
    tls: TlsStore,
    /// Where the node's daemon keeps a folder for each sandbox that is there or on its way.
    sandboxes: PathBuf,
}

impl Api {
    /// Speaks as `node`, to the manager on `manager`.
    pub(crate) fn new(lab: &Lab, node: &str, manager: &str) -> Result<Self> {
        let state = Path::new(lab.folder(node)?).join("state");
        let certs = state.join("certs");
        let identity = NodeIdentity::load(&certs, None)?
            .with_context(|| format!("{node} has no certificate in {}", certs.display()))?;
        let to = format!("{}:{CONTROL_PORT}", lab.address(manager)?).parse()?;
        let (netns, tls, sandboxes) =
            (lab.netns(node)?, TlsStore::new(identity)?, state.join("sandboxes"));
        Ok(Self { netns, to, tls, sandboxes })
    }

    /// Makes the node's daemon hold a sandbox for one that is on its way, so that it does not give back what is reserved for it.
    pub(crate) fn begin(&self, sandbox: SandboxId) -> Result<()> {
        let folder = self.sandboxes.join(sandbox.to_string());
        std::fs::create_dir_all(&folder).with_context(|| folder.display().to_string())
    }

    /// A connection of its own, made at the first call. Only inside [`run`](Self::run).
    pub(crate) fn channel(&self) -> Channel {
        swarmnet_pki::channel(self.to, Role::Manager, &self.tls)
    }

    /// Runs `work` inside the node's namespace.
    pub(crate) fn run<T, F>(&self, work: impl FnOnce() -> F + Send) -> Result<T>
    where
        T: Send,
        F: Future<Output = Result<T>>,
    {
        run_in(&self.netns, work)
    }
}

/// Runs `work` on a runtime of one thread inside a network namespace.
pub(crate) fn run_in<T, F>(netns: &Path, work: impl FnOnce() -> F + Send) -> Result<T>
where
    T: Send,
    F: Future<Output = Result<T>>,
{
    within(netns, || Builder::new_current_thread().enable_all().build()?.block_on(work()))
}
