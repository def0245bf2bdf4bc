//! Who may call what: one table of RPC paths, enforced before any handler runs.
//!
//! [`AuthTable`] is data that the manager supplies; [`AuthLayer`] is the tower layer around all services. A path without a
//! row is refused, and [`AuthTable::check`] fails the start when a service has a method without one, so none is forgotten.
//!
//! A node speaks for itself. A manager that forwards a call of an agent to the leader names that agent in a header
//! ([`speak_for`]), and only managers are believed. Handlers take the node from [`Speaker`], never from the message alone.

mod descriptors;
mod layer;

use std::collections::{BTreeMap, BTreeSet};

use swarmnet_types::{NodeId, Role};
use tonic::Status;
use tonic::metadata::{AsciiMetadataKey, AsciiMetadataValue};

pub use descriptors::method_paths;
pub use layer::AuthLayer;

use crate::peer::{Caller, Peer};

/// Names the node for which a manager forwards a call: 32 hex digits.
pub const SPEAKER_HEADER: &str = "swarmnet-speaker";

/// Who may call a method.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who {
    /// Also without a certificate: joining.
    Anyone,
    /// Every node of the cluster.
    AnyNode,
    /// Managers only.
    Manager,
    /// Every node, about itself: the handler must use the [`Speaker`] as the node meant.
    SelfNode,
}

/// A table that must not be used. All are mistakes in the program, found at start.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AuthzError {
    #[error("two rows in the authorisation table for {path}")]
    Duplicate { path: String },
    #[error("no row in the authorisation table for {}", paths.join(", "))]
    Uncovered { paths: Vec<String> },
    #[error("rows in the authorisation table for methods that do not exist: {}", paths.join(", "))]
    Unknown { paths: Vec<String> },
    #[error("the service descriptors cannot be read")]
    Descriptors,
}

/// Path (`/package.Service/Method`) → who may call it.
#[derive(Debug, Clone, Default)]
pub struct AuthTable {
    rows: BTreeMap<String, Who>,
}

/// The node that a call is about and from: in the extensions of each request that a node sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Speaker(NodeId);

// === impl AuthTable ===

impl AuthTable {
    /// # Errors
    /// [`AuthzError::Duplicate`].
    pub fn new(rows: &[(&str, Who)]) -> Result<Self, AuthzError> {
        let mut table = Self::default();
        for (path, who) in rows {
            if table.rows.insert((*path).to_owned(), *who).is_some() {
                return Err(AuthzError::Duplicate { path: (*path).to_owned() });
            }
        }
        Ok(table)
    }

    /// That the rows are exactly for these paths ([`method_paths`]).
    ///
    /// # Errors
    /// [`AuthzError::Uncovered`], [`AuthzError::Unknown`].
    pub fn check<'a>(&self, paths: impl IntoIterator<Item = &'a str>) -> Result<(), AuthzError> {
        let methods: BTreeSet<&str> = paths.into_iter().collect();
        let rows: BTreeSet<&str> = self.rows.keys().map(String::as_str).collect();
        let list = |paths: Vec<&&str>| paths.into_iter().map(|path| (*path).to_owned()).collect();
        let uncovered: Vec<_> = methods.difference(&rows).collect();
        if !uncovered.is_empty() {
            return Err(AuthzError::Uncovered { paths: list(uncovered) });
        }
        let unknown: Vec<_> = rows.difference(&methods).collect();
        if !unknown.is_empty() {
            return Err(AuthzError::Unknown { paths: list(unknown) });
        }
        Ok(())
    }

    /// Whether `caller` may call `path`; `claimed` is the value of [`SPEAKER_HEADER`]. For whom the caller speaks, if it is
    /// a node.
    ///
    /// # Errors
    /// `UNIMPLEMENTED` without a row, `UNAUTHENTICATED` without a certificate, `PERMISSION_DENIED` otherwise.
    pub fn admit(
        &self,
        path: &str,
        caller: Option<&Peer>,
        claimed: Option<&[u8]>,
    ) -> Result<Option<Speaker>, Status> {
        let Some(who) = self.rows.get(path) else {
            return Err(Status::unimplemented(format!("no such call: {path}")));
        };
        let Some(caller) = caller else {
            return match who {
                Who::Anyone => Ok(None),
                Who::AnyNode | Who::Manager | Who::SelfNode => Err(Status::unauthenticated(
                    "this call needs a node's certificate: join the cluster first",
                )),
            };
        };
        if *who == Who::Manager && caller.role != Role::Manager {
            let node = caller.node_id;
            let text = format!("this call is for managers only, and node {node} is a worker");
            return Err(Status::permission_denied(text));
        }
        speaker(caller, claimed).map(Some)
    }
}

fn speaker(caller: &Peer, claimed: Option<&[u8]>) -> Result<Speaker, Status> {
    let Some(claimed) = claimed else { return Ok(Speaker(caller.node_id)) };
    let node: NodeId = std::str::from_utf8(claimed)
        .ok()
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| Status::invalid_argument(format!("`{SPEAKER_HEADER}` is no node id")))?;
    if node == caller.node_id || caller.role == Role::Manager {
        Ok(Speaker(node))
    } else {
        Err(not_for(caller.node_id, node))
    }
}

fn not_for(caller: NodeId, node: NodeId) -> Status {
    Status::permission_denied(format!("node {caller} may not speak for node {node}"))
}

// === impl Speaker ===

impl Speaker {
    /// Of a request that passed [`AuthLayer`].
    ///
    /// # Errors
    /// `UNAUTHENTICATED` when no node sent it.
    pub fn of<T>(request: &tonic::Request<T>) -> Result<Self, Status> {
        let speaker = request.extensions().get::<Self>().copied();
        speaker.ok_or_else(|| Status::unauthenticated("this call needs a node's certificate"))
    }

    pub fn node_id(self) -> NodeId {
        self.0
    }

    /// That a message about `node` comes from it.
    ///
    /// # Errors
    /// `PERMISSION_DENIED`.
    pub fn check(self, node: NodeId) -> Result<(), Status> {
        if self.0 == node { Ok(()) } else { Err(not_for(self.0, node)) }
    }
}

/// Marks a request that this manager forwards for `node`. On a worker's connection the mark is refused.
pub fn speak_for<T>(request: &mut tonic::Request<T>, node: NodeId) {
    let key = AsciiMetadataKey::from_static(SPEAKER_HEADER);
    let value = AsciiMetadataValue::try_from(node.to_string()).expect("hex digits are ASCII");
    request.metadata_mut().insert(key, value);
}

/// The caller of a request that came in over [`crate::Incoming`]; `None` on other listeners.
pub fn caller<T>(request: &tonic::Request<T>) -> Option<&Caller> {
    request.extensions().get()
}

#[cfg(test)]
mod tests;
