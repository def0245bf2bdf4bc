//! The tree of commands. Each noun is one file: its arguments and what it does.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::CliError;
use crate::client::Daemon;
use crate::lab;

mod about;
mod agent;
mod ca;
mod config;
mod events;
mod manager;
mod network;
mod node;
mod refs;
mod role;
pub(crate) mod sandbox;
mod service;
mod start;
mod token;
mod trace;
mod update;
mod vault;
mod whoami;
mod workload;

pub(crate) use network::hex;

/// Container networking across hosts: overlays that need no flooding, names that do not go stale, a port that answers on every
/// node and shows the client's own address.
#[derive(Debug, Parser)]
#[command(name = "swarmnet", version, max_term_width = 100, disable_help_subcommand = false)]
pub(crate) struct Cli {
    /// Unix socket of the daemon to talk to; else the one that SWARMNET_SOCKET names
    #[arg(long, global = true, value_name = "PATH")]
    socket: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Manage the cluster's managers and its join tokens
    #[command(subcommand)]
    Manager(manager::ManagerCommand),
    /// Join or leave a cluster, and see how this node's agent fares
    #[command(subcommand)]
    Agent(agent::AgentCommand),
    /// Manage the cluster's nodes
    #[command(subcommand)]
    Node(node::NodeCommand),
    /// Manage networks
    #[command(subcommand)]
    Network(network::NetworkCommand),
    /// Manage services and their published ports
    #[command(subcommand)]
    Service(service::ServiceCommand),
    /// Run a program in a sandbox of its own
    Run(Box<workload::run::RunArgs>),
    /// List supervised programs of this node
    Ps(workload::PsArgs),
    /// Run a program in a sandbox that exists
    Exec(workload::enter::ExecArgs),
    /// Show what a supervised program wrote
    Logs(workload::logs::LogsArgs),
    /// Stop supervised programs
    Stop(workload::StopArgs),
    /// Remove sandboxes and what runs in them
    Rm(workload::RmArgs),
    /// Show the ports of this node that lead to a sandbox
    Port(workload::PortArgs),
    /// Manage sandboxes: network stacks for programs that something else starts
    #[command(subcommand)]
    Sandbox(sandbox::SandboxCommand),
    /// Follow a packet from a sandbox of this node to a name or address, and say where its way breaks
    Trace(trace::TraceArgs),
    /// Show what happens to the cluster, as it happens
    Events(events::EventsArgs),
    /// Show the daemon's settings, or have it read them again
    #[command(subcommand)]
    Config(config::ConfigCommand),
    /// Show or set how much the daemon writes into its log, until its next reload or restart
    LogLevel(config::LogLevelArgs),
    /// Show this node and its cluster in numbers
    Info(about::FormatArgs),
    /// Show the versions of this program and of the daemon
    Version(about::FormatArgs),
    /// Write completions for a shell
    Completion(about::CompletionArgs),
    /// Write manual pages
    Man(about::ManArgs),
    /// Make a whole cluster on this machine, to try, test and show it
    #[command(subcommand)]
    Lab(lab::LabCommand),
    /// Run the daemon of this node
    Daemon(start::DaemonArgs),
    /// Hold a supervised program
    #[command(hide = true)]
    Shim { dir: PathBuf },
    /// Serve HTTP, TCP and UDP, and tell each client what address is seen
    #[command(hide = true)]
    Whoami(whoami::WhoamiArgs),
}

/// Runs one command, on a runtime of its own where it needs one.
pub(crate) fn run(cli: Cli) -> Result<(), CliError> {
    let Cli { socket, command } = cli;
    // Read here, not by clap: in a usage line it would look like a word that is required.
    let named = || std::env::var_os("SWARMNET_SOCKET").filter(|path| !path.is_empty());
    let socket = socket.or_else(|| named().map(PathBuf::from));
    match command {
        // A lab enters namespaces, which a process with threads cannot.
        Command::Lab(command) => lab::run(command),
        Command::Daemon(args) => start::daemon(&args),
        Command::Completion(args) => {
            about::completion(&args);
            Ok(())
        }
        Command::Man(args) => about::man(&args),
        Command::Shim { dir } => swarmnet_agent::shim::run(&dir).map_err(CliError::failure),
        command => runtime()?.block_on(run_async(command, socket)),
    }
}

async fn run_async(command: Command, socket: Option<PathBuf>) -> Result<(), CliError> {
    match command {
        Command::Whoami(args) => whoami::run(args).await,
        Command::Version(args) => about::version(&args, socket.as_deref()).await,
        Command::Manager(command) => manager::run(command, socket.as_deref()).await,
        Command::Agent(command) => agent::run(command, socket.as_deref()).await,
        command => with_daemon(command, socket).await,
    }
}

async fn with_daemon(command: Command, socket: Option<PathBuf>) -> Result<(), CliError> {
    let daemon = Daemon::connect(socket.as_deref()).await?;
    match command {
        Command::Node(command) => node::run(command, daemon).await,
        Command::Network(command) => network::run(command, daemon).await,
        Command::Service(command) => service::run(command, daemon).await,
        Command::Run(args) => workload::run::run(*args, daemon).await,
        Command::Ps(args) => workload::ps(args, daemon).await,
        Command::Exec(args) => workload::enter::exec(args, daemon).await,
        Command::Logs(args) => workload::logs::run(args, daemon).await,
        Command::Stop(args) => workload::stop(args, &daemon).await,
        Command::Rm(args) => workload::rm(args, &daemon).await,
        Command::Port(args) => workload::port(args, daemon).await,
        Command::Sandbox(command) => sandbox::run(command, daemon).await,
        Command::Trace(args) => trace::run(args, daemon).await,
        Command::Events(args) => events::run(args, daemon).await,
        Command::Config(command) => config::run(command, daemon).await,
        Command::LogLevel(args) => config::log_level(&args, daemon).await,
        Command::Info(args) => about::info(&args, daemon).await,
        Command::Lab(_)
        | Command::Whoami(_)
        | Command::Daemon(_)
        | Command::Version(_)
        | Command::Completion(_)
        | Command::Man(_)
        | Command::Shim { .. }
        | Command::Manager(_)
        | Command::Agent(_) => Ok(()),
    }
}

fn runtime() -> Result<tokio::runtime::Runtime, CliError> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|err| CliError::failure(format!("cannot start: {err}")))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn the_tree_of_commands_is_sound() {
        super::Cli::command().debug_assert();
    }
}
