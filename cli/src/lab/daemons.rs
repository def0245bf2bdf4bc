//! The daemons of a lab's nodes: started and joined by the commands that a user would type.

use std::process::{Command, Output, Stdio};

use super::enter;
use super::layout::{Kind, Node};
use super::record::Lab;
use crate::error::CliError;

/// Join tokens of both roles.
#[derive(Debug)]
pub(super) struct Tokens {
    worker: String,
    manager: String,
}

impl Tokens {
    pub(super) fn read(lab: &Lab, manager: &str) -> Result<Self, CliError> {
        let token = |role: &str| {
            let mut command = enter::swarmnet(lab, manager)?;
            command.args(["manager", "token", role, "-q"]);
            Ok::<_, CliError>(output(command)?.trim().to_owned())
        };
        Ok(Self { worker: token("worker")?, manager: token("manager")? })
    }
}

/// `swarmnet manager init` on the first manager.
pub(super) fn init(lab: &Lab, node: &str) -> Result<(), CliError> {
    let node = &lab.node(node)?.node;
    let mut command = enter::swarmnet(lab, &node.name)?;
    command.args(["manager", "init"]);
    own_place(lab, node, &mut command);
    output(command).map(drop)
}

/// `swarmnet manager|agent join <token>`, ready to be run.
pub(super) fn join(lab: &Lab, node: &Node, tokens: &Tokens) -> Result<Command, CliError> {
    let mut command = enter::swarmnet(lab, &node.name)?;
    match node.kind {
        Kind::Manager => command.args(["manager", "join", &tokens.manager]),
        Kind::Agent | Kind::Client => command.args(["agent", "join", &tokens.worker]),
    };
    own_place(lab, node, &mut command);
    Ok(command)
}

/// Starts the daemon of a node that has joined before.
pub(super) fn restart(lab: &Lab, node: &Node) -> Result<(), CliError> {
    let mut command = enter::swarmnet(lab, &node.name)?;
    command.args(["daemon", "--detach"]);
    folders(lab, node, &mut command);
    output(command).map(drop)
}

/// Folders, address and name of a node.
fn own_place(lab: &Lab, node: &Node, command: &mut Command) {
    folders(lab, node, command);
    command.args(["--name", &node.name, "--advertise-addr", &node.ipv4.to_string()]);
}

fn folders(lab: &Lab, node: &Node, command: &mut Command) {
    let folder = lab.folder();
    command.arg("--state-dir").arg(folder.state(&node.name));
    command.arg("--run-dir").arg(folder.run(&node.name));
    command.arg("--config").arg(folder.node(&node.name).join("swarmnet.toml"));
}

/// Runs a command that must succeed; its standard output.
pub(super) fn output(mut command: Command) -> Result<String, CliError> {
    let Output { status, stdout, stderr } =
        command.stdin(Stdio::null()).output().map_err(CliError::failure)?;
    if status.success() {
        return Ok(String::from_utf8_lossy(&stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&stderr).trim().to_owned();
    Err(CliError::failure(said.strip_prefix("swarmnet: ").unwrap_or(&said)))
}
