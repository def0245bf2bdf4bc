//! Processes of `run -d`: started under a shim each, watched, stopped, adopted after a restart of the daemon.
//!
//! The daemon holds no pipe and is no parent that matters: a shim goes on without it. What is known of one is its `status.json` and
//! whether it lives. A task whose program is down is out of balancing and names until it runs again.
//!
//! Every operation runs to its end once it has begun, on a worker of its own: a caller that goes away leaves no half a sandbox.

pub mod restart;
mod revive;
pub mod user;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use swarmnet_runtime::Supervisor;
use swarmnet_types::{AttachmentSpec, Condition, SandboxId};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, timeout};

pub use restart::RestartPolicy;

use crate::local::error::{LocalError, chain};
use crate::local::objects::{Owner, SandboxRecord, SandboxState};
use crate::local::sandboxes::{SandboxWish, Sandboxes};
use crate::local::{files, process};
use crate::open_files;
use crate::paths::SandboxPaths;
use crate::shim::status::{State, Status};
use crate::shim::{SHIM, ShimSpec};

/// How long a program may take to be started.
const START_MAX: Duration = Duration::from_secs(10);
const START_POLL: Duration = Duration::from_millis(2);
/// How often a shim's word is read while its program is between two runs.
const RESTART_POLL: Duration = Duration::from_millis(50);
/// How long a shim may take to kill its program and all that belongs to it.
const KILL_MAX: Duration = Duration::from_secs(6);

/// See the module. Clones share it.
#[derive(Debug, Clone)]
pub struct Workloads {
    sandboxes: Arc<Sandboxes>,
    /// This program, which is also the shim.
    exe: PathBuf,
    supervisor: Supervisor,
}

impl Workloads {
    pub fn new(sandboxes: Arc<Sandboxes>, exe: PathBuf, supervisor: &Supervisor) -> Self {
        Self { sandboxes, exe, supervisor: supervisor.child("workloads") }
    }

    fn paths(&self, id: SandboxId) -> SandboxPaths {
        self.sandboxes.means().paths.sandbox(id)
    }

    /// Runs an operation to its end, whatever becomes of the caller.
    async fn whole<T, F>(&self, name: &str, work: F) -> Result<T, LocalError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, LocalError>> + Send + 'static,
    {
        let (answer, answered) = oneshot::channel();
        self.supervisor.spawn_transient(name, async move {
            // Nobody to tell is no reason to stop.
            let _ = answer.send(work.await);
        });
        answered.await.unwrap_or(Err(LocalError::Stopping))
    }

    /// Makes a sandbox and, when the wish has a process, starts it. Ready when this returns.
    ///
    /// # Errors
    /// See [`LocalError`]; nothing is left then.
    pub async fn create(&self, wish: SandboxWish) -> Result<Arc<SandboxRecord>, LocalError> {
        let this = self.clone();
        self.whole("create", async move { this.make(wish).await }).await
    }

    async fn make(&self, wish: SandboxWish) -> Result<Arc<SandboxRecord>, LocalError> {
        let record = self.sandboxes.attach(wish).await?;
        let id = record.id;
        let made = async {
            if record.process.is_some() {
                self.start(&record).await?;
            }
            self.sandboxes.ready(id).await
        };
        match made.await {
            Ok(record) => {
                self.watch(&record);
                Ok(record)
            }
            Err(err) => {
                self.gone(id).await;
                Err(err)
            }
        }
    }

    /// Joins a sandbox to one more network.
    ///
    /// # Errors
    /// See [`Sandboxes::connect`].
    pub async fn connect(
        &self,
        id: SandboxId,
        spec: AttachmentSpec,
    ) -> Result<Arc<SandboxRecord>, LocalError> {
        let this = self.clone();
        self.whole("connect", async move { this.sandboxes.connect(id, spec).await }).await
    }

    /// Takes a network away from a sandbox.
    ///
    /// # Errors
    /// See [`Sandboxes::disconnect`].
    pub async fn disconnect(
        &self,
        id: SandboxId,
        network: String,
    ) -> Result<Arc<SandboxRecord>, LocalError> {
        let this = self.clone();
        self.whole("disconnect", async move { this.sandboxes.disconnect(id, &network).await }).await
    }

    /// Starts the shim and waits until it says how its program fares.
    async fn start(&self, record: &SandboxRecord) -> Result<(), LocalError> {
        let paths = self.paths(record.id);
        let Some(process) = record.process.clone() else { return Ok(()) };
        let spec = ShimSpec {
            open_files: open_files::at_start(),
            process: process.spec,
            sandbox: record.name.to_string(),
            hostname: record.hostname.to_string(),
            netns: record.netns.clone(),
            files: BTreeMap::from([
                ("/etc/resolv.conf".into(), paths.resolv_conf()),
                ("/etc/hosts".into(), paths.hosts()),
            ]),
        };
        files::write(&paths.shim(), SHIM, &spec)?;
        files::remove(&paths.status())?;
        // The runtime reaps a child that nobody holds; a daemon that is gone by then leaves that to process 1.
        drop(self.spawn_shim(&paths)?);
        let deadline = Instant::now() + START_MAX;
        loop {
            match Status::read(&paths)? {
                Some(status) if status.state == State::Failed => {
                    return Err(LocalError::Start { reason: status.reason });
                }
                Some(status) if status.state != State::Starting => return Ok(()),
                _ if Instant::now() > deadline => {
                    let reason = "its shim did not start".to_owned();
                    return Err(LocalError::Start { reason });
                }
                _ => sleep(START_POLL).await,
            }
        }
    }

    fn spawn_shim(&self, paths: &SandboxPaths) -> Result<tokio::process::Child, LocalError> {
        let log = paths.shim_log();
        let fail = |err| LocalError::File { path: log.clone(), err };
        let out = std::fs::File::create(&log).map_err(fail)?;
        let mut command = Command::new(&self.exe);
        command.arg("shim").arg(paths.dir()).stdin(Stdio::null()).stdout(Stdio::null());
        command.stderr(out);
        let mut command = tokio::process::Command::from(command);
        command.spawn().map_err(|err| LocalError::File { path: self.exe.clone(), err })
    }

    /// Follows whatever the sandbox lives by: its owner, or its shim.
    fn watch(&self, record: &SandboxRecord) {
        let (this, id) = (self.clone(), record.id);
        let stop = self.supervisor.token().clone();
        if let Some(owner) = record.owner {
            self.supervisor.spawn_transient("watch owner", async move {
                // cancel-safe: the next daemon watches again.
                if stop.run_until_cancelled(process::ended(owner)).await.is_some() {
                    this.gone(id).await;
                }
            });
        } else if record.process.is_some() {
            self.supervisor.spawn_transient("watch shim", async move {
                // cancel-safe: the next daemon watches again, and heals what was half done.
                stop.run_until_cancelled(this.follow(id)).await;
            });
        }
    }

    /// Tells the cluster whether the program runs, until its shim has ended.
    async fn follow(&self, id: SandboxId) {
        while let Ok(Some(status)) = Status::read(&self.paths(id)) {
            if !status.is_supervised() {
                break;
            }
            match (status.state, status.process) {
                (State::Running, Some(program)) => {
                    self.show(id, Condition::Ready).await;
                    process::ended(program).await;
                }
                (State::Running | State::Starting | State::Restarting, _) => {
                    self.show(id, Condition::Starting).await;
                }
                (State::Exited | State::Failed, _) => process::ended(status.shim).await,
            }
            // The shim's next word comes when the last output was read.
            sleep(RESTART_POLL).await;
        }
        let Ok(record) = self.sandboxes.means().store.sandbox(id) else { return };
        if record.process.as_ref().is_some_and(|p| p.spec.remove_when_done) {
            self.gone(id).await;
        } else {
            self.show(id, Condition::Draining).await;
        }
    }

    /// The sandbox's condition as its program has it; a user's stop stays as it is.
    async fn show(&self, id: SandboxId, now: Condition) {
        let Ok(record) = self.sandboxes.means().store.sandbox(id) else { return };
        let stopped = record.process.as_ref().is_some_and(|p| p.stopped);
        let known = record.attachments.iter().all(|a| a.endpoint.condition == now)
            && record.fabric.iter().all(|e| e.condition == now);
        if known || stopped || record.state != SandboxState::Ready {
            return;
        }
        if let Err(err) = self.sandboxes.set_condition(id, now).await {
            tracing::warn!(sandbox = %record.name, err = %chain(&err), "its condition is not told");
        }
    }

    /// Ends what runs in a sandbox and removes it; nobody waits for the answer.
    async fn gone(&self, id: SandboxId) {
        self.end_processes(id).await;
        if let Err(err) = self.sandboxes.detach(id).await {
            tracing::warn!(err = %chain(&err), "not all of a sandbox was removed");
        }
    }

    /// Stops the program: first it leaves balancing and names, then it is asked, then it is killed.
    ///
    /// # Errors
    /// [`LocalError::NoProcess`].
    pub async fn stop(&self, id: SandboxId, grace: Duration) -> Result<(), LocalError> {
        let this = self.clone();
        self.whole("stop", async move { this.stop_now(id, grace).await }).await
    }

    async fn stop_now(&self, id: SandboxId, grace: Duration) -> Result<(), LocalError> {
        let record = self.sandboxes.means().store.sandbox(id)?;
        if record.process.is_none() {
            return Err(LocalError::NoProcess { sandbox: record.name.clone() });
        }
        let store = &self.sandboxes.means().store;
        let stopped = store.change_sandbox(id, |record| {
            record.process.iter_mut().for_each(|p| p.stopped = true);
            Ok(())
        });
        stopped.await?;
        let Some(status) = Status::read(&self.paths(id))?.filter(Status::is_supervised) else {
            return Ok(());
        };
        self.sandboxes.set_condition(id, Condition::Draining).await?;
        signal(status.shim, libc::SIGTERM);
        if timeout(grace, process::ended(status.shim)).await.is_err() {
            self.end_processes(id).await;
        }
        Ok(())
    }

    /// Kills program and shim and waits for their end.
    async fn end_processes(&self, id: SandboxId) {
        let Ok(Some(status)) = Status::read(&self.paths(id)) else { return };
        // A shim kills all that its program has started.
        signal(status.shim, libc::SIGQUIT);
        if timeout(KILL_MAX, process::ended(status.shim)).await.is_ok() && status.process.is_none()
        {
            return;
        }
        // One that hangs or is gone leaves that to us. The shim first, or it would start the program again.
        for one in [Some(status.shim), status.process].into_iter().flatten() {
            signal(one, libc::SIGKILL);
            if timeout(KILL_MAX, process::ended(one)).await.is_err() {
                tracing::warn!(pid = one.pid, "a killed process does not end");
            }
        }
    }

    /// Removes a sandbox.
    ///
    /// # Errors
    /// [`LocalError::Running`] without `force`.
    pub async fn remove(&self, id: SandboxId, force: bool) -> Result<(), LocalError> {
        let this = self.clone();
        self.whole("remove", async move { this.remove_now(id, force).await }).await
    }

    async fn remove_now(&self, id: SandboxId, force: bool) -> Result<(), LocalError> {
        let record = self.sandboxes.means().store.sandbox(id)?;
        let owned = record.owner.is_some_and(process::is_alive) && !force;
        let status = Status::read(&self.paths(id))?.filter(Status::is_supervised);
        if owned || (status.is_some() && !force) {
            return Err(LocalError::Running { sandbox: record.name.clone() });
        }
        self.end_processes(id).await;
        self.sandboxes.detach(id).await
    }

    /// Takes over what an earlier daemon left, and puts right what a crash or a reboot did.
    ///
    /// # Errors
    /// The state folder cannot be read.
    pub async fn adopt(&self) -> Result<(), LocalError> {
        let objects = self.sandboxes.means().store.current();
        for record in objects.sandboxes.values() {
            // Nobody was told of these: their makers are gone, and their programs must not outlive them.
            if record.state == SandboxState::Attaching {
                self.end_processes(record.id).await;
            }
        }
        for lost in self.sandboxes.heal().await? {
            // Process numbers of before the reboot may be others' now.
            files::remove(&self.paths(lost.id).status())?;
            if revive::comes_back(&lost) {
                self.revive(&lost).await?;
            } else {
                tracing::info!(sandbox = %lost.name, "its namespace went with a reboot: removed");
                self.gone(lost.id).await;
            }
        }
        let objects = self.sandboxes.means().store.current();
        for record in objects.sandboxes.values().filter(|r| r.state == SandboxState::Ready) {
            self.watch(record);
        }
        Ok(())
    }

    /// How the program of a sandbox fares.
    pub fn status(&self, id: SandboxId) -> Option<Status> {
        Status::read(&self.paths(id)).ok().flatten()
    }

    pub fn sandboxes(&self) -> &Sandboxes {
        &self.sandboxes
    }
}

fn signal(process: Owner, number: i32) {
    if let Err(err) = process::signal(process, number) {
        tracing::warn!(pid = process.pid, %err, "a signal could not be sent");
    }
}
