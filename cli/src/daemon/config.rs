//! The settings of a daemon: flags over `swarmnet.toml` over defaults.
//!
//! [`keys`] is the table of all keys: what each takes, what it is, and whether it changes without a restart. A file is read as a whole or
//! refused with file, line and column; nothing is half taken.

mod keys;
#[cfg(test)]
mod tests;

use std::fmt;
use std::io;
use std::net::{AddrParseError, IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::Args;

use super::log::{Format, Levels};
use crate::error::CliError;

pub(super) use keys::KEYS;

const CONFIG: &str = "/etc/swarmnet/swarmnet.toml";
const STATE: &str = "/var/lib/swarmnet";
const RUN: &str = "/run/swarmnet";
/// Beside the control port, 2377; on loopback, because it asks nobody who they are.
const METRICS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9377);

/// Where a node's files are, so that many nodes can live on one machine.
#[derive(Debug, Clone, Default, Args)]
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

    fn file(&self) -> &Path {
        self.config.as_deref().unwrap_or(Path::new(CONFIG))
    }
}

/// What a daemon says, and how.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct LogArgs {
    /// error, warn, info, debug, trace or off; with exceptions such as info,swarmnet_agent=debug
    #[arg(long, value_name = "LEVELS")]
    pub(crate) log_level: Option<Levels>,
    /// text or json on standard error, or journald
    #[arg(long, value_name = "FORMAT")]
    pub(crate) log_format: Option<Format>,
}

impl LogArgs {
    /// The words that say the same to another daemon.
    pub(crate) fn words(&self) -> Vec<std::ffi::OsString> {
        let level = self.log_level.as_ref().map(|l| ["--log-level".to_owned(), l.to_string()]);
        let format = self.log_format.map(|f| ["--log-format".to_owned(), f.to_string()]);
        level.into_iter().chain(format).flatten().map(Into::into).collect()
    }

    pub(crate) fn are_given(&self) -> bool {
        self.log_level.is_some() || self.log_format.is_some()
    }
}

/// An address to listen at, or `off`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Listen(pub(crate) Option<SocketAddr>);

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(addr) => addr.fmt(f),
            None => f.write_str("off"),
        }
    }
}

impl FromStr for Listen {
    type Err = AddrParseError;

    fn from_str(text: &str) -> Result<Self, AddrParseError> {
        if text == "off" { Ok(Self(None)) } else { text.parse().map(|addr| Self(Some(addr))) }
    }
}

/// The flags of a daemon.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Flags {
    #[command(flatten)]
    pub(crate) folders: FolderArgs,
    #[command(flatten)]
    pub(crate) log: LogArgs,
}

/// What a daemon runs with. One field for each key of [`KEYS`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Settings {
    pub(crate) name: String,
    pub(crate) state_dir: PathBuf,
    pub(crate) run_dir: PathBuf,
    /// Who may use the socket beside root.
    pub(crate) socket_group: String,
    /// Names the resolvers for what is not ours.
    pub(crate) resolv_conf: PathBuf,
    pub(crate) worker_threads: usize,
    pub(crate) log_level: Levels,
    pub(crate) log_format: Format,
    /// Put accept rules into other programs' forward chains that drop by policy.
    pub(crate) forward_accept: bool,
    /// Where metrics are served.
    pub(crate) metrics: Listen,
}

impl Default for Settings {
    fn default() -> Self {
        let name = nix::unistd::gethostname()
            .map_or_else(|_| "node".to_owned(), |name| name.to_string_lossy().into_owned());
        Self {
            name,
            state_dir: STATE.into(),
            run_dir: RUN.into(),
            socket_group: "swarmnet".to_owned(),
            resolv_conf: "/etc/resolv.conf".into(),
            worker_threads: 2,
            log_level: Levels::default(),
            log_format: Format::Text,
            forward_accept: true,
            metrics: Listen(Some(METRICS)),
        }
    }
}

impl Settings {
    /// # Errors
    /// A file that was named and cannot be read, or one that is wrong, with line and column.
    pub(crate) fn read(flags: &Flags) -> Result<Self, CliError> {
        let path = flags.folders.file();
        let mut settings = match std::fs::read_to_string(path) {
            Ok(text) => Self::parse(&text, path)?,
            Err(err) if err.kind() == io::ErrorKind::NotFound => Self::default(),
            Err(err) => {
                return Err(CliError::failure(format!("cannot read {}: {err}", path.display())));
            }
        };
        let Flags { folders: FolderArgs { state_dir, run_dir, .. }, log } = flags.clone();
        settings.state_dir = state_dir.unwrap_or(settings.state_dir);
        settings.run_dir = run_dir.unwrap_or(settings.run_dir);
        settings.log_level = log.log_level.unwrap_or(settings.log_level);
        settings.log_format = log.log_format.unwrap_or(settings.log_format);
        Ok(settings)
    }

    fn parse(text: &str, path: &Path) -> Result<Self, CliError> {
        keys::parse(text).map_err(|wrong| {
            let (line, column) = position(text, wrong.at);
            CliError::failure(format!("{}:{line}:{column}: {}", path.display(), wrong.problem))
        })
    }

    /// Every key with its value, as the file would say it.
    pub(super) fn shown(&self) -> impl Iterator<Item = (&'static str, String)> {
        KEYS.iter().map(|key| (key.name, (key.show)(self)))
    }

    /// Takes over what differs in `next` and may change in a running daemon; the keys taken over, and those that need a restart.
    pub(super) fn turn_to(&mut self, next: &Self) -> (Vec<&'static str>, Vec<&'static str>) {
        let (mut taken, mut left) = (Vec::new(), Vec::new());
        for key in &KEYS {
            if (key.show)(self) == (key.show)(next) {
                continue;
            }
            if let Some(take) = key.live {
                take(self, next);
                taken.push(key.name);
            } else {
                left.push(key.name);
            }
        }
        (taken, left)
    }
}

/// Line and column of a byte, both from 1, in characters.
fn position(text: &str, at: usize) -> (usize, usize) {
    let before = text.get(..at).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    (line, column)
}
