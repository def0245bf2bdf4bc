//! What can go wrong at the border of this crate. Errors of single queries never get here: they become answers and counters.

use std::io;

use swarmnet_types::SandboxId;

/// A text that cannot be written as a DNS name (RFC 1035 §2.3.4). The table it was meant for is unchanged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ZoneNameError {
    #[error("`{name}` is no DNS name: it has an empty label")]
    EmptyLabel { name: String },
    #[error("`{name}` is no DNS name: a label is longer than 63 bytes")]
    LabelTooLong { name: String },
    #[error("`{name}` is no DNS name: it is longer than 253 bytes")]
    TooLong { name: String },
}

/// Starting the name server or handing it a sandbox failed.
#[derive(Debug, thiserror::Error)]
pub enum NameServerError {
    /// Nothing was started.
    #[error("cannot start the names thread `{thread}`")]
    Start {
        thread: &'static str,
        #[source]
        err: io::Error,
    },
    /// The sandbox is not served; its sockets are closed.
    #[error("cannot serve names in sandbox {sandbox}")]
    Socket {
        sandbox: SandboxId,
        #[source]
        err: io::Error,
    },
    /// Nothing changed: remove the sandbox first.
    #[error("sandbox {sandbox} is served already")]
    Served { sandbox: SandboxId },
    /// Nothing changed.
    #[error("sandbox {sandbox} is not served")]
    NotServed { sandbox: SandboxId },
    /// A names thread has ended. Only a new name server helps.
    #[error("the name server has stopped")]
    Stopped,
}
