//! `swarmnet config …` and `swarmnet log-level`: what the running daemon is set to.

use clap::{Args, Subcommand};
use serde_json::{Value, json};
use swarmnet_proto::v1;

use crate::client::Daemon;
use crate::daemon::Levels;
use crate::error::{CliError, check_template};
use crate::format::{Columns, ListFormat, print_line, print_list};

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Show the settings in force
    Ls(ListFormat),
    /// Have the daemon read its configuration file again
    Reload,
}

#[derive(Debug, Args)]
pub(crate) struct LogLevelArgs {
    /// error, warn, info, debug, trace or off; with exceptions such as info,swarmnet_agent=debug. Without it: show the present one
    levels: Option<Levels>,
    /// Back to what flags and configuration file say
    #[arg(long, conflicts_with = "levels")]
    reset: bool,
}

const COLUMNS: Columns =
    Columns(&[("KEY", "{{.ID}}"), ("VALUE", "{{.Value}}"), ("CHANGES", "{{.Changes}}")]);

pub(crate) async fn run(command: ConfigCommand, daemon: Daemon) -> Result<(), CliError> {
    match command {
        ConfigCommand::Ls(how) => ls(&how, daemon).await,
        ConfigCommand::Reload => reload(daemon).await,
    }
}

async fn ls(how: &ListFormat, mut daemon: Daemon) -> Result<(), CliError> {
    check_template(how.format.as_deref().filter(|f| *f != "table"))?;
    let answer = daemon.operate.get_config(v1::GetConfigRequest {}).await?.into_inner();
    let row = |setting: v1::Setting| {
        let changes = if setting.live { "live" } else { "by restart" };
        json!({"ID": setting.key, "Value": setting.value, "Live": setting.live, "Changes": changes})
    };
    let rows: Vec<Value> = answer.settings.into_iter().map(row).collect();
    print_list(&rows, COLUMNS, how)
}

/// One line for each key that differs; nothing when none does.
async fn reload(mut daemon: Daemon) -> Result<(), CliError> {
    let done = daemon.operate.reload(v1::ReloadRequest {}).await?.into_inner();
    for key in &done.changed {
        print_line(&format!("{key}: changed"));
    }
    for key in &done.needs_restart {
        print_line(&format!("{key}: needs a restart"));
    }
    Ok(())
}

pub(crate) async fn log_level(args: &LogLevelArgs, mut daemon: Daemon) -> Result<(), CliError> {
    let levels = args.levels.as_ref().map(ToString::to_string).unwrap_or_default();
    let request = v1::SetLogLevelRequest { levels, reset: args.reset };
    print_line(&daemon.operate.set_log_level(request).await?.into_inner().levels);
    Ok(())
}
