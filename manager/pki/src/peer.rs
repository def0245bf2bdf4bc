//! Who is at the other end: the facts in a node's certificate, and the caller of a request.
//!
//! Subject of a node's certificate: `O` = cluster, `OU` = `swarmnet-worker` or `swarmnet-manager`, `CN` = node; exactly one
//! of each. Parsing trusts nothing: it runs after rustls has checked the chain, and again proves nothing about it.

use std::fmt;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use swarmnet_types::{ClusterId, NodeId, Role};
use x509_parser::prelude::{FromDer as _, X509Certificate};
use x509_parser::x509::AttributeTypeAndValue;

use crate::ca::BACKDATE;
use crate::error::PkiError;

/// Server names (DNS SANs). A peer is checked by its role and never by its address: nodes move.
pub const MANAGER_SERVER_NAME: &str = "manager.swarmnet";
pub const AGENT_SERVER_NAME: &str = "agent.swarmnet";

const OU_WORKER: &str = "swarmnet-worker";
const OU_MANAGER: &str = "swarmnet-manager";

/// Octets of a serial number. The CA draws the first from 1 to 127, so that the DER form has exactly these octets.
pub const SERIAL_LEN: usize = 16;

/// A certificate's serial number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Serial(pub(crate) [u8; SERIAL_LEN]);

/// A node as its certificate names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    pub cluster: ClusterId,
    pub node_id: NodeId,
    pub role: Role,
    pub serial: Serial,
    pub not_before: SystemTime,
    pub not_after: SystemTime,
}

/// Who sent a request: in the request's extensions on every connection that [`crate::Incoming`] accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caller {
    pub remote: SocketAddr,
    /// `None` for a connection without a certificate: it may only join.
    pub peer: Option<Peer>,
}

// === impl Serial ===

impl fmt::Display for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

impl fmt::Debug for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

// === impl Peer ===

impl Peer {
    /// When the CA signed the certificate.
    pub fn issued(&self) -> SystemTime {
        self.not_before + BACKDATE
    }

    /// From a node certificate's DER bytes.
    ///
    /// # Errors
    /// [`PkiError::Certificate`] when it is none, [`PkiError::Subject`] when it is no node's.
    pub fn from_der(der: &[u8]) -> Result<Self, PkiError> {
        let (_, cert) = X509Certificate::from_der(der).map_err(|_| PkiError::Certificate)?;
        let subject = cert.subject();
        let cluster = cluster_of(&cert)?;
        let node_id = only("CN", subject.iter_common_name())?;
        let role = only("OU", subject.iter_organizational_unit())?;
        let serial = cert.raw_serial().try_into();
        Ok(Self {
            cluster,
            node_id: node_id.parse().map_err(|_| PkiError::Subject { field: "CN" })?,
            role: match role {
                OU_WORKER => Role::Worker,
                OU_MANAGER => Role::Manager,
                _ => return Err(PkiError::Subject { field: "OU" }),
            },
            serial: Serial(serial.map_err(|_| PkiError::Subject { field: "serial number" })?),
            not_before: system_time(cert.validity().not_before.timestamp()),
            not_after: system_time(cert.validity().not_after.timestamp()),
        })
    }
}

/// The `OU` of a role.
pub(crate) const fn ou_of(role: Role) -> &'static str {
    match role {
        Role::Worker => OU_WORKER,
        Role::Manager => OU_MANAGER,
    }
}

/// The names under which a node of this role serves. A manager is an agent as well.
pub(crate) const fn server_names_of(role: Role) -> &'static [&'static str] {
    match role {
        Role::Worker => &[AGENT_SERVER_NAME],
        Role::Manager => &[MANAGER_SERVER_NAME, AGENT_SERVER_NAME],
    }
}

/// The `O` of a node's or a CA's certificate.
pub(crate) fn cluster_of(cert: &X509Certificate<'_>) -> Result<ClusterId, PkiError> {
    let text = only("O", cert.subject().iter_organization())?;
    text.parse().map_err(|_| PkiError::Subject { field: "O" })
}

/// Certificates before 1970 count as of 1970.
pub(crate) fn system_time(unix_seconds: i64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(unix_seconds.try_into().unwrap_or(0))
}

fn only<'a>(
    field: &'static str,
    mut values: impl Iterator<Item = &'a AttributeTypeAndValue<'a>>,
) -> Result<&'a str, PkiError> {
    match (values.next(), values.next()) {
        (Some(value), None) => value.as_str().map_err(|_| PkiError::Subject { field }),
        _ => Err(PkiError::Subject { field }),
    }
}
