//! `swarmnet manager …`

use std::path::Path;

use clap::{Args, Subcommand};
use serde_json::Value;
use swarmnet_proto::v1;
use swarmnet_types::Role;

use super::node::statuses;
use super::{start, vault};
use crate::client::{Daemon, request_id};
use crate::error::CliError;
use crate::format::{Columns, ListFormat, print_line, print_list};
use crate::shape::node::Status;

#[derive(Debug, Subcommand)]
pub(crate) enum ManagerCommand {
    /// Make a cluster with this node as its first manager
    Init(Box<start::InitArgs>),
    /// Join a cluster as a manager; the token alone is enough
    Join(Box<start::JoinArgs>),
    /// Leave the cluster
    Leave(super::agent::LeaveArgs),
    /// List the managers
    #[command(visible_alias = "list")]
    Ls(ListFormat),
    /// Show the join token of a role
    Token(TokenArgs),
    /// Unlock this manager; the key is read from the terminal or the input
    Unlock,
    /// Show the key that unlocks managers
    UnlockKey(vault::UnlockKeyArgs),
    /// Change what holds for the whole cluster
    #[command(visible_alias = "update")]
    Set(vault::SetArgs),
    /// Write the whole state of the cluster to a file
    Backup(vault::BackupArgs),
    /// Make a cluster of one manager, this node, from a backup
    Restore(Box<vault::RestoreArgs>),
}

#[derive(Debug, Args)]
pub(crate) struct TokenArgs {
    /// worker or manager
    role: Role,
    /// Make a new one; earlier ones of this role are void
    #[arg(long)]
    rotate: bool,
    /// Print the token alone
    #[arg(short, long)]
    quiet: bool,
}

const COLUMNS: Columns = Columns(&[
    ("ID", "{{truncate .ID 12}}{{if .Self}} *{{end}}"),
    ("HOSTNAME", "{{.Hostname}}"),
    ("STATUS", "{{.Status}}"),
    ("MANAGER STATUS", "{{.ManagerStatus}}"),
    ("ADDRESS", "{{.Address}}"),
]);

pub(crate) async fn run(command: ManagerCommand, socket: Option<&Path>) -> Result<(), CliError> {
    match command {
        ManagerCommand::Init(args) => start::init(*args, socket).await,
        ManagerCommand::Join(args) => start::join(*args, Role::Manager, socket).await,
        ManagerCommand::Leave(args) => super::agent::leave(&args, socket).await,
        ManagerCommand::Ls(format) => ls(&format, Daemon::connect(socket).await?).await,
        ManagerCommand::Unlock => vault::unlock(socket).await,
        ManagerCommand::UnlockKey(args) => vault::unlock_key(&args, socket).await,
        ManagerCommand::Set(args) => vault::set(&args, socket).await,
        ManagerCommand::Backup(args) => vault::backup(&args, socket).await,
        ManagerCommand::Restore(args) => vault::restore(*args, socket).await,
        ManagerCommand::Token(args) => {
            let mut daemon = Daemon::connect(socket).await?;
            let token = token(&mut daemon, args.role, args.rotate).await?;
            if args.quiet {
                print_line(&token);
                return Ok(());
            }
            if args.rotate {
                print_line(&format!("Successfully rotated {} join token.\n", args.role));
            }
            print_line(&join_hint(args.role, &token));
            Ok(())
        }
    }
}

/// The join token of a role.
pub(super) async fn token(
    daemon: &mut Daemon,
    role: Role,
    rotate: bool,
) -> Result<String, CliError> {
    let request =
        v1::GetTokenRequest { request_id: request_id(), role: v1::Role::from(role).into(), rotate };
    Ok(daemon.control.get_token(request).await?.into_inner().token)
}

/// What one types on the machine that is to join.
pub(super) fn join_hint(role: Role, token: &str) -> String {
    let (article, noun) = match role {
        Role::Worker => ("an", "agent"),
        Role::Manager => ("a", "manager"),
    };
    format!("To add {article} {noun} to this cluster, run:\n\n    swarmnet {noun} join {token}\n")
}

async fn ls(format: &ListFormat, mut daemon: Daemon) -> Result<(), CliError> {
    let cluster = daemon.control.get_cluster(v1::GetClusterRequest {}).await?.into_inner();
    let rows: Vec<Value> = statuses(&mut daemon)
        .await?
        .iter()
        .filter(|s| s.node.role == Role::Manager)
        .map(Status::row)
        .collect();
    print_list(&rows, COLUMNS, format)?;
    if format.format.is_none() && !format.quiet {
        let quorum = cluster.managers / 2 + 1;
        let margin = cluster.reachable_managers.saturating_sub(quorum);
        print_line(&format!("\n{margin} more manager(s) may be lost before writes stop"));
    }
    Ok(())
}
