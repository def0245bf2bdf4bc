//! The settings of a daemon: flags over `swarmnet.toml` over defaults.

use std::io;
use std::path::PathBuf;

use clap::Args;
use serde::Deserialize;

use crate::error::CliError;

const CONFIG: &str = "/etc/swarmnet/swarmnet.toml";
const STATE: &str = "/var/lib/swarmnet";
const RUN: &str = "/run/swarmnet";
/// Consensus says at `info` what is of interest to its own authors.
pub(crate) const LOG_LEVEL: &str = "info,openraft=warn";

/// Where a node's files are, so that many nodes can live on one machine.
#[derive(Debug, Clone, Args)]
pub(crate) struct FolderArgs {
    /// Configuration file
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Folder of what must survive a reboot
    #[arg(long, value_name = "DIR")]
    pub(crate) state_dir: Option<PathBuf>,
    /// Folder of sockets and namespaces
    #[arg(long, value_name = "DIR")]
    pub(crate) run_dir: Option<PathBuf>,
}

impl FolderArgs {
    /// The words that give these folders to another swarmnet command.
    pub(crate) fn words(&self) -> Vec<std::ffi::OsString> {
        [("--config", &self.config), ("--state-dir", &self.state_dir), ("--run-dir", &self.run_dir)]
            .into_iter()
            .filter_map(|(flag, dir)| Some([flag.into(), dir.clone()?.into_os_string()]))
            .flatten()
            .collect()
    }

    /// Is any of them not the default?
    pub(crate) fn are_moved(&self) -> bool {
        self.config.is_some() || self.state_dir.is_some() || self.run_dir.is_some()
    }
}

/// The file. Every key has a default; unknown ones are refused.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Document {
    /// Name of this node; the host name by default.
    name: Option<String>,
    state_dir: Option<PathBuf>,
    run_dir: Option<PathBuf>,
    /// `error`, `warn`, `info`, `debug`, or directives such as `info,swarmnet_agent=debug`.
    log_level: Option<String>,
    /// `text` or `json`.
    log_format: Option<String>,
    /// Put accept rules into other programs' forward chains that drop by policy.
    forward_accept: Option<bool>,
    /// Threads of the runtime.
    worker_threads: Option<usize>,
}

/// What a daemon runs with.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) name: String,
    pub(crate) state_dir: PathBuf,
    pub(crate) run_dir: PathBuf,
    pub(crate) log_level: String,
    pub(crate) log_format: String,
    pub(crate) forward_accept: bool,
    pub(crate) worker_threads: usize,
}

impl Settings {
    /// # Errors
    /// A file that was named and is not there, or one that is wrong, with line and column.
    pub(crate) fn read(folders: &FolderArgs) -> Result<Self, CliError> {
        let path = folders.config.clone().unwrap_or_else(|| CONFIG.into());
        let document = match std::fs::read_to_string(&path) {
            Ok(text) => toml::from_str::<Document>(&text).map_err(|err| {
                let at = err.span().map_or(0, |span| span.start);
                let before = &text[..at.min(text.len())];
                let line = before.matches('\n').count() + 1;
                let column = at - before.rfind('\n').map_or(0, |n| n + 1) + 1;
                CliError::failure(format!("{}:{line}:{column}: {}", path.display(), err.message()))
            })?,
            Err(err) if err.kind() == io::ErrorKind::NotFound => Document::default(),
            Err(err) => {
                return Err(CliError::failure(format!("cannot read {}: {err}", path.display())));
            }
        };
        let hostname = || {
            nix::unistd::gethostname()
                .map_or_else(|_| "node".to_owned(), |name| name.to_string_lossy().into_owned())
        };
        Ok(Self {
            name: document.name.unwrap_or_else(hostname),
            state_dir: folders.state_dir.clone().or(document.state_dir).unwrap_or(STATE.into()),
            run_dir: folders.run_dir.clone().or(document.run_dir).unwrap_or(RUN.into()),
            log_level: document.log_level.unwrap_or_else(|| LOG_LEVEL.to_owned()),
            log_format: document.log_format.unwrap_or_else(|| "text".to_owned()),
            forward_accept: document.forward_accept.unwrap_or(true),
            worker_threads: document.worker_threads.unwrap_or(2).max(1),
        })
    }
}
