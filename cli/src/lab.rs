//! `swarmnet lab …`: a whole cluster on this machine, each node in namespaces of its own, joined by the real commands. It is the
//! demonstration, the harness of the end-to-end tests, and a playground: one code.
//!
//! Nothing outside the lab's namespaces and folder changes. No runtime: entering a node needs a process of one thread.

use std::ffi::OsString;

use clap::{Args, Subcommand};

use crate::error::CliError;
use crate::format::ListFormat;

mod daemons;
mod demo;
mod down;
mod enter;
mod faults;
mod hold;
mod layout;
mod life;
mod record;
mod status;
mod up;
mod wire;

use record::{Lab, split};

/// The lab that commands mean when none is named.
const DEFAULT_NAME: &str = "lab";

#[derive(Debug, Subcommand)]
pub(crate) enum LabCommand {
    /// Make a lab: a cluster of nodes m1…, a1…, and outsiders c1…
    Up(up::UpArgs),
    /// Remove a lab with everything in it
    Down(down::DownArgs),
    /// Show a lab's nodes
    Status(StatusArgs),
    /// Run a command in a node; without one, a shell
    Exec(ExecArgs),
    /// Add a node: manager, agent or client
    Add(life::AddArgs),
    /// End a node's daemon with SIGTERM
    Stop(NodeArgs),
    /// Start a node's daemon, and the node itself when it has crashed
    Start(NodeArgs),
    /// End a node's daemon with SIGKILL; what runs on the node goes on
    Kill(NodeArgs),
    /// End a node with all that runs on it
    Crash(NodeArgs),
    /// Drop everything between two nodes, or between one and all others
    Cut(faults::CutArgs),
    /// Undo cuts: of two nodes, of one, or all
    Heal(faults::HealArgs),
    /// Delay what a node sends (needs netem in the kernel)
    Delay(faults::DelayArgs),
    /// Lose a part of what a node sends (needs netem in the kernel)
    Loss(faults::LossArgs),
    /// Show a daemon's log
    Logs(LogsArgs),
    /// Show a node's packets (needs tcpdump)
    Capture(CaptureArgs),
    /// Show all of it in a minute: a cluster, names, published ports, a death
    Demo(demo::DemoArgs),
    #[command(hide = true)]
    Hold(hold::HoldArgs),
}

#[derive(Debug, Args)]
pub(crate) struct NodeArgs {
    /// [LAB/]NODE
    node: String,
}

#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    #[arg(default_value = DEFAULT_NAME)]
    name: String,
    #[command(flatten)]
    format: ListFormat,
}

#[derive(Debug, Args)]
pub(crate) struct ExecArgs {
    /// [LAB/]NODE
    node: String,
    #[arg(last = true, value_name = "COMMAND")]
    argv: Vec<OsString>,
}

#[derive(Debug, Args)]
pub(crate) struct LogsArgs {
    /// [LAB/]NODE
    node: String,
    /// Go on as more is written
    #[arg(short, long)]
    follow: bool,
}

#[derive(Debug, Args)]
pub(crate) struct CaptureArgs {
    /// [LAB/]NODE
    node: String,
    /// tcpdump's words
    #[arg(last = true, value_name = "FILTER")]
    filter: Vec<OsString>,
}

pub(crate) fn run(command: LabCommand) -> Result<(), CliError> {
    match command {
        LabCommand::Up(args) => up::run(&args),
        LabCommand::Down(args) => down::run(&args),
        LabCommand::Status(args) => status::run(&args.name, &args.format),
        LabCommand::Exec(args) => exec(&args.node, &args.argv),
        LabCommand::Add(args) => life::add(&args),
        LabCommand::Stop(args) => life::stop(&args.node),
        LabCommand::Start(args) => life::start(&args.node),
        LabCommand::Kill(args) => life::kill(&args.node),
        LabCommand::Crash(args) => life::crash(&args.node),
        LabCommand::Cut(args) => faults::cut(&args),
        LabCommand::Heal(args) => faults::heal(&args),
        LabCommand::Delay(args) => faults::delay(&args),
        LabCommand::Loss(args) => faults::loss(&args),
        LabCommand::Logs(args) => {
            let (name, node) = split(&args.node);
            let lab = Lab::load(name)?;
            let log = lab.folder().log(&lab.node(node)?.node.name);
            let follow: &[&str] = if args.follow { &["-F"] } else { &[] };
            run_here("tail", &[&["-n", "+1"], follow].concat(), log.as_os_str())
        }
        LabCommand::Capture(args) => {
            let tcpdump = ["tcpdump", "-n", "-l", "-i", "any"].map(OsString::from);
            exec(&args.node, &[&tcpdump[..], &args.filter].concat())
        }
        LabCommand::Demo(args) => demo::run(&args),
        LabCommand::Hold(args) => hold::run(&args),
    }
}

fn exec(reference: &str, argv: &[OsString]) -> Result<(), CliError> {
    let (name, node) = split(reference);
    let lab = Lab::load(name)?;
    enter::exec(&lab, lab.live_node(node)?, argv)
}

fn run_here(program: &str, words: &[&str], file: &std::ffi::OsStr) -> Result<(), CliError> {
    let status = std::process::Command::new(program)
        .args(words)
        .arg(file)
        .status()
        .map_err(|err| CliError::failure(format!("cannot run {program}: {err}")))?;
    enter::pass_on(status)
}
