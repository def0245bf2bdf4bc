//! `swarmnet version`, `info`, `completion`, `man`: what this program and this node are.

use std::path::{Path, PathBuf};

use clap::{Args, CommandFactory as _};
use serde_json::{Value, json};
use swarmnet_proto::v1;

use super::{Cli, hex, network, node};
use crate::client::Daemon;
use crate::error::{CliError, check_template};
use crate::format::{emit, print_inspect, print_line};
use crate::shape::agent;
use crate::shape::cluster::quorum_margin;
use crate::shape::stamp::{now_ms, rfc3339};

#[derive(Debug, Args)]
pub(crate) struct FormatArgs {
    /// `json`, or a template such as '{{.Server.Version}}'
    #[arg(short, long, value_name = "FORMAT")]
    format: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct CompletionArgs {
    shell: clap_complete::Shell,
}

#[derive(Debug, Args)]
pub(crate) struct ManArgs {
    /// Folder for one page of each command; without it the page of `swarmnet` goes to standard output
    #[arg(short, long, value_name = "FOLDER")]
    output: Option<PathBuf>,
}

// === version ===

/// The program's version, then the daemon's; without a daemon the command fails after the first, as Docker's does.
pub(crate) async fn version(args: &FormatArgs, socket: Option<&Path>) -> Result<(), CliError> {
    check_template(args.format.as_deref())?;
    let client = json!({
        "Version": env!("CARGO_PKG_VERSION"),
        "Os": std::env::consts::OS,
        "Arch": std::env::consts::ARCH,
    });
    let server = server_version(socket).await;
    let told = server.as_ref().map_or(Value::Null, Clone::clone);
    if args.format.is_some() {
        let both = json!({"Client": client, "Server": told});
        print_inspect(&[both], args.format.as_deref())?;
    } else {
        let of = |part: &Value, key: &str| part[key].as_str().unwrap_or_default().to_owned();
        print_line(&format!(
            "Client:  {} {}/{}",
            of(&client, "Version"),
            of(&client, "Os"),
            of(&client, "Arch")
        ));
        if server.is_ok() {
            print_line(&format!(
                "Server:  {} kernel {}",
                of(&told, "Version"),
                of(&told, "KernelVersion")
            ));
        }
    }
    server.map(drop)
}

async fn server_version(socket: Option<&Path>) -> Result<Value, CliError> {
    let mut daemon = Daemon::connect(socket).await?;
    let status = daemon.node.status(v1::StatusRequest {}).await?.into_inner();
    Ok(json!({"Version": status.version, "KernelVersion": kernel()}))
}

fn kernel() -> String {
    nix::sys::utsname::uname()
        .map(|name| name.release().to_string_lossy().into_owned())
        .unwrap_or_default()
}

// === info ===

/// This node, and the cluster as a manager tells it; what no manager tells is said, and the command fails.
pub(crate) async fn info(args: &FormatArgs, mut daemon: Daemon) -> Result<(), CliError> {
    check_template(args.format.as_deref())?;
    let status = daemon.node.status(v1::StatusRequest {}).await?.into_inner();
    let raft = daemon.operate.get_manager(v1::GetManagerRequest {}).await?.into_inner().raft;
    let cluster =
        if status.node.is_empty() { Ok(None) } else { cluster(&mut daemon).await.map(Some) };
    let told = cluster.as_ref().ok().cloned().flatten();
    let value = json!({
        "Name": status.name,
        "ServerVersion": status.version,
        "KernelVersion": kernel(),
        "Sandboxes": status.sandboxes,
        "Repaired": status.repaired,
        "Swarm": {
            "LocalNodeState": local_state(&status),
            "NodeID": hex(&status.node),
            "ControlAvailable": status.role() == v1::Role::Manager,
            "Cluster": {"ID": hex(&status.cluster)},
            "Manager": status.manager,
            "AppliedRevision": status.applied_revision,
            "Managers": told.as_ref().map(|c| c.managers),
            "Nodes": told.as_ref().map(|c| c.nodes),
            "Ready": told.as_ref().map(|c| c.ready),
            "Leader": told.as_ref().map(|c| c.leader.clone()),
            "Term": told.as_ref().map(|c| c.term),
            "Revision": told.as_ref().map(|c| c.revision),
            "QuorumMargin": told.as_ref().map(|c| c.margin),
            "Raft": agent::raft(raft.as_ref()),
            "Stream": agent::stream(&status),
            "Gossip": agent::gossip(status.gossip.as_ref()),
            "Certificate": agent::certificate(status.certificate.as_ref()),
            "CertificateUntil": status.certificate.as_ref().map(|c| rfc3339(c.not_after_ms)),
            "RootRotationInProgress": told.as_ref().map(|c| c.rotates),
            "Networks": told.as_ref().map(|c| c.networks),
            "Services": told.as_ref().map(|c| c.services),
        },
        "Warnings": status.problems,
    });
    if args.format.is_some() {
        print_inspect(&[value], args.format.as_deref())?;
    } else {
        print_info(&value, &status, raft.as_ref());
    }
    cluster.map(drop)
}

/// In Docker's words: `error` is a node whose certificate has ended.
fn local_state(status: &v1::StatusResponse) -> &'static str {
    if status.locked {
        return "locked";
    }
    match &status.certificate {
        None => "inactive",
        Some(certificate) if certificate.not_after_ms < now_ms() => "error",
        Some(_) => "active",
    }
}

/// The cluster in numbers.
#[derive(Debug, Clone)]
struct Cluster {
    managers: usize,
    nodes: usize,
    ready: usize,
    /// Its name; empty while there is none.
    leader: String,
    /// Raft's, as the manager that was asked has it.
    term: u64,
    revision: u64,
    /// Managers that may yet be lost.
    margin: u32,
    networks: usize,
    services: usize,
    /// The CA is being replaced.
    rotates: bool,
}

async fn cluster(daemon: &mut Daemon) -> Result<Cluster, CliError> {
    let nodes = node::statuses(daemon).await?;
    let networks = network::list(daemon).await?;
    let services = daemon.control.list_services(v1::ListServicesRequest {}).await?.into_inner();
    let cluster = daemon.control.get_cluster(v1::GetClusterRequest {}).await?.into_inner();
    let ca = daemon.admission.get_ca(v1::GetCaRequest {}).await?.into_inner();
    let leader = nodes.iter().find(|n| n.leader()).map(|n| n.node.name.clone());
    Ok(Cluster {
        managers: nodes.iter().filter(|n| n.node.role == swarmnet_types::Role::Manager).count(),
        ready: nodes.iter().filter(|n| n.ready()).count(),
        nodes: nodes.len(),
        leader: leader.unwrap_or_default(),
        term: cluster.term,
        revision: cluster.revision,
        margin: quorum_margin(&cluster),
        networks: networks.len(),
        services: services.services.len(),
        rotates: ca.rotation.is_some(),
    })
}

fn print_info(info: &Value, status: &v1::StatusResponse, raft: Option<&v1::RaftState>) {
    let swarm = &info["Swarm"];
    let raft = raft.map_or(Value::Null, |r| agent::raft_line(r).into());
    let gossip = status.gossip.as_ref().map_or(Value::Null, |g| agent::gossip_line(g).into());
    let line = |name: &str, value: &Value| {
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        if !value.is_null() && !text.is_empty() {
            print_line(&format!("{:<18}{text}", format!("{name}:")));
        }
    };
    line("Name", &info["Name"]);
    line("Server version", &info["ServerVersion"]);
    line("Kernel version", &info["KernelVersion"]);
    line("Sandboxes", &info["Sandboxes"]);
    line("Repaired", &info["Repaired"]);
    line("Cluster", &swarm["LocalNodeState"]);
    for (name, key) in [
        ("  Node", "NodeID"),
        ("  Is manager", "ControlAvailable"),
        ("  Manager", "Manager"),
        ("  Leader", "Leader"),
        ("  Term", "Term"),
        ("  Revision", "Revision"),
        ("  Managers", "Managers"),
        ("  May be lost", "QuorumMargin"),
        ("  Nodes", "Nodes"),
        ("  Ready", "Ready"),
        ("  Cert until", "CertificateUntil"),
        ("  CA rotation", "RootRotationInProgress"),
        ("  Networks", "Networks"),
        ("  Services", "Services"),
    ] {
        line(name, &swarm[key]);
    }
    line("  Raft", &raft);
    line("  Gossip", &gossip);
    for warning in info["Warnings"].as_array().into_iter().flatten() {
        line("Warning", warning);
    }
}

// === completion, man ===

pub(crate) fn completion(args: &CompletionArgs) {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "swarmnet", &mut script);
    emit(&String::from_utf8_lossy(&script));
}

/// # Errors
/// The folder that cannot be made or written.
pub(crate) fn man(args: &ManArgs) -> Result<(), CliError> {
    let Some(folder) = &args.output else {
        let mut page = Vec::new();
        clap_mangen::Man::new(Cli::command()).render(&mut page).map_err(CliError::failure)?;
        emit(&String::from_utf8_lossy(&page));
        return Ok(());
    };
    let failed = |err| CliError::failure(format!("man pages into {}: {err}", folder.display()));
    std::fs::create_dir_all(folder).map_err(failed)?;
    clap_mangen::generate_to(Cli::command(), folder).map_err(failed)
}
