//! One manager: its Raft node and its one mTLS listener, and how a cluster begins.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use swarmnet_manager_core::{ClusterInit, Command, JoinNode, NodeTls, Secret};
use swarmnet_pki::{
    AuthLayer, AuthTable, Ca, Incoming, Issue, NodeIdentity, NodeKey, TlsStore, UnlockKey,
};
use swarmnet_proto::TerseLayer;
use swarmnet_proto::v1::admission_server::AdmissionServer;
use swarmnet_proto::v1::control_server::ControlServer;
use swarmnet_proto::v1::dispatcher_server::DispatcherServer;
use swarmnet_proto::v1::join_server::JoinServer;
use swarmnet_proto::v1::manager_peer_server::ManagerPeerServer;
use swarmnet_proto::v1::vault_server::VaultServer;
use swarmnet_runtime::Supervisor;
use swarmnet_types::{Availability, ClusterId, NodeDescription, NodeId, NodeIndex, Role, Subnet};
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::acks::Acks;
use crate::admission::AdmissionGrpc;
use crate::authority;
use crate::ca;
use crate::control::ControlGrpc;
use crate::dispatcher::DispatcherGrpc;
use crate::ephemeral;
use crate::error::ManagerError;
use crate::group::GroupKeeper;
use crate::join::{self, JoinGrpc};
use crate::lock::LockKeeper;
use crate::observe::Observer;
use crate::peer::PeerGrpc;
use crate::raft::{Connector, Keyring, RaftConfig, RaftNode};
use crate::standing;
use crate::vault::VaultGrpc;
use crate::writer::{Writer, proposal};

/// A peer that does not answer an HTTP/2 ping is gone.
const PING_EVERY: Duration = Duration::from_secs(2);
const PING_MAX: Duration = Duration::from_secs(2);

/// How a node fares, as the gossip of this machine has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NodeCondition {
    Ready,
    /// The daemon has not answered just now; it may yet.
    Doubted,
    /// The daemon is silent, the machine answers.
    AgentLost,
    Down,
    Unknown,
}

impl NodeCondition {
    /// Its daemon answers, or has until a moment ago.
    pub(crate) const fn answers(self) -> bool {
        matches!(self, Self::Ready | Self::Doubted)
    }
}

/// The verdicts on all other nodes, replaced as a whole.
pub type Liveness = watch::Receiver<Arc<BTreeMap<NodeId, NodeCondition>>>;

/// Asks for the machine's routes, which no new network may overlap.
#[derive(Clone)]
pub struct Routes(pub Arc<dyn Fn() -> Vec<Subnet> + Send + Sync>);

impl Routes {
    pub(crate) fn now(&self) -> Vec<Subnet> {
        (self.0)()
    }
}

impl fmt::Debug for Routes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Routes")
    }
}

/// What a manager runs on.
#[derive(Debug)]
pub struct ManagerConfig {
    /// Folder of log and snapshots.
    pub raft_dir: PathBuf,
    /// The keys in that folder.
    pub keyring: Keyring,
    /// Folder of the node's key and certificate.
    pub certs: PathBuf,
    pub tls: TlsStore,
    pub index: NodeIndex,
    /// The control port, bound by the caller.
    pub listener: TcpListener,
    pub liveness: Liveness,
    pub routes: Routes,
}

/// What a new cluster is to be.
#[derive(Debug, Clone)]
pub struct InitConfig {
    /// Folder of the node's key and certificate.
    pub certs: PathBuf,
    pub description: NodeDescription,
    pub availability: Availability,
    pub pools: Vec<Subnet>,
    pub pool_mask_len: u8,
    pub data_path_port: u16,
    /// Any: the border has checked what an operator may ask for.
    pub cert_expiry: Duration,
    /// An operator's own CA, as PEM: certificate and key. `None`: one is made.
    pub own_ca: Option<(String, String)>,
    pub avoid: Vec<Subnet>,
    /// Managers are locked when they start.
    pub autolock: bool,
}

/// A cluster that is decided but not yet in any log.
#[derive(Debug)]
pub struct Founding {
    pub identity: NodeIdentity,
    addr: SocketAddr,
    command: Command,
    /// The key of a cluster that locks its managers from the start.
    unlock_key: Option<UnlockKey>,
}

/// Makes or takes the CA, makes this node's identity, and stores the latter.
///
/// # Errors
/// [`ManagerError::Pki`].
pub fn init(config: InitConfig) -> Result<Founding, ManagerError> {
    let id = ClusterId::from_bytes(swarmnet_pki::random_bytes()?);
    let node = NodeId::from_bytes(swarmnet_pki::random_bytes()?);
    let now = SystemTime::now();
    let ca = match &config.own_ca {
        None => Ca::create(id, now)?,
        Some((cert_pem, key_pem)) => Ca::adopt(id, cert_pem, key_pem, now)?,
    };
    let key = NodeKey::ensure(&config.certs)?;
    let issue = Issue { node_id: node, role: Role::Manager, lifetime: config.cert_expiry };
    let leaf = ca.sign_csr(&key.csr()?, &issue, now)?;
    let identity = NodeIdentity::new(key, &leaf, ca.cert_pem())?;
    identity.store(&config.certs)?;
    let secret = || swarmnet_pki::random_bytes::<16>().map(Secret::new);
    let addr = config.description.addr;
    let unlock_key = config.autolock.then(UnlockKey::generate).transpose()?;
    let command = Command::InitCluster(Box::new(ClusterInit {
        id,
        ca: ca::row(&ca),
        worker_token: secret()?,
        manager_token: secret()?,
        pools: config.pools,
        pool_mask_len: config.pool_mask_len,
        data_path_port: config.data_path_port,
        cert_expiry_ms: u64::try_from(config.cert_expiry.as_millis()).unwrap_or(u64::MAX),
        gossip_secret: swarmnet_pki::random_bytes()?,
        ingress: Vec::new(),
        avoid: config.avoid,
        first: JoinNode {
            node,
            role: Role::Manager,
            availability: config.availability,
            description: config.description,
            tls: NodeTls::by(&ca::row(&ca), ca::unix_ms(identity.peer().not_after)),
            token: None,
        },
    }));
    Ok(Founding { identity, addr, command, unlock_key })
}

/// Nodes that were removed get in nowhere, nodes that were made workers not where only managers do.
fn authorised(table: AuthTable, raft: &Arc<RaftNode>) -> AuthLayer {
    let (state, present) = (raft.state().clone(), raft.state().clone());
    let raft = Arc::clone(raft);
    let is_revoked = move |node: &NodeId| state.read(|s| s.is_revoked(*node));
    AuthLayer::new(table, is_revoked, move |peer| standing::is_demoted(&raft, &present, peer))
}

/// A running manager.
#[derive(Debug)]
pub struct Manager {
    writer: Writer,
    index: NodeIndex,
    raft: Arc<RaftNode>,
    acks: Acks,
    /// Version of the lock that this manager's keys are under.
    locked: watch::Receiver<u64>,
}

impl Manager {
    /// Starts Raft from its folder and serves the listener, as critical workers of `supervisor`.
    ///
    /// # Errors
    /// See [`ManagerError`].
    pub async fn start(
        config: ManagerConfig,
        supervisor: &Supervisor,
    ) -> Result<Self, ManagerError> {
        let table = authority::table()?;
        let tls = config.tls.clone();
        let connector: Connector = Arc::new(move |_, addr| {
            // An address that cannot be one leads nowhere: calls fail, and say so.
            let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
            swarmnet_pki::channel(addr.parse().unwrap_or(nowhere), Role::Manager, &tls)
        });
        let raft_config = RaftConfig::new(config.raft_dir, config.index.get().into());
        // Sessions watch the applied revision themselves.
        let hook = Box::new(|_: &_, _| {});
        let raft =
            RaftNode::start(raft_config, config.keyring.clone(), connector, hook, supervisor)
                .await?;
        let raft = Arc::new(raft);
        let writer = Writer::new(Arc::clone(&raft), config.tls.clone());
        let (keeper, followed) =
            LockKeeper::new(Arc::clone(&raft), config.keyring, config.tls.clone(), config.certs);
        supervisor.spawn_critical("lock", keeper.run(supervisor.token().clone()));
        let acks = Acks::new();
        let auth = authorised(table, &raft);
        let group = GroupKeeper::new(writer.clone());
        supervisor.spawn_critical("group", group.run(supervisor.token().clone()));
        let sessions = supervisor.child("dispatcher");
        let (watched, stop) = (config.liveness.clone(), supervisor.token().clone());
        let watcher = ephemeral::watch(writer.clone(), watched);
        supervisor.spawn_transient("ephemeral nodes", async move {
            // cancel-safe: a removal is in the log or is not.
            stop.run_until_cancelled(watcher).await;
        });
        let control =
            ControlGrpc::new(writer.clone(), acks.clone(), config.liveness, config.routes);
        let server = tonic::transport::Server::builder()
            .http2_keepalive_interval(Some(PING_EVERY))
            .http2_keepalive_timeout(Some(PING_MAX))
            .layer(TerseLayer)
            .layer(auth)
            .add_service(JoinServer::new(JoinGrpc::new(writer.clone())))
            .add_service(AdmissionServer::new(AdmissionGrpc::new(writer.clone())))
            .add_service(ControlServer::new(control.clone()))
            .add_service(DispatcherServer::new(DispatcherGrpc::new(
                writer.clone(),
                acks.clone(),
                sessions,
            )))
            .add_service(ManagerPeerServer::new(PeerGrpc::new(
                writer.clone(),
                acks.clone(),
                control,
            )))
            .add_service(VaultServer::new(VaultGrpc::new(writer.clone(), followed.clone())))
            .add_service(raft.grpc().into_server());
        let incoming = Incoming::new(config.listener, config.tls);
        let stop = supervisor.token().clone();
        supervisor.spawn_critical("manager listener", async move {
            let served =
                server.serve_with_incoming_shutdown(incoming, stop.cancelled_owned()).await;
            if let Err(err) = served {
                tracing::error!(%err, "the managers' listener failed");
            }
        });
        Ok(Self { writer, index: config.index, raft, acks, locked: followed })
    }

    /// Makes the cluster: the first entries of the log. The key that unlocks its managers, if they are to be locked; this one's keys are
    /// under it then.
    ///
    /// # Errors
    /// [`ManagerError::Raft`] when this manager is in a cluster already.
    pub async fn found(&self, founding: Founding) -> Result<Option<UnlockKey>, ManagerError> {
        let me = u64::from(self.index.get());
        self.raft.bootstrap(BTreeMap::from([(me, founding.addr.to_string())])).await?;
        let first = proposal(founding.command, &[]).expect("no request id is no bad one");
        self.raft.propose(first).await?;
        if let Some(key) = &founding.unlock_key {
            let fresh = Secret::new(*key.secret().expose());
            let lock = Command::SetAutolock { on: true, fresh };
            self.raft.propose(proposal(lock, &[]).expect("no request id is no bad one")).await?;
            let mut locked = self.locked.clone();
            // The worker is critical: when it is gone, the process ends.
            drop(locked.wait_for(|version| *version > 0).await);
        }
        Ok(founding.unlock_key)
    }

    /// The join token of a role, as text.
    ///
    /// # Errors
    /// The sentence for the user.
    pub fn token(&self, role: Role) -> Result<String, tonic::Status> {
        join::token(&self.writer, role).map(|t| t.to_string())
    }

    /// Who may look at this manager from outside.
    pub fn observer(&self) -> Observer {
        Observer::new(&self.raft, &self.acks)
    }

    pub(crate) fn tls(&self) -> &TlsStore {
        self.writer.tls()
    }

    pub(crate) fn index(&self) -> NodeIndex {
        self.index
    }

    /// The Raft node, for membership.
    pub fn raft(&self) -> &RaftNode {
        &self.raft
    }
}
