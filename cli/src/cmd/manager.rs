//! `swarmnet manager …`

use std::path::Path;

use clap::Subcommand;
use swarmnet_proto::v1;
use swarmnet_types::Role;

use super::role::{self, RoleArgs};
use super::{ca, start, token, update, vault};
use crate::client::Daemon;
use crate::error::CliError;
use crate::format::{Columns, ListFormat, print_line, print_list};
use crate::shape::manager::Group;

#[derive(Debug, Subcommand)]
pub(crate) enum ManagerCommand {
    /// Make a cluster with this node as its first manager
    Init(Box<start::InitArgs>),
    /// Join a cluster as a manager; the token alone is enough
    Join(Box<start::JoinArgs>),
    /// Leave the cluster
    Leave(super::agent::LeaveArgs),
    /// Make nodes managers
    Promote(RoleArgs),
    /// Make managers workers
    Demote(RoleArgs),
    /// List the managers, and how far each has the log
    #[command(visible_alias = "list")]
    Ls(ListFormat),
    /// Show the join token of a role, and make further ones
    Token(token::TokenArgs),
    /// Show or replace the CA of the cluster
    Ca(ca::CaArgs),
    /// Unlock this manager; the key is read from the terminal or the input
    Unlock,
    /// Show the key that unlocks managers
    UnlockKey(vault::UnlockKeyArgs),
    /// Change what holds for the whole cluster
    #[command(visible_alias = "set")]
    Update(update::UpdateArgs),
    /// Write the whole state of the cluster to a file
    Backup(vault::BackupArgs),
    /// Make a cluster of one manager, this node, from a backup
    Restore(Box<vault::RestoreArgs>),
}

const COLUMNS: Columns = Columns(&[
    ("ID", "{{truncate .ID 12}}{{if .Self}} *{{end}}"),
    ("HOSTNAME", "{{.Hostname}}"),
    ("STATUS", "{{.Status}}"),
    ("MANAGER STATUS", "{{.ManagerStatus}}"),
    ("SEAT", "{{.Seat}}"),
    ("ANSWERS", "{{.Answers}}"),
    ("INDEX", "{{.Index}}"),
    ("LAG", "{{.Lag}}"),
    ("ADDRESS", "{{.Address}}"),
]);

pub(crate) async fn run(command: ManagerCommand, socket: Option<&Path>) -> Result<(), CliError> {
    match command {
        ManagerCommand::Init(args) => start::init(*args, socket).await,
        ManagerCommand::Join(args) => start::join(*args, Role::Manager, socket).await,
        ManagerCommand::Leave(args) => super::agent::leave(&args, socket).await,
        ManagerCommand::Promote(args) => {
            role::set(args, Role::Manager, Daemon::connect(socket).await?).await
        }
        ManagerCommand::Demote(args) => {
            role::set(args, Role::Worker, Daemon::connect(socket).await?).await
        }
        ManagerCommand::Ls(format) => ls(&format, Daemon::connect(socket).await?).await,
        ManagerCommand::Token(args) => token::run(args, socket).await,
        ManagerCommand::Ca(args) => ca::ca(args, socket).await,
        ManagerCommand::Unlock => vault::unlock(socket).await,
        ManagerCommand::UnlockKey(args) => vault::unlock_key(&args, socket).await,
        ManagerCommand::Update(args) => update::run(&args, socket).await,
        ManagerCommand::Backup(args) => vault::backup(&args, socket).await,
        ManagerCommand::Restore(args) => vault::restore(*args, socket).await,
    }
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
    let group = daemon.control.list_managers(v1::ListManagersRequest {}).await?.into_inner();
    let group = Group::try_from(group)?;
    print_list(&group.rows(), COLUMNS, format)?;
    if format.format.is_none() && !format.quiet {
        let Group { term, last_log, margin, .. } = group;
        print_line(&format!(
            "\nterm {term}, last entry {last_log}; {margin} more manager(s) may be lost before writes stop"
        ));
    }
    Ok(())
}
