//! `swarmnet run`: a program in a sandbox of its own, in the foreground or under the node's supervision.

use std::ffi::OsString;

use clap::Args;
use swarmnet_proto::v1;
use swarmnet_types::Name;

use super::SandboxArgs;
use super::enter::{self, ProgramArgs};
use crate::client::{Daemon, request_id};
use crate::cmd::hex;
use crate::error::CliError;
use crate::format::print_line;

#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// In the background, supervised
    #[arg(short, long)]
    detach: bool,
    /// Name of the sandbox, answered by DNS
    #[arg(long, default_value = "")]
    name: String,
    #[command(flatten)]
    sandbox: SandboxArgs,
    #[command(flatten)]
    program: ProgramArgs,
    /// no, always, on-failure[:N], unless-stopped
    #[arg(long, default_value = "no")]
    restart: String,
    /// Remove the sandbox when the program has ended
    #[arg(long)]
    rm: bool,
    /// Signal that asks the program to end
    #[arg(long, default_value = "TERM")]
    stop_signal: String,
    #[arg(
        required = true,
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "COMMAND"
    )]
    argv: Vec<OsString>,
}

pub(crate) async fn run(args: RunArgs, daemon: Daemon) -> Result<(), CliError> {
    if args.detach { background(args, daemon).await } else { foreground(args, daemon).await }
}

/// The name that was given, if one was.
fn sandbox_name(name: String) -> Result<String, CliError> {
    if name.is_empty() {
        Ok(name)
    } else {
        Name::new(name).map(Into::into).map_err(CliError::usage)
    }
}

async fn background(args: RunArgs, mut daemon: Daemon) -> Result<(), CliError> {
    let mut spec = args.sandbox.into_spec()?;
    spec.name = sandbox_name(args.name)?;
    let argv = args
        .argv
        .into_iter()
        .map(OsString::into_string)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|word| CliError::usage(format!("not UTF-8: {}", word.to_string_lossy())))?;
    let request = v1::RunRequest {
        request_id: request_id(),
        spec: Some(spec),
        argv,
        env: environment(&args.program.env),
        user: args.program.user.unwrap_or_default(),
        workdir: args
            .program
            .workdir
            .map(|dir| dir.to_string_lossy().into_owned())
            .unwrap_or_default(),
        restart: args.restart,
        remove_when_done: args.rm,
        stop_signal: args.stop_signal,
    };
    let sandbox = daemon.node.run(request).await?.into_inner();
    print_line(&hex(&sandbox.id));
    Ok(())
}

/// `KEY` alone passes on the caller's value. The daemon has an environment of its own, so the caller's PATH goes along.
fn environment(words: &[String]) -> Vec<String> {
    let path = std::env::var("PATH").ok().map(|path| format!("PATH={path}"));
    let given = words.iter().filter_map(|word| {
        if word.contains('=') {
            return Some(word.clone());
        }
        std::env::var(word).ok().map(|value| format!("{word}={value}"))
    });
    path.into_iter().chain(given).collect()
}

async fn foreground(args: RunArgs, mut daemon: Daemon) -> Result<(), CliError> {
    if args.restart != "no" {
        return Err(CliError::usage(
            "--restart needs --detach: a program in the foreground is yours",
        ));
    }
    let mut spec = args.sandbox.into_spec()?;
    spec.name = sandbox_name(args.name)?;
    let request = v1::CreateSandboxRequest {
        request_id: request_id(),
        spec: Some(spec),
        owner_pid: std::process::id(),
        named: false,
    };
    let sandbox = daemon.node.create_sandbox(request).await?.into_inner();
    let result = match enter::spawn(&sandbox, &args.program, &args.argv) {
        Ok(child) => enter::wait(child).await,
        Err(err) => Err(err),
    };
    let request = v1::RemoveSandboxRequest { reference: hex(&sandbox.id), force: true };
    let removed = daemon.node.remove_sandbox(request).await;
    result.and_then(|()| Ok(removed.map(drop)?))
}
