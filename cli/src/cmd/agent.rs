//! `swarmnet agent …`

use std::path::Path;

use clap::{Args, Subcommand};
use serde_json::{Value, json};
use swarmnet_proto::v1;
use swarmnet_types::Role;

use super::{hex, start};
use crate::client::Daemon;
use crate::error::{CliError, check_template};
use crate::format::{print_inspect, print_line};
use crate::shape::stamp::rfc3339;

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
    /// Also on a manager
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
    daemon.membership.leave(v1::LeaveRequest { force: args.force }).await?;
    print_line("Node left the swarm.");
    Ok(())
}

/// In the JSON of `agent status` and `info`.
pub(super) fn certificate(own: Option<&v1::Certificate>) -> Value {
    own.map_or(Value::Null, |c| {
        json!({
            "NotBefore": rfc3339(c.not_before_ms),
            "NotAfter": rfc3339(c.not_after_ms),
            "Serial": c.serial,
            "Issuer": c.issuer,
        })
    })
}

async fn status(args: &StatusArgs, socket: Option<&Path>) -> Result<(), CliError> {
    check_template(args.format.as_deref())?;
    let mut daemon = Daemon::connect(socket).await?;
    let s = daemon.node.status(v1::StatusRequest {}).await?.into_inner();
    let role = match s.role() {
        v1::Role::Manager => "manager",
        v1::Role::Worker => "worker",
        v1::Role::Unspecified => "none",
    };
    let peers: Vec<_> = s
        .peers
        .iter()
        .map(|p| json!({"ID": hex(&p.node), "Name": p.name, "State": p.state}))
        .collect();
    let value = json!({
        "Name": s.name,
        "Version": s.version,
        "Node": hex(&s.node),
        "Cluster": hex(&s.cluster),
        "Role": role,
        "Locked": s.locked,
        "Manager": s.manager,
        "ViewRevision": s.view_revision,
        "AppliedRevision": s.applied_revision,
        "Repaired": s.repaired,
        "Sandboxes": s.sandboxes,
        "Pid": s.pid,
        "Certificate": certificate(s.certificate.as_ref()),
        "Problems": s.problems,
        "Peers": peers,
    });
    if args.format.is_some() {
        return print_inspect(&[value], args.format.as_deref());
    }
    let line = |name: &str, text: &str| print_line(&format!("{name:<18}{text}"));
    line("Name:", &s.name);
    line("Role:", role);
    if s.locked {
        line("Locked:", "yes: unlock with `swarmnet manager unlock`");
    }
    line("Node:", &hex(&s.node));
    line("Manager:", if s.manager.is_empty() { "none" } else { &s.manager });
    line("View / applied:", &format!("{} / {}", s.view_revision, s.applied_revision));
    line("Repaired:", &s.repaired.to_string());
    if let Some(certificate) = &s.certificate {
        line("Certificate:", &format!("until {}", rfc3339(certificate.not_after_ms)));
    }
    for peer in &s.peers {
        line("Peer:", &format!("{} {}", peer.name, peer.state));
    }
    for problem in &s.problems {
        line("Problem:", problem);
    }
    Ok(())
}
