//! `swarmnet network …`

use clap::{Args, Subcommand};
use serde_json::Value;
use swarmnet_proto::v1;
use swarmnet_types::{AttachmentSpec, Mac, Name, Network};
use tonic::Code;

use super::refs::{confirm, each_reference, key_values, wait};
use crate::client::{Daemon, request_id};
use crate::error::{CliError, check_template};
use crate::format::{Columns, ListFormat, print_inspect, print_line, print_list};
use crate::shape;

mod create;

#[derive(Debug, Subcommand)]
pub(crate) enum NetworkCommand {
    /// Create a network
    Create(Box<create::CreateArgs>),
    /// List networks
    #[command(visible_alias = "list")]
    Ls(LsArgs),
    /// Show all about networks
    Inspect(InspectArgs),
    /// Remove networks
    #[command(visible_alias = "remove")]
    Rm(RmArgs),
    /// Remove all networks that nothing uses
    Prune(PruneArgs),
    /// Connect a running sandbox to a network
    Connect(ConnectArgs),
    /// Disconnect a sandbox from a network
    Disconnect(DisconnectArgs),
}

#[derive(Debug, Args)]
pub(crate) struct LsArgs {
    #[command(flatten)]
    format: ListFormat,
    /// driver=, id=, name=, label=, scope=, type=custom|builtin
    #[arg(short, long = "filter", value_name = "KEY=VALUE")]
    filters: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct InspectArgs {
    #[arg(required = true, value_name = "NETWORK")]
    references: Vec<String>,
    /// `json`, or a template such as '{{.Driver}}'
    #[arg(short, long, value_name = "FORMAT")]
    format: Option<String>,
    /// Accepted for Docker's sake: everything is shown always
    #[arg(short, long)]
    verbose: bool,
}

#[derive(Debug, Args)]
pub(crate) struct RmArgs {
    #[arg(required = true, value_name = "NETWORK")]
    references: Vec<String>,
    /// Clear endpoints that nothing holds any more
    #[arg(short, long)]
    force: bool,
}

#[derive(Debug, Args)]
pub(crate) struct PruneArgs {
    /// Do not ask
    #[arg(short, long)]
    force: bool,
    /// label=KEY[=VALUE]
    #[arg(long = "filter", value_name = "KEY=VALUE")]
    filters: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct ConnectArgs {
    network: String,
    sandbox: String,
    /// IPv4 address
    #[arg(long)]
    ip: Option<std::net::Ipv4Addr>,
    /// IPv6 address
    #[arg(long)]
    ip6: Option<std::net::Ipv6Addr>,
    /// MAC address
    #[arg(long)]
    mac_address: Option<Mac>,
    /// A further name on this network
    #[arg(long = "alias")]
    aliases: Vec<Name>,
    /// The network with the highest wins the default route
    #[arg(long, default_value_t = 0, allow_negative_numbers = true)]
    gw_priority: i32,
    #[arg(long = "driver-opt", value_name = "KEY=VALUE")]
    driver_opts: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct DisconnectArgs {
    network: String,
    sandbox: String,
    /// Also when the sandbox is gone with its node
    #[arg(short, long)]
    force: bool,
}

const COLUMNS: Columns = Columns(&[
    ("NETWORK ID", "{{truncate .ID 12}}"),
    ("NAME", "{{.Name}}"),
    ("DRIVER", "{{.Driver}}"),
    ("SCOPE", "{{.Scope}}"),
]);
const COLUMNS_LONG: Columns = Columns(&[
    ("NETWORK ID", "{{.ID}}"),
    ("NAME", "{{.Name}}"),
    ("DRIVER", "{{.Driver}}"),
    ("SCOPE", "{{.Scope}}"),
]);

pub(crate) async fn run(command: NetworkCommand, mut daemon: Daemon) -> Result<(), CliError> {
    match command {
        NetworkCommand::Create(args) => create(*args, daemon).await,
        NetworkCommand::Ls(args) => ls(args, daemon).await,
        NetworkCommand::Inspect(args) => inspect(args, daemon).await,
        NetworkCommand::Rm(args) => rm(&args.references, args.force, &daemon).await,
        NetworkCommand::Prune(args) => prune(args, daemon).await,
        NetworkCommand::Connect(args) => {
            let request = v1::ConnectNetworkRequest {
                request_id: request_id(),
                sandbox: args.sandbox.clone(),
                attachment: Some((&attachment(args)?).into()),
            };
            daemon.node.connect_network(request).await?;
            Ok(())
        }
        NetworkCommand::Disconnect(args) => disconnect(args, &mut daemon).await,
    }
}

/// With force, a sandbox that is not here may be one of a dead node, whose endpoint the cluster still holds (`sw:C28`: by name).
async fn disconnect(args: DisconnectArgs, daemon: &mut Daemon) -> Result<(), CliError> {
    let DisconnectArgs { network, sandbox, force } = args;
    let request =
        v1::DisconnectNetworkRequest { sandbox: sandbox.clone(), network: network.clone() };
    let first = match daemon.node.disconnect_network(request).await {
        Err(status) if force && status.code() == Code::NotFound => status,
        other => return Ok(other.map(drop)?),
    };
    let (request_id, name) = (request_id(), sandbox.clone());
    let request = v1::ClearEndpointRequest { request_id, network, name };
    let Err(second) = daemon.control.clear_endpoint(request).await else { return Ok(()) };
    // Of a sandbox that is here, this node's own word is what the user asked for.
    let request = v1::InspectSandboxRequest { reference: sandbox };
    let is_here = daemon.node.inspect_sandbox(request).await.is_ok();
    Err(if is_here { first } else { second }.into())
}

fn attachment(args: ConnectArgs) -> Result<AttachmentSpec, CliError> {
    Ok(AttachmentSpec {
        network: args.network,
        ipv4: args.ip,
        ipv6: args.ip6,
        mac: args.mac_address,
        aliases: args.aliases,
        gw_priority: args.gw_priority,
        driver_opts: key_values(&args.driver_opts)?,
    })
}

async fn create(args: create::CreateArgs, mut daemon: Daemon) -> Result<(), CliError> {
    let detach = args.detach;
    let spec = args.into_spec()?;
    let request = v1::CreateNetworkRequest { request_id: request_id(), spec: Some((&spec).into()) };
    let answer = daemon.control.create_network(request).await?.into_inner();
    let network = answer.network.unwrap_or_default();
    if !detach && answer.revision > 0 {
        wait(&mut daemon, answer.revision).await?;
    }
    print_line(&hex(&network.id));
    Ok(())
}

/// The full text of an id.
pub(crate) fn hex(id: &[u8]) -> String {
    use std::fmt::Write as _;
    id.iter().fold(String::new(), |mut out, b| {
        write!(out, "{b:02x}").expect("a String takes everything");
        out
    })
}

pub(super) async fn list(daemon: &mut Daemon) -> Result<Vec<Network>, CliError> {
    let answer = daemon.control.list_networks(v1::ListNetworksRequest {}).await?.into_inner();
    let mut networks =
        answer.networks.into_iter().map(Network::try_from).collect::<Result<Vec<_>, _>>()?;
    networks.sort_by(|a, b| (&a.spec.name, a.id).cmp(&(&b.spec.name, b.id)));
    Ok(networks)
}

async fn ls(args: LsArgs, mut daemon: Daemon) -> Result<(), CliError> {
    let filters = shape::filter::Filters::parse(
        &args.filters,
        &["driver", "id", "name", "label", "scope", "type"],
    )?;
    let rows: Vec<Value> = list(&mut daemon)
        .await?
        .iter()
        .filter(|n| shape::network::matches(n, &filters))
        .map(shape::network::row)
        .collect();
    let columns = if args.format.no_trunc { COLUMNS_LONG } else { COLUMNS };
    print_list(&rows, columns, &args.format)
}

async fn inspect(args: InspectArgs, mut daemon: Daemon) -> Result<(), CliError> {
    check_template(args.format.as_deref())?;
    let (mut found, mut failed) = (Vec::new(), false);
    for reference in args.references {
        match daemon.control.inspect_network(v1::InspectRequest { reference }).await {
            Ok(detail) => found.push(shape::network::inspect(detail.into_inner())?),
            Err(status) => {
                failed = true;
                crate::error::report(&status.into());
            }
        }
    }
    print_inspect(&found, args.format.as_deref())?;
    if failed { Err(CliError::Reported) } else { Ok(()) }
}

async fn rm(references: &[String], force: bool, daemon: &Daemon) -> Result<(), CliError> {
    each_reference(references, |reference| {
        let mut control = daemon.control.clone();
        let shown = reference.clone();
        async move {
            let request_id = request_id();
            control
                .remove_network(v1::RemoveNetworkRequest { request_id, reference, force })
                .await?;
            Ok(shown)
        }
    })
    .await
}

async fn prune(args: PruneArgs, mut daemon: Daemon) -> Result<(), CliError> {
    let filters = shape::filter::Filters::parse(&args.filters, &["label"])?;
    confirm("This removes all networks that no sandbox and no service uses. Go on?", args.force)?;
    let mut removed = Vec::new();
    for network in list(&mut daemon).await? {
        let builtin = shape::network::is_builtin(&network) || network.spec.ingress;
        if builtin || !shape::network::matches(&network, &filters) {
            continue;
        }
        let reference = network.id.to_string();
        let detail = daemon
            .control
            .inspect_network(v1::InspectRequest { reference: reference.clone() })
            .await?
            .into_inner();
        if detail.endpoints.is_empty() && detail.services.is_empty() {
            let request =
                v1::RemoveNetworkRequest { request_id: request_id(), reference, force: false };
            daemon.control.remove_network(request).await?;
            removed.push(network.spec.name);
        }
    }
    if !removed.is_empty() {
        print_line("Deleted Networks:");
        for name in &removed {
            print_line(name.as_str());
        }
    }
    Ok(())
}
