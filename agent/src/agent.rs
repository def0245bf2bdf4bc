//! The agent, wired: who feeds whom.
//!
//! ```text
//! session ─▶ view ─┐
//! gossip ─▶ liveness ┼─▶ merge ─▶ wish ─▶ reconcile (Target) ─▶ status ─▶ applied ─▶ session (Ack)
//! local store ──────┤                                            └─▶ waiting attaches
//! underlay ─────────┘
//! ```
//! All arrows are `watch`es: the newest counts. Workers belong to the supervisor given to [`Agent::start`]; those of the cluster to a
//! child of it, which ends when the node leaves.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use rand::seq::SliceRandom as _;
use swarmnet_dataplane::desired::Options;
use swarmnet_dns::NameServerError;
use swarmnet_gossip::{Doubts, GossipHandle, Liveness, Local};
use swarmnet_kernel::{KernelError, LinuxKernel, Netns, Watch};
use swarmnet_pki::TlsStore;
use swarmnet_runtime::{ReconcileHandle, Supervisor, reconcile};
use swarmnet_types::{NodeDescription, NodeView, Role, SandboxId};
use tokio::sync::watch;
use tokio::time::timeout;

use crate::desired::{Inputs, Wish};
use crate::liveness;
use crate::local::cluster::Cluster;
use crate::local::error::LocalError;
use crate::local::{
    AgentStatus, KernelStatus, LocalObjects, LocalStore, Managers, OwnCertificate, Session,
    Standing,
};
use crate::managers::ManagerPool;
use crate::merge::{Merge, Sources};
use crate::numbers::{AgentNumbers, ViewNumbers};
use crate::paths::Paths;
use crate::renew::{self, Renewal};
use crate::resolver::Resolver;
use crate::session::{self, Applied, SessionConfig};
use crate::target::{Status, Suspects, SysctlMemory, Target};
use crate::trace::Tracer;
use crate::underlay::{self, Underlay};
use crate::verdicts;
use crate::view_file::{self, ViewFileError};
use crate::watch::Watcher;
use crate::workers::{self, GossipSlot};

/// The longest time between two looks at the kernel.
const FULL_ROUND: Duration = Duration::from_mins(5);
/// Failed rounds before a waiting attach is told.
const TRIES: u32 = 3;
const CLUSTER_STOP: Duration = Duration::from_secs(3);

/// The agent could not be started; nothing runs.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    #[error(transparent)]
    Local(#[from] LocalError),
    #[error(transparent)]
    Kernel(#[from] KernelError),
    #[error(transparent)]
    Names(#[from] NameServerError),
    #[error(transparent)]
    View(#[from] ViewFileError),
}

/// What an agent starts with.
#[derive(Debug, Clone)]
pub struct AgentConfig {
    pub paths: Paths,
    pub name: String,
    /// The host's resolvers.
    pub resolv_conf: PathBuf,
    /// Accept rules in other programs' forward chains that drop.
    pub forward_accept: bool,
    /// The node has an identity in a cluster.
    pub in_cluster: bool,
}

/// A place in a cluster.
#[derive(Debug, Clone)]
pub struct ClusterEntry {
    pub standing: Standing,
    pub tls: TlsStore,
    /// A manager's own agent asks the first one first, any other agent whichever it draws.
    pub managers: Vec<SocketAddr>,
    pub description: NodeDescription,
}

/// What belongs to the present cluster.
#[derive(Debug)]
struct Member {
    supervisor: Supervisor,
    gossip: GossipSlot,
    /// Kept open: its receivers read the node's own description.
    _description: Option<watch::Sender<NodeDescription>>,
}

#[derive(Debug)]
struct Inner {
    config: AgentConfig,
    pool: ManagerPool,
    supervisor: Supervisor,
    view: watch::Sender<Option<Arc<NodeView>>>,
    liveness: watch::Sender<Arc<Liveness>>,
    doubts: watch::Sender<Arc<Doubts>>,
    underlay: watch::Sender<Arc<Underlay>>,
    wish: watch::Receiver<Arc<Wish>>,
    applied: watch::Sender<Applied>,
    served_by: watch::Sender<Option<String>>,
    forward_accept: watch::Sender<bool>,
    /// The node is in a cluster whose view it did not have when it started.
    held: watch::Sender<bool>,
    member: Mutex<Option<Member>>,
    netns: Netns,
    kernel: LinuxKernel,
    rounds: ReconcileHandle<Status>,
    local: watch::Receiver<Arc<LocalObjects>>,
    /// Of the name server.
    names: Arc<swarmnet_dns::Stats>,
}

/// See the module. Clones share it.
#[derive(Debug, Clone)]
pub struct Agent(Arc<Inner>);

impl Agent {
    /// Starts the node-local part: local networks and sandboxes work from here on. In a cluster, the last view and the dead nodes
    /// are taken from the disk. Blocks for a few milliseconds.
    ///
    /// # Errors
    /// See [`AgentError`].
    pub fn start(
        config: AgentConfig,
        store: &LocalStore,
        supervisor: &Supervisor,
    ) -> Result<Self, AgentError> {
        let netns = Netns::current()?;
        let kernel = LinuxKernel::new(netns.clone())?;
        let resolver = Resolver::start(&config.resolv_conf)?;
        let names = resolver.counters();
        let sysctls = Arc::new(SysctlMemory::open(config.paths.sysctls())?);
        let found = underlay::discover(&netns, &sysctls.subscribe().borrow())?;
        let known = if config.in_cluster { view_file::read(&config.paths.view())? } else { None };
        let dead = config.in_cluster.then(|| verdicts::read(&config.paths.verdicts()));
        let dead = dead.transpose()?.unwrap_or_default();
        let held = watch::Sender::new(config.in_cluster && known.is_none());
        let view = watch::Sender::new(known.map(Arc::new));
        let liveness = watch::Sender::new(Arc::new(dead));
        let underlay = watch::Sender::new(Arc::new(found));
        let forward_accept = watch::Sender::new(config.forward_accept);
        let sources = Sources {
            view: view.subscribe(),
            liveness: liveness.subscribe(),
            local: store.subscribe(),
            underlay: underlay.subscribe(),
            sysctls: sysctls.subscribe(),
            forward_accept: forward_accept.subscribe(),
            held: held.subscribe(),
        };
        let inputs = Inputs {
            view: None,
            liveness: Arc::default(),
            local: store.current(),
            underlay: Arc::clone(&underlay.borrow()),
            overlay_netns: config.paths.dataplane_netns(),
            options: Options::default(),
            held: false,
        };
        let mut merge = Merge::new(inputs, sources, netns.clone());
        let (wishes, wish) = watch::channel(Arc::new(merge.wish()));
        let suspects = Suspects::default();
        let others = kernel.watch()?;
        let target = Target::new(kernel.clone(), resolver, Arc::clone(&sysctls), suspects.clone());
        let rounds = reconcile::start(supervisor, "reconcile", target, wish.clone(), FULL_ROUND);
        let watcher = Watcher {
            netns: netns.clone(),
            kernel: kernel.clone(),
            suspects,
            waker: rounds.waker(),
            underlay: underlay.clone(),
            sysctls: sysctls.subscribe(),
        };
        let agent = Self(Arc::new(Inner {
            config,
            pool: ManagerPool::default(),
            supervisor: supervisor.clone(),
            view,
            liveness,
            doubts: watch::Sender::default(),
            underlay,
            wish,
            applied: watch::Sender::default(),
            served_by: watch::Sender::default(),
            forward_accept,
            held,
            member: Mutex::default(),
            netns,
            kernel,
            rounds,
            local: store.subscribe(),
            names,
        }));
        agent.start_workers((merge, wishes), (watcher, others));
        Ok(agent)
    }

    fn start_workers(
        &self,
        (merge, wishes): (Merge, watch::Sender<Arc<Wish>>),
        (watcher, others): (Watcher, Watch),
    ) {
        let inner = &self.0;
        let until_stop =
            |name: &str, worker: std::pin::Pin<Box<dyn Future<Output = ()> + Send>>| {
                let stop = inner.supervisor.token().clone();
                // cancel-safe: each of these workers only turns the newest value of a watch into another one.
                inner.supervisor.spawn_critical(name, async move {
                    stop.run_until_cancelled(worker).await;
                });
            };
        until_stop("merge", Box::pin(merge.run(wishes)));
        let acknowledge = workers::acknowledge(inner.rounds.status(), inner.applied.clone());
        until_stop("acknowledge", Box::pin(acknowledge));
        let keep = workers::keep_view(inner.view.subscribe(), inner.config.paths.view());
        until_stop("keep view", Box::pin(keep));
        let keep = verdicts::keep(inner.liveness.subscribe(), inner.config.paths.verdicts());
        until_stop("keep verdicts", Box::pin(keep));
        until_stop("watch kernel", Box::pin(watcher.run(others)));
    }

    /// Takes the node's place in a cluster: session, gossip and renewal begin.
    pub fn enter_cluster(&self, entry: ClusterEntry) {
        let inner = &self.0;
        let ClusterEntry { standing, tls, mut managers, description } = entry;
        let own = usize::from(standing.role == Role::Manager);
        if let Some(others) = managers.get_mut(own..) {
            others.shuffle(&mut rand::rng());
        }
        inner.pool.enter(standing, tls.clone(), managers);
        let supervisor = inner.supervisor.child("cluster");
        let stop = supervisor.token().clone();
        let gossip = self.start_gossip(&supervisor, standing, &description);
        let (description_tx, description) = watch::channel(description);
        let trust = watch::Sender::default();
        let session = SessionConfig {
            pool: inner.pool.clone(),
            description,
            view: inner.view.clone(),
            applied: inner.applied.subscribe(),
            served_by: inner.served_by.clone(),
            tls: tls.clone(),
            trust: trust.clone(),
        };
        supervisor.spawn_transient("session", session::run(session, stop.clone()));
        let renewal = Renewal {
            pool: inner.pool.clone(),
            tls,
            certs: inner.config.paths.certs(),
            trust: trust.subscribe(),
        };
        supervisor.spawn_transient("renew", renew::run(renewal, stop));
        let member = Member { supervisor, gossip, _description: Some(description_tx) };
        *self.member() = Some(member);
    }

    /// As [`Self::enter_cluster`], as far as that needs no key of the node's: it takes part in the gossip, by the last view, and what is
    /// in the kernel stays in use and is kept right.
    pub fn enter_locked(&self, standing: Standing, description: &NodeDescription) {
        let inner = &self.0;
        inner.pool.enter_locked(standing);
        let supervisor = inner.supervisor.child("cluster");
        let gossip = self.start_gossip(&supervisor, standing, description);
        *self.member() = Some(Member { supervisor, gossip, _description: None });
    }

    /// This node is a manager that waits for the operator's key.
    pub fn is_locked(&self) -> bool {
        self.0.pool.is_locked()
    }

    /// Ends session and gossip for a moment: [`Self::enter_cluster`] is to follow. The kernel stays as it is, and nobody is told.
    pub async fn suspend(&self) {
        let member = self.member().take();
        if let Some(member) = member {
            member.supervisor.shutdown(CLUSTER_STOP).await;
        }
    }

    fn start_gossip(
        &self,
        supervisor: &Supervisor,
        standing: Standing,
        description: &NodeDescription,
    ) -> GossipSlot {
        let inner = &self.0;
        let me =
            Local { node: standing.node, gossip: description.addr, vtep: description.data_path };
        let gossip = GossipSlot::default();
        let follow = workers::FollowGossip {
            me,
            witness: self.underlay().gateway,
            view: self.view(),
            verdicts: inner.liveness.clone(),
            doubts: inner.doubts.clone(),
            slot: gossip.clone(),
            pool: inner.pool.clone(),
        };
        supervisor.spawn_transient("follow gossip", follow.run(supervisor.clone()));
        gossip
    }

    /// Ends the node's part in its cluster, and returns when its objects are out of the kernel too.
    pub async fn leave_cluster(&self) {
        let inner = &self.0;
        let member = self.member().take();
        if let Some(member) = member {
            if let Some(gossip) = member.gossip.get() {
                gossip.leave().await;
            }
            member.supervisor.shutdown(CLUSTER_STOP).await;
        }
        inner.pool.leave();
        inner.held.send_replace(false);
        inner.liveness.send_replace(Arc::default());
        inner.doubts.send_replace(Arc::default());
        inner.view.send_replace(None);
        inner.applied.send_replace(Applied::default());
        let mut rounds = inner.rounds.status();
        let bare = rounds.wait_for(|r| r.as_ref().is_some_and(|r| r.status.is_settled_alone()));
        // What cannot be removed in time, the reconciler goes on removing.
        if timeout(CLUSTER_STOP, bare).await.is_err() {
            tracing::warn!("not everything of the left cluster is out of the kernel yet");
        }
    }

    fn member(&self) -> MutexGuard<'_, Option<Member>> {
        self.0.member.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// For metrics.
    pub fn numbers(&self) -> AgentNumbers {
        let inner = &self.0;
        let status = self.status();
        let round = inner.rounds.status().borrow().clone();
        AgentNumbers {
            stream_open: status.manager.is_some(),
            view: inner.view.borrow().as_deref().map(ViewNumbers::from).unwrap_or_default(),
            applied_revision: status.applied_revision,
            sandboxes: inner.local.borrow().sandboxes.len(),
            problems: status.problems.len(),
            repaired: status.repaired,
            rounds: round.as_ref().map_or(0, |round| round.count),
            last_round: round.map_or(Duration::ZERO, |round| round.took),
            certificate_ends: status.certificate.map(|certificate| certificate.ends),
            gossip: status.gossip.zip(self.gossip().map(|gossip| gossip.stats())),
            dns: inner.names.snapshot(),
        }
    }

    /// The gossip, once it runs.
    fn gossip(&self) -> Option<GossipHandle> {
        self.member().as_ref().and_then(|member| member.gossip.get())
    }

    pub fn pool(&self) -> &ManagerPool {
        &self.0.pool
    }

    /// The node's place in a cluster, if it has one.
    pub fn standing(&self) -> Option<Standing> {
        self.0.pool.standing()
    }

    pub fn view(&self) -> watch::Receiver<Option<Arc<NodeView>>> {
        self.0.view.subscribe()
    }

    pub fn liveness(&self) -> watch::Receiver<Arc<Liveness>> {
        self.0.liveness.subscribe()
    }

    /// Nodes whose agent is not heard, verdict or not.
    pub fn doubts(&self) -> watch::Receiver<Arc<Doubts>> {
        self.0.doubts.subscribe()
    }

    /// Accept rules in other programs' forward chains that drop: there from the next round on, or gone.
    pub fn set_forward_accept(&self, wanted: bool) {
        self.0.forward_accept.send_replace(wanted);
    }

    pub fn underlay(&self) -> Arc<Underlay> {
        Arc::clone(&self.0.underlay.borrow())
    }

    /// Who follows packets of this node's sandboxes, which `store` holds; `cluster` tells where sandboxes of other nodes are.
    pub fn tracer(&self, store: Arc<LocalStore>, cluster: Cluster) -> Tracer {
        let inner = &self.0;
        Tracer {
            netns: inner.netns.clone(),
            kernel: inner.kernel.clone(),
            store,
            cluster,
            view: self.view(),
            liveness: self.liveness(),
            underlay: inner.underlay.subscribe(),
            wish: inner.wish.clone(),
            rounds: inner.rounds.status(),
        }
    }

    /// Waits until a view of the cluster is in the kernel.
    pub async fn ready(&self, patience: Duration) -> bool {
        let mut applied = self.0.applied.subscribe();
        matches!(timeout(patience, applied.wait_for(|a| a.revision > 0)).await, Ok(Ok(_)))
    }
}

#[async_trait]
impl KernelStatus for Agent {
    async fn wait_applied(&self, sandbox: SandboxId, generation: u64) -> Result<(), String> {
        let mut rounds = self.0.rounds.status();
        let mut failures = 0;
        loop {
            let last = rounds.borrow_and_update().clone();
            if let Some(round) = last.filter(|r| r.status.stamp.generation >= generation) {
                let Some(problem) = round.status.of_sandbox(sandbox) else { return Ok(()) };
                failures += 1;
                if failures >= TRIES {
                    return Err(problem.clone());
                }
            }
            if rounds.changed().await.is_err() {
                return Err("the agent stops".to_owned());
            }
        }
    }
}

impl Session for Agent {
    fn status(&self) -> AgentStatus {
        let inner = &self.0;
        let view = inner.view.borrow().clone();
        let round = inner.rounds.status().borrow().clone();
        let complaints = round.iter().flat_map(|r| r.status.complaints());
        let identity = inner.pool.tls().map(|tls| tls.identity());
        let of_clock = identity.as_ref().and_then(|i| renew::complaint(i, SystemTime::now()));
        let trouble = inner.pool.trouble().map(|why| format!("no manager serves this node: {why}"));
        AgentStatus {
            name: inner.config.name.clone(),
            view_revision: view.as_ref().map_or(0, |v| v.revision.0),
            applied_revision: inner.applied.borrow().revision,
            manager: inner.served_by.borrow().clone(),
            repaired: round.as_ref().map_or(0, |r| r.status.repaired),
            problems: of_clock.into_iter().chain(trouble).chain(complaints.cloned()).collect(),
            certificate: identity.as_ref().map(OwnCertificate::of),
            peers: liveness::words(&inner.liveness.borrow(), view.as_deref()),
            gossip: self.gossip().map(|gossip| {
                let me = self.standing().map(|standing| standing.node);
                let is_cut_off = gossip.stats().cut_off;
                liveness::count(me, &inner.liveness.borrow(), &inner.doubts.borrow(), is_cut_off)
            }),
        }
    }

    fn view(&self) -> Option<Arc<NodeView>> {
        self.0.view.borrow().clone()
    }
}
