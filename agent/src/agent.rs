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

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use swarmnet_dataplane::desired::Options;
use swarmnet_dns::NameServerError;
use swarmnet_gossip::{GossipHandle, Liveness, Local};
use swarmnet_kernel::nft::Monitor;
use swarmnet_kernel::route::NetMonitor;
use swarmnet_kernel::{KernelError, LinuxKernel, Netns};
use swarmnet_pki::TlsStore;
use swarmnet_runtime::{ReconcileHandle, Supervisor, reconcile};
use swarmnet_types::{NodeDescription, NodeView, SandboxId};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use crate::desired::{Inputs, Merger, Wish};
use crate::liveness;
use crate::local::error::{LocalError, chain};
use crate::local::files::{self, Format};
use crate::local::{
    AgentStatus, KernelStatus, LocalObjects, LocalStore, Managers, Session, Standing,
};
use crate::managers::ManagerPool;
use crate::paths::Paths;
use crate::ports::Listeners;
use crate::resolver::Resolver;
use crate::session::{self, Applied, SessionConfig};
use crate::target::{Status, Target};
use crate::underlay::{self, Underlay};

const VIEW: Format = Format { name: "swarmnet-view", version: 1 };
/// The longest time between two looks at the kernel.
const FULL_ROUND: Duration = Duration::from_secs(300);
/// The longest time between two looks at the node's own addresses.
const UNDERLAY_EVERY: Duration = Duration::from_secs(10);
/// Changes of the kernel's state come in bursts; our own are among them.
const SETTLE: Duration = Duration::from_millis(300);
/// Views are written at most this often; a crash in between costs one delta.
const PERSIST_EVERY: Duration = Duration::from_millis(50);
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
    /// Preferred first.
    pub managers: Vec<SocketAddr>,
    pub description: NodeDescription,
}

/// What belongs to the present cluster.
#[derive(Debug)]
struct Member {
    supervisor: Supervisor,
    gossip: Arc<Mutex<Option<GossipHandle>>>,
}

#[derive(Debug)]
struct Inner {
    config: AgentConfig,
    store: Arc<LocalStore>,
    pool: ManagerPool,
    supervisor: Supervisor,
    view: watch::Sender<Option<Arc<NodeView>>>,
    liveness: watch::Sender<Arc<Liveness>>,
    underlay: watch::Sender<Arc<Underlay>>,
    applied: watch::Sender<Applied>,
    served_by: watch::Sender<Option<String>>,
    member: Mutex<Option<Member>>,
    rounds: ReconcileHandle<Status>,
}

/// See the module. Clones share it.
#[derive(Debug, Clone)]
pub struct Agent(Arc<Inner>);

impl Agent {
    /// Starts the node-local part: local networks and sandboxes work from here on. Blocks for a few milliseconds.
    ///
    /// # Errors
    /// See [`AgentError`].
    pub fn start(
        config: AgentConfig,
        store: Arc<LocalStore>,
        supervisor: &Supervisor,
    ) -> Result<Self, AgentError> {
        let netns = Netns::current()?;
        let kernel = LinuxKernel::new(netns.clone())?;
        let resolver = Resolver::start(&config.resolv_conf)?;
        let sysctls = config.paths.state.join("sysctls.json");
        let found = underlay::discover(&netns, &std::collections::BTreeMap::new())?;
        let (underlay, _) = watch::channel(Arc::new(found));
        let (view, _) = watch::channel(None);
        let (liveness, _) = watch::channel(Arc::default());
        let first = Inputs {
            view: None,
            liveness: Arc::default(),
            local: store.current(),
            underlay: Arc::clone(&underlay.borrow()),
            overlay_netns: config.paths.dataplane_netns(),
            options: Options { forward_accept: config.forward_accept, ..Options::default() },
        };
        let mut merge = Merge { merger: Merger::new(), witness: Listeners(netns.clone()) };
        let persisted = files::read::<NodeView>(&config.paths.view(), VIEW)?;
        if let Some(known) = persisted {
            view.send_replace(Some(Arc::new(known)));
        }
        let inputs = Inputs { view: view.borrow().clone(), ..first };
        let (wishes, wish) = watch::channel(Arc::new(merge.wish(&inputs)));
        let hold = config.in_cluster && inputs.view.is_none();
        let target = Target::new(kernel.clone(), resolver, sysctls, hold);
        let rounds = reconcile::start(supervisor, "reconcile", target, wish, FULL_ROUND);
        let (applied, _) = watch::channel(Applied::default());
        let (served_by, _) = watch::channel(None);
        let inner = Inner {
            config,
            store,
            pool: ManagerPool::default(),
            supervisor: supervisor.clone(),
            view,
            liveness,
            underlay,
            applied,
            served_by,
            member: Mutex::default(),
            rounds,
        };
        let agent = Self(Arc::new(inner));
        agent.start_workers(merge, inputs, wishes, (kernel, netns));
        Ok(agent)
    }

    fn start_workers(
        &self,
        merge: Merge,
        inputs: Inputs,
        wishes: watch::Sender<Arc<Wish>>,
        (kernel, netns): (LinuxKernel, Netns),
    ) {
        let inner = &self.0;
        let sources = Sources {
            view: inner.view.subscribe(),
            liveness: inner.liveness.subscribe(),
            local: inner.store.subscribe(),
            underlay: inner.underlay.subscribe(),
        };
        let supervisor = &inner.supervisor;
        supervisor.spawn_critical("merge", merge.run(inputs, sources, wishes));
        supervisor.spawn_critical("acknowledge", acknowledge(self.clone()));
        supervisor.spawn_critical("persist view", persist(self.clone()));
        supervisor.spawn_critical("watch kernel", watch_kernel(self.clone(), kernel, netns));
    }

    /// Takes the node's place in a cluster: session and gossip begin.
    pub fn enter_cluster(&self, entry: ClusterEntry) {
        let inner = &self.0;
        inner.pool.enter(entry.standing, entry.tls.clone(), entry.managers.clone());
        let supervisor = inner.supervisor.child("cluster");
        let (_description, description) = watch::channel(entry.description.clone());
        let session = SessionConfig {
            pool: inner.pool.clone(),
            description,
            store: Arc::clone(&inner.store),
            view: inner.view.clone(),
            applied: inner.applied.subscribe(),
            served_by: inner.served_by.clone(),
        };
        supervisor.spawn_transient("session", session::run(session, supervisor.clone()));
        let gossip = Arc::new(Mutex::new(None));
        let me = Local {
            node: entry.standing.node,
            gossip: entry.description.addr,
            vtep: entry.description.data_path,
        };
        supervisor.spawn_transient(
            "gossip start",
            follow_gossip(self.clone(), me, Arc::clone(&gossip), supervisor.clone()),
        );
        let member = Member { supervisor, gossip };
        *inner.member.lock().unwrap_or_else(PoisonError::into_inner) = Some(member);
    }

    /// Ends the node's part in its cluster; with its view the kernel objects of the cluster go.
    pub async fn leave_cluster(&self) {
        let inner = &self.0;
        let member = inner.member.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(member) = member {
            let gossip = member.gossip.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some(gossip) = gossip {
                gossip.leave().await;
            }
            member.supervisor.shutdown(CLUSTER_STOP).await;
        }
        inner.pool.leave();
        inner.view.send_replace(None);
        inner.liveness.send_replace(Arc::default());
        if let Err(err) = files::remove(&inner.config.paths.view()) {
            tracing::warn!(err = %chain(&err), "the view of the left cluster is still there");
        }
    }

    pub fn pool(&self) -> &ManagerPool {
        &self.0.pool
    }

    pub fn view(&self) -> watch::Receiver<Option<Arc<NodeView>>> {
        self.0.view.subscribe()
    }

    pub fn liveness(&self) -> watch::Receiver<Arc<Liveness>> {
        self.0.liveness.subscribe()
    }

    pub fn underlay(&self) -> Arc<Underlay> {
        Arc::clone(&self.0.underlay.borrow())
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
                let status = &round.status;
                let problem = status.sandboxes.get(&sandbox).or(status.failed.first());
                let Some(problem) = problem else { return Ok(()) };
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
        let view = self.view().borrow().clone();
        let round = inner.rounds.status().borrow().clone();
        let (mut problems, mut repaired) = (Vec::new(), 0);
        if let Some(round) = &round {
            problems.extend(round.status.problems.iter().cloned());
            problems.extend(round.status.failed.iter().cloned());
            problems.extend(round.status.sandboxes.values().cloned());
            repaired = round.status.repaired;
        }
        AgentStatus {
            name: inner.config.name.clone(),
            view_revision: view.as_ref().map_or(0, |v| v.revision.0),
            applied_revision: inner.applied.borrow().revision,
            manager: inner.served_by.borrow().clone(),
            repaired,
            problems,
            peers: liveness::words(&inner.liveness.borrow(), view.as_deref()),
        }
    }

    fn view(&self) -> Option<Arc<NodeView>> {
        self.0.view.borrow().clone()
    }
}

// === merge ===

struct Merge {
    merger: Merger,
    witness: Listeners,
}

struct Sources {
    view: watch::Receiver<Option<Arc<NodeView>>>,
    liveness: watch::Receiver<Arc<Liveness>>,
    local: watch::Receiver<Arc<LocalObjects>>,
    underlay: watch::Receiver<Arc<Underlay>>,
}

impl Merge {
    fn wish(&mut self, inputs: &Inputs) -> Wish {
        self.merger.merge(inputs, &mut self.witness)
    }

    async fn run(
        mut self,
        mut inputs: Inputs,
        mut sources: Sources,
        wishes: watch::Sender<Arc<Wish>>,
    ) {
        loop {
            let changed = tokio::select! { // cancel-safe: watches lose nothing
                c = sources.view.changed() => c,
                c = sources.liveness.changed() => c,
                c = sources.local.changed() => c,
                c = sources.underlay.changed() => c,
            };
            if changed.is_err() {
                return;
            }
            inputs.view = sources.view.borrow_and_update().clone();
            inputs.liveness = Arc::clone(&sources.liveness.borrow_and_update());
            inputs.local = Arc::clone(&sources.local.borrow_and_update());
            inputs.underlay = Arc::clone(&sources.underlay.borrow_and_update());
            wishes.send_replace(Arc::new(self.wish(&inputs)));
        }
    }
}

// === workers ===

/// What the reconciler has brought about becomes what the managers are told.
async fn acknowledge(agent: Agent) {
    let mut rounds = agent.0.rounds.status();
    while rounds.changed().await.is_ok() {
        let Some(round) = rounds.borrow_and_update().clone() else { continue };
        let status = &round.status;
        let all = status.problems.iter().chain(&status.failed).chain(status.sandboxes.values());
        let next = Applied { revision: status.stamp.revision.0, failures: all.cloned().collect() };
        agent.0.applied.send_if_modified(|now| {
            let changed = *now != next;
            *now = next;
            changed
        });
    }
}

async fn persist(agent: Agent) {
    let mut views = agent.0.view.subscribe();
    while views.changed().await.is_ok() {
        let view = views.borrow_and_update().clone();
        let path = agent.0.config.paths.view();
        if let Some(view) = view.filter(|v| v.revision.0 > 0) {
            let write = move || files::write(&path, VIEW, &*view);
            match tokio::task::spawn_blocking(write).await {
                Ok(Ok(())) => {}
                Ok(Err(err)) => tracing::warn!(err = %chain(&err), "the view is not on the disk"),
                Err(_) => return,
            }
        }
        sleep(PERSIST_EVERY).await;
    }
}

/// Verdicts of the gossip, from its start on.
async fn follow_gossip(
    agent: Agent,
    me: Local,
    slot: Arc<Mutex<Option<GossipHandle>>>,
    supervisor: Supervisor,
) {
    let witness: Option<IpAddr> = agent.underlay().gateway;
    let started = liveness::start(me, witness, agent.view(), &supervisor).await;
    let handle = match started {
        Ok(Some(handle)) => handle,
        Ok(None) => return,
        Err(err) => {
            tracing::error!(err = %chain(&err), "no gossip: the death of a node will not be seen");
            return;
        }
    };
    let mut verdicts = handle.liveness();
    *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(handle);
    loop {
        let now = Arc::clone(&verdicts.borrow_and_update());
        agent.0.liveness.send_replace(now);
        if verdicts.changed().await.is_err() {
            return;
        }
    }
}

/// Looks again when others change the kernel's state, and at the node's addresses now and then.
async fn watch_kernel(agent: Agent, kernel: LinuxKernel, netns: Netns) {
    let stop = agent.0.supervisor.token().clone();
    let waker = agent.0.rounds.waker();
    let mut tables = match Monitor::open(&netns, kernel.nft_ports()) {
        Ok(monitor) => monitor,
        Err(err) => {
            tracing::error!(err = %chain(&err), "changes by other programs are seen late");
            return stop.cancelled().await;
        }
    };
    let mut links = match NetMonitor::open(&netns) {
        Ok(monitor) => monitor,
        Err(err) => {
            tracing::error!(err = %chain(&err), "changes by other programs are seen late");
            return stop.cancelled().await;
        }
    };
    let mut look_at = Instant::now() + UNDERLAY_EVERY;
    loop {
        tokio::select! { biased; // cancel-safe: both monitors keep what was read
            () = stop.cancelled() => return,
            changed = tables.next() => match changed {
                Ok(_) => {
                    sleep(SETTLE).await;
                    waker.wake();
                }
                Err(err) => tracing::debug!(err = %chain(&err), "nftables notification lost"),
            },
            changed = links.next() => {
                if changed.is_ok() {
                    look_at = look_at.min(Instant::now() + SETTLE);
                }
            }
            () = tokio::time::sleep_until(look_at) => {
                look_at = Instant::now() + UNDERLAY_EVERY;
                let seen = underlay::discover(&netns, &std::collections::BTreeMap::new());
                if let Ok(seen) = seen {
                    agent.0.underlay.send_if_modified(|now| {
                        let changed = **now != seen;
                        if changed {
                            *now = Arc::new(seen);
                        }
                        changed
                    });
                }
            }
        }
    }
}

impl Agent {
    /// The node's place in a cluster, if it has one.
    pub fn standing(&self) -> Option<Standing> {
        self.0.pool.standing()
    }
}
