//! A node's place in a cluster: making one, coming back after a restart. [`joining`](super::joining) takes one in another's,
//! [`leaving`](super::leaving) gives it up.
//!
//! One change at a time. What a failed init or join had begun is undone: the node is then as before.

use std::fs;
use std::net::SocketAddr;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use swarmnet_agent::local::Standing;
use swarmnet_agent::paths::Paths;
use swarmnet_agent::underlay::{self, Advertised};
use swarmnet_agent::workload::Workloads;
use swarmnet_agent::{Agent, ClusterEntry};
use swarmnet_manager::raft::Keyring;
use swarmnet_manager::{
    Liveness, Manager, ManagerConfig, NodeCondition, Observed, Observer, Routes,
};
use swarmnet_pki::{Peer, TlsStore};
use swarmnet_proto::v1;
use swarmnet_proto::v1::membership_server::Membership;
use swarmnet_runtime::Supervisor;
use swarmnet_types::{NodeIndex, Role, Subnet};
use tokio::net::TcpListener;
use tokio::sync::{Mutex, watch};
use tonic::{Request, Response, Status};

use super::config::Settings;
use super::founding::init_config;
use super::place::Place;
use super::recovery::Opened;
use crate::error::CliError;

/// The managers' control port, and the gossip's (`sw:§1.3`).
pub(super) const CONTROL_PORT: u16 = 2377;
/// How long the first view may take to reach the kernel.
const READY_MAX: Duration = Duration::from_secs(20);
pub(super) const STOP_MAX: Duration = Duration::from_secs(5);
/// `sw:M1`.
pub(super) const ALREADY: &str = "This node is already part of a swarm. Use \"swarmnet agent leave\" to leave this swarm and join another one.";
/// `sw:M2`.
pub(crate) const NO_CLUSTER: &str = "This node is not part of a swarm";

/// The node of this process.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) agent: Agent,
    pub(super) workloads: Workloads,
    name: String,
    pub(super) paths: Paths,
    supervisor: Supervisor,
    pub(super) manager: Mutex<Option<RunningManager>>,
    /// Looks at the manager that was started last, also while `manager` is held for a change.
    observer: std::sync::Mutex<Option<Observer>>,
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
            observer: std::sync::Mutex::default(),
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
            Ok(manager) => {
                *self.observer() = Some(manager.observer());
                Ok(RunningManager { manager, supervisor, keyring })
            }
            Err(err) => {
                supervisor.shutdown(STOP_MAX).await;
                Err(CliError::failure(err))
            }
        }
    }

    fn observer(&self) -> MutexGuard<'_, Option<Observer>> {
        self.observer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The manager on this node at this moment; `None`: none runs.
    pub(super) fn observed(&self) -> Option<Observed> {
        let observer = self.observer().clone()?;
        observer.look()
    }

    /// The keys of a node that becomes a manager.
    pub(super) fn own_keyring(&self) -> Result<Keyring, CliError> {
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
}

/// Subnets this machine has routes to.
pub(super) fn host_routes() -> Vec<Subnet> {
    use swarmnet_agent::local::host::{Host as _, KernelHost};
    match KernelHost.routes() {
        Ok(routes) => routes.0,
        Err(err) => {
            tracing::warn!(%err, "the routes of this machine are not known");
            Vec::new()
        }
    }
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
        left.map(|told| Response::new(v1::LeaveResponse { told })).map_err(|err| status(&err))
    }
}
