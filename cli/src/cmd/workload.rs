//! `swarmnet run`, `ps`, `stop`, `port`: processes in sandboxes of this node; and the arguments that `run` and
//! `sandbox create` share.

use std::net::IpAddr;

use clap::Args;
use serde_json::Value;
use swarmnet_proto::v1;
use swarmnet_types::{AttachmentSpec, HostName, Mac, Name, ResolverOption, SearchDomain, publish};

use super::refs::{each_reference, key_values};
use super::sandbox;
use crate::client::Daemon;
use crate::error::CliError;
use crate::format::{Columns, ListFormat, print_line, print_list};
use crate::shape;

mod attachment;
pub(super) mod enter;
pub(super) mod logs;
pub(super) mod run;

/// What a sandbox is joined to and how it resolves names: Docker's flags.
#[derive(Debug, Args)]
pub(crate) struct SandboxArgs {
    /// NET, NET:ip=…,alias=…, or name=NET,ip=…,ip6=…,alias=…,mac-address=…,gw-priority=N,driver-opt=k=v; repeatable
    #[arg(long = "network", visible_alias = "net", value_name = "NETWORK")]
    networks: Vec<String>,
    /// Be a task of this service
    #[arg(long, value_name = "SERVICE")]
    service: Option<Name>,
    /// IPv4 address on the first network
    #[arg(long)]
    ip: Option<std::net::Ipv4Addr>,
    /// IPv6 address on the first network
    #[arg(long)]
    ip6: Option<std::net::Ipv6Addr>,
    /// MAC address on the first network
    #[arg(long)]
    mac_address: Option<Mac>,
    /// A further name on the first network
    #[arg(long = "network-alias", visible_alias = "alias", value_name = "NAME")]
    aliases: Vec<Name>,
    /// Publish a port on this node: [IP:]HOST:PORT[/PROTOCOL]
    #[arg(short = 'p', long = "publish", value_name = "PORTS")]
    ports: Vec<String>,
    /// Host name inside
    #[arg(long, value_name = "NAME")]
    hostname: Option<HostName>,
    /// Ask this DNS server, from inside the sandbox
    #[arg(long)]
    dns: Vec<IpAddr>,
    /// Search domain (`.` for none)
    #[arg(long = "dns-search", value_name = "DOMAIN")]
    dns_search: Vec<SearchDomain>,
    /// resolv.conf option
    #[arg(long = "dns-option", visible_alias = "dns-opt", value_name = "OPTION")]
    dns_options: Vec<ResolverOption>,
    /// NAME:IP for the hosts file
    #[arg(long = "add-host", value_name = "NAME:IP")]
    extra_hosts: Vec<String>,
    /// A label
    #[arg(short = 'l', long = "label", value_name = "KEY[=VALUE]")]
    labels: Vec<String>,
}

impl SandboxArgs {
    /// The wish without a name.
    pub(crate) fn into_spec(self) -> Result<v1::SandboxSpec, CliError> {
        let mut attachments: Vec<AttachmentSpec> =
            self.networks.iter().map(|w| attachment::parse(w)).collect::<Result<_, _>>()?;
        let flat = AttachmentSpec {
            ipv4: self.ip,
            ipv6: self.ip6,
            mac: self.mac_address,
            aliases: self.aliases,
            ..AttachmentSpec::default()
        };
        attachment::merge_flat(&mut attachments, flat)?;
        let mut ports = Vec::new();
        for word in &self.ports {
            ports.extend(publish::parse(word).map_err(CliError::usage)?.iter().map(port_map));
        }
        let (mut dns, mut extra_hosts) = (Vec::new(), Vec::new());
        dns.extend(self.dns.iter().map(ToString::to_string));
        for word in &self.extra_hosts {
            extra_hosts.push(host(word)?);
        }
        Ok(v1::SandboxSpec {
            name: String::new(),
            hostname: self.hostname.map(String::from).unwrap_or_default(),
            attachments: attachments.iter().map(Into::into).collect(),
            service: self.service.map(String::from).unwrap_or_default(),
            dns,
            dns_search: self.dns_search.into_iter().map(String::from).collect(),
            dns_options: self.dns_options.into_iter().map(String::from).collect(),
            extra_hosts,
            ports,
            labels: key_values(&self.labels)?.into_iter().collect(),
        })
    }
}

fn port_map(spec: &swarmnet_types::PublishSpec) -> v1::PortMap {
    let message = v1::Publication::from(spec);
    v1::PortMap {
        host_ip: message.ip,
        host_port: message.published,
        port: message.target,
        protocol: message.protocol,
    }
}

/// `name:ip` or `name=ip`, brackets around IPv6 allowed (`sw:R7`).
fn host(word: &str) -> Result<String, CliError> {
    let bad = || CliError::usage(format!("bad format for add-host: \"{word}\""));
    let (name, ip) = word.split_once(['=', ':']).filter(|(n, _)| !n.is_empty()).ok_or_else(bad)?;
    let name: HostName = name.parse().map_err(CliError::usage)?;
    let bare = ip.strip_prefix('[').and_then(|t| t.strip_suffix(']')).unwrap_or(ip);
    let ip: IpAddr = bare
        .parse()
        .map_err(|_| CliError::usage(format!("invalid IP address in add-host: \"{ip}\"")))?;
    Ok(format!("{name}:{ip}"))
}

#[derive(Debug, Args)]
pub(crate) struct PsArgs {
    /// Also those that do not run
    #[arg(short, long)]
    all: bool,
    #[command(flatten)]
    format: ListFormat,
}

#[derive(Debug, Args)]
pub(crate) struct StopArgs {
    #[arg(required = true, value_name = "SANDBOX")]
    references: Vec<String>,
    /// Seconds before SIGKILL
    #[arg(short = 't', long = "time", default_value_t = 10)]
    grace_s: u32,
}

#[derive(Debug, Args)]
pub(crate) struct RmArgs {
    #[arg(required = true, value_name = "SANDBOX")]
    references: Vec<String>,
    /// End what runs in it first
    #[arg(short, long)]
    force: bool,
}

#[derive(Debug, Args)]
pub(crate) struct PortArgs {
    sandbox: String,
}

const COLUMNS: Columns = Columns(&[
    ("SANDBOX ID", "{{truncate .ID 12}}"),
    ("COMMAND", "{{.Command}}"),
    ("CREATED", "{{.RunningFor}}"),
    ("STATUS", "{{.Status}}"),
    ("PORTS", "{{.Ports}}"),
    ("NAME", "{{.Names}}"),
    ("NETWORKS", "{{.Networks}}"),
]);

pub(crate) async fn ps(args: PsArgs, mut daemon: Daemon) -> Result<(), CliError> {
    let rows: Vec<Value> = sandbox::list(&mut daemon)
        .await?
        .iter()
        .filter(|s| s.process.as_ref().is_some_and(|p| args.all || p.state == "running"))
        .map(shape::sandbox::row)
        .collect();
    print_list(&rows, COLUMNS, &args.format)
}

pub(crate) async fn stop(args: StopArgs, daemon: &Daemon) -> Result<(), CliError> {
    each_reference(&args.references, |reference| {
        let mut node = daemon.node.clone();
        let (shown, grace_s) = (reference.clone(), args.grace_s);
        async move {
            node.stop(v1::StopRequest { reference, grace_s }).await?;
            Ok(shown)
        }
    })
    .await
}

/// Removes sandboxes and what runs in them.
pub(crate) async fn rm(args: RmArgs, daemon: &Daemon) -> Result<(), CliError> {
    let RmArgs { references, force } = args;
    each_reference(&references, |reference| {
        let mut node = daemon.node.clone();
        let shown = reference.clone();
        async move {
            node.remove_sandbox(v1::RemoveSandboxRequest { reference, force }).await?;
            Ok(shown)
        }
    })
    .await
}

/// Docker's words: `80/tcp -> 0.0.0.0:5000`.
pub(crate) async fn port(args: PortArgs, mut daemon: Daemon) -> Result<(), CliError> {
    let found = sandbox::find(&mut daemon, &args.sandbox).await?;
    let inspected = shape::sandbox::inspect(&found);
    let ports = inspected["NetworkSettings"]["Ports"].as_object().cloned().unwrap_or_default();
    for (port, bindings) in ports {
        for binding in bindings.as_array().into_iter().flatten() {
            let text = |key: &str| binding[key].as_str().unwrap_or_default().to_owned();
            print_line(&format!("{port} -> {}:{}", text("HostIp"), text("HostPort")));
        }
    }
    Ok(())
}
