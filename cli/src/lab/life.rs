//! `lab add|stop|start|kill|crash`: nodes and their daemons come and go.

use std::fs;

use clap::{Args, ValueEnum};
use nix::sys::signal::{Signal, kill as send};

use super::down::{end, pid, wait_gone};
use super::layout::{Kind, Node};
use super::record::{Lab, Process, split};
use super::{DEFAULT_NAME, daemons, up};
use crate::error::CliError;
use crate::format::print_line;

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum KindArg {
    Manager,
    Agent,
    Client,
}

#[derive(Debug, Args)]
pub(crate) struct AddArgs {
    kind: KindArg,
    #[arg(long = "lab", default_value = DEFAULT_NAME)]
    name: String,
}

pub(super) fn add(args: &AddArgs) -> Result<(), CliError> {
    let kind = match args.kind {
        KindArg::Manager => Kind::Manager,
        KindArg::Agent => Kind::Agent,
        KindArg::Client => Kind::Client,
    };
    let mut lab = Lab::load(&args.name)?;
    let taken: Vec<_> = lab.nodes.iter().map(|n| n.node.name.clone()).collect();
    let node = (1..=kind.count_max())
        .map(|ordinal| Node::new(kind, ordinal, &lab.underlay))
        .find(|n| n.as_ref().is_ok_and(|n| !taken.contains(&n.name)))
        .unwrap_or_else(|| Node::new(kind, kind.count_max() + 1, &lab.underlay))
        .map_err(CliError::failure)?;
    let name = node.name.clone();
    up::place(&mut lab, &node)?;
    if kind.has_daemon() {
        let manager = live_manager(&lab)?;
        let tokens = daemons::Tokens::read(&lab, &manager)?;
        daemons::output(daemons::join(&lab, &node, &tokens)?)?;
    }
    print_line(&name);
    Ok(())
}

/// A manager whose daemon runs.
fn live_manager(lab: &Lab) -> Result<String, CliError> {
    lab.nodes
        .iter()
        .filter(|n| n.node.kind == Kind::Manager)
        .find(|n| daemon(lab, &n.node.name).is_some())
        .map(|n| n.node.name.clone())
        .ok_or_else(|| CliError::failure("no manager's daemon runs, so nothing can join"))
}

/// The daemon of a node as this namespace numbers it; `None` when it does not run.
pub(super) fn daemon(lab: &Lab, node: &str) -> Option<Process> {
    let inside: u32 =
        fs::read_to_string(lab.folder().run(node).join("daemon.pid")).ok()?.trim().parse().ok()?;
    let holder = lab.node(node).ok()?.holder;
    let namespace = fs::read_link(format!("/proc/{}/ns/pid", holder.pid)).ok()?;
    let pids =
        fs::read_dir("/proc").ok()?.filter_map(|e| e.ok()?.file_name().to_str()?.parse().ok());
    pids.filter(|pid: &u32| {
        fs::read_link(format!("/proc/{pid}/ns/pid")).is_ok_and(|link| link == namespace)
    })
    .find(|pid| innermost_pid(*pid) == Some(inside))
    .and_then(Process::of)
}

/// The process's number in its own namespace: the last of the `NSpid` line (`proc(5)`).
fn innermost_pid(pid: u32) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix("NSpid:"))?;
    line.split_whitespace().last()?.parse().ok()
}

fn signal(reference: &str, signal: Signal) -> Result<(), CliError> {
    let (name, node) = split(reference);
    let lab = Lab::load(name)?;
    lab.live_node(node)?;
    let process = daemon(&lab, node)
        .ok_or_else(|| CliError::failure(format!("the daemon of {node} does not run")))?;
    send(pid(process), signal).map_err(CliError::failure)?;
    wait_gone(process)?;
    print_line(node);
    Ok(())
}

pub(super) fn stop(reference: &str) -> Result<(), CliError> {
    signal(reference, Signal::SIGTERM)
}

pub(super) fn kill(reference: &str) -> Result<(), CliError> {
    signal(reference, Signal::SIGKILL)
}

pub(super) fn start(reference: &str) -> Result<(), CliError> {
    let (name, node) = split(reference);
    let mut lab = Lab::load(name)?;
    let record = lab.node(node)?.clone();
    if !record.holder.is_alive() {
        up::place(&mut lab, &record.node)?;
    }
    if record.node.kind.has_daemon() {
        if daemon(&lab, node).is_some() {
            return Err(CliError::failure(format!("the daemon of {node} runs already")));
        }
        daemons::restart(&lab, &record.node)?;
    }
    print_line(node);
    Ok(())
}

pub(super) fn crash(reference: &str) -> Result<(), CliError> {
    let (name, node) = split(reference);
    let lab = Lab::load(name)?;
    let holder = lab.live_node(node)?.holder;
    end(holder);
    wait_gone(holder)?;
    print_line(node);
    Ok(())
}
