//! `swarmnet agent …`

use std::path::Path;

use clap::{Args, Subcommand};
use swarmnet_proto::v1;
use swarmnet_types::Role;

use super::start;
use crate::client::Daemon;
use crate::error::{CliError, check_template};
use crate::format::{print_inspect, print_line};
use crate::shape;

#[derive(Debug, Subcommand)]
pub(crate) enum AgentCommand {
    /// Join a cluster; the token alone is enough
    Join(Box<start::JoinArgs>),
    /// Leave the cluster
    Leave(LeaveArgs),
    /// Show how this node's agent fares
    Status(StatusArgs),
}

#[derive(Debug, Args)]
pub(crate) struct LeaveArgs {
    /// Also when the last manager or the quorum would go, or when this manager is locked
    #[arg(short, long)]
    force: bool,
}

#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    /// `json`, or a template such as '{{.AppliedRevision}}'
    #[arg(short, long, value_name = "FORMAT")]
    format: Option<String>,
}

pub(crate) async fn run(command: AgentCommand, socket: Option<&Path>) -> Result<(), CliError> {
    match command {
        AgentCommand::Join(args) => start::join(*args, Role::Worker, socket).await,
        AgentCommand::Leave(args) => leave(&args, socket).await,
        AgentCommand::Status(args) => status(&args, socket).await,
    }
}

/// Leaves the cluster of whatever role.
pub(crate) async fn leave(args: &LeaveArgs, socket: Option<&Path>) -> Result<(), CliError> {
    let mut daemon = Daemon::connect(socket).await?;
    let request = v1::LeaveRequest { force: args.force };
    let left = daemon.membership.leave(request).await?.into_inner();
    print_line("Node left the swarm.");
    if !left.told {
        print_line("No manager has heard of it: remove this node there with `swarmnet node rm`.");
    }
    Ok(())
}

async fn status(args: &StatusArgs, socket: Option<&Path>) -> Result<(), CliError> {
    check_template(args.format.as_deref())?;
    let mut daemon = Daemon::connect(socket).await?;
    let status = daemon.node.status(v1::StatusRequest {}).await?.into_inner();
    let raft = daemon.operate.get_manager(v1::GetManagerRequest {}).await?.into_inner().raft;
    if args.format.is_some() {
        let value = shape::agent::status(&status, raft.as_ref());
        return print_inspect(&[value], args.format.as_deref());
    }
    for (name, text) in shape::agent::lines(&status, raft.as_ref()) {
        print_line(&format!("{:<18}{text}", format!("{name}:")));
    }
    Ok(())
}
