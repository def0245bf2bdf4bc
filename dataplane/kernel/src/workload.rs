//! The start of a process in a sandbox: in its network namespace, with a mount namespace of its own that shows the sandbox's
//! `/etc/resolv.conf` and `/etc/hosts` and the network devices of the sandbox in `/sys`.
//!
//! Works on a thread of its own that changes its namespaces and its user and then starts the program: the child inherits them,
//! the caller and its other threads stay where they are. Nothing runs between `fork` and `exec`.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};
use rustix::process::{Gid, Uid};
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};

use crate::error::KernelError;
use crate::netns::Netns;

/// A file that takes the place of another one for the workload alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileOverride {
    pub source: PathBuf,
    /// As the workload names it. May be a symbolic link, also one that leads nowhere (systemd-resolved's without its daemon).
    pub target: PathBuf,
}

/// What a program runs as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credentials {
    pub uid: u32,
    pub gid: u32,
    /// All of them, `gid` as well.
    pub groups: Vec<u32>,
}

/// Where and how a workload lives.
#[derive(Debug, Clone)]
pub struct Workload<'a> {
    pub netns: &'a Netns,
    pub files: &'a [FileOverride],
    /// `None`: the caller's.
    pub user: Option<&'a Credentials>,
}

impl Workload<'_> {
    /// Starts the program. Its files, environment and folder are the command's.
    ///
    /// # Errors
    /// [`KernelError::NetnsEnter`], [`KernelError::WorkloadMount`] and [`KernelError::WorkloadUser`] before,
    /// [`KernelError::WorkloadFolder`] or [`KernelError::WorkloadSpawn`] when the program itself cannot be started.
    pub fn spawn(&self, command: &mut Command) -> Result<Child, KernelError> {
        std::thread::scope(|scope| {
            let start = || {
                self.enter()?;
                self.user.map_or(Ok(()), Credentials::assume)?;
                command.spawn().map_err(|err| blame(command, err))
            };
            let thread = std::thread::Builder::new()
                .name("workload".into())
                .spawn_scoped(scope, start)
                .map_err(|err| KernelError::NetnsEnter { err })?;
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Moves the **calling thread** into the workload's namespaces, for good. For a process that is about to replace itself by the
    /// program; others use [`Workload::spawn`].
    pub fn enter(&self) -> Result<(), KernelError> {
        let fail = |err: nix::Error| KernelError::NetnsEnter { err: err.into() };
        setns(self.netns, CloneFlags::CLONE_NEWNET).map_err(fail)?;
        unshare(CloneFlags::CLONE_NEWNS).map_err(fail)?;
        let root = Path::new("/");
        // Nothing we mount may reach the host, while later mounts of the host still appear here.
        mount_at(None, root, None, MsFlags::MS_REC | MsFlags::MS_SLAVE)?;
        show_own_devices();
        self.files.iter().try_for_each(override_file)
    }
}

impl Credentials {
    /// Takes them for the **calling thread**, for good; the kernel keeps them thread by thread, and a child has its thread's.
    fn assume(&self) -> Result<(), KernelError> {
        let fail =
            |err: rustix::io::Errno| KernelError::WorkloadUser { uid: self.uid, err: err.into() };
        let groups: Vec<Gid> = self.groups.iter().map(|gid| Gid::from_raw(*gid)).collect();
        let (uid, gid) = (Uid::from_raw(self.uid), Gid::from_raw(self.gid));
        set_thread_groups(&groups).map_err(fail)?;
        set_thread_res_gid(gid, gid, gid).map_err(fail)?;
        set_thread_res_uid(uid, uid, uid).map_err(fail)
    }
}

/// A start fails in one way for a folder that cannot be entered and for a program that cannot be run.
fn blame(command: &Command, err: std::io::Error) -> KernelError {
    let folder = command.get_current_dir().filter(|path| !path.is_dir());
    match folder {
        Some(path) => KernelError::WorkloadFolder { path: path.to_owned(), err },
        None => KernelError::WorkloadSpawn { program: PathBuf::from(command.get_program()), err },
    }
}

/// `/sys/class/net` shows the devices of the namespace that mounted it. Where sysfs cannot be mounted (in some containers) the
/// workload sees the host's names there, and nothing else is lost.
fn show_own_devices() {
    let sys = Path::new("/sys");
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    let cgroup = Path::new("/sys/fs/cgroup");
    // A mount over /sys hides what is mounted below: the control groups are carried over.
    let Ok(held) = fs::File::open(cgroup) else {
        let _ = mount_at(Some("sysfs"), sys, Some("sysfs"), flags);
        return;
    };
    if mount_at(Some("sysfs"), sys, Some("sysfs"), flags).is_ok() {
        use std::os::fd::AsRawFd;
        let source = format!("/proc/thread-self/fd/{}", held.as_raw_fd());
        let _ = mount_at(Some(&source), cgroup, None, MsFlags::MS_BIND | MsFlags::MS_REC);
    }
}

fn override_file(file: &FileOverride) -> Result<(), KernelError> {
    let target = resolve(&file.target)?;
    let source = file.source.to_string_lossy();
    mount_at(Some(&source), &target, None, MsFlags::MS_BIND)
}

/// Follows symbolic links to what can be mounted over. A link that leads nowhere gets its folder and an empty file on a private
/// tmpfs, so that the host sees neither.
fn resolve(target: &Path) -> Result<PathBuf, KernelError> {
    let fail = |err| KernelError::WorkloadMount { path: target.to_owned(), err };
    match fs::canonicalize(target) {
        Err(err) if err.kind() == io::ErrorKind::NotFound => {}
        other => return other.map_err(fail),
    }
    let dir = target.parent().unwrap_or(Path::new("/"));
    let (link_dir, name) = match fs::read_link(target) {
        Ok(link) => {
            let full = dir.join(link);
            (
                full.parent().unwrap_or(Path::new("/")).to_owned(),
                full.file_name().map(PathBuf::from),
            )
        }
        Err(_) => (dir.to_owned(), target.file_name().map(PathBuf::from)),
    };
    let name = name.ok_or_else(|| fail(io::ErrorKind::InvalidInput.into()))?;
    let existing = existing_ancestor(&link_dir).map_err(fail)?;
    if existing == Path::new("/") || existing == Path::new("/etc") {
        // Hiding these behind a tmpfs would take away more than it gives.
        return Err(fail(io::ErrorKind::NotFound.into()));
    }
    mount_at(Some("tmpfs"), &existing, Some("tmpfs"), MsFlags::MS_NOSUID | MsFlags::MS_NODEV)?;
    fs::create_dir_all(&link_dir).map_err(fail)?;
    let file = link_dir.join(name);
    fs::write(&file, b"").map_err(fail)?;
    Ok(file)
}

fn existing_ancestor(path: &Path) -> io::Result<PathBuf> {
    let mut path = path;
    loop {
        match fs::canonicalize(path) {
            Ok(found) => return Ok(found),
            Err(err) if err.kind() != io::ErrorKind::NotFound => return Err(err),
            Err(err) => path = path.parent().ok_or(err)?,
        }
    }
}

fn mount_at(
    source: Option<&str>,
    target: &Path,
    kind: Option<&str>,
    flags: MsFlags,
) -> Result<(), KernelError> {
    let data: Option<&str> = None;
    mount(source, target, kind, flags, data)
        .map_err(|err| KernelError::WorkloadMount { path: target.to_owned(), err: err.into() })
}
