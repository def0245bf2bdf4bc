//! `swarmnet node …`

use clap::{Args, Subcommand};
use serde_json::Value;
use swarmnet_proto::v1;
use swarmnet_types::{Availability, Role};

use super::refs::{confirm, each_reference, key_values, wait};
use super::role::{self, RoleArgs};
use crate::client::{Daemon, request_id};
use crate::error::{CliError, check_template, report};
use crate::format::{Columns, ListFormat, print_inspect, print_line, print_list};
use crate::shape::filter::Filters;
use crate::shape::node::Status;

#[derive(Debug, Subcommand)]
pub(crate) enum NodeCommand {
    /// List nodes
    #[command(visible_alias = "list")]
    Ls(LsArgs),
    /// Show all about nodes
    Inspect(InspectArgs),
    /// Change a node
    Update(UpdateArgs),
    /// Make nodes managers
    Promote(RoleArgs),
    /// Make managers workers
    Demote(RoleArgs),
    /// Remove nodes from the cluster
    #[command(visible_alias = "remove")]
    Rm(RmArgs),
}

#[derive(Debug, Args)]
pub(crate) struct LsArgs {
    #[command(flatten)]
    format: ListFormat,
    /// id=, name=, role=, label=
    #[arg(short, long = "filter", value_name = "KEY=VALUE")]
    filters: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct InspectArgs {
    /// Names, ids, or `self`
    #[arg(required = true, value_name = "NODE")]
    references: Vec<String>,
    /// `json`, or a template such as '{{.Status.State}}'
    #[arg(short, long, value_name = "FORMAT")]
    format: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct UpdateArgs {
    node: String,
    /// active, pause or drain
    #[arg(long)]
    availability: Option<Availability>,
    /// worker or manager
    #[arg(long)]
    role: Option<Role>,
    #[arg(long = "label-add", value_name = "KEY[=VALUE]")]
    label_add: Vec<String>,
    #[arg(long = "label-rm", value_name = "KEY")]
    label_rm: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct RmArgs {
    #[arg(required = true, value_name = "NODE")]
    references: Vec<String>,
    /// Also a node that is alive; it never comes back with its certificate
    #[arg(short, long)]
    force: bool,
}

const COLUMNS: Columns = Columns(&[
    ("ID", "{{truncate .ID 12}}{{if .Self}} *{{end}}"),
    ("HOSTNAME", "{{.Hostname}}"),
    ("STATUS", "{{.Status}}"),
    ("AVAILABILITY", "{{.Availability}}"),
    ("MANAGER STATUS", "{{.ManagerStatus}}"),
    ("ADDRESS", "{{.Address}}"),
    ("VERSION", "{{.EngineVersion}}"),
    ("STREAM", "{{.Stream}}"),
    ("LAG", "{{.Lag}}"),
    ("CERT UNTIL", "{{truncate .CertificateUntil 10}}"),
]);

pub(crate) async fn run(command: NodeCommand, daemon: Daemon) -> Result<(), CliError> {
    match command {
        NodeCommand::Ls(args) => ls(args, daemon).await,
        NodeCommand::Inspect(args) => inspect(args, daemon).await,
        NodeCommand::Update(args) => update(args, daemon).await,
        NodeCommand::Promote(args) => role::set(args, Role::Manager, daemon).await,
        NodeCommand::Demote(args) => role::set(args, Role::Worker, daemon).await,
        NodeCommand::Rm(args) => rm(args, &daemon).await,
    }
}

pub(super) async fn statuses(daemon: &mut Daemon) -> Result<Vec<Status>, CliError> {
    let answer = daemon.control.list_nodes(v1::ListNodesRequest {}).await?.into_inner();
    let mut nodes =
        answer.nodes.into_iter().map(Status::try_from).collect::<Result<Vec<_>, _>>()?;
    nodes.sort_by(|a, b| (&a.node.name, a.node.index).cmp(&(&b.node.name, b.node.index)));
    Ok(nodes)
}

async fn ls(args: LsArgs, mut daemon: Daemon) -> Result<(), CliError> {
    let filters = Filters::parse(&args.filters, &["id", "name", "role", "label"])?;
    let rows: Vec<Value> = statuses(&mut daemon)
        .await?
        .iter()
        .filter(|s| {
            filters.allows("id", |v| s.node.id.to_string().starts_with(v))
                && filters.allows("name", |v| s.node.name.contains(v))
                && filters.allows("role", |v| s.node.role.to_string() == v)
                && filters.labels(&s.node.labels)
        })
        .map(Status::row)
        .collect();
    print_list(&rows, COLUMNS, &args.format)
}

async fn inspect(args: InspectArgs, mut daemon: Daemon) -> Result<(), CliError> {
    check_template(args.format.as_deref())?;
    let (mut found, mut failed) = (Vec::new(), false);
    for reference in args.references {
        match daemon.control.inspect_node(v1::InspectRequest { reference }).await {
            Ok(status) => found.push(Status::try_from(status.into_inner())?.inspect()),
            Err(status) => {
                failed = true;
                report(&status.into());
            }
        }
    }
    print_inspect(&found, args.format.as_deref())?;
    if failed { Err(CliError::Reported) } else { Ok(()) }
}

async fn update(args: UpdateArgs, mut daemon: Daemon) -> Result<(), CliError> {
    let availability = args.availability.map_or(v1::Availability::Unspecified, Into::into);
    let role = args.role.map_or(v1::Role::Unspecified, Into::into);
    let request = v1::UpdateNodeRequest {
        request_id: request_id(),
        reference: args.node,
        availability: availability.into(),
        labels_add: key_values(&args.label_add)?.into_iter().collect(),
        labels_remove: args.label_rm,
        role: role.into(),
    };
    let status = Status::try_from(daemon.control.update_node(request).await?.into_inner())?;
    if args.availability.is_some() {
        wait(&mut daemon, status.node.changed.0).await?;
    }
    if let Some(role) = args.role {
        role::wait(&mut daemon, &status, role).await?;
    }
    print_line(&status.node.name);
    Ok(())
}

async fn rm(args: RmArgs, daemon: &Daemon) -> Result<(), CliError> {
    if args.force {
        confirm("A node removed by force never comes back with its certificate. Go on?", false)?;
    }
    each_reference(&args.references, |reference| {
        let mut control = daemon.control.clone();
        let (shown, force) = (reference.clone(), args.force);
        async move {
            let request_id = request_id();
            control.remove_node(v1::RemoveNodeRequest { request_id, reference, force }).await?;
            Ok(shown)
        }
    })
    .await
}
