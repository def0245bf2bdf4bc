//! Every key of `swarmnet.toml`: the one place that knows them.

use std::path::PathBuf;

use toml::de::{DeTable, DeValue};

use super::Settings;

/// Above it two words have nothing in common (`strsim`'s Jaro-Winkler, as clap takes it).
const ALIKE_MIN: f64 = 0.7;
const THREADS_MAX: i64 = 256;

/// One key.
#[derive(Debug, Clone, Copy)]
pub(in crate::daemon) struct Key {
    pub(in crate::daemon) name: &'static str,
    /// What may stand behind it, for the error.
    pub(super) allowed: &'static str,
    /// Puts a value into the settings; `None` when it is not allowed.
    pub(super) put: fn(&mut Settings, &DeValue<'_>) -> Option<()>,
    /// The value as the file would say it.
    pub(super) show: fn(&Settings) -> String,
    /// Takes the value over from other settings; `None`: it needs a restart.
    pub(in crate::daemon) live: Option<fn(&mut Settings, &Settings)>,
}

pub(in crate::daemon) const KEYS: [Key; 10] = [
    Key {
        name: "name",
        allowed: "a text that is not empty",
        put: |s, v| text(v).map(|t| t.clone_into(&mut s.name)),
        show: |s| quoted(&s.name),
        live: None,
    },
    Key {
        name: "state_dir",
        allowed: "an absolute path",
        put: |s, v| path(v).map(|p| s.state_dir = p),
        show: |s| quoted(&s.state_dir.display()),
        live: None,
    },
    Key {
        name: "run_dir",
        allowed: "an absolute path",
        put: |s, v| path(v).map(|p| s.run_dir = p),
        show: |s| quoted(&s.run_dir.display()),
        live: None,
    },
    Key {
        name: "socket_group",
        allowed: "the name of a group",
        put: |s, v| text(v).map(|t| t.clone_into(&mut s.socket_group)),
        show: |s| quoted(&s.socket_group),
        live: None,
    },
    Key {
        name: "resolv_conf",
        allowed: "an absolute path",
        put: |s, v| path(v).map(|p| s.resolv_conf = p),
        show: |s| quoted(&s.resolv_conf.display()),
        live: None,
    },
    Key {
        name: "worker_threads",
        allowed: "a number from 1 to 256",
        put: |s, v| threads(v).map(|n| s.worker_threads = n),
        show: |s| s.worker_threads.to_string(),
        live: None,
    },
    Key {
        name: "log_level",
        allowed: "error, warn, info, debug, trace or off, with exceptions such as \"info,swarmnet_agent=debug\"",
        put: |s, v| text(v)?.parse().ok().map(|l| s.log_level = l),
        show: |s| quoted(&s.log_level),
        live: Some(|s, next| s.log_level.clone_from(&next.log_level)),
    },
    Key {
        name: "log_format",
        allowed: "\"text\", \"json\" or \"journald\"",
        put: |s, v| text(v)?.parse().ok().map(|f| s.log_format = f),
        show: |s| quoted(&s.log_format),
        // What the text writer keeps of the spans that are open, the JSON writer cannot read.
        live: None,
    },
    Key {
        name: "forward_accept",
        allowed: "true or false",
        put: |s, v| v.as_bool().map(|b| s.forward_accept = b),
        show: |s| s.forward_accept.to_string(),
        live: Some(|s, next| s.forward_accept = next.forward_accept),
    },
    Key {
        name: "metrics",
        allowed: "an address with a port, such as \"127.0.0.1:9377\" or \"[::1]:9377\", or \"off\"",
        put: |s, v| text(v)?.parse().ok().map(|at| s.metrics = at),
        show: |s| quoted(&s.metrics),
        live: Some(|s, next| s.metrics = next.metrics),
    },
];

/// What is wrong with a file, and at which byte.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wrong {
    pub(super) at: usize,
    pub(super) problem: String,
}

/// The defaults with what the text says.
pub(super) fn parse(source: &str) -> Result<Settings, Wrong> {
    let document = DeTable::parse(source).map_err(|err| Wrong {
        at: err.span().map_or(0, |span| span.start),
        problem: err.message().to_owned(),
    })?;
    let mut entries: Vec<_> = document.get_ref().iter().collect();
    // The first mistake of the file is told, not that of the first name.
    entries.sort_by_key(|(name, _)| name.span().start);
    let mut settings = Settings::default();
    for (name, value) in entries {
        let Some(key) = KEYS.iter().find(|key| key.name == name.get_ref().as_ref()) else {
            let problem = unknown(name.get_ref());
            return Err(Wrong { at: name.span().start, problem });
        };
        if (key.put)(&mut settings, value.get_ref()).is_none() {
            let written = source.get(value.span()).unwrap_or_default();
            let problem = format!(
                "{}: the value {} is not allowed: want {}",
                key.name,
                written.lines().next().unwrap_or_default(),
                key.allowed
            );
            return Err(Wrong { at: value.span().start, problem });
        }
    }
    Ok(settings)
}

fn unknown(name: &str) -> String {
    let alike = |key: &Key| strsim::jaro_winkler(key.name, name);
    let nearest = KEYS.iter().max_by(|a, b| alike(a).total_cmp(&alike(b)));
    if let Some(key) = nearest.filter(|key| alike(key) > ALIKE_MIN) {
        return format!("unknown key {name}: did you mean {}?", key.name);
    }
    let all: Vec<_> = KEYS.iter().map(|key| key.name).collect();
    format!("unknown key {name}: there are {}", all.join(", "))
}

fn text<'a>(value: &'a DeValue<'_>) -> Option<&'a str> {
    value.as_str().filter(|text| !text.is_empty())
}

fn path(value: &DeValue<'_>) -> Option<PathBuf> {
    text(value).map(PathBuf::from).filter(|path| path.is_absolute())
}

fn threads(value: &DeValue<'_>) -> Option<usize> {
    let number = value.as_integer()?;
    let number = i64::from_str_radix(number.as_str(), number.radix()).ok()?;
    (1..=THREADS_MAX).contains(&number).then(|| usize::try_from(number).ok())?
}

/// A TOML string.
fn quoted(value: &impl ToString) -> String {
    toml::Value::String(value.to_string()).to_string()
}
