//! Running a command inside a lab node.
//!
//! The calling process enters the node for good, so this is the last thing it does; who needs more starts
//! `swarmnet lab exec` as a process of its own ([`command`]).

use std::ffi::OsString;
use std::fs::File;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Command, ExitStatus};

use nix::sched::{CloneFlags, setns};
use nix::sys::signal::{SigSet, Signal};

use super::record::{Lab, NodeRecord};
use crate::error::CliError;

/// Namespaces in the order of entering: the mounts last but one, since the others are found through `/proc`.
const NAMESPACES: [(&str, CloneFlags); 5] = [
    ("uts", CloneFlags::CLONE_NEWUTS),
    ("ipc", CloneFlags::CLONE_NEWIPC),
    ("net", CloneFlags::CLONE_NEWNET),
    ("pid", CloneFlags::CLONE_NEWPID),
    ("mnt", CloneFlags::CLONE_NEWNS),
];

/// Enters the node and runs `argv` there (a shell when empty); its exit status becomes ours.
pub(crate) fn exec(lab: &Lab, node: &NodeRecord, argv: &[OsString]) -> Result<(), CliError> {
    let exe = std::env::current_exe().map_err(CliError::failure)?;
    let here = std::env::current_dir().unwrap_or_else(|_| "/".into());
    enter(node)?;
    let shell = [std::env::var_os("SHELL").unwrap_or_else(|| "/bin/sh".into())];
    let argv = if argv.is_empty() { &shell[..] } else { argv };
    let mut command = Command::new(&argv[0]);
    command
        .args(&argv[1..])
        .env("SWARMNET_SOCKET", lab.folder().socket(&node.node.name))
        .env("PATH", path_with(exe.parent()))
        .env("SWARMNET_LAB_NODE", &node.node.name)
        .current_dir(if here.is_dir() { &here } else { Path::new("/") });
    // The keyboard's signals are the command's: we only wait for it. A child starts with none blocked.
    let mut keyboard = SigSet::empty();
    keyboard.add(Signal::SIGINT);
    keyboard.add(Signal::SIGQUIT);
    keyboard.thread_block().map_err(CliError::failure)?;
    let status = command.status().map_err(|err| {
        CliError::failure(format!("cannot run {}: {err}", argv[0].to_string_lossy()))
    })?;
    pass_on(status)
}

/// This very program is found first, so that `lab exec m1 -- swarmnet …` works from a build folder.
fn path_with(dir: Option<&Path>) -> OsString {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let all = dir.map(Path::to_owned).into_iter().chain(std::env::split_paths(&path));
    std::env::join_paths(all).unwrap_or(path)
}

/// An exit status as a shell shows it: 128 + signal.
pub(crate) fn pass_on(status: ExitStatus) -> Result<(), CliError> {
    let code = status.code().or(status.signal().map(|s| 128 + s)).unwrap_or(1);
    match u8::try_from(code).unwrap_or(1) {
        0 => Ok(()),
        code => Err(CliError::Status(code)),
    }
}

/// Moves this process (and what it starts from now on) into the node. It must have one thread only.
fn enter(node: &NodeRecord) -> Result<(), CliError> {
    let pid = node.holder.pid;
    let fail = |what: &str, err: &dyn std::fmt::Display| {
        CliError::failure(format!("cannot enter node {}: {what}: {err}", node.node.name))
    };
    let mut files = Vec::new();
    for (name, flag) in NAMESPACES {
        let file = File::open(format!("/proc/{pid}/ns/{name}")).map_err(|e| fail(name, &e))?;
        files.push((name, file, flag));
    }
    for (name, file, flag) in files {
        setns(file, flag).map_err(|e| fail(name, &e))?;
    }
    Ok(())
}

/// `swarmnet lab exec LAB/NODE -- swarmnet`, ready for the words of a swarmnet command.
pub(crate) fn swarmnet(lab: &Lab, node: &str) -> Result<Command, CliError> {
    let mut command = command(lab, node)?;
    command.arg(std::env::current_exe().map_err(CliError::failure)?);
    Ok(command)
}

/// `swarmnet lab exec LAB/NODE --`, ready for any command.
pub(crate) fn command(lab: &Lab, node: &str) -> Result<Command, CliError> {
    let mut command = Command::new(std::env::current_exe().map_err(CliError::failure)?);
    command.args(["lab", "exec", &format!("{}/{node}", lab.name), "--"]);
    Ok(command)
}
