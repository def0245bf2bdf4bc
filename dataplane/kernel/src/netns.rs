//! Network namespaces: made, opened, entered, removed.
//!
//! Entering happens only inside [`Netns::run`]: a thread of its own enters, runs a synchronous closure, and ends. So no thread of
//! the runtime is ever in another namespace, and nothing is held over an `await`. A thread costs about 40 µs.
//!
//! A [`Netns`] is an open file and keeps the namespace alive: hold it no longer than the work takes.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};

use crate::error::KernelError;

/// Where `ip netns` and systemd look for names.
pub const NAMED_DIR: &str = "/run/netns";

const SELF_PATH: &str = "/proc/thread-self/ns/net";

/// A namespace's identity: a path may come to mean another one, this does not while the namespace lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NetnsId {
    pub device: u64,
    pub inode: u64,
}

/// An open network namespace.
#[derive(Debug, Clone)]
pub struct Netns {
    file: Arc<File>,
    id: NetnsId,
}

impl Netns {
    /// The calling thread's own.
    pub fn current() -> Result<Self, KernelError> {
        Self::open(SELF_PATH)
    }

    /// Of a process.
    pub fn of_process(pid: u32) -> Result<Self, KernelError> {
        Self::open(format!("/proc/{pid}/ns/net"))
    }

    /// By name under [`NAMED_DIR`].
    pub fn named(name: &str) -> Result<Self, KernelError> {
        Self::open(Path::new(NAMED_DIR).join(name))
    }

    /// By any path that leads to a namespace file.
    ///
    /// # Errors
    /// [`KernelError::NetnsOpen`], also when the file is no namespace: what is left of one after a reboot is an empty file.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, KernelError> {
        let path = path.as_ref();
        let fail = |err| KernelError::NetnsOpen { path: path.to_owned(), err };
        let file = File::open(path).map_err(fail)?;
        let netns = Self::from_file(file).map_err(fail)?;
        if !is_nsfs(&netns.file).map_err(fail)? {
            return Err(fail(io::Error::from_raw_os_error(libc::ENOENT)));
        }
        Ok(netns)
    }

    fn from_file(file: File) -> io::Result<Self> {
        let meta = file.metadata()?;
        let id = NetnsId { device: meta.dev(), inode: meta.ino() };
        Ok(Self { file: Arc::new(file), id })
    }

    /// A new one without a name: it lives as long as this handle and what is inside.
    pub fn anonymous() -> Result<Self, KernelError> {
        let fail = |err| KernelError::NetnsCreate { path: PathBuf::from("(anonymous)"), err };
        on_thread(|| -> io::Result<Self> {
            unshare(CloneFlags::CLONE_NEWNET)?;
            Self::from_file(File::open(SELF_PATH)?)
        })
        .and_then(|made| made)
        .map_err(fail)
    }

    /// A new one, kept alive by a bind mount at `path`, as `ip netns add` does. [`NAMED_DIR`] becomes a shared mount, as there, so
    /// that names and their removal are seen in other mount namespaces; other folders are left as they are.
    ///
    /// # Errors
    /// [`KernelError::NetnsCreate`]; an existing file at `path` is EEXIST, whatever it is.
    pub fn create(path: impl AsRef<Path>) -> Result<Self, KernelError> {
        let path = path.as_ref();
        let fail = |err| KernelError::NetnsCreate { path: path.to_owned(), err };
        if let Some(dir) = path.parent() {
            fs::create_dir_all(dir).map_err(fail)?;
            if dir == Path::new(NAMED_DIR) {
                share_mount(dir).map_err(fail)?;
            }
        }
        File::options().write(true).create_new(true).open(path).map_err(fail)?;
        let made = on_thread(|| -> io::Result<Self> {
            unshare(CloneFlags::CLONE_NEWNET)?;
            let none: Option<&str> = None;
            mount(Some(SELF_PATH), path, none, MsFlags::MS_BIND, none)?;
            Self::from_file(File::open(path)?)
        });
        made.and_then(|made| made).map_err(|err| {
            // The empty file is ours: made by create_new above.
            let _ = fs::remove_file(path);
            fail(err)
        })
    }

    /// Removes the name. The namespace goes when nothing holds it: no process, socket or open file. A path that does not exist is
    /// done.
    pub fn remove(path: impl AsRef<Path>) -> Result<(), KernelError> {
        let path = path.as_ref();
        let fail = |err| KernelError::NetnsRemove { path: path.to_owned(), err };
        loop {
            match umount2(path, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW) {
                // Again: the file may be mounted over more than once.
                Ok(()) => {}
                // No mount (any more), or no file.
                Err(nix::Error::EINVAL | nix::Error::ENOENT) => break,
                Err(err) => return Err(fail(err.into())),
            }
        }
        match fs::remove_file(path) {
            Err(err) if err.kind() != io::ErrorKind::NotFound => Err(fail(err)),
            _ => Ok(()),
        }
    }

    pub const fn id(&self) -> NetnsId {
        self.id
    }

    /// Runs `work` on a thread of its own inside the namespace and waits for it. A panic inside goes on in the caller.
    ///
    /// # Errors
    /// [`KernelError::NetnsEnter`]; `work` did not run then.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T, KernelError> {
        on_thread(|| -> io::Result<T> {
            setns(self.file.as_fd(), CloneFlags::CLONE_NEWNET)?;
            Ok(work())
        })
        .and_then(|done| done)
        .map_err(|err| KernelError::NetnsEnter { err })
    }

    /// The descriptor, for messages that name a namespace. Valid as long as this handle.
    pub(crate) fn raw_fd(&self) -> RawFd {
        self.file.as_raw_fd()
    }
}

impl AsFd for Netns {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl PartialEq for Netns {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

impl Eq for Netns {}

fn on_thread<T: Send>(work: impl FnOnce() -> T + Send) -> io::Result<T> {
    std::thread::scope(|scope| {
        let thread =
            std::thread::Builder::new().name("in-netns".into()).spawn_scoped(scope, work)?;
        Ok(thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })
}

fn is_nsfs(file: &File) -> io::Result<bool> {
    const NSFS_MAGIC: i64 = 0x6e73_6673;
    Ok(nix::sys::statfs::fstatfs(file)?.filesystem_type().0 == NSFS_MAGIC)
}

/// Makes `dir` a shared mount; bind-mounts it on itself first when it is none.
fn share_mount(dir: &Path) -> io::Result<()> {
    let none: Option<&str> = None;
    let share = || mount(none, dir, none, MsFlags::MS_SHARED | MsFlags::MS_REC, none);
    match share() {
        Err(nix::Error::EINVAL) => {
            mount(Some(dir), dir, none, MsFlags::MS_BIND | MsFlags::MS_REC, none)?;
            share()?;
        }
        other => other?,
    }
    Ok(())
}
