//! The daemon's own log: how it is written, and how much, which may change while it runs.

use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};

use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::{Layer, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Registry, fmt as writer, reload};

use crate::error::CliError;

/// Modules that say less unless they are asked for by name: consensus says at `info` what is of interest to its own authors; what the
/// resolver's libraries say of single packets, a workload could fill the disk with.
const QUIET: [(&str, LevelFilter); 3] = [
    ("openraft", LevelFilter::WARN),
    ("hickory_proto", LevelFilter::ERROR),
    ("hickory_server", LevelFilter::ERROR),
];

/// How entries are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// Lines on standard error.
    Text,
    /// One object a line on standard error.
    Json,
    /// The journal's own protocol, each field a field there.
    Journald,
}

impl FromStr for Format {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        match word {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            "journald" => Ok(Self::Journald),
            _ => Err("want text, json or journald".to_owned()),
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Text => "text",
            Self::Json => "json",
            Self::Journald => "journald",
        })
    }
}

/// What is written: one level, and others for modules, such as `info,swarmnet_agent=debug`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Levels {
    all: LevelFilter,
    /// Module path → its level, as given.
    modules: Vec<(String, LevelFilter)>,
}

impl Default for Levels {
    fn default() -> Self {
        Self { all: LevelFilter::INFO, modules: Vec::new() }
    }
}

impl FromStr for Levels {
    type Err = String;

    /// A word that is no level is refused: `tracing` would take it for a module and be silent about the rest.
    fn from_str(text: &str) -> Result<Self, String> {
        let level = |word: &str| match word {
            "error" | "warn" | "info" | "debug" | "trace" | "off" => {
                word.parse::<LevelFilter>().ok()
            }
            _ => None,
        };
        let bad = |word: &str| {
            format!(
                "{word:?} is no level: want error, warn, info, debug, trace, off, or MODULE=LEVEL"
            )
        };
        let is_path = |module: &str| {
            let mut segments = module.split("::");
            segments.all(|s| !s.is_empty() && s.chars().all(|c| c.is_alphanumeric() || c == '_'))
        };
        let (mut all, mut modules) = (None, Vec::new());
        for word in text.split(',') {
            match word.split_once('=') {
                None if all.is_some() => return Err(format!("{word:?} is a second general level")),
                None => all = Some(level(word).ok_or_else(|| bad(word))?),
                Some((module, of)) if is_path(module) => {
                    modules.push((module.to_owned(), level(of).ok_or_else(|| bad(word))?));
                }
                Some(_) => return Err(bad(word)),
            }
        }
        Ok(Self { all: all.unwrap_or(LevelFilter::INFO), modules })
    }
}

impl fmt::Display for Levels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.all)?;
        self.modules.iter().try_for_each(|(module, level)| write!(f, ",{module}={level}"))
    }
}

impl Levels {
    fn targets(&self) -> Targets {
        let quiet = QUIET.map(|(module, level)| (module, level.min(self.all)));
        let given = self.modules.iter().map(|(module, level)| (module.as_str(), *level));
        // The one given last for a module holds.
        Targets::new().with_default(self.all).with_targets(quiet).with_targets(given)
    }
}

/// Turns the log up and down. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct LogControl {
    filter: reload::Handle<Targets, Registry>,
    now: Arc<Mutex<Levels>>,
}

impl LogControl {
    pub(crate) fn levels(&self) -> Levels {
        self.now.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns what was in force before.
    pub(crate) fn set(&self, levels: &Levels) -> Levels {
        // The subscriber is global: it cannot have gone.
        drop(self.filter.reload(levels.targets()));
        let mut now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut now, levels.clone())
    }
}

/// Starts the log of this process.
///
/// # Errors
/// No journal where one is asked for.
pub(crate) fn start(levels: &Levels, format: Format) -> Result<LogControl, CliError> {
    let (filter, handle) = reload::Layer::new(levels.targets());
    let layer = layer(format)?;
    // Only a second start in one process could fail.
    drop(tracing_subscriber::registry().with(filter).with(layer).try_init());
    Ok(LogControl { filter: handle, now: Arc::new(Mutex::new(levels.clone())) })
}

type Written = tracing_subscriber::layer::Layered<reload::Layer<Targets, Registry>, Registry>;

fn layer(format: Format) -> Result<Box<dyn Layer<Written> + Send + Sync>, CliError> {
    let plain = || writer::layer().with_writer(std::io::stderr).with_ansi(false);
    Ok(match format {
        Format::Text => plain().boxed(),
        Format::Json => plain().json().boxed(),
        Format::Journald => tracing_journald::layer()
            .map_err(|err| CliError::failure(format!("log_format journald: no journal: {err}")))?
            .with_syslog_identifier("swarmnet".to_owned())
            .boxed(),
    })
}

#[cfg(test)]
mod tests {
    use tracing::Level;

    use super::*;

    #[test]
    fn levels_read_back_as_written_and_typos_are_refused() {
        for text in ["info", "off", "warn,swarmnet_agent=debug", "info,a::b=trace,openraft=info"] {
            let levels: Levels = text.parse().expect(text);
            assert_eq!(levels.to_string(), text);
        }
        assert_eq!("a=debug".parse::<Levels>().expect("a module").to_string(), "info,a=debug");
        for bad in ["", "inof", "info,debug", "a=loud", "=debug", "a-b=debug", "info,", "a b=info"]
        {
            assert!(bad.parse::<Levels>().is_err(), "{bad}");
        }
    }

    #[test]
    fn modules_have_their_own_level_and_libraries_are_quiet_unless_told() {
        let says = |text: &str, module: &str, level| {
            text.parse::<Levels>().expect(text).targets().would_enable(module, &level)
        };
        assert!(says("info,swarmnet_agent=debug", "swarmnet_agent::session", Level::DEBUG));
        assert!(!says("info,swarmnet_agent=debug", "swarmnet_manager", Level::DEBUG));
        assert!(!says("info", "openraft::core", Level::INFO));
        assert!(says("info", "openraft::core", Level::WARN));
        assert!(says("info,openraft=info", "openraft::core", Level::INFO));
        assert!(!says("error", "openraft::core", Level::WARN));
        assert!(!says("debug", "hickory_server::server", Level::WARN));
        assert!(says("info,hickory_server=warn", "hickory_server::server", Level::WARN));
    }
}
