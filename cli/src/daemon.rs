//! `swarmnet daemon`: the one long-running process of a node, in a cluster or not: an agent always, a manager where the node has that
//! role. Wires the crates together and owns the process: lock, log, signals.

use std::fs::{self, File, TryLockError};
use std::io::{Read as _, Seek as _, Write as _};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use swarmnet_agent::api::{self, AdmissionProxy, ControlProxy, NodeGrpc, VaultProxy};
use swarmnet_agent::drain;
use swarmnet_agent::local::cluster::Cluster;
use swarmnet_agent::local::host::{Host, KernelHost};
use swarmnet_agent::local::outbox::Outbox;
use swarmnet_agent::local::sandboxes::{Means, Sandboxes};
use swarmnet_agent::local::{KernelStatus, LocalStore, Session};
use swarmnet_agent::open_files;
use swarmnet_agent::paths::Paths;
use swarmnet_agent::workload::Workloads;
use swarmnet_agent::{Agent, AgentConfig};
use swarmnet_pki::NodeIdentity;
use swarmnet_proto::v1::admission_server::AdmissionServer;
use swarmnet_proto::v1::daemon_server::DaemonServer;
use swarmnet_proto::v1::membership_server::MembershipServer;
use swarmnet_proto::v1::recovery_server::RecoveryServer;
use swarmnet_proto::v1::vault_server::VaultServer;
use swarmnet_runtime::Supervisor;
use tokio::signal::unix::{SignalKind, signal};
use tonic::service::Routes;

use crate::error::CliError;

mod config;
mod founding;
mod joining;
mod leaving;
mod log;
mod membership;
mod metrics;
mod operate;
mod place;
mod recovery;
mod role;

use config::Settings;
pub(crate) use config::{Flags, FolderArgs, LogArgs};
pub(crate) use log::Levels;
use log::LogControl;
pub(crate) use membership::NO_CLUSTER;
use membership::{MembershipGrpc, Node};
use operate::{DaemonGrpc, Operator};
pub(crate) use recovery::NOT_LOCKED;
use recovery::RecoveryGrpc;

/// How long workers may take to end.
const STOP_MAX: Duration = Duration::from_secs(5);

/// How long a thread may still be blocked at the end.
const BLOCKED_MAX: Duration = Duration::from_secs(1);

/// Says whether a daemon could start with these flags and their file.
pub(crate) fn check(flags: &Flags) -> Result<(), CliError> {
    Settings::read(flags).map(|_| crate::format::print_line("The configuration is right."))
}

/// Runs the daemon until it is asked to stop.
pub(crate) fn run(flags: &Flags, detached: bool) -> Result<(), CliError> {
    let settings = Settings::read(flags)?;
    if detached {
        // Lets go of the starter's terminal.
        nix::unistd::setsid().map_err(CliError::failure)?;
    }
    let paths = Paths::new(&settings.state_dir, &settings.run_dir);
    for dir in [&paths.state, &paths.run] {
        fs::create_dir_all(dir)
            .map_err(|err| CliError::failure(format!("cannot make {}: {err}", dir.display())))?;
    }
    let _lock = lock(&paths.pid())?;
    let log = log::start(&settings.log_level, settings.log_format)?;
    open_files::raise();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(settings.worker_threads)
        .enable_all()
        .build()
        .map_err(CliError::failure)?;
    let result = runtime.block_on(serve((flags, log), &settings, &paths));
    // What blocks a thread for longer than that is no reason to stay.
    runtime.shutdown_timeout(BLOCKED_MAX);
    // Left to the next daemon otherwise: a file without its process says nothing.
    drop(fs::remove_file(paths.pid()));
    drop(fs::remove_file(paths.socket()));
    result
}

/// Takes the node for this process. The lock goes with the process, however it ends.
fn lock(path: &Path) -> Result<File, CliError> {
    let fail = |err| CliError::failure(format!("cannot use {}: {err}", path.display()));
    let mut file = File::options()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .open(path)
        .map_err(fail)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut pid = String::new();
            drop(file.read_to_string(&mut pid));
            return Err(CliError::failure(format!(
                "another daemon (pid {}) works on {}",
                pid.trim(),
                path.parent().unwrap_or(path).display()
            )));
        }
        Err(TryLockError::Error(err)) => return Err(fail(err)),
    }
    file.set_len(0).and_then(|()| file.rewind()).map_err(fail)?;
    writeln!(file, "{}", std::process::id()).map_err(fail)?;
    Ok(file)
}

async fn serve(
    (flags, log): (&Flags, LogControl),
    settings: &Settings,
    paths: &Paths,
) -> Result<(), CliError> {
    let supervisor = Supervisor::new("daemon");
    // From here on a reload that comes too early waits.
    let hangups = signal(SignalKind::hangup()).map_err(CliError::failure)?;
    // Bound first: a second daemon must not get further than its lock, and callers may queue.
    let listener = api::bind(&paths.socket(), &settings.socket_group).map_err(|err| {
        CliError::failure(format!("cannot listen on {}: {err}", paths.socket().display()))
    })?;
    let node = match start(settings, paths, &supervisor).await {
        Ok(started) => started,
        Err(err) => {
            supervisor.shutdown(STOP_MAX).await;
            return Err(err);
        }
    };
    let operator = Arc::new(Operator::new(flags, settings, log, Arc::clone(&node.node)));
    operator.follow(hangups, &supervisor);
    metrics::start(Arc::clone(&node.node), operator.metrics(), &supervisor);
    let routes = Routes::new(MembershipServer::new(MembershipGrpc::new(Arc::clone(&node.node))))
        .add_service(RecoveryServer::new(RecoveryGrpc::new(node.node)))
        .add_service(AdmissionServer::new(node.admission))
        .add_service(VaultServer::new(node.vault))
        .add_service(DaemonServer::new(DaemonGrpc(operator)));
    api::serve(listener, (node.grpc, node.control), routes, &supervisor);
    let mut terminate = signal(SignalKind::terminate()).map_err(CliError::failure)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(CliError::failure)?;
    tracing::info!(version = env!("CARGO_PKG_VERSION"), "ready");
    let ended = tokio::select! { // cancel-safe: signals and the supervisor lose nothing
        _ = terminate.recv() => None,
        _ = interrupt.recv() => None,
        ended = supervisor.wait() => ended,
    };
    let report = supervisor.shutdown(STOP_MAX).await;
    if !report.is_clean() {
        tracing::warn!(?report, "not all workers ended in time");
    }
    match ended {
        None => Ok(()),
        Some(end) => Err(CliError::failure(format!("a worker ended that must not: {end:?}"))),
    }
}

struct Started {
    node: Arc<Node>,
    grpc: NodeGrpc,
    control: ControlProxy,
    admission: AdmissionProxy,
    vault: VaultProxy,
}

async fn start(
    settings: &Settings,
    paths: &Paths,
    supervisor: &Supervisor,
) -> Result<Started, CliError> {
    let store = Arc::new(LocalStore::open(paths).map_err(CliError::failure)?);
    let peer = NodeIdentity::stored_peer(&paths.certs()).map_err(CliError::failure)?;
    let host: Arc<dyn Host> = Arc::new(KernelHost);
    let config = AgentConfig {
        paths: paths.clone(),
        name: settings.name.clone(),
        resolv_conf: settings.resolv_conf.clone(),
        forward_accept: settings.forward_accept,
        in_cluster: peer.is_some(),
    };
    let agent = Agent::start(config, &store, supervisor).map_err(CliError::failure)?;
    let cluster = Cluster::new(Arc::new(agent.pool().clone()));
    let outbox = Arc::new(Outbox::open(paths).map_err(CliError::failure)?);
    let tracer = agent.tracer(Arc::clone(&store), cluster.clone());
    let means = Means {
        paths: paths.clone(),
        store,
        host,
        kernel: Arc::new(agent.clone()) as Arc<dyn KernelStatus>,
        cluster: cluster.clone(),
        session: Arc::new(agent.clone()) as Arc<dyn Session>,
        outbox: Arc::clone(&outbox),
    };
    let control = ControlProxy::new(&means);
    let sandboxes = Arc::new(Sandboxes::new(means));
    let exe = std::env::current_exe().map_err(CliError::failure)?;
    let workloads = Workloads::new(sandboxes, exe, supervisor);
    control.ensure_predefined().await.map_err(CliError::failure)?;
    let admission = AdmissionProxy::new(cluster.clone());
    let vault = VaultProxy::new(cluster.clone());
    deliver(outbox, cluster, supervisor);
    let (looking, views) = (workloads.clone(), agent.view());
    let stop = supervisor.token().clone();
    supervisor.spawn_transient("orphans", async move {
        // cancel-safe: a release is in the outbox or is not; the next daemon looks again.
        stop.run_until_cancelled(looking.sandboxes().release_orphans(views)).await;
    });
    let node = Arc::new(Node::new(agent.clone(), workloads.clone(), settings, paths, supervisor));
    if let Some(peer) = peer {
        node.resume(&peer).await?;
    }
    follow_role(Arc::clone(&node), supervisor);
    follow_drain(&workloads, &agent, supervisor);
    adopt(workloads.clone(), supervisor);
    let grpc = NodeGrpc::new(
        workloads,
        Arc::new(agent.pool().clone()),
        Arc::new(agent.clone()) as Arc<dyn Session>,
        tracer,
    );
    Ok(Started { node, grpc, control, admission, vault })
}

/// The worker that tells managers what they must still be told.
fn deliver(outbox: Arc<Outbox>, cluster: Cluster, supervisor: &Supervisor) {
    let own = supervisor.clone();
    supervisor.spawn_critical("outbox", async move { outbox.deliver(&cluster, &own).await });
}

/// The worker that starts and stops this node's manager as the cluster wants.
fn follow_role(node: Arc<Node>, supervisor: &Supervisor) {
    let stop = supervisor.token().clone();
    supervisor.spawn_critical("role", async move {
        // cancel-safe: the next daemon looks at what there is.
        stop.run_until_cancelled(node.follow_role()).await;
    });
}

/// The worker that stops programs when the node is drained.
fn follow_drain(workloads: &Workloads, agent: &Agent, supervisor: &Supervisor) {
    let cluster = workloads.sandboxes().means().cluster.clone();
    let draining = drain::follow(workloads.clone(), cluster, agent.view());
    let stop = supervisor.token().clone();
    supervisor.spawn_critical("drain", async move {
        // cancel-safe: the next daemon drains what still runs.
        stop.run_until_cancelled(draining).await;
    });
}

fn adopt(workloads: Workloads, supervisor: &Supervisor) {
    supervisor.spawn_transient("adopt", async move {
        if let Err(err) = workloads.adopt().await {
            tracing::error!(%err, "what an earlier daemon left could not be taken over");
        }
    });
}
