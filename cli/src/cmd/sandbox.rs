//! `swarmnet sandbox …`: network stacks for processes that something else starts.

use clap::{Args, Subcommand};
use serde_json::Value;
use swarmnet_proto::v1;
use swarmnet_types::Name;

use super::workload::{self, RmArgs, SandboxArgs};
use crate::client::{Daemon, request_id};
use crate::error::{CliError, check_template, report};
use crate::format::{Columns, ListFormat, print_inspect, print_line, print_list};
use crate::shape::sandbox;

#[derive(Debug, Subcommand)]
pub(crate) enum SandboxCommand {
    /// Create a named namespace under /run/netns, joined to networks
    Create(Box<CreateArgs>),
    /// List sandboxes
    #[command(visible_alias = "list")]
    Ls(ListFormat),
    /// Show all about sandboxes
    Inspect(InspectArgs),
    /// Remove sandboxes
    #[command(visible_alias = "remove")]
    Rm(RmArgs),
}

#[derive(Debug, Args)]
pub(crate) struct CreateArgs {
    /// Name of the sandbox and of its namespace
    name: String,
    #[command(flatten)]
    sandbox: SandboxArgs,
}

#[derive(Debug, Args)]
pub(crate) struct InspectArgs {
    #[arg(required = true, value_name = "SANDBOX")]
    references: Vec<String>,
    /// `json`, or a template such as '{{.NetworkSettings.SandboxKey}}'
    #[arg(short, long, value_name = "FORMAT")]
    format: Option<String>,
}

const COLUMNS: Columns = Columns(&[
    ("SANDBOX ID", "{{truncate .ID 12}}"),
    ("NAME", "{{.Names}}"),
    ("NETWORKS", "{{.Networks}}"),
    ("ADDRESSES", "{{.Addresses}}"),
    ("SERVICE", "{{.Service}}"),
    ("STATUS", "{{.Status}}"),
]);

pub(crate) async fn run(command: SandboxCommand, mut daemon: Daemon) -> Result<(), CliError> {
    match command {
        SandboxCommand::Create(args) => {
            let mut spec = args.sandbox.into_spec()?;
            spec.name = Name::new(args.name).map_err(CliError::usage)?.into();
            let request = v1::CreateSandboxRequest {
                request_id: request_id(),
                spec: Some(spec),
                owner_pid: 0,
                named: true,
            };
            let created = daemon.node.create_sandbox(request).await?.into_inner();
            print_line(&super::hex(&created.id));
            Ok(())
        }
        SandboxCommand::Ls(format) => {
            let rows: Vec<Value> = list(&mut daemon).await?.iter().map(sandbox::row).collect();
            print_list(&rows, COLUMNS, &format)
        }
        SandboxCommand::Inspect(args) => inspect(args, daemon).await,
        SandboxCommand::Rm(args) => workload::rm(args, &daemon).await,
    }
}

/// All sandboxes of this node, newest first.
pub(crate) async fn list(daemon: &mut Daemon) -> Result<Vec<v1::Sandbox>, CliError> {
    let answer = daemon.node.list_sandboxes(v1::ListSandboxesRequest {}).await?.into_inner();
    let mut sandboxes = answer.sandboxes;
    sandboxes.sort_by(|a, b| (b.created_ms, &a.id).cmp(&(a.created_ms, &b.id)));
    Ok(sandboxes)
}

/// One sandbox by name, id or prefix.
pub(crate) async fn find(daemon: &mut Daemon, reference: &str) -> Result<v1::Sandbox, CliError> {
    let request = v1::InspectSandboxRequest { reference: reference.to_owned() };
    Ok(daemon.node.inspect_sandbox(request).await?.into_inner())
}

async fn inspect(args: InspectArgs, mut daemon: Daemon) -> Result<(), CliError> {
    check_template(args.format.as_deref())?;
    let (mut found, mut failed) = (Vec::new(), false);
    for reference in &args.references {
        match find(&mut daemon, reference).await {
            Ok(one) => found.push(sandbox::inspect(&one)),
            Err(err) => {
                failed = true;
                report(&err);
            }
        }
    }
    print_inspect(&found, args.format.as_deref())?;
    if failed { Err(CliError::Reported) } else { Ok(()) }
}
