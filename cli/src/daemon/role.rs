//! The node becomes what the cluster has it as: a worker that was promoted a manager, a manager that was demoted a worker.
//!
//! Inputs: the role in the view, the role in the node's certificate, whether a manager runs. Outputs: a manager that starts or stops, a
//! certificate of the other role. Up: certificate, manager, seat in the Raft group. Down, in the opposite order: the leader takes the
//! manager out of the group; when the others say that this is committed, its log is thrown away; then comes the certificate. Each step
//! looks at what there is, so a daemon killed in between goes on.

use std::fs;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use swarmnet_agent::renew;
use swarmnet_pki::TlsStore;
use swarmnet_proto::v1;
use swarmnet_proto::v1::dispatcher_client::DispatcherClient;
use swarmnet_types::Role;
use tokio::time::{sleep, timeout};
use tonic::Code;

use super::membership::{Node, RunningManager, STOP_MAX};
use crate::error::CliError;

/// Between two looks while a change of the role is under way.
const STEP: Duration = Duration::from_millis(100);
/// After a step that failed.
const RETRY: Duration = Duration::from_secs(1);
/// So often a manager is looked at that may have no leader.
const LEADERLESS_MAX: Duration = Duration::from_secs(3);
/// How long one manager may take to say what this node is.
const ASK_MAX: Duration = Duration::from_secs(6);

/// How far the node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Progress {
    /// It is what it is to be.
    Settled,
    UnderWay,
}

/// What the others say of this node.
enum Word {
    Standing(v1::StandingResponse),
    /// They do not have it any more.
    Removed,
}

impl Node {
    /// Until the daemon stops.
    pub(super) async fn follow_role(self: Arc<Self>) {
        let mut view = self.agent.view();
        loop {
            view.mark_unchanged();
            match self.step().await {
                Ok(Progress::Settled) => {
                    // A manager that nobody leads hears nothing: it has to ask.
                    if let Ok(Err(_)) = timeout(LEADERLESS_MAX, view.changed()).await {
                        return;
                    }
                }
                Ok(Progress::UnderWay) => sleep(STEP).await,
                Err(err) => {
                    tracing::warn!(%err, "this node's role is not what the cluster wants yet");
                    sleep(RETRY).await;
                }
            }
        }
    }

    async fn step(&self) -> Result<Progress, CliError> {
        let mut slot = self.manager.lock().await;
        let Some(standing) = self.agent.standing() else { return Ok(Progress::Settled) };
        let (Some(tls), Some(view)) = (self.agent.pool().tls(), self.agent.view().borrow().clone())
        else {
            return Ok(Progress::Settled);
        };
        let Some(wanted) = view.nodes.get(&standing.node).map(|n| n.role) else {
            return Ok(Progress::Settled);
        };
        let managers = view.cluster.managers.as_slice();
        match (wanted, standing.role, slot.as_ref()) {
            (Role::Worker, Role::Worker, None) => return Ok(Progress::Settled),
            (Role::Manager, _, Some(running)) if running.manager.votes() => {
                if running.manager.is_led() {
                    return Ok(Progress::Settled);
                }
                // Without a quorum there is no word; that is nothing new.
                drop(self.stop_if_out(&mut slot, &tls, managers).await);
                return Ok(if slot.is_some() { Progress::Settled } else { Progress::UnderWay });
            }
            (Role::Manager, _, Some(running)) => {
                let place = self.stored_place()?;
                let asked = running.manager.ask_in(place.addr, managers).await;
                asked.map_err(CliError::failure)?;
            }
            (Role::Manager, Role::Manager, None) => {
                // The view may be of before this node was demoted.
                match self.ask(&tls, managers).await? {
                    Word::Standing(now) if now.role() == v1::Role::Manager => {}
                    Word::Standing(_) | Word::Removed => return Ok(Progress::Settled),
                }
                let place = self.stored_place()?;
                *slot = Some(self.start_manager(&tls, &place, self.own_keyring()?).await?);
                self.agent.pool().prefer(place.addr);
                tracing::info!("this node runs a manager now");
            }
            (Role::Worker, _, Some(_)) => {
                return self.stop_if_out(&mut slot, &tls, managers).await;
            }
            (role, _, None) => {
                let certs = self.paths.certs();
                let renewed = renew::as_role(self.agent.pool(), &tls, &certs, role).await;
                renewed.map_err(CliError::failure)?;
            }
        }
        Ok(Progress::UnderWay)
    }

    /// Stops the manager when the others say that it is one no more. Its log goes when they have it as a worker out of their Raft group;
    /// of another generation of the cluster it is none of theirs: an operator has to decide.
    async fn stop_if_out(
        &self,
        slot: &mut Option<RunningManager>,
        tls: &TlsStore,
        managers: &[SocketAddr],
    ) -> Result<Progress, CliError> {
        let Some(running) = slot.as_ref() else { return Ok(Progress::Settled) };
        let is_removed = match self.ask(tls, managers).await? {
            Word::Removed => true,
            Word::Standing(now) => {
                let is_other =
                    running.manager.generation().is_some_and(|own| own != now.generation);
                if is_other || now.seated || now.role() != v1::Role::Worker {
                    return Ok(Progress::UnderWay);
                }
                false
            }
        };
        if let Some(running) = slot.take() {
            running.supervisor.shutdown(STOP_MAX).await;
        }
        tracing::info!(is_removed, "this node runs no manager any more");
        if is_removed {
            return Ok(Progress::Settled);
        }
        // The key that seals it goes with the log.
        tls.identity().key().protect(&self.paths.certs(), None).map_err(CliError::failure)?;
        let raft = self.paths.raft();
        fs::remove_dir_all(&raft)
            .map_err(|err| CliError::failure(format!("cannot remove {}: {err}", raft.display())))?;
        Ok(Progress::UnderWay)
    }

    /// What this node is, by the word of the first other manager that answers.
    async fn ask(&self, tls: &TlsStore, managers: &[SocketAddr]) -> Result<Word, CliError> {
        let own = self.stored_place()?.addr;
        let mut last = CliError::failure("no other manager is known");
        for manager in managers.iter().filter(|m| **m != own) {
            let channel = swarmnet_pki::channel(*manager, Role::Manager, tls);
            let mut client = DispatcherClient::new(channel);
            let reason = match timeout(ASK_MAX, client.standing(v1::StandingRequest {})).await {
                Ok(Ok(answer)) => return Ok(Word::Standing(answer.into_inner())),
                Ok(Err(status)) if status.code() == Code::PermissionDenied => {
                    return Ok(Word::Removed);
                }
                Ok(Err(status)) => swarmnet_pki::explain(&status),
                Err(_elapsed) => "it does not answer in time".to_owned(),
            };
            last = CliError::failure(format!("{manager}: {reason}"));
        }
        Err(last)
    }
}
