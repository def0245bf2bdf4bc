//! Where a node keeps its files: the one place that knows the layout of the state and the run folder.
//!
//! Invariant: everything of a node lies under these two folders, but for the namespaces of named sandboxes, which lie where
//! `ip netns` looks for them. The state folder survives a reboot, the run folder need not.

use std::path::{Path, PathBuf};

use swarmnet_types::{Name, NetworkId, SandboxId};

/// Where `ip netns` and systemd's `NetworkNamespacePath=` look.
pub const NAMED_NETNS: &str = "/run/netns";

/// The folders of one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paths {
    /// Default `/var/lib/swarmnet`.
    pub state: PathBuf,
    /// Default `/run/swarmnet`.
    pub run: PathBuf,
    /// Default [`NAMED_NETNS`].
    pub named_netns: PathBuf,
}

impl Default for Paths {
    fn default() -> Self {
        Self::new("/var/lib/swarmnet", "/run/swarmnet")
    }
}

impl Paths {
    pub fn new(state: impl Into<PathBuf>, run: impl Into<PathBuf>) -> Self {
        Self { state: state.into(), run: run.into(), named_netns: PathBuf::from(NAMED_NETNS) }
    }

    // === state ===

    /// The node's key and certificate.
    pub fn certs(&self) -> PathBuf {
        self.state.join("certs")
    }

    /// Log and snapshots of a manager.
    pub fn raft(&self) -> PathBuf {
        self.state.join("raft")
    }

    /// The last view a manager pushed.
    pub fn view(&self) -> PathBuf {
        self.state.join("view")
    }

    /// The nodes this one holds for dead.
    pub fn verdicts(&self) -> PathBuf {
        self.state.join("verdicts.json")
    }

    /// The host's sysctls as they were before this node changed them.
    pub fn sysctls(&self) -> PathBuf {
        self.state.join("sysctls.json")
    }

    /// The node's own settings: name, addresses, facts of its join.
    pub fn node(&self) -> PathBuf {
        self.state.join("node.json")
    }

    pub fn networks(&self) -> PathBuf {
        self.state.join("networks")
    }

    pub fn network(&self, id: NetworkId) -> PathBuf {
        self.networks().join(format!("{id}.json"))
    }

    pub fn sandboxes(&self) -> PathBuf {
        self.state.join("sandboxes")
    }

    pub fn sandbox(&self, id: SandboxId) -> SandboxPaths {
        SandboxPaths { dir: self.sandboxes().join(id.to_string()) }
    }

    /// What managers must still be told of this node's endpoints.
    pub fn outbox(&self) -> PathBuf {
        self.state.join("outbox.json")
    }

    // === run ===

    pub fn socket(&self) -> PathBuf {
        self.run.join("swarmnet.sock")
    }

    /// Locked by the one daemon of this state folder.
    pub fn pid(&self) -> PathBuf {
        self.run.join("daemon.pid")
    }

    /// Keeps the hidden namespace of the overlays.
    pub fn dataplane_netns(&self) -> PathBuf {
        self.run.join("dp")
    }

    /// Namespaces of unnamed sandboxes.
    pub fn netns_dir(&self) -> PathBuf {
        self.run.join("netns")
    }

    pub fn netns(&self, id: SandboxId) -> PathBuf {
        self.netns_dir().join(id.short())
    }

    pub fn named_netns(&self, name: &Name) -> PathBuf {
        self.named_netns.join(name.as_str())
    }
}

/// The folder of one sandbox. The shim writes `status` and `log`, the daemon everything else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SandboxPaths {
    pub dir: PathBuf,
}

impl SandboxPaths {
    pub fn at(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into() }
    }

    /// The record; a folder without one is a sandbox that was never finished.
    pub fn record(&self) -> PathBuf {
        self.dir.join("sandbox.json")
    }

    /// The path of the namespace, written before that is made: what a crash left is found by it.
    pub fn netns_note(&self) -> PathBuf {
        self.dir.join("netns")
    }

    pub fn resolv_conf(&self) -> PathBuf {
        self.dir.join("resolv.conf")
    }

    pub fn hosts(&self) -> PathBuf {
        self.dir.join("hosts")
    }

    /// What the shim is to run.
    pub fn shim(&self) -> PathBuf {
        self.dir.join("shim.json")
    }

    /// How the process fares, by the shim.
    pub fn status(&self) -> PathBuf {
        self.dir.join("status.json")
    }

    /// Output of the process, docker's `json-file` format.
    pub fn log(&self) -> PathBuf {
        self.dir.join("log.json")
    }

    /// What the shim itself has to say.
    pub fn shim_log(&self) -> PathBuf {
        self.dir.join("shim.log")
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }
}
