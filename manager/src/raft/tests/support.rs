//! Nodes for tests: each on a runtime of its own, so that dropping it is a death without goodbye.

use std::collections::BTreeMap;
use std::future::Future;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use swarmnet_runtime::Supervisor;
use swarmnet_types::Revision;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Endpoint, Server};

use super::super::types::{Outcome, Proposal};
use super::super::*;

#[path = "../../../tests/support/commands.rs"]
pub(super) mod commands;

pub(super) const PATIENCE: Duration = Duration::from_secs(20);

/// One manager on the loopback.
pub(super) struct TestNode {
    pub(super) node: RaftNode,
    pub(super) addr: SocketAddr,
    runtime: Runtime,
}

/// Three managers with their folders; a `None` is dead.
pub(super) struct Trio {
    pub(super) nodes: BTreeMap<u64, Option<TestNode>>,
    pub(super) addrs: BTreeMap<u64, SocketAddr>,
    pub(super) dirs: BTreeMap<u64, TempDir>,
    tune: fn(&mut RaftConfig),
}

pub(super) fn connector() -> Connector {
    Arc::new(|_, addr| {
        let endpoint = Endpoint::from_shared(format!("http://{addr}")).unwrap();
        endpoint.connect_timeout(Duration::from_millis(500)).tcp_nodelay(true).connect_lazy()
    })
}

/// A proposal that leaves `key` in the state.
pub(super) fn put(key: &str) -> Proposal {
    commands::put(key, "")
}

pub(super) fn config(dir: &Path, me: u64) -> RaftConfig {
    RaftConfig { segment_bytes: 1 << 16, ..RaftConfig::new(dir.to_owned(), me) }
}

// === impl TestNode ===

impl TestNode {
    /// Starts a node that answers on `addr` (port 0: any). A folder just left by a dead node may be locked for a moment.
    pub(super) fn start(config: &RaftConfig, addr: SocketAddr) -> Result<Self, RaftError> {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let runtime = runtime.unwrap();
        let supervisor = Supervisor::new("test");
        let started = runtime.block_on(async {
            let until = Instant::now() + PATIENCE;
            let listener = loop {
                match TcpListener::bind(addr).await {
                    Ok(listener) => break listener,
                    Err(err) => assert!(Instant::now() < until, "{err}"),
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            };
            let node = loop {
                let hook: ApplyHook = Box::new(|_, _| {});
                let keyring = Keyring::open(&config.dir, None)?;
                match RaftNode::start(config.clone(), keyring, connector(), hook, &supervisor).await
                {
                    Err(RaftError::Wal(WalError::Locked { .. })) if Instant::now() < until => {
                        tokio::time::sleep(Duration::from_millis(10)).await;
                    }
                    other => break other?,
                }
            };
            let addr = listener.local_addr().unwrap();
            let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
            let server = Server::builder().add_service(node.grpc().into_server());
            supervisor.spawn_transient("grpc", async move {
                drop(server.serve_with_incoming(incoming).await);
            });
            Ok::<_, RaftError>((node, addr))
        });
        let (node, addr) = started?;
        Ok(Self { node, addr, runtime })
    }

    pub(super) fn run<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.block_on(work)
    }

    pub(super) fn propose(&self, proposal: Proposal) -> Result<(Revision, Outcome), ProposeError> {
        self.run(self.node.propose(proposal))
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.node.state().read(|state| commands::get(state, key).is_some())
    }

    pub(super) fn wait_applied(&self, revision: Revision) {
        let mut applied = self.node.state().applied();
        let reached = applied.wait_for(|applied| *applied >= revision);
        self.run(async { tokio::time::timeout(PATIENCE, reached).await.unwrap().unwrap() });
    }

    /// Ends everything at once, as a SIGKILL would.
    pub(super) fn kill(self) {
        let Self { node, runtime, .. } = self;
        runtime.shutdown_background();
        drop(node);
    }
}

// === impl Trio ===

impl Trio {
    /// Three managers, bootstrapped by the first.
    pub(super) fn start(tune: fn(&mut RaftConfig)) -> Self {
        let mut trio = Self {
            nodes: BTreeMap::new(),
            addrs: BTreeMap::new(),
            dirs: (1..=3).map(|id| (id, TempDir::new().unwrap())).collect(),
            tune,
        };
        for id in 1..=3 {
            trio.addrs.insert(id, SocketAddr::from(([127, 0, 0, 1], 0)));
            trio.revive(id);
        }
        let members = trio.addrs.iter().map(|(id, addr)| (*id, addr.to_string())).collect();
        let first = trio.node(1);
        first.run(first.node.bootstrap(members)).unwrap();
        trio.submit(&commands::init());
        trio
    }

    pub(super) fn node(&self, id: u64) -> &TestNode {
        self.nodes[&id].as_ref().expect("alive")
    }

    pub(super) fn kill(&mut self, id: u64) {
        self.nodes.insert(id, None).flatten().expect("alive").kill();
    }

    pub(super) fn revive(&mut self, id: u64) {
        let mut config = config(self.dirs[&id].path(), id);
        (self.tune)(&mut config);
        let node = TestNode::start(&config, self.addrs[&id]).unwrap();
        self.addrs.insert(id, node.addr);
        self.nodes.insert(id, Some(node));
    }

    pub(super) fn alive(&self) -> impl Iterator<Item = (u64, &TestNode)> {
        self.nodes.iter().filter_map(|(id, node)| Some((*id, node.as_ref()?)))
    }

    pub(super) fn write(&self, key: &str) -> Revision {
        self.submit(&put(key))
    }

    /// Writes by whichever manager leads, following redirections.
    fn submit(&self, proposal: &Proposal) -> Revision {
        let until = Instant::now() + PATIENCE;
        let (mut at, _) = self.alive().next().expect("one is alive");
        loop {
            match self.node(at).propose(proposal.clone()) {
                Ok((revision, _)) => return revision,
                Err(ProposeError::NotLeader { leader: Some(leader) })
                    if self.nodes[&leader.node].is_some() =>
                {
                    at = leader.node;
                }
                Err(ProposeError::NotLeader { .. } | ProposeError::QuorumLost) => {
                    std::thread::sleep(Duration::from_millis(10));
                }
                Err(err) => panic!("{err}"),
            }
            assert!(Instant::now() < until, "no write within {PATIENCE:?}");
        }
    }

    /// The manager that leads and is known to lead.
    pub(super) fn leader(&self) -> u64 {
        self.write("who leads");
        let leads = self.alive().find(|(_, node)| node.node.is_leader());
        leads.expect("a write was committed").0
    }
}
