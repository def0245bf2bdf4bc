//! `lab up`: namespaces and links first, then the daemons by the commands that a user would type.

use std::fs;
use std::process::{Child, Command, Stdio};

use clap::Args;
use ipnet::Ipv4Net;
use swarmnet_types::Name;

use super::layout::{Kind, Node, Underlay};
use super::record::{Lab, NodeRecord, file_error, folder};
use super::{DEFAULT_NAME, daemons, down, hold, status, wire};
use crate::error::CliError;
use crate::format::ListFormat;

#[derive(Debug, Clone, Args)]
pub(crate) struct UpArgs {
    /// Name of the lab
    #[arg(default_value = DEFAULT_NAME)]
    pub(super) name: Name,
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=40))]
    pub(super) managers: u8,
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(0..=50))]
    pub(super) agents: u8,
    /// Outsiders without a daemon
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(0..=150))]
    pub(super) clients: u8,
    /// Give the underlay IPv6 as well
    #[arg(long)]
    pub(super) ipv6: bool,
    /// MTU of the underlay
    #[arg(long, default_value_t = 1_500)]
    pub(super) mtu: u32,
    #[arg(long, default_value = "192.0.2.0/24")]
    pub(super) underlay: Ipv4Net,
    /// Remove what is left of a lab of this name first
    #[arg(long)]
    pub(super) force: bool,
}

pub(super) fn run(args: &UpArgs) -> Result<(), CliError> {
    let lab = make(args)?;
    status::print(&lab, &ListFormat::default())
}

/// Makes the lab; what was made is removed again when a step fails.
pub(super) fn make(args: &UpArgs) -> Result<Lab, CliError> {
    let underlay = Underlay::new(args.underlay, args.ipv6, args.mtu).map_err(CliError::usage)?;
    refuse_existing(args.name.as_str(), args.force)?;
    let path = folder(args.name.as_str()).0;
    fs::create_dir_all(&path).map_err(|err| file_error("make", &path, &err))?;
    let wire_dir = path.join("underlay");
    fs::create_dir_all(&wire_dir).map_err(|err| file_error("make", &wire_dir, &err))?;
    let wire = hold::spawn("underlay", &wire_dir)?;
    let mut lab = Lab::new(args.name.as_str(), underlay, wire);
    build(&mut lab, args).inspect_err(|_| {
        // The error that is returned says what failed; this only cleans up after it.
        drop(down::remove(&lab));
    })?;
    Ok(lab)
}

fn refuse_existing(name: &str, force: bool) -> Result<(), CliError> {
    let found = Lab::find(name);
    match &found {
        Ok(None) if !folder(name).path().exists() => return Ok(()),
        Ok(Some(lab)) if force => return down::remove(lab),
        _ if force => return down::remove_folder(name),
        _ => {}
    }
    let dead: Vec<_> = match &found {
        Ok(Some(lab)) => lab
            .nodes
            .iter()
            .filter(|n| !n.holder.is_alive())
            .map(|n| n.node.name.as_str())
            .collect(),
        _ => vec!["all of it"],
    };
    Err(CliError::failure(if dead.is_empty() {
        format!("lab `{name}` is up already: remove it with `swarmnet lab down {name}`")
    } else {
        format!(
            "lab `{name}` is half dead ({}): `swarmnet lab up {name} --force` removes and makes it anew",
            dead.join(", ")
        )
    }))
}

fn build(lab: &mut Lab, args: &UpArgs) -> Result<(), CliError> {
    lab.save()?;
    wire::make(lab.wire, &lab.underlay)?;
    for (kind, count) in
        [(Kind::Manager, args.managers), (Kind::Agent, args.agents), (Kind::Client, args.clients)]
    {
        for ordinal in 1..=count {
            let node = Node::new(kind, ordinal, &lab.underlay).map_err(CliError::usage)?;
            place(lab, &node)?;
        }
    }
    daemons::init(lab, "m1")?;
    let (mut joins, tokens) = (Vec::new(), daemons::Tokens::read(lab, "m1")?);
    for NodeRecord { node, .. } in lab.nodes.iter().filter(|n| n.node.kind.has_daemon()) {
        if node.name != "m1" {
            joins.push((node.name.clone(), start(daemons::join(lab, node, &tokens)?)?));
        }
    }
    joins.into_iter().try_for_each(|(name, child)| finish(&name, child))
}

/// Makes a node's namespaces and plugs it in.
pub(super) fn place(lab: &mut Lab, node: &Node) -> Result<(), CliError> {
    let dir = lab.folder().node(&node.name);
    fs::create_dir_all(&dir).map_err(|err| file_error("make", &dir, &err))?;
    let holder = hold::spawn(&node.name, &dir)?;
    lab.nodes.retain(|n| n.node.name != node.name);
    lab.nodes.push(NodeRecord { node: node.clone(), holder });
    lab.save()?;
    wire::plug(lab, node, holder)
}

fn start(mut command: Command) -> Result<Child, CliError> {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(CliError::failure)
}

fn finish(node: &str, child: Child) -> Result<(), CliError> {
    let out = child.wait_with_output().map_err(CliError::failure)?;
    if out.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&out.stderr).trim().replace('\n', "; ");
    Err(CliError::failure(format!("node {node} did not join: {said}")))
}
