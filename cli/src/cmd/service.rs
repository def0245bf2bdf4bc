//! `swarmnet service …`

use clap::{Args, Subcommand};
use serde_json::Value;
use swarmnet_proto::v1;
use swarmnet_types::service::ExternalBackend;
use swarmnet_types::{Algorithm, EndpointMode, Name, PublishSpec, Service, ServiceSpec, publish};

use super::refs::{each_reference, key_values, wait};
use crate::client::{Daemon, request_id};
use crate::error::{CliError, check_template, report};
use crate::format::{Columns, ListFormat, print_inspect, print_line, print_list};
use crate::shape::filter::Filters;
use crate::shape::service::Detail;

#[derive(Debug, Subcommand)]
pub(crate) enum ServiceCommand {
    /// Create a service: a name on networks, and published ports
    Create(CreateArgs),
    /// Publish ports: published=5000,target=80[,protocol=udp][,mode=host][,ip=ADDR][,nodes=LABEL=VALUE], or 5000:80
    Publish(PublishArgs),
    /// Take back published ports
    Unpublish(UnpublishArgs),
    /// Change a service
    Update(Box<UpdateArgs>),
    /// List services
    #[command(visible_alias = "list")]
    Ls(LsArgs),
    /// Show all about services
    Inspect(InspectArgs),
    /// List the tasks of services
    Ps(PsArgs),
    /// Add or remove backends outside the cluster
    #[command(subcommand)]
    Endpoints(EndpointsCommand),
    /// Remove services
    #[command(visible_alias = "remove")]
    Rm(RmArgs),
}

#[derive(Debug, Args)]
pub(crate) struct CreateArgs {
    /// Name of the service
    name: Name,
    /// A network it has a name on; repeatable
    #[arg(long = "network", value_name = "NETWORK")]
    networks: Vec<String>,
    /// Ports to publish; repeatable
    #[arg(short, long = "publish", value_name = "PORTS")]
    publish: Vec<String>,
    /// vip or dnsrr
    #[arg(long, default_value_t = EndpointMode::Vip)]
    endpoint_mode: EndpointMode,
    /// random, rr or sh
    #[arg(long, default_value_t = Algorithm::Random)]
    algorithm: Algorithm,
    /// A wished virtual IPv4 address
    #[arg(long)]
    vip: Option<std::net::Ipv4Addr>,
    /// A wished virtual IPv6 address
    #[arg(long)]
    vip6: Option<std::net::Ipv6Addr>,
    /// A label
    #[arg(short, long = "label", value_name = "KEY[=VALUE]")]
    labels: Vec<String>,
    /// Do not wait until every node has it
    #[arg(short, long, num_args = 0..=1, default_value_t = false, default_missing_value = "true", require_equals = true)]
    detach: bool,
}

#[derive(Debug, Args)]
pub(crate) struct PublishArgs {
    /// [SERVICE] PORTS…: without SERVICE, `svc-<published>`
    #[arg(required = true, value_name = "[SERVICE] PORTS")]
    words: Vec<String>,
    /// Do not wait until every node answers
    #[arg(short, long, num_args = 0..=1, default_value_t = false, default_missing_value = "true", require_equals = true)]
    detach: bool,
}

#[derive(Debug, Args)]
pub(crate) struct UnpublishArgs {
    /// [SERVICE] PORT[/PROTOCOL]: the published or the target port
    #[arg(required = true, num_args = 1..=2, value_name = "[SERVICE] PORT")]
    words: Vec<String>,
    /// Do not wait until every node has it
    #[arg(short, long)]
    detach: bool,
}

#[derive(Debug, Args)]
pub(crate) struct UpdateArgs {
    service: String,
    #[arg(long)]
    endpoint_mode: Option<EndpointMode>,
    #[arg(long)]
    algorithm: Option<Algorithm>,
    #[arg(long = "publish-add", value_name = "PORTS")]
    publish_add: Vec<String>,
    /// PORT[/PROTOCOL]: published or target
    #[arg(long = "publish-rm", value_name = "PORT")]
    publish_rm: Vec<String>,
    #[arg(long = "network-add", value_name = "NETWORK")]
    network_add: Vec<String>,
    #[arg(long = "network-rm", value_name = "NETWORK")]
    network_rm: Vec<String>,
    #[arg(long = "label-add", value_name = "KEY[=VALUE]")]
    label_add: Vec<String>,
    #[arg(long = "label-rm", value_name = "KEY")]
    label_rm: Vec<String>,
    /// Do not wait until every node has it
    #[arg(short, long)]
    detach: bool,
}

#[derive(Debug, Args)]
pub(crate) struct LsArgs {
    #[command(flatten)]
    format: ListFormat,
    /// id=, name=, label=
    #[arg(short, long = "filter", value_name = "KEY=VALUE")]
    filters: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct InspectArgs {
    #[arg(required = true, value_name = "SERVICE")]
    references: Vec<String>,
    /// `json`, or a template such as '{{.Endpoint.VirtualIPs}}'
    #[arg(short, long, value_name = "FORMAT")]
    format: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct PsArgs {
    #[arg(required = true, value_name = "SERVICE")]
    references: Vec<String>,
    #[command(flatten)]
    format: ListFormat,
}

#[derive(Debug, Subcommand)]
pub(crate) enum EndpointsCommand {
    /// List tasks and external backends
    Ls { service: String },
    /// Add an address outside the cluster
    Add { service: String, name: Name, addr: std::net::IpAddr },
    /// Remove one by its name
    Rm { service: String, name: String },
}

#[derive(Debug, Args)]
pub(crate) struct RmArgs {
    #[arg(required = true, value_name = "SERVICE")]
    references: Vec<String>,
}

const COLUMNS: Columns = Columns(&[
    ("ID", "{{truncate .ID 12}}"),
    ("NAME", "{{.Name}}"),
    ("MODE", "{{.Mode}}"),
    ("TASKS", "{{.Tasks}}"),
    ("PORTS", "{{.Ports}}"),
]);
const TASK_COLUMNS: Columns = Columns(&[
    ("ID", "{{truncate .ID 12}}"),
    ("NAME", "{{.Name}}"),
    ("SANDBOX", "{{.Sandbox}}"),
    ("NODE", "{{.Node}}"),
    ("CURRENT STATE", "{{.CurrentState}}"),
    ("ADDRESSES", "{{join .Addresses \", \"}}"),
]);

pub(crate) async fn run(command: ServiceCommand, mut daemon: Daemon) -> Result<(), CliError> {
    match command {
        ServiceCommand::Create(args) => create(args, daemon).await,
        ServiceCommand::Publish(args) => publish_ports(args, daemon).await,
        ServiceCommand::Unpublish(args) => unpublish(args, daemon).await,
        ServiceCommand::Update(args) => update(*args, daemon).await,
        ServiceCommand::Ls(args) => ls(args, daemon).await,
        ServiceCommand::Inspect(args) => inspect(args, daemon).await,
        ServiceCommand::Ps(args) => ps(args, daemon).await,
        ServiceCommand::Endpoints(command) => endpoints(command, &mut daemon).await,
        ServiceCommand::Rm(args) => rm(args, &daemon).await,
    }
}

fn parse_ports<'a>(
    words: impl IntoIterator<Item = &'a String>,
) -> Result<Vec<PublishSpec>, CliError> {
    let mut specs = Vec::new();
    for word in words {
        specs.extend(publish::parse(word).map_err(CliError::usage)?);
    }
    Ok(specs)
}

async fn create(args: CreateArgs, mut daemon: Daemon) -> Result<(), CliError> {
    let spec = ServiceSpec {
        name: args.name,
        networks: args.networks,
        endpoint_mode: args.endpoint_mode,
        algorithm: args.algorithm,
        vip: swarmnet_types::DualStack::new(args.vip, args.vip6),
        publish: parse_ports(&args.publish)?,
        labels: key_values(&args.labels)?,
    };
    let request = v1::CreateServiceRequest { request_id: request_id(), spec: Some((&spec).into()) };
    let answer = daemon.control.create_service(request).await?.into_inner();
    let service = finish(&mut daemon, answer, args.detach).await?.0;
    print_line(&service.id.to_string());
    Ok(())
}

/// Waits unless told not to, and shows warnings.
async fn finish(
    daemon: &mut Daemon,
    answer: v1::ServiceResponse,
    detach: bool,
) -> Result<(Service, bool), CliError> {
    if !detach && answer.revision > 0 {
        wait(daemon, answer.revision).await?;
    }
    answer.warnings.iter().for_each(|w| eprintln!("swarmnet: warning: {w}"));
    let service =
        answer.service.ok_or_else(|| swarmnet_proto::Malformed::new("service", "missing"))?;
    Ok((Service::try_from(service)?, answer.created))
}

/// `publish [SERVICE] PORTS…`: the first word is a service when it cannot be ports.
fn split_service(words: &[String]) -> (Option<&String>, &[String]) {
    match words.split_first() {
        Some((first, rest)) if publish::parse(first).is_err() && !rest.is_empty() => {
            (Some(first), rest)
        }
        _ => (None, words),
    }
}

async fn publish_ports(args: PublishArgs, mut daemon: Daemon) -> Result<(), CliError> {
    let (service, words) = split_service(&args.words);
    let specs = parse_ports(words)?;
    let request = v1::PublishRequest {
        request_id: request_id(),
        service: service.cloned().unwrap_or_default(),
        publications: specs.iter().map(Into::into).collect(),
    };
    let answer = daemon.control.publish(request).await?.into_inner();
    let (service, created) = finish(&mut daemon, answer, args.detach).await?;
    for port in &service.publications {
        let wanted = specs.iter().any(|s| {
            s.target == port.target
                && s.protocol == port.protocol
                && s.published.is_none_or(|p| p == port.published)
        });
        if wanted {
            print_line(&format!("{}: {port}", service.name));
        }
    }
    if created {
        print_line(&format!(
            "tasks join it with: swarmnet run -d --service {} --network NETWORK -- COMMAND",
            service.name
        ));
    }
    Ok(())
}

async fn unpublish(args: UnpublishArgs, mut daemon: Daemon) -> Result<(), CliError> {
    let (service, port) = match args.words.as_slice() {
        [service, port] => (service.clone(), port.clone()),
        [port] => (String::new(), port.clone()),
        _ => return Err(CliError::usage("want [SERVICE] PORT")),
    };
    let request = v1::UnpublishRequest { request_id: request_id(), service, port };
    let answer = daemon.control.unpublish(request).await?.into_inner();
    let service = finish(&mut daemon, answer, args.detach).await?.0;
    print_line(service.name.as_str());
    Ok(())
}

async fn update(args: UpdateArgs, mut daemon: Daemon) -> Result<(), CliError> {
    let algorithm = args.algorithm.map_or(v1::Algorithm::Unspecified, Into::into);
    let mode = args.endpoint_mode.map_or(v1::EndpointMode::Unspecified, Into::into);
    let request = v1::UpdateServiceRequest {
        request_id: request_id(),
        reference: args.service,
        algorithm: algorithm.into(),
        endpoint_mode: mode.into(),
        labels_add: key_values(&args.label_add)?.into_iter().collect(),
        labels_remove: args.label_rm,
        publish_add: parse_ports(&args.publish_add)?.iter().map(Into::into).collect(),
        publish_remove: args.publish_rm,
        networks_add: args.network_add,
        networks_remove: args.network_rm,
    };
    let answer = daemon.control.update_service(request).await?.into_inner();
    let service = finish(&mut daemon, answer, args.detach).await?.0;
    print_line(service.name.as_str());
    Ok(())
}

async fn ls(args: LsArgs, mut daemon: Daemon) -> Result<(), CliError> {
    let filters = Filters::parse(&args.filters, &["id", "name", "label"])?;
    let answer = daemon.control.list_services(v1::ListServicesRequest {}).await?.into_inner();
    let mut details =
        answer.services.into_iter().map(Detail::try_from).collect::<Result<Vec<_>, _>>()?;
    details.sort_by(|a, b| a.service.name.cmp(&b.service.name));
    let rows: Vec<Value> = details
        .iter()
        .filter(|d| {
            filters.allows("id", |v| d.service.id.to_string().starts_with(v))
                && filters.allows("name", |v| d.service.name.as_str().contains(v))
                && filters.labels(&d.service.labels)
        })
        .map(Detail::row)
        .collect();
    print_list(&rows, COLUMNS, &args.format)
}

async fn detail(daemon: &mut Daemon, reference: &str) -> Result<Detail, CliError> {
    let request = v1::InspectRequest { reference: reference.to_owned() };
    Ok(daemon.control.inspect_service(request).await?.into_inner().try_into()?)
}

async fn inspect(args: InspectArgs, mut daemon: Daemon) -> Result<(), CliError> {
    check_template(args.format.as_deref())?;
    let (mut found, mut failed) = (Vec::new(), false);
    for reference in &args.references {
        match detail(&mut daemon, reference).await {
            Ok(detail) => found.push(detail.inspect()),
            Err(err) => {
                failed = true;
                report(&err);
            }
        }
    }
    print_inspect(&found, args.format.as_deref())?;
    if failed { Err(CliError::Reported) } else { Ok(()) }
}

async fn ps(args: PsArgs, mut daemon: Daemon) -> Result<(), CliError> {
    let mut rows = Vec::new();
    for reference in &args.references {
        rows.extend(detail(&mut daemon, reference).await?.task_rows());
    }
    print_list(&rows, TASK_COLUMNS, &args.format)
}

async fn endpoints(command: EndpointsCommand, daemon: &mut Daemon) -> Result<(), CliError> {
    let (service, add, remove) = match command {
        EndpointsCommand::Ls { service } => {
            let detail = detail(daemon, &service).await?;
            let mut rows = detail.task_rows();
            rows.extend(detail.service.externals.iter().map(|b| {
                serde_json::json!({
                    "ID": "external", "Name": b.name.as_str(), "Sandbox": "", "Node": "",
                    "CurrentState": "external", "Addresses": [b.addr.to_string()],
                })
            }));
            return print_list(&rows, TASK_COLUMNS, &ListFormat::default());
        }
        EndpointsCommand::Add { service, name, addr } => {
            (service, vec![(&ExternalBackend { name, addr }).into()], vec![])
        }
        EndpointsCommand::Rm { service, name } => (service, vec![], vec![name]),
    };
    let request = v1::ChangeBackendsRequest { request_id: request_id(), service, add, remove };
    let answer = daemon.control.change_backends(request).await?.into_inner();
    let service = finish(daemon, answer, false).await?.0;
    print_line(service.name.as_str());
    Ok(())
}

async fn rm(args: RmArgs, daemon: &Daemon) -> Result<(), CliError> {
    each_reference(&args.references, |reference| {
        let mut control = daemon.control.clone();
        let shown = reference.clone();
        async move {
            let request_id = request_id();
            control.remove_service(v1::RemoveServiceRequest { request_id, reference }).await?;
            Ok(shown)
        }
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_word_is_a_service_when_it_is_no_port() {
        let split = |line: &str| {
            let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
            let (service, ports) = split_service(&words);
            (service.cloned(), ports.len())
        };
        assert_eq!(split("web published=5000,target=80"), (Some("web".into()), 1));
        assert_eq!(split("published=5000,target=80,mode=host"), (None, 1));
        assert_eq!(split("5000:80 5001:81"), (None, 2));
        assert_eq!(split("web 5000:80 5001:81"), (Some("web".into()), 2));
        assert_eq!(split("web"), (None, 1));
    }
}
