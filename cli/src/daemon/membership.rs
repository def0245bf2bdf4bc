//! A node's place in a cluster: making one, joining, coming back after a restart, leaving.
//!
//! One change at a time. What a failed init or join had begun is undone: the node is then as before.

use std::fs;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use swarmnet_agent::local::Standing;
use swarmnet_agent::paths::Paths;
use swarmnet_agent::underlay::{self, Advertised};
use swarmnet_agent::workload::Workloads;
use swarmnet_agent::{Agent, ClusterEntry};
use swarmnet_manager::raft::Keyring;
use swarmnet_manager::{InitConfig, Liveness, Manager, ManagerConfig, NodeCondition, Routes};
use swarmnet_pki::{JoinToken, NodeIdentity, NodeKey, Peer, TlsStore};
use swarmnet_proto::v1;
use swarmnet_proto::v1::join_client::JoinClient;
use swarmnet_proto::v1::membership_server::Membership;
use swarmnet_runtime::Supervisor;
use swarmnet_types::{Availability, NodeIndex, Role, Subnet};
use tokio::net::TcpListener;
use tokio::sync::{Mutex, watch};
use tonic::{Request, Response, Status};

use super::config::Settings;
use super::place::Place;
use super::recovery::Opened;
use crate::error::CliError;

/// The managers' control port, and the gossip's (`sw:§1.3`).
const CONTROL_PORT: u16 = 2377;
const DATA_PATH_PORT: u16 = 4789;
const POOL_MASK_LEN: u32 = 24;
const CERT_EXPIRY: Duration = Duration::from_hours(90 * 24);
/// Swarm's minimum (`sw:§1.1`).
const CERT_EXPIRY_MIN: Duration = Duration::from_hours(1);
/// How long the first view may take to reach the kernel.
const READY_MAX: Duration = Duration::from_secs(20);
pub(super) const STOP_MAX: Duration = Duration::from_secs(5);
/// `sw:M1`.
pub(super) const ALREADY: &str = "This node is already part of a swarm. Use \"swarmnet agent leave\" to leave this swarm and join another one.";

/// `sw:M13`.
const LOCKED_LEAVE: &str = "Swarm is encrypted and locked. Please unlock it first or use `--force` to ignore this message.";
/// `sw:M2`.
pub(crate) const NO_CLUSTER: &str = "This node is not part of a swarm";

/// The node of this process.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) agent: Agent,
    workloads: Workloads,
    name: String,
    pub(super) paths: Paths,
    supervisor: Supervisor,
    pub(super) manager: Mutex<Option<RunningManager>>,
}

#[derive(Debug)]
pub(super) struct RunningManager {
    pub(super) manager: Manager,
    pub(super) supervisor: Supervisor,
    pub(super) keyring: Keyring,
}

/// Addresses a node takes in a cluster.
#[derive(Debug, Clone, Copy)]
pub(super) struct Addresses {
    pub(super) advertised: Advertised,
    pub(super) listen: SocketAddr,
    pub(super) data_path: std::net::IpAddr,
}

impl Node {
    pub(super) fn new(
        agent: Agent,
        workloads: Workloads,
        settings: &Settings,
        paths: &Paths,
        supervisor: &Supervisor,
    ) -> Self {
        Self {
            agent,
            workloads,
            name: settings.name.clone(),
            paths: paths.clone(),
            supervisor: supervisor.clone(),
            manager: Mutex::default(),
        }
    }

    /// Takes its place again after a restart. A manager's port that cannot be bound keeps the daemon from starting; everything else
    /// is tried again by the workers.
    pub(super) async fn resume(&self, peer: &Peer) -> Result<(), CliError> {
        let place = self.stored_place()?;
        let Some(Opened { tls, keyring }) = self.open(peer.role, None)? else {
            self.enter_locked(peer, &place);
            return Ok(());
        };
        if let Some(keyring) = keyring {
            let running = self.start_manager(&tls, &place, keyring).await?;
            *self.manager.lock().await = Some(running);
        }
        self.enter(tls, &place);
        Ok(())
    }

    /// The place of a node that has an identity.
    pub(super) fn stored_place(&self) -> Result<Place, CliError> {
        Place::load(&self.paths)?.ok_or_else(|| {
            CliError::failure(format!(
                "{} is missing beside an identity",
                self.paths.node().display()
            ))
        })
    }

    pub(super) fn addresses(
        &self,
        advertise: &str,
        listen: &str,
        data_path: &str,
    ) -> Result<Addresses, CliError> {
        let found = self.agent.underlay();
        let interfaces = &found.interfaces;
        let advertised =
            underlay::advertise(interfaces, advertise, CONTROL_PORT).map_err(CliError::failure)?;
        let listen =
            underlay::listen(interfaces, listen, advertised.addr).map_err(CliError::failure)?;
        let data_path = underlay::data_path(interfaces, data_path, advertised.local)
            .map_err(CliError::failure)?;
        Ok(Addresses { advertised, listen, data_path })
    }

    pub(super) fn place(&self, name: &str, index: NodeIndex, at: Addresses) -> Place {
        Place {
            name: if name.is_empty() { self.name.clone() } else { name.to_owned() },
            index,
            addr: at.advertised.addr,
            listen: at.listen,
            data_path: at.data_path,
            managers: Vec::new(),
        }
    }

    pub(super) async fn start_manager(
        &self,
        tls: &TlsStore,
        place: &Place,
        keyring: Keyring,
    ) -> Result<RunningManager, CliError> {
        let listener = TcpListener::bind(place.listen).await.map_err(|err| {
            CliError::failure(format!("cannot listen on {}: {err}", place.listen))
        })?;
        let supervisor = self.supervisor.child("manager");
        let config = ManagerConfig {
            raft_dir: self.paths.raft(),
            keyring: keyring.clone(),
            certs: self.paths.certs(),
            tls: tls.clone(),
            index: place.index,
            listener,
            liveness: self.liveness(&supervisor),
            routes: Routes(Arc::new(host_routes)),
        };
        match Manager::start(config, &supervisor).await {
            Ok(manager) => Ok(RunningManager { manager, supervisor, keyring }),
            Err(err) => {
                supervisor.shutdown(STOP_MAX).await;
                Err(CliError::failure(err))
            }
        }
    }

    /// The keys of a node that becomes a manager.
    fn own_keyring(&self) -> Result<Keyring, CliError> {
        Keyring::open(&self.paths.raft(), None).map_err(CliError::failure)
    }

    /// The gossip's verdicts in the manager's words.
    fn liveness(&self, supervisor: &Supervisor) -> Liveness {
        let (mut verdicts, mut doubts) = (self.agent.liveness(), self.agent.doubts());
        let (tx, rx) = watch::channel(Arc::default());
        // The verdicts are the agent's, which outlives the manager.
        let stop = supervisor.token().clone();
        let follow = async move {
            loop {
                let doubted = Arc::clone(&doubts.borrow_and_update());
                let now = verdicts
                    .borrow_and_update()
                    .iter()
                    .map(|(node, state)| {
                        (*node, condition(state.condition, doubted.contains(node)))
                    })
                    .collect();
                tx.send_replace(Arc::new(now));
                // cancel-safe: watches lose nothing
                let open = tokio::select! {
                    open = verdicts.changed() => open,
                    open = doubts.changed() => open,
                };
                if open.is_err() {
                    return;
                }
            }
        };
        supervisor.spawn_transient("liveness", async move {
            stop.run_until_cancelled(follow).await;
        });
        rx
    }

    pub(super) fn enter(&self, tls: TlsStore, place: &Place) {
        let identity = tls.identity();
        let mut managers = place.managers.clone();
        if identity.role() == Role::Manager {
            // A manager's own agent asks it first.
            managers.retain(|m| *m != place.addr);
            managers.insert(0, place.addr);
        }
        self.agent.enter_cluster(ClusterEntry {
            standing: Standing {
                node: identity.node_id(),
                cluster: identity.cluster(),
                role: identity.role(),
            },
            tls,
            managers,
            description: place.description(),
        });
    }

    pub(super) async fn wait_ready(&self) -> Result<(), CliError> {
        if self.agent.ready(READY_MAX).await {
            return Ok(());
        }
        Err(CliError::failure(
            "the node is in the cluster, but its first view did not reach the kernel in time: see `swarmnet agent status` and the daemon's log",
        ))
    }

    /// Forgets everything of a cluster.
    pub(super) async fn forget(&self, running: Option<RunningManager>) {
        self.agent.leave_cluster().await;
        if let Some(running) = running {
            running.supervisor.shutdown(STOP_MAX).await;
        }
        // What is not there is forgotten.
        drop(fs::remove_dir_all(self.paths.certs()));
        drop(fs::remove_dir_all(self.paths.raft()));
        drop(fs::remove_file(self.paths.node()));
    }

    async fn init(&self, request: v1::InitRequest) -> Result<v1::InitResponse, CliError> {
        let mut slot = self.manager.lock().await;
        if self.agent.standing().is_some() {
            return Err(CliError::failure(ALREADY));
        }
        let at =
            self.addresses(&request.advertise_addr, &request.listen_addr, &request.data_path_addr)?;
        let place = self.place(&request.name, NodeIndex::FIRST, at);
        let config = init_config(&request, &place, &self.paths)?;
        let founded = async {
            let founding = swarmnet_manager::init(config).map_err(CliError::failure)?;
            let tls = TlsStore::new(founding.identity.clone()).map_err(CliError::failure)?;
            place.store(&self.paths)?;
            let keyring = self.own_keyring()?;
            let running = self.start_manager(&tls, &place, keyring).await?;
            match running.manager.found(founding).await {
                Ok(unlock_key) => Ok((running, tls, unlock_key)),
                Err(err) => {
                    running.supervisor.shutdown(STOP_MAX).await;
                    Err(CliError::failure(err))
                }
            }
        };
        let (running, tls, unlock_key) = match founded.await {
            Ok(founded) => founded,
            Err(err) => {
                self.forget(None).await;
                return Err(err);
            }
        };
        let node = Bytes::copy_from_slice(tls.identity().node_id().as_bytes());
        let worker_token = running.manager.token(Role::Worker)?;
        let manager_token = running.manager.token(Role::Manager)?;
        *slot = Some(running);
        self.enter(tls, &place);
        self.wait_ready().await?;
        let unlock_key = unlock_key.map(|key| key.to_string()).unwrap_or_default();
        Ok(v1::InitResponse { node, worker_token, manager_token, unlock_key })
    }

    async fn join(
        &self,
        request: v1::JoinClusterRequest,
    ) -> Result<v1::JoinClusterResponse, CliError> {
        let mut slot = self.manager.lock().await;
        if self.agent.standing().is_some() {
            return Err(CliError::failure(ALREADY));
        }
        let token: JoinToken = request.token.parse().map_err(CliError::failure)?;
        let wanted: Option<Role> = Option::from(request.role());
        if wanted.is_some_and(|role| role != token.role) {
            let noun = if token.role == Role::Manager { "manager" } else { "agent" };
            return Err(CliError::failure(format!(
                "this is a token for a {}: use `swarmnet {noun} join`",
                token.role
            )));
        }
        let at =
            self.addresses(&request.advertise_addr, &request.listen_addr, &request.data_path_addr)?;
        let mut place = self.place(&request.name, NodeIndex::FIRST, at);
        let joined = self.ask_in(&request, &token, &mut place).await;
        let (tls, role) = match joined {
            Ok(joined) => joined,
            Err(err) => {
                self.forget(None).await;
                return Err(err);
            }
        };
        if role == Role::Manager {
            match self.join_group(&tls, &place).await {
                Ok(running) => *slot = Some(running),
                Err(err) => {
                    self.forget(None).await;
                    return Err(err);
                }
            }
        }
        let node = Bytes::copy_from_slice(tls.identity().node_id().as_bytes());
        self.enter(tls, &place);
        self.wait_ready().await?;
        Ok(v1::JoinClusterResponse { node, role: v1::Role::from(role).into() })
    }

    async fn join_group(&self, tls: &TlsStore, place: &Place) -> Result<RunningManager, CliError> {
        let running = self.start_manager(tls, place, self.own_keyring()?).await?;
        match running.manager.enter_group(place.addr, &place.managers).await {
            Ok(()) => Ok(running),
            Err(err) => {
                running.supervisor.shutdown(STOP_MAX).await;
                Err(CliError::failure(err))
            }
        }
    }

    /// Asks one manager after another; a refusal by one of them is final.
    async fn ask_in(
        &self,
        request: &v1::JoinClusterRequest,
        token: &JoinToken,
        place: &mut Place,
    ) -> Result<(TlsStore, Role), CliError> {
        let key = NodeKey::ensure(&self.paths.certs()).map_err(CliError::failure)?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let message = v1::JoinRequest {
            secret: Bytes::copy_from_slice(token.secret.as_bytes()),
            csr_der: key.csr().map_err(CliError::failure)?.into(),
            availability: request.availability,
            description: Some((&place.description()).into()),
            now_ms: u64::try_from(now.as_millis()).unwrap_or(u64::MAX),
        };
        let extra = request.managers.iter().map(|text| {
            let plain = text.parse::<SocketAddr>();
            let with_port = || text.parse().map(|ip| SocketAddr::new(ip, CONTROL_PORT));
            plain.or_else(|_| with_port()).map_err(|_| {
                CliError::usage(format!("invalid manager address {text}: want IP or IP:PORT"))
            })
        });
        let addrs: Vec<SocketAddr> =
            extra.chain(token.addrs.iter().map(|a| Ok(*a))).collect::<Result<_, _>>()?;
        let mut last = "the token names no manager".to_owned();
        for addr in addrs {
            let channel = swarmnet_pki::join_channel(addr, token.ca_fingerprint);
            match JoinClient::new(channel).join(message.clone()).await {
                Ok(answer) => return self.take_in(&answer.into_inner(), &key, token, place),
                Err(status) if std::error::Error::source(&status).is_none() => {
                    return Err(status.into());
                }
                Err(status) => last = format!("{addr}: {}", swarmnet_pki::explain(&status)),
            }
        }
        Err(CliError::failure(format!("no manager could be joined: {last}")))
    }

    fn take_in(
        &self,
        answer: &v1::JoinResponse,
        key: &NodeKey,
        token: &JoinToken,
        place: &mut Place,
    ) -> Result<(TlsStore, Role), CliError> {
        let identity = NodeIdentity::new(key.clone(), &answer.certificate_pem, &answer.ca_pem)
            .map_err(CliError::failure)?;
        if !identity.trusts(token.ca_fingerprint) {
            return Err(CliError::failure(format!(
                "remote CA does not match fingerprint. Expected: {}",
                token.ca_fingerprint
            )));
        }
        identity.store(&self.paths.certs()).map_err(CliError::failure)?;
        place.index = NodeIndex::new(answer.index)
            .ok_or_else(|| CliError::failure("the manager gave this node no number"))?;
        place.managers = answer.managers.iter().filter_map(|m| m.parse().ok()).collect();
        place.store(&self.paths)?;
        let role = identity.role();
        Ok((TlsStore::new(identity).map_err(CliError::failure)?, role))
    }

    async fn leave(&self, force: bool) -> Result<(), CliError> {
        let mut slot = self.manager.lock().await;
        let Some(standing) = self.agent.standing() else {
            return Err(CliError::failure(NO_CLUSTER));
        };
        if self.agent.is_locked() && !force {
            return Err(CliError::failure(LOCKED_LEAVE));
        }
        if standing.role == Role::Manager && !force {
            // sw:M13
            return Err(CliError::failure(
                "You are attempting to leave the swarm on a node that is participating as a manager. Doing so may lose the consensus of your cluster. Use `--force` to suppress this message.",
            ));
        }
        let store = &self.workloads.sandboxes().means().store;
        let clustered: Vec<_> = store
            .current()
            .sandboxes
            .values()
            .filter(|s| s.cluster_endpoints().next().is_some())
            .map(|s| s.id)
            .collect();
        for id in clustered {
            self.workloads.remove(id, true).await.map_err(CliError::failure)?;
        }
        self.workloads.sandboxes().means().outbox.clear().await;
        self.forget(slot.take()).await;
        Ok(())
    }
}

/// Subnets this machine has routes to.
fn host_routes() -> Vec<Subnet> {
    use swarmnet_agent::local::host::{Host as _, KernelHost};
    match KernelHost.routes() {
        Ok(routes) => routes.0,
        Err(err) => {
            tracing::warn!(%err, "the routes of this machine are not known");
            Vec::new()
        }
    }
}

fn init_config(
    request: &v1::InitRequest,
    place: &Place,
    paths: &Paths,
) -> Result<InitConfig, CliError> {
    let port = match request.data_path_port {
        0 => DATA_PATH_PORT,
        // sw:M9
        n => u16::try_from(n).ok().filter(|p| (1024..=49151).contains(p)).ok_or_else(|| {
            CliError::failure(format!(
                "Datapath port number is not in valid range (1024-49151) : {n}"
            ))
        })?,
    };
    let cert_expiry = match request.cert_expiry_s {
        0 => CERT_EXPIRY,
        s => Duration::from_secs(s),
    };
    if cert_expiry < CERT_EXPIRY_MIN {
        return Err(CliError::failure("minimum certificate expiry time is: 1h0m0s"));
    }
    let mask = match request.default_pool_mask_len {
        0 => POOL_MASK_LEN,
        n => n,
    };
    // sw:M10
    if mask > 29 {
        return Err(CliError::failure(format!("subnet size is out of range: {mask}")));
    }
    let mut pools = Vec::new();
    for text in &request.default_pools {
        let pool: Subnet = text.parse().map_err(CliError::failure)?;
        if !pool.is_ipv6() && u32::from(pool.prefix_len()) > mask {
            return Err(CliError::failure(format!(
                "invalid CIDR: \"{text}\". Subnet size is too small for pool: {mask}"
            )));
        }
        pools.push(pool);
    }
    Ok(InitConfig {
        certs: paths.certs(),
        description: place.description(),
        availability: Option::from(request.availability()).unwrap_or(Availability::Active),
        pools,
        pool_mask_len: u8::try_from(mask).unwrap_or(24),
        data_path_port: port,
        cert_expiry,
        avoid: host_routes(),
        autolock: request.autolock,
    })
}

fn condition(verdict: swarmnet_gossip::Condition, doubted: bool) -> NodeCondition {
    match verdict {
        swarmnet_gossip::Condition::Alive if doubted => NodeCondition::Doubted,
        swarmnet_gossip::Condition::Alive => NodeCondition::Ready,
        swarmnet_gossip::Condition::AgentLost => NodeCondition::AgentLost,
        swarmnet_gossip::Condition::Dead => NodeCondition::Down,
    }
}

/// The service on the unix socket.
#[derive(Debug)]
pub(super) struct MembershipGrpc {
    node: Arc<Node>,
}

impl MembershipGrpc {
    pub(super) fn new(node: Arc<Node>) -> Self {
        Self { node }
    }
}

pub(super) fn status(err: &CliError) -> Status {
    match err {
        CliError::Usage(text) => Status::invalid_argument(text.clone()),
        other => Status::failed_precondition(other.to_string()),
    }
}

#[tonic::async_trait]
impl Membership for MembershipGrpc {
    async fn init(
        &self,
        request: Request<v1::InitRequest>,
    ) -> Result<Response<v1::InitResponse>, Status> {
        self.node.init(request.into_inner()).await.map(Response::new).map_err(|err| status(&err))
    }

    async fn join_cluster(
        &self,
        request: Request<v1::JoinClusterRequest>,
    ) -> Result<Response<v1::JoinClusterResponse>, Status> {
        self.node.join(request.into_inner()).await.map(Response::new).map_err(|err| status(&err))
    }

    async fn leave(
        &self,
        request: Request<v1::LeaveRequest>,
    ) -> Result<Response<v1::LeaveResponse>, Status> {
        let left = self.node.leave(request.into_inner().force).await;
        left.map(|()| Response::new(v1::LeaveResponse {})).map_err(|err| status(&err))
    }
}
