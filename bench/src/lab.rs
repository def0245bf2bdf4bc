//! A lab of this run: `swarmnet lab up` in a temporary folder, the commands in it, and its end. Nothing of it outlives the value,
//! also when a measurement fails.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, anyhow, bail};
use serde_json::Value;
use tempfile::TempDir;

/// The name of the overlay network that [`Lab::overlay`] makes.
pub(crate) const NETWORK: &str = "benchnet";
/// The nodes of a lab of three managers.
pub(crate) const NODES: [&str; 3] = ["m1", "m2", "m3"];

/// Of [`Lab::wide_overlay`]; not among the default pools.
const WIDE_SUBNET: &str = "172.20.0.0/16";

/// A running lab.
#[derive(Debug)]
pub(crate) struct Lab {
    binary: PathBuf,
    name: String,
    /// Lives as long as the lab; removed after it.
    folder: TempDir,
    nodes: Vec<Value>,
}

impl Lab {
    /// A lab with that many managers and agents and one outsider, `c1`.
    pub(crate) fn up(managers: u8, agents: u8) -> Result<Self> {
        let mut lab = Self {
            binary: binary()?,
            name: format!("snb{}", std::process::id()),
            folder: tempfile::Builder::new().prefix("swarmnet-bench-").tempdir()?,
            nodes: Vec::new(),
        };
        let (managers, agents) = (managers.to_string(), agents.to_string());
        let name = lab.name.clone();
        let up = ["up", &name, "--managers", &managers, "--agents", &agents, "--clients", "1"];
        output(lab.lab().args(up))?;
        let status = output(lab.lab().args(["status", &name, "--format", "json"]))?;
        lab.nodes = status.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
        Ok(lab)
    }

    /// `swarmnet lab`, to be gone on with.
    fn lab(&self) -> Command {
        let mut command = Command::new(&self.binary);
        command.env("SWARMNET_LAB_DIR", self.folder.path()).arg("lab");
        command
    }

    /// Ends a node's daemon as a SIGKILL does.
    pub(crate) fn kill(&self, node: &str) -> Result<()> {
        output(self.lab().args(["kill", &format!("{}/{node}", self.name)])).map(drop)
    }

    /// Starts a daemon that was killed; it is ready then.
    pub(crate) fn start(&self, node: &str) -> Result<()> {
        output(self.lab().args(["start", &format!("{}/{node}", self.name)])).map(drop)
    }

    /// The managers as `node`'s daemon has them: name, and `Leader`, `Reachable` or `Unreachable`.
    pub(crate) fn managers(&self, node: &str) -> Result<BTreeMap<String, String>> {
        let told = output(self.client(node)?.args(["node", "ls", "--format", "json"]))?;
        let row = |line: &str| {
            let row: Value = serde_json::from_str(line)?;
            let text = |field: &str| row[field].as_str().unwrap_or_default().to_owned();
            Ok((text("Hostname"), text("ManagerStatus")))
        };
        told.lines().map(row).collect()
    }

    /// The manager that leads.
    pub(crate) fn leader(&self) -> Result<String> {
        let mut all = self.managers(NODES[0])?.into_iter();
        let found = all.find_map(|(name, status)| (status == "Leader").then_some(name));
        found.context("nobody leads")
    }

    /// A program in a node's namespaces.
    pub(crate) fn exec(&self, node: &str) -> Command {
        let mut command = self.lab();
        command.args(["exec", &format!("{}/{node}", self.name), "--"]);
        command
    }

    /// `swarmnet` in a node's namespaces.
    pub(crate) fn swarmnet(&self, node: &str) -> Command {
        let mut command = self.exec(node);
        command.arg(&self.binary);
        command
    }

    /// `swarmnet` of this machine, talking to a node's daemon over its unix socket: no namespace is entered.
    pub(crate) fn client(&self, node: &str) -> Result<Command> {
        let folder = self.folder(node)?;
        let mut command = Command::new(&self.binary);
        command.arg("--socket").arg(Path::new(folder).join("run/swarmnet.sock"));
        Ok(command)
    }

    /// Makes an overlay network that sandboxes may join.
    pub(crate) fn overlay(&self) -> Result<()> {
        let words = ["network", "create", "-d", "overlay", "--attachable", NETWORK];
        output(self.client("m1")?.args(words)).map(drop)
    }

    /// The same with room for ten thousand services and their tasks.
    pub(crate) fn wide_overlay(&self) -> Result<()> {
        let words = ["network", "create", "-d", "overlay", "--attachable", "--subnet"];
        output(self.client("m1")?.args(words).args([WIDE_SUBNET, NETWORK])).map(drop)
    }

    /// Makes a sandbox on the overlay; its address and namespace.
    pub(crate) fn sandbox(
        &self,
        node: &str,
        name: &str,
        service: Option<&str>,
    ) -> Result<(String, PathBuf)> {
        let mut create = self.client(node)?;
        create.args(["sandbox", "create", "--network", NETWORK]);
        create.args(service.map(|service| format!("--service={service}")));
        output(create.arg(name))?;
        let told = json(self.client(node)?.args(["sandbox", "inspect", name]))?;
        let settings = &told[0]["NetworkSettings"];
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let address = text(&settings["Networks"][NETWORK]["IPAddress"]).context("no address")?;
        let key = text(&settings["SandboxKey"]).context("no namespace")?;
        // The namespace's file is a mount, seen in the node's mount namespace only.
        let root = format!("/proc/{}/root", self.number(node, "Pid")?);
        Ok((address, Path::new(&root).join(key.trim_start_matches('/'))))
    }

    /// Where a node's network namespace is.
    pub(crate) fn netns(&self, node: &str) -> Result<PathBuf> {
        self.text(node, "NetworkNamespace").map(PathBuf::from)
    }

    /// Where a node keeps its files.
    pub(crate) fn folder(&self, node: &str) -> Result<&str> {
        self.text(node, "Folder")
    }

    /// A node's first address.
    pub(crate) fn address(&self, node: &str) -> Result<String> {
        let first = self.node(node)?["Addresses"][0].as_str();
        first.map(str::to_owned).with_context(|| format!("{node} has no address"))
    }

    /// The process of a node's daemon.
    pub(crate) fn daemon(&self, node: &str) -> Result<u32> {
        self.text(node, "Daemon")?.parse().with_context(|| format!("{node} has no daemon"))
    }

    fn node(&self, name: &str) -> Result<&Value> {
        let found = self.nodes.iter().find(|node| node["Name"] == name);
        found.ok_or_else(|| anyhow!("the lab has no node {name}"))
    }

    fn text(&self, node: &str, field: &str) -> Result<&str> {
        self.node(node)?[field].as_str().with_context(|| format!("{node} has no {field}"))
    }

    fn number(&self, node: &str, field: &str) -> Result<u64> {
        self.node(node)?[field].as_u64().with_context(|| format!("{node} has no {field}"))
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let name = self.name.clone();
        if let Err(err) = output(self.lab().args(["down", &name])) {
            eprintln!("swarmnet-bench: the lab {name} is not removed: {err:#}");
        }
    }
}

/// The binary to measure: `SWARMNET`, else the one built beside this program.
fn binary() -> Result<PathBuf> {
    let path = match std::env::var_os("SWARMNET") {
        Some(path) => PathBuf::from(path),
        None => std::env::current_exe()?.with_file_name("swarmnet"),
    };
    if !path.is_file() {
        bail!("{} does not exist: build it (`cargo build --release -p swarmnet`)", path.display());
    }
    Ok(std::path::absolute(path)?)
}

/// Runs a command to its end; what it printed. One that fails is an error with what it said.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let out = command.stdin(Stdio::null()).output().with_context(|| format!("{command:?}"))?;
    if !out.status.success() {
        bail!("{command:?}: {}: {}", out.status, String::from_utf8_lossy(&out.stderr).trim());
    }
    Ok(String::from_utf8(out.stdout)?)
}

/// [`output`] as JSON.
pub(crate) fn json(command: &mut Command) -> Result<Value> {
    Ok(serde_json::from_str(&output(command)?)?)
}
