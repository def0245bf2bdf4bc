//! What keeps a manager from starting.

use std::io;

use swarmnet_manager_core::Rejection;
use swarmnet_pki::{AuthzError, PkiError};

use crate::raft::{ProposeError, RaftError};

/// A manager could not be made or started. Nothing runs then.
#[derive(Debug, thiserror::Error)]
pub enum ManagerError {
    #[error(transparent)]
    Pki(#[from] PkiError),
    #[error(transparent)]
    Raft(#[from] RaftError),
    /// The first entry of the log was refused.
    #[error(transparent)]
    Init(#[from] ProposeError),
    /// A cluster could not be made anew.
    #[error(transparent)]
    Refound(Rejection),
    /// There is nothing that a cluster could be made of.
    #[error("there is no cluster state to go on with")]
    NoState,
    /// A mistake in the program, found before anything is served.
    #[error(transparent)]
    Table(#[from] AuthzError),
    #[error("cannot listen: {err}")]
    Listen {
        #[source]
        err: io::Error,
    },
    /// No manager of the cluster took this one in.
    #[error("no manager took this one into the Raft group: {last}")]
    NotAdded { last: String },
}
