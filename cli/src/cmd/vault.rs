//! `swarmnet manager unlock|unlock-key|backup|restore`, and `manager init --force-new-cluster`: what protects the cluster's
//! state, and brings it back.

use std::fs;
use std::io::{self, BufRead as _, IsTerminal as _};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use clap::Args;
use nix::sys::termios::{self, LocalFlags, SetArg};
use swarmnet_manager::raft::backup;
use swarmnet_proto::v1;
use tonic::{Response, Status};

use super::{hex, start};
use crate::client::{Daemon, request_id};
use crate::daemon;
use crate::error::CliError;
use crate::format::print_line;

const CHUNK_BYTES: usize = 1 << 20;
const BACKUP_MODE: u32 = 0o600;

#[derive(Debug, Args)]
pub(crate) struct UnlockKeyArgs {
    /// Print the key alone
    #[arg(short, long)]
    quiet: bool,
    /// Make a new one; managers that are not running now need the old one once more
    #[arg(long)]
    rotate: bool,
}

#[derive(Debug, Args)]
pub(crate) struct BackupArgs {
    /// File to write; one that is there is replaced when the new one is whole
    file: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct RestoreArgs {
    /// What `manager backup` wrote
    file: PathBuf,
    #[command(flatten)]
    place: start::PlaceArgs,
}

/// What the operator must keep.
pub(super) fn key_hint(key: &str) -> String {
    format!(
        "To unlock a swarm manager after it restarts, run the `swarmnet manager unlock`\ncommand and provide the following key:\n\n    {key}\n\nPlease remember to store this key in a password manager, since without it you\nwill not be able to restart the manager."
    )
}

pub(super) async fn unlock(socket: Option<&Path>) -> Result<(), CliError> {
    let mut daemon = Daemon::connect(socket).await?;
    let status = daemon.node.status(v1::StatusRequest {}).await?.into_inner();
    // Said before anybody types a key.
    if status.node.is_empty() {
        return Err(CliError::failure(daemon::NO_CLUSTER));
    }
    if !status.locked {
        return Err(CliError::failure(daemon::NOT_LOCKED));
    }
    let key = read_key()?;
    daemon.recovery.unlock(v1::UnlockRequest { key }).await?;
    Ok(())
}

pub(super) async fn unlock_key(
    args: &UnlockKeyArgs,
    socket: Option<&Path>,
) -> Result<(), CliError> {
    let mut daemon = Daemon::connect(socket).await?;
    let answer = if args.rotate {
        let request = v1::RotateUnlockKeyRequest { request_id: request_id() };
        daemon.vault.rotate_unlock_key(request).await?
    } else {
        daemon.vault.get_unlock_key(v1::GetUnlockKeyRequest {}).await?
    };
    let key = answer.into_inner().key;
    if key.is_empty() {
        return Err(CliError::failure("no unlock key is set"));
    }
    if args.quiet {
        print_line(&key);
        return Ok(());
    }
    if args.rotate {
        print_line("Successfully rotated manager unlock key.\n");
    }
    print_line(&key_hint(&key));
    Ok(())
}

/// Managers lock when they start, or no longer do. What the operator must keep from now on, if that is new.
pub(super) async fn set_autolock(
    daemon: &mut Daemon,
    on: bool,
) -> Result<Option<String>, CliError> {
    let before = daemon.vault.get_unlock_key(v1::GetUnlockKeyRequest {}).await?.into_inner().key;
    let request = v1::SetAutolockRequest { request_id: request_id(), on };
    let key = daemon.vault.set_autolock(request).await?.into_inner().key;
    Ok((before.is_empty() && !key.is_empty()).then(|| key_hint(&key)))
}

pub(super) async fn backup(args: &BackupArgs, socket: Option<&Path>) -> Result<(), CliError> {
    let mut daemon = Daemon::connect(socket).await?;
    let mut chunks = daemon.vault.backup(v1::BackupRequest {}).await?.into_inner();
    let mut bytes = Vec::new();
    while let Some(chunk) = chunks.message().await? {
        bytes.extend_from_slice(&chunk.data);
    }
    // What was cut on the way must not replace a good file.
    let locked = backup::is_locked(&bytes).map_err(CliError::failure)?;
    swarmnet_pki::replace(&args.file, &bytes, BACKUP_MODE)
        .map_err(|err| CliError::failure(format!("cannot write {}: {err}", args.file.display())))?;
    let guard = if locked {
        "it opens with the unlock key of this moment only"
    } else {
        "whoever can read it can be a manager: keep it safe"
    };
    print_line(&format!("{} bytes in {}; {guard}.", bytes.len(), args.file.display()));
    Ok(())
}

pub(super) async fn restore(args: RestoreArgs, given: Option<&Path>) -> Result<(), CliError> {
    let RestoreArgs { file, place } = args;
    let bytes = fs::read(&file)
        .map_err(|err| CliError::failure(format!("cannot read {}: {err}", file.display())))?;
    // Before a daemon is started for nothing.
    let locked = backup::is_locked(&bytes)
        .map_err(|err| CliError::failure(format!("{}: {err}", file.display())))?;
    let unlock_key = if locked { read_key()? } else { String::new() };
    let mut running = start::ensure(given, place.folders()).await?;
    let mut rest = Bytes::from(bytes);
    let mut requests = Vec::new();
    while !rest.is_empty() {
        let data = rest.split_to(rest.len().min(CHUNK_BYTES));
        requests.push(v1::RestoreRequest { data, ..v1::RestoreRequest::default() });
    }
    if let Some(first) = requests.first_mut() {
        first.place = Some(place.request());
        first.unlock_key = unlock_key;
    }
    let sent = tokio_stream::iter(requests);
    let revived = running.daemon.recovery.restore(sent).await;
    told(running, "restored", revived, place.is_foreground())
}

pub(super) async fn force_new_cluster(
    place: start::PlaceArgs,
    given: Option<&Path>,
) -> Result<(), CliError> {
    let mut running = start::ensure(given, place.folders()).await?;
    let revived = running.daemon.recovery.force_new_cluster(place.request()).await;
    told(running, "initialized", revived, place.is_foreground())
}

/// What became of it, for the operator; with `--foreground` until the daemon ends.
fn told(
    running: start::Running,
    how: &str,
    revived: Result<Response<v1::RecoveryResponse>, Status>,
    foreground: bool,
) -> Result<(), CliError> {
    let revived = match revived {
        Ok(answer) => answer.into_inner(),
        Err(status) => return Err(running.give_up(status)),
    };
    print_line(&format!(
        "Swarm {how}: current node ({}) is now its only manager.",
        hex(&revived.node)
    ));
    print_line(&others_hint(&revived.others));
    running.stay(foreground)
}

fn others_hint(others: &[String]) -> String {
    if others.is_empty() {
        return "Agents come back by themselves.".to_owned();
    }
    format!(
        "Agents come back by themselves. No managers any more: {}. On each that is still there, run `swarmnet manager leave --force`, then join it again; remove the others with `swarmnet node rm --force`.",
        others.join(", ")
    )
}

/// From the terminal, which does not show it, or from the input.
fn read_key() -> Result<String, CliError> {
    let input = io::stdin();
    let fail = |err: io::Error| CliError::failure(format!("cannot read the unlock key: {err}"));
    let mut key = String::new();
    if !input.is_terminal() {
        input.lock().read_line(&mut key).map_err(fail)?;
        return Ok(key.trim().to_owned());
    }
    eprint!("Please enter unlock key: ");
    let shown = termios::tcgetattr(&input).map_err(|err| fail(err.into()))?;
    let mut hidden = shown.clone();
    hidden.local_flags.remove(LocalFlags::ECHO);
    termios::tcsetattr(&input, SetArg::TCSANOW, &hidden).map_err(|err| fail(err.into()))?;
    let read = input.lock().read_line(&mut key);
    // The terminal is the user's again, whatever was read.
    termios::tcsetattr(&input, SetArg::TCSANOW, &shown).map_err(|err| fail(err.into()))?;
    eprintln!();
    read.map_err(fail)?;
    Ok(key.trim().to_owned())
}
