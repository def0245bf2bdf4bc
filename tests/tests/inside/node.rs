//! One node of a cluster in this process: a manager or an agent over real mTLS on the loopback.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use swarmnet_agent::local::Standing;
use swarmnet_agent::managers::ManagerPool;
use swarmnet_agent::renew::{self, Renewal};
use swarmnet_agent::session::{self, Applied, SessionConfig};
use swarmnet_manager::raft::Keyring;
use swarmnet_manager::{InitConfig, Manager, ManagerConfig, Routes};
use swarmnet_pki::{JoinToken, NodeIdentity, NodeKey, TlsStore};
use swarmnet_proto::v1;
use swarmnet_proto::v1::control_client::ControlClient;
use swarmnet_proto::v1::join_client::JoinClient;
use swarmnet_proto::wire::SPOKEN;
use swarmnet_runtime::Supervisor;
use swarmnet_types::{Availability, NodeDescription, NodeIndex, Role};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::watch;

pub(crate) const STOP: Duration = Duration::from_secs(5);

/// One node: its identity, its session and its renewal; a manager where it has that role.
pub(crate) struct Node {
    pub(crate) tls: TlsStore,
    pub(crate) addr: SocketAddr,
    pub(crate) served_by: watch::Receiver<Option<String>>,
    pub(crate) manager: Option<(Manager, Supervisor)>,
    supervisor: Supervisor,
    pub(crate) dir: TempDir,
    /// Kept open: the session reads them.
    #[expect(dead_code, reason = "held, not read")]
    inputs: (watch::Sender<NodeDescription>, watch::Sender<Applied>),
}

pub(crate) fn description(name: &str, addr: SocketAddr) -> NodeDescription {
    NodeDescription { name: name.to_owned(), addr, data_path: addr.ip(), version: "0.1.0".into() }
}

async fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let addr = listener.local_addr().expect("bound");
    (listener, addr)
}

fn config(dir: &TempDir, tls: &TlsStore, index: NodeIndex, listener: TcpListener) -> ManagerConfig {
    let raft_dir = dir.path().join("raft");
    ManagerConfig {
        keyring: Keyring::open(&raft_dir, None).expect("keys"),
        raft_dir,
        certs: certs(dir),
        tls: tls.clone(),
        index,
        listener,
        liveness: watch::channel(Arc::default()).1,
        routes: Routes(Arc::new(Vec::new)),
    }
}

pub(crate) fn certs(dir: &TempDir) -> PathBuf {
    dir.path().join("certs")
}

impl Node {
    fn run(
        (tls, addr): (TlsStore, SocketAddr),
        dir: TempDir,
        managers: &[SocketAddr],
        manager: Option<(Manager, Supervisor)>,
    ) -> Self {
        let identity = tls.identity();
        let pool = ManagerPool::default();
        let (node, cluster, role) = (identity.node_id(), identity.cluster(), identity.role());
        pool.enter(Standing { node, cluster, role }, tls.clone(), managers.to_vec());
        let (description, descriptions) = watch::channel(description("n", addr));
        let (applied, applications) = watch::channel(Applied::default());
        let (served, served_by) = watch::channel(None);
        let trust = watch::Sender::default();
        let renewal = Renewal {
            pool: pool.clone(),
            tls: tls.clone(),
            certs: certs(&dir),
            trust: trust.subscribe(),
        };
        let config = SessionConfig {
            pool,
            description: descriptions,
            view: watch::Sender::default(),
            applied: applications,
            served_by: served,
            tls: tls.clone(),
            trust,
        };
        let supervisor = Supervisor::new("node");
        let stop = supervisor.token().clone();
        supervisor.spawn_transient("session", session::run(config, stop.clone()));
        supervisor.spawn_transient("renew", renew::run(renewal, stop));
        let inputs = (description, applied);
        Self { tls, addr, served_by, manager, supervisor, dir, inputs }
    }

    pub(crate) async fn first(life: Duration) -> Self {
        let (dir, (listener, addr)) = (TempDir::new().expect("a folder"), listener().await);
        let founding = swarmnet_manager::init(InitConfig {
            certs: certs(&dir),
            description: description("m1", addr),
            availability: Availability::Active,
            pools: Vec::new(),
            pool_mask_len: 24,
            data_path_port: 4789,
            cert_expiry: life,
            own_ca: None,
            avoid: Vec::new(),
            autolock: false,
        });
        let founding = founding.expect("an identity");
        let tls = TlsStore::new(founding.identity.clone()).expect("usable");
        let supervisor = Supervisor::new("manager");
        let config = config(&dir, &tls, NodeIndex::FIRST, listener);
        let manager = Manager::start(config, &supervisor).await.expect("started");
        manager.found(founding).await.expect("founded");
        Self::run((tls, addr), dir, &[addr], Some((manager, supervisor)))
    }

    pub(crate) async fn join(first: &Self, role: Role) -> Self {
        let (dir, (listener, addr)) = (TempDir::new().expect("a folder"), listener().await);
        let token = first.manager.as_ref().expect("a manager").0.token(role).expect("a token");
        let token: JoinToken = token.parse().expect("a token");
        let key = NodeKey::ensure(&certs(&dir)).expect("a key");
        let request = v1::JoinRequest {
            secret: token.secret.as_bytes().to_vec().into(),
            csr_der: key.csr().expect("a request").into(),
            availability: v1::Availability::Active.into(),
            description: Some((&description("n", addr)).into()),
            now_ms: 0,
            wire: Some(SPOKEN.into()),
        };
        let channel = swarmnet_pki::join_channel(first.addr, token.ca_fingerprint);
        let answer = JoinClient::new(channel).join(request).await.expect("joined").into_inner();
        let identity = NodeIdentity::new(key, &answer.certificate_pem, &answer.ca_pem);
        let tls = TlsStore::new(identity.expect("sound")).expect("usable");
        let managers: Vec<SocketAddr> =
            answer.managers.iter().map(|a| a.parse().expect("an address")).collect();
        let manager = if role == Role::Manager {
            let supervisor = Supervisor::new("manager");
            let index = NodeIndex::new(answer.index).expect("a number");
            let config = config(&dir, &tls, index, listener);
            let manager = Manager::start(config, &supervisor).await.expect("started");
            manager.enter_group(addr, &managers).await.expect("taken in");
            Some((manager, supervisor))
        } else {
            None
        };
        Self::run((tls, addr), dir, &managers, manager)
    }

    /// A new connection to this manager, by `tls`.
    pub(crate) fn control(&self, tls: &TlsStore) -> ControlClient<tonic::transport::Channel> {
        ControlClient::new(swarmnet_pki::channel(self.addr, Role::Manager, tls))
    }

    pub(crate) fn serial(&self) -> String {
        self.tls.identity().peer().serial.to_string()
    }

    pub(crate) async fn stop(self) {
        self.supervisor.shutdown(STOP).await;
        if let Some((_, supervisor)) = self.manager {
            supervisor.shutdown(STOP).await;
        }
    }
}
