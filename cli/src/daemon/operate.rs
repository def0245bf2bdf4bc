//! What operators change of a daemon that runs: its settings by reading the file again (SIGHUP, `swarmnet config reload`), and how
//! much it says.
//!
//! A file that is wrong changes nothing. Of one that is right, what can change does, and the rest is told.

use std::net::SocketAddr;
use std::sync::Arc;

use swarmnet_agent::api::audit;
use swarmnet_manager::Observed;
use swarmnet_proto::v1;
use swarmnet_proto::v1::daemon_server::Daemon;
use swarmnet_runtime::Supervisor;
use tokio::signal::unix::Signal;
use tokio::sync::{Mutex, watch};
use tonic::{Request, Response, Status};

use super::config::{Flags, KEYS, Settings};
use super::log::{Levels, LogControl};
use super::membership::Node;
use crate::error::CliError;

/// See the module.
#[derive(Debug)]
pub(super) struct Operator {
    flags: Flags,
    log: LogControl,
    node: Arc<Node>,
    metrics: watch::Sender<Option<SocketAddr>>,
    /// In force now. Held over a whole reload: one after the other.
    settings: Mutex<Settings>,
}

impl Operator {
    pub(super) fn new(
        flags: &Flags,
        settings: &Settings,
        log: LogControl,
        node: Arc<Node>,
    ) -> Self {
        let metrics = watch::Sender::new(settings.metrics.0);
        Self { flags: flags.clone(), log, node, metrics, settings: Mutex::new(settings.clone()) }
    }

    /// Where metrics are to be served.
    pub(super) fn metrics(&self) -> watch::Receiver<Option<SocketAddr>> {
        self.metrics.subscribe()
    }

    /// Reads the file again.
    ///
    /// # Errors
    /// The file is wrong; nothing has changed.
    async fn reload(&self) -> Result<v1::ReloadResponse, CliError> {
        let mut settings = self.settings.lock().await;
        let flags = self.flags.clone();
        let next = tokio::task::spawn_blocking(move || Settings::read(&flags)).await;
        let next = next.map_err(CliError::failure)??;
        let (mut changed, needs_restart) = settings.turn_to(&next);
        // Also over what was said by `swarmnet log-level` meanwhile.
        if self.log.set(&settings.log_level) != settings.log_level
            && !changed.contains(&"log_level")
        {
            changed.push("log_level");
        }
        self.node.agent.set_forward_accept(settings.forward_accept);
        let metrics = settings.metrics.0;
        self.metrics.send_if_modified(|now| std::mem::replace(now, metrics) != metrics);
        for key in &changed {
            tracing::info!(key, "a setting changed");
        }
        for key in &needs_restart {
            tracing::warn!(key, "a setting differs from the file: it needs a restart");
        }
        let words = |keys: Vec<&str>| keys.into_iter().map(str::to_owned).collect();
        Ok(v1::ReloadResponse { changed: words(changed), needs_restart: words(needs_restart) })
    }

    /// Reloads at each SIGHUP.
    pub(super) fn follow(self: &Arc<Self>, mut hangups: Signal, supervisor: &Supervisor) {
        let (this, stop) = (Arc::clone(self), supervisor.token().clone());
        let follow = async move {
            while hangups.recv().await.is_some() {
                if let Err(err) = this.reload().await {
                    tracing::error!(%err, "the settings stay as they are");
                }
            }
        };
        supervisor.spawn_critical("sighup", async move {
            // cancel-safe: the process ends.
            stop.run_until_cancelled(follow).await;
        });
    }
}

/// The service on the unix socket.
#[derive(Debug)]
pub(super) struct DaemonGrpc(pub(super) Arc<Operator>);

#[tonic::async_trait]
impl Daemon for DaemonGrpc {
    async fn reload(
        &self,
        request: Request<v1::ReloadRequest>,
    ) -> Result<Response<v1::ReloadResponse>, Status> {
        audit(&request, "reload");
        let done = self.0.reload().await;
        done.map(Response::new).map_err(|err| Status::failed_precondition(err.to_string()))
    }

    async fn get_config(
        &self,
        _: Request<v1::GetConfigRequest>,
    ) -> Result<Response<v1::GetConfigResponse>, Status> {
        let settings = self.0.settings.lock().await;
        let shown = settings.shown().zip(&KEYS);
        let settings = shown
            .map(|((key, value), known)| v1::Setting {
                key: key.to_owned(),
                value,
                live: known.live.is_some(),
            })
            .collect();
        Ok(Response::new(v1::GetConfigResponse { settings }))
    }

    async fn set_log_level(
        &self,
        request: Request<v1::SetLogLevelRequest>,
    ) -> Result<Response<v1::SetLogLevelResponse>, Status> {
        let v1::SetLogLevelRequest { levels, reset } = request.get_ref();
        let wanted = match (levels.as_str(), reset) {
            ("", false) => None,
            ("", true) => Some(self.0.settings.lock().await.log_level.clone()),
            (text, _) => Some(text.parse::<Levels>().map_err(Status::invalid_argument)?),
        };
        if let Some(wanted) = wanted {
            audit(&request, "set_log_level");
            self.0.log.set(&wanted);
        }
        Ok(Response::new(v1::SetLogLevelResponse { levels: self.0.log.levels().to_string() }))
    }

    async fn get_manager(
        &self,
        _: Request<v1::GetManagerRequest>,
    ) -> Result<Response<v1::GetManagerResponse>, Status> {
        let raft = self.0.node.observed().map(raft_state);
        Ok(Response::new(v1::GetManagerResponse { raft }))
    }
}

fn raft_state(observed: Observed) -> v1::RaftState {
    let Observed { raft, leader, .. } = observed;
    let voters = raft.voters();
    let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    v1::RaftState {
        role: raft.role.to_string(),
        term: raft.term,
        leader: leader.unwrap_or_default(),
        last_index: raft.last_log,
        applied_index: raft.applied.0,
        snapshot_index: raft.snapshot.unwrap_or_default(),
        voters: count(voters),
        learners: count(raft.members.len() - voters),
    }
}
