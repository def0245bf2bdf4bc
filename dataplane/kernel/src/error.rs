//! What can go wrong between us and the kernel.

use std::fmt;
use std::io;
use std::path::PathBuf;

use crate::netlink::Protocol;

/// The kernel's answer to a request it did not carry out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Positive.
    pub errno: i32,
    /// The kernel's own words (extended acknowledgement), when it had any.
    pub detail: Option<String>,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        io::Error::from_raw_os_error(self.errno).fmt(f)?;
        match &self.detail {
            Some(detail) => write!(f, ": {detail}"),
            None => Ok(()),
        }
    }
}

/// One error for the crate. Unless said otherwise nothing was changed, and a retry helps only after the cause is gone.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KernelError {
    /// The namespace is gone or was never there.
    #[error("network namespace {}", path.display())]
    NetnsOpen {
        path: PathBuf,
        #[source]
        err: io::Error,
    },
    /// A namespace could not be made under this path; what was begun was undone.
    #[error("cannot create network namespace {}", path.display())]
    NetnsCreate {
        path: PathBuf,
        #[source]
        err: io::Error,
    },
    /// The mount or its file is still there; a retry may help.
    #[error("cannot remove network namespace {}", path.display())]
    NetnsRemove {
        path: PathBuf,
        #[source]
        err: io::Error,
    },
    /// Not allowed (no CAP_SYS_ADMIN), or out of threads.
    #[error("cannot enter the network namespace")]
    NetnsEnter {
        #[source]
        err: io::Error,
    },
    #[error("cannot open a {protocol:?} netlink socket")]
    NetlinkOpen {
        protocol: Protocol,
        #[source]
        err: io::Error,
    },
    /// The socket failed: what was under way may or may not have been done. Observe, then plan again.
    #[error("netlink socket failed")]
    NetlinkIo {
        #[source]
        err: io::Error,
    },
    /// The kernel said no. Of an nftables batch nothing was applied.
    #[error("{what}: {refusal}")]
    Refused { what: String, refusal: Refusal },
    /// An operation in a namespace that no observation has told the place of: a bug of the planner.
    #[error("it is not known where the namespace of {ns} is")]
    UnknownNetns { ns: swarmnet_dataplane::Ns },
    /// A kind of link that is never made by itself: a bug of the planner.
    #[error("cannot make link `{name}` of kind {kind}")]
    CannotMake { name: String, kind: String },
    /// The runtime is going down; nothing was done.
    #[error("shutting down")]
    ShuttingDown,
    /// No such device in that namespace.
    #[error("no link `{name}`")]
    NoLink { name: String },
    #[error("cannot read sysctl {}", path.display())]
    SysctlRead {
        path: PathBuf,
        #[source]
        err: io::Error,
    },
    #[error("cannot set sysctl {} to {value}", path.display())]
    SysctlWrite {
        path: PathBuf,
        value: String,
        #[source]
        err: io::Error,
    },
    #[error("cannot open a socket at {addr}")]
    SocketOpen {
        addr: std::net::SocketAddr,
        #[source]
        err: io::Error,
    },
    /// While preparing the mounts of a workload; the workload was not started.
    #[error("cannot prepare {}", path.display())]
    WorkloadMount {
        path: PathBuf,
        #[source]
        err: io::Error,
    },
    /// The workload was not started.
    #[error("cannot become user {uid}")]
    WorkloadUser {
        uid: u32,
        #[source]
        err: io::Error,
    },
    #[error("cannot work in {}", path.display())]
    WorkloadFolder {
        path: PathBuf,
        #[source]
        err: io::Error,
    },
    #[error("cannot start {}", program.display())]
    WorkloadSpawn {
        program: PathBuf,
        #[source]
        err: io::Error,
    },
}

impl KernelError {
    /// The error number behind it, if there is one.
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::Refused { refusal, .. } => Some(refusal.errno),
            Self::NoLink { .. } => Some(libc::ENODEV),
            Self::UnknownNetns { .. } | Self::CannotMake { .. } | Self::ShuttingDown => None,
            Self::NetnsOpen { err, .. }
            | Self::NetnsCreate { err, .. }
            | Self::NetnsRemove { err, .. }
            | Self::NetnsEnter { err }
            | Self::NetlinkOpen { err, .. }
            | Self::NetlinkIo { err }
            | Self::SysctlRead { err, .. }
            | Self::SysctlWrite { err, .. }
            | Self::SocketOpen { err, .. }
            | Self::WorkloadMount { err, .. }
            | Self::WorkloadUser { err, .. }
            | Self::WorkloadFolder { err, .. }
            | Self::WorkloadSpawn { err, .. } => err.raw_os_error(),
        }
    }

    /// The thing is not there: a removal is done, an observation is empty. The place of a namespace is forgotten with its removal,
    /// so what was inside is gone with it.
    pub fn is_gone(&self) -> bool {
        matches!(self, Self::UnknownNetns { .. })
            || matches!(
                self.errno(),
                Some(libc::ENOENT | libc::ESRCH | libc::ENODEV | libc::EADDRNOTAVAIL)
            )
    }

    /// The thing is there already: our view is stale, the object may differ. Observe and plan again.
    pub fn is_stale(&self) -> bool {
        matches!(self.errno(), Some(libc::EEXIST | libc::ERESTART | libc::EBUSY))
    }
}

/// A removal of what is not there is done.
pub(crate) fn gone_is_done(result: Result<(), KernelError>) -> Result<(), KernelError> {
    match result {
        Err(err) if err.is_gone() => Ok(()),
        other => other,
    }
}
