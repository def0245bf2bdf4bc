//! Renewal in real time (C7): managers and agents in this process, over real mTLS on the loopback, with certificates that live for
//! seconds. The least life of a certificate (1 h) is checked where an operator says it, in the CLI's daemon and the managers' API;
//! the parts that are put together here take any.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use swarmnet_agent::local::Standing;
use swarmnet_agent::managers::ManagerPool;
use swarmnet_agent::renew::{self, Renewal};
use swarmnet_agent::session::{self, Applied, SessionConfig};
use swarmnet_manager::raft::Keyring;
use swarmnet_manager::{InitConfig, Manager, ManagerConfig, Routes};
use swarmnet_pki::{JoinToken, NodeIdentity, NodeKey, TlsStore};
use swarmnet_proto::v1;
use swarmnet_proto::v1::admission_client::AdmissionClient;
use swarmnet_proto::v1::control_client::ControlClient;
use swarmnet_proto::v1::join_client::JoinClient;
use swarmnet_runtime::Supervisor;
use swarmnet_types::{Availability, NodeDescription, NodeIndex, Role};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::sleep;

const LIFE: Duration = Duration::from_secs(12);
/// Two renewals of everyone: each comes after at most 80 % of a life.
const WATCHED: Duration = Duration::from_secs(21);
const STOP: Duration = Duration::from_secs(5);

/// One node: its identity, its session and its renewal; a manager where it has that role.
struct Node {
    tls: TlsStore,
    addr: SocketAddr,
    served_by: watch::Receiver<Option<String>>,
    manager: Option<(Manager, Supervisor)>,
    supervisor: Supervisor,
    dir: TempDir,
    /// Kept open: the session reads them.
    #[expect(dead_code, reason = "held, not read")]
    inputs: (watch::Sender<NodeDescription>, watch::Sender<Applied>),
}

fn description(name: &str, addr: SocketAddr) -> NodeDescription {
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

fn certs(dir: &TempDir) -> PathBuf {
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

    async fn first() -> Self {
        let (dir, (listener, addr)) = (TempDir::new().expect("a folder"), listener().await);
        let founding = swarmnet_manager::init(InitConfig {
            certs: certs(&dir),
            description: description("m1", addr),
            availability: Availability::Active,
            pools: Vec::new(),
            pool_mask_len: 24,
            data_path_port: 4789,
            cert_expiry: LIFE,
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

    async fn join(first: &Self, role: Role) -> Self {
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
    fn control(&self, tls: &TlsStore) -> ControlClient<tonic::transport::Channel> {
        ControlClient::new(swarmnet_pki::channel(self.addr, Role::Manager, tls))
    }

    fn serial(&self) -> String {
        self.tls.identity().peer().serial.to_string()
    }

    async fn stop(self) {
        self.supervisor.shutdown(STOP).await;
        if let Some((_, supervisor)) = self.manager {
            supervisor.shutdown(STOP).await;
        }
    }
}

/// Three managers and two agents, each with an open session.
async fn cluster() -> Vec<Node> {
    let mut nodes = vec![Node::first().await];
    for role in [Role::Manager, Role::Manager, Role::Worker, Role::Worker] {
        let node = Node::join(&nodes[0], role).await;
        nodes.push(node);
    }
    for node in &mut nodes {
        node.served_by.wait_for(Option::is_some).await.expect("a session opens");
    }
    nodes
}

/// When in its life, in hundredths, each certificate of a node was followed by the next.
fn watch_renewals(node: &Node, worker: &Supervisor) -> watch::Receiver<Vec<u32>> {
    let (seen, ages) = watch::channel(Vec::new());
    let (tls, mut swaps) = (node.tls.clone(), node.tls.swaps());
    let mut last = node.tls.identity();
    worker.spawn_transient("watch", async move {
        while swaps.changed().await.is_ok() {
            let next = tls.identity();
            if next.peer().serial != last.peer().serial {
                let left = last.peer().not_after.duration_since(SystemTime::now());
                let left = left.unwrap_or_default().as_millis();
                let percent = 100 - left.min(LIFE.as_millis()) * 100 / LIFE.as_millis();
                seen.send_modify(|all: &mut Vec<u32>| {
                    all.push(u32::try_from(percent).expect("at most 100"));
                });
            }
            last = next;
        }
    });
    ages
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everyone_renews_in_time_and_no_session_or_raft_connection_ends() {
    let nodes = cluster().await;
    let observer = Supervisor::new("observer");
    let ages: Vec<_> = nodes.iter().map(|n| watch_renewals(n, &observer)).collect();
    // It has no renewal: what becomes of a node that sleeps.
    let asleep = TlsStore::new(nodes[4].tls.identity()).expect("usable");
    let opened: Vec<_> = nodes.iter().map(|n| n.served_by.clone()).collect();
    let status = |tls: TlsStore, node: &Node| {
        let mut control = node.control(&tls);
        async move {
            control.get_cluster(v1::GetClusterRequest {}).await.map(tonic::Response::into_inner)
        }
    };
    let term = status(nodes[0].tls.clone(), &nodes[0]).await.expect("answers").term;

    // Writes go on through a follower, each by a new connection and by the certificates of the moment.
    let (begun, mut writes) = (Instant::now(), 0u32);
    while begun.elapsed() < WATCHED {
        let labels = BTreeMap::from([("n".to_owned(), writes.to_string())]);
        let request = v1::UpdateNodeRequest {
            reference: nodes[4].tls.identity().node_id().to_string(),
            labels_add: labels.into_iter().collect(),
            ..v1::UpdateNodeRequest::default()
        };
        let written = nodes[1].control(&nodes[2].tls).update_node(request).await;
        assert!(written.is_ok(), "{:?} into the test: {written:?}", begun.elapsed());
        writes += 1;
        sleep(Duration::from_millis(100)).await;
    }
    for (at, ages) in ages.iter().enumerate() {
        let ages = ages.borrow().clone();
        println!("node {at} renewed at {ages:?} % of its certificates' lives");
        assert!(ages.len() >= 2, "node {at} renewed {} times in {WATCHED:?}", ages.len());
        assert!(ages.iter().all(|p| (49..95).contains(p)), "node {at}: {ages:?}");
    }
    let reopened = opened.iter().any(|session| session.has_changed().expect("it runs"));
    assert!(!reopened, "sessions live on");
    let now = status(nodes[0].tls.clone(), &nodes[0]).await.expect("answers");
    assert_eq!(
        now.term, term,
        "so do the connections of consensus: no election in {writes} writes"
    );
    // In which words depends on whether the alert or the end of the connection comes first.
    assert!(status(asleep, &nodes[0]).await.is_err(), "what was not renewed has expired");
    observer.shutdown(STOP).await;
    for node in nodes {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_renew_through_whichever_manager_is_left() {
    let mut nodes = cluster().await;
    let left = nodes.split_off(1);
    for node in nodes {
        node.stop().await;
    }
    let before: Vec<_> = left.iter().map(Node::serial).collect();
    let begun = Instant::now();
    while left.iter().zip(&before).any(|(node, before)| node.serial() == *before) {
        assert!(begun.elapsed() < LIFE, "before their certificates end");
        sleep(Duration::from_millis(50)).await;
    }
    for node in left {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rotation_reaches_every_file_and_a_restart_finds_it_sound() {
    let nodes = cluster().await;
    let channel = swarmnet_pki::channel(nodes[1].addr, Role::Manager, &nodes[1].tls);
    let mut admission = AdmissionClient::new(channel);
    let old = nodes[0].tls.identity().issuer();
    let request = v1::RotateCaRequest::default();
    let begun = admission.rotate_ca(request).await.expect("begun").into_inner();
    let to = begun.rotation.and_then(|r| r.to).expect("under way").fingerprint;
    let done = |node: &Node| {
        let loaded = NodeIdentity::load(&certs(&node.dir), None);
        // Between two of its files it is still sound.
        let identity = loaded.expect("sound at every moment").expect("joined");
        let roots: Vec<_> = identity.root_fingerprints().map(|ca| ca.0.to_vec()).collect();
        roots == [to.to_vec()] && identity.issuer().is_some_and(|ca| ca.0[..] == to[..])
    };
    let begun = Instant::now();
    // The first manager's files are written by `init`, the others' by their renewal.
    while !nodes.iter().all(done) {
        assert!(begun.elapsed() < LIFE, "a rotation takes a second or two");
        sleep(Duration::from_millis(5)).await;
    }
    assert_ne!(nodes[0].tls.identity().issuer(), old);
    for node in nodes {
        node.stop().await;
    }
}
