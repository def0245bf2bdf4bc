//! What is known of a lab between commands: `lab.json` in its folder, and the processes it names.
//!
//! A process is known by its pid and start time, so that a pid used again is not taken for it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::layout::{Folder, Node, Underlay};
use crate::error::CliError;

/// Where labs live unless `SWARMNET_LAB_DIR` says otherwise.
const BASE: &str = "/var/lib/swarmnet-lab";
/// Newest format of `lab.json` that this program writes and reads.
const FORMAT: u32 = 1;

/// A process that may have ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Process {
    pub(crate) pid: u32,
    /// Field 22 of `/proc/PID/stat`: clock ticks since the machine's boot.
    pub(crate) started_ticks: u64,
}

impl Process {
    /// `None` when there is no such process, or it is a zombie.
    pub(crate) fn of(pid: u32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The command in parentheses may hold spaces and parentheses itself.
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        let alive = !matches!(*fields.first()?, "Z" | "X");
        alive.then_some(Self { pid, started_ticks: fields.get(19)?.parse().ok()? })
    }

    pub(crate) fn is_alive(self) -> bool {
        Self::of(self.pid) == Some(self)
    }
}

/// A node and the process that holds its namespaces.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct NodeRecord {
    #[serde(flatten)]
    pub(crate) node: Node,
    /// First process of the node: its end is the node's crash.
    pub(crate) holder: Process,
}

/// A lab.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Lab {
    pub(crate) format: u32,
    pub(crate) name: String,
    pub(crate) underlay: Underlay,
    /// Holds the namespace of the underlay's bridge.
    pub(crate) wire: Process,
    pub(crate) nodes: Vec<NodeRecord>,
    pub(crate) cuts: Cuts,
}

/// Who does not hear whom: pairs of node names, the lesser first.
pub(crate) type Cuts = std::collections::BTreeSet<(String, String)>;

impl Lab {
    pub(crate) fn new(name: &str, underlay: Underlay, wire: Process) -> Self {
        Self {
            format: FORMAT,
            name: name.to_owned(),
            underlay,
            wire,
            nodes: Vec::new(),
            cuts: Cuts::new(),
        }
    }

    /// Reads a lab that must exist.
    pub(crate) fn load(name: &str) -> Result<Self, CliError> {
        Self::find(name)?.ok_or_else(|| {
            CliError::failure(format!("no lab `{name}`: make one with `swarmnet lab up {name}`"))
        })
    }

    /// Reads a lab that may exist.
    pub(crate) fn find(name: &str) -> Result<Option<Self>, CliError> {
        let path = folder(name).record();
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(err) => return Err(file_error("read", &path, &err)),
        };
        let lab: Self =
            serde_json::from_str(&text).map_err(|err| file_error("understand", &path, &err))?;
        if lab.format > FORMAT {
            return Err(CliError::failure(format!(
                "{} is of format {}, this program knows {FORMAT}: use the newer program",
                path.display(),
                lab.format
            )));
        }
        Ok(Some(lab))
    }

    pub(crate) fn save(&self) -> Result<(), CliError> {
        let path = self.folder().record();
        let text = serde_json::to_string_pretty(self).expect("a lab is plain data") + "\n";
        let new = path.with_extension("new");
        fs::write(&new, text)
            .and_then(|()| fs::rename(&new, &path))
            .map_err(|err| file_error("write", &path, &err))
    }

    pub(crate) fn folder(&self) -> Folder {
        folder(&self.name)
    }

    pub(crate) fn node(&self, name: &str) -> Result<&NodeRecord, CliError> {
        self.nodes.iter().find(|n| n.node.name == name).ok_or_else(|| {
            let names: Vec<_> = self.nodes.iter().map(|n| n.node.name.as_str()).collect();
            CliError::failure(format!(
                "no node `{name}` in lab `{}` (nodes: {})",
                self.name,
                names.join(", ")
            ))
        })
    }

    /// A node whose namespaces exist.
    pub(crate) fn live_node(&self, name: &str) -> Result<&NodeRecord, CliError> {
        let node = self.node(name)?;
        if node.holder.is_alive() {
            return Ok(node);
        }
        Err(CliError::failure(format!(
            "node {name} has crashed: bring it back with `swarmnet lab start {}/{name}`",
            self.name
        )))
    }
}

/// The folder of the lab of this name.
pub(crate) fn folder(name: &str) -> Folder {
    let base =
        std::env::var_os("SWARMNET_LAB_DIR").map_or_else(|| PathBuf::from(BASE), PathBuf::from);
    Folder(base.join(name))
}

/// `[LAB/]NODE` → lab and node.
pub(crate) fn split(reference: &str) -> (&str, &str) {
    reference.split_once('/').unwrap_or((super::DEFAULT_NAME, reference))
}

/// One line for a file that could not be used.
pub(crate) fn file_error(verb: &str, path: &Path, err: &dyn std::fmt::Display) -> CliError {
    CliError::failure(format!("cannot {verb} {}: {err}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_its_pid_and_start() {
        let me = Process::of(std::process::id()).expect("this process runs");
        assert!(me.is_alive());
        assert!(!Process { started_ticks: me.started_ticks + 1, ..me }.is_alive());
        assert_eq!(Process::of(u32::MAX), None);
    }

    #[test]
    fn references_name_a_lab_or_the_default_one() {
        assert_eq!(split("m1"), ("lab", "m1"));
        assert_eq!(split("two/a1"), ("two", "a1"));
    }
}
