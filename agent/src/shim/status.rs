//! How a workload fares, as its shim tells and the daemon reads.

use std::process::Child;

use serde::{Deserialize, Serialize};

use crate::local::error::LocalError;
use crate::local::files::{self, Format};
use crate::local::objects::Owner;
use crate::local::process;
use crate::local::sandboxes::now_ms;
use crate::paths::SandboxPaths;

const STATUS: Format = Format { name: "swarmnet-status", version: 1 };

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    Starting,
    Running,
    Restarting,
    Exited,
    /// It could not be started.
    Failed,
}

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    pub state: State,
    pub shim: Owner,
    /// The program; of the last one when it does not run.
    pub process: Option<Owner>,
    pub exit_code: i32,
    pub started_ms: u64,
    pub finished_ms: u64,
    pub restarts: u32,
    /// Why it could not be started.
    pub reason: String,
}

impl Status {
    /// Of a shim that has just begun: the calling process.
    pub(super) fn begun() -> Self {
        let pid = std::process::id();
        let start_ticks = process::start_ticks(pid).unwrap_or(0);
        Self {
            state: State::Starting,
            shim: Owner { pid, start_ticks },
            process: None,
            exit_code: 0,
            started_ms: now_ms(),
            finished_ms: 0,
            restarts: 0,
            reason: String::new(),
        }
    }

    pub(super) fn running(&mut self, child: &Child) {
        self.state = State::Running;
        self.started_ms = now_ms();
        self.finished_ms = 0;
        let pid = child.id();
        self.process = process::start_ticks(pid).map(|start_ticks| Owner { pid, start_ticks });
    }

    pub(super) fn ended(&mut self, exit_code: i32) {
        self.exit_code = exit_code;
        self.finished_ms = now_ms();
    }

    pub(super) fn write(&self, paths: &SandboxPaths) -> Result<(), LocalError> {
        files::write(&paths.status(), STATUS, self)
    }

    /// The last word of a sandbox's shim; `None` when none ever spoke.
    ///
    /// # Errors
    /// A damaged file, by name.
    pub fn read(paths: &SandboxPaths) -> Result<Option<Self>, LocalError> {
        files::read(&paths.status(), STATUS)
    }

    /// Does the shim live?
    pub fn is_supervised(&self) -> bool {
        process::is_alive(self.shim)
    }
}
