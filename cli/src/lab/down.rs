//! `lab down`: everything of a lab goes, whatever state it is in.

use std::fs;
use std::io;
use std::time::{Duration, Instant};

use clap::Args;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::DEFAULT_NAME;
use super::record::{Lab, Process, file_error, folder};
use crate::error::CliError;
use crate::format::print_line;

#[derive(Debug, Args)]
pub(crate) struct DownArgs {
    #[arg(default_value = DEFAULT_NAME)]
    name: String,
}

/// How long the kernel may take to end a killed process.
const END_MAX: Duration = Duration::from_secs(10);

pub(super) fn run(args: &DownArgs) -> Result<(), CliError> {
    match Lab::find(&args.name) {
        Ok(Some(lab)) => remove(&lab)?,
        // A record that cannot be read says nothing of processes; the folder is all that is left to remove.
        Err(_) | Ok(None) if folder(&args.name).path().exists() => remove_folder(&args.name)?,
        Ok(None) => return Err(CliError::failure(format!("no lab `{}`", args.name))),
        Err(err) => return Err(err),
    }
    print_line(&args.name);
    Ok(())
}

/// Ends every process of the lab, and with them its namespaces, links, mounts and rules; then removes its folder.
pub(super) fn remove(lab: &Lab) -> Result<(), CliError> {
    let holders: Vec<_> =
        lab.nodes.iter().map(|n| n.holder).chain(std::iter::once(lab.wire)).collect();
    for holder in &holders {
        end(*holder);
    }
    for holder in holders {
        wait_gone(holder)?;
    }
    remove_folder(&lab.name)
}

/// Kills the first process of a node: the kernel ends all others of its process namespace.
pub(super) fn end(holder: Process) {
    if holder.is_alive() {
        // Gone meanwhile is as good.
        let _ = kill(pid(holder), Signal::SIGKILL);
    }
}

pub(super) fn pid(process: Process) -> Pid {
    Pid::from_raw(i32::try_from(process.pid).unwrap_or(i32::MAX))
}

/// Waits until the kernel has ended the process.
pub(super) fn wait_gone(process: Process) -> Result<(), CliError> {
    let start = Instant::now();
    while process.is_alive() {
        if start.elapsed() > END_MAX {
            return Err(CliError::failure(format!("process {} does not end", process.pid)));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

/// Removes the folder, and the common one when it was the last.
pub(super) fn remove_folder(name: &str) -> Result<(), CliError> {
    let path = folder(name).0;
    match fs::remove_dir_all(&path) {
        Err(err) if err.kind() != io::ErrorKind::NotFound => {
            return Err(file_error("remove", &path, &err));
        }
        _ => {}
    }
    if let Some(base) = path.parent() {
        // Not empty: another lab lives there.
        drop(fs::remove_dir(base));
    }
    Ok(())
}
