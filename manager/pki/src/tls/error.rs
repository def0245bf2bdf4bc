//! Why a connection to another node failed, in one line that says what to do.
//!
//! A TLS 1.3 client learns that the server refused its certificate only after its own handshake is over, as an alert on
//! the first read; `refusal` words that one. It reaches the caller as text, because h2 keeps no more of an I/O error.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, UNIX_EPOCH};

use rustls::pki_types::UnixTime;
use rustls::{AlertDescription, CertificateError};
use swarmnet_types::{ClusterId, Role};
use time::OffsetDateTime;
use time::macros::format_description;

use super::verify::PinMismatch;
use crate::fingerprint::Fingerprint;

/// No connection was made; nothing was sent. [`ConnectError::Unreachable`] and [`ConnectError::Timeout`] may pass with
/// time, the others need an operator.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    #[error("cannot reach {addr}: {err}")]
    Unreachable {
        addr: SocketAddr,
        #[source]
        err: io::Error,
    },
    #[error("cannot reach {addr}: no answer within {} ms", after.as_millis())]
    Timeout { addr: SocketAddr, after: Duration },
    #[error(
        "the service at {addr} does not speak TLS: it is not a swarmnet node; check the address and port"
    )]
    NotTls { addr: SocketAddr },
    #[error("{addr} closed the connection before it showed who it is")]
    Closed { addr: SocketAddr },
    #[error(
        "the node at {addr} belongs to another cluster, or was restored from a backup of before a rotation of the CA: its certificate is not signed by a CA that this node trusts"
    )]
    UnknownCa { addr: SocketAddr },
    #[error("the node at {addr} belongs to another cluster, {seen}; this one is {expected}")]
    OtherCluster { addr: SocketAddr, expected: ClusterId, seen: ClusterId },
    #[error(
        "remote CA does not match fingerprint. Expected: {expected}; {addr} shows {seen}: the token is of another cluster or of an earlier CA"
    )]
    Fingerprint { addr: SocketAddr, expected: Fingerprint, seen: Fingerprint },
    #[error(
        "the certificate of {addr} begins at {starts} and this node's clock shows {clock}: set the clocks of both nodes"
    )]
    NotYetValid { addr: SocketAddr, clock: Clock, starts: Clock },
    #[error(
        "the certificate of {addr} ended at {ended} and this node's clock shows {clock}: set this node's clock, or let that node renew"
    )]
    Expired { addr: SocketAddr, clock: Clock, ended: Clock },
    #[error("the node at {addr} is not a {expected}")]
    WrongRole { addr: SocketAddr, expected: Role },
    #[error("TLS with {addr} failed: {err}")]
    Tls {
        addr: SocketAddr,
        #[source]
        err: rustls::Error,
    },
}

/// A moment, written as RFC 3339 in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Clock(UnixTime);

impl fmt::Display for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let format = format_description!("[year]-[month]-[day]T[hour]:[minute]:[second]Z");
        let at = UNIX_EPOCH + Duration::from_secs(self.0.as_secs());
        f.write_str(&OffsetDateTime::from(at).format(format).map_err(|_| fmt::Error)?)
    }
}

// === impl ConnectError ===

impl ConnectError {
    /// Of a client handshake that failed with `err`.
    pub(super) fn handshake(addr: SocketAddr, expected: Role, err: io::Error) -> Self {
        let Some(tls) = err.get_ref().and_then(|err| err.downcast_ref::<rustls::Error>()) else {
            return match err.kind() {
                io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset => {
                    Self::Closed { addr }
                }
                _ => Self::Unreachable { addr, err },
            };
        };
        match tls {
            rustls::Error::InvalidMessage(_) => Self::NotTls { addr },
            rustls::Error::InvalidCertificate(err) => Self::certificate(addr, expected, err),
            err => Self::Tls { addr, err: err.clone() },
        }
    }

    fn certificate(addr: SocketAddr, expected: Role, err: &CertificateError) -> Self {
        match err {
            CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                Self::UnknownCa { addr }
            }
            CertificateError::NotValidYetContext { time, not_before } => {
                Self::NotYetValid { addr, clock: Clock(*time), starts: Clock(*not_before) }
            }
            CertificateError::ExpiredContext { time, not_after } => {
                Self::Expired { addr, clock: Clock(*time), ended: Clock(*not_after) }
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                Self::WrongRole { addr, expected }
            }
            CertificateError::Other(other) => match other.0.downcast_ref::<PinMismatch>() {
                Some(pin) => Self::Fingerprint { addr, expected: pin.expected, seen: pin.seen },
                None => Self::Tls { addr, err: err.clone().into() },
            },
            err => Self::Tls { addr, err: err.clone().into() },
        }
    }
}

/// The server's refusal of our certificate in words, if that is what `err` is; any other error as it was.
pub(super) fn refusal(addr: SocketAddr, err: io::Error) -> io::Error {
    let tls = err.get_ref().and_then(|err| err.downcast_ref::<rustls::Error>());
    let Some(rustls::Error::AlertReceived(alert)) = tls else { return err };
    let why = match alert {
        // The second when a CA of the same name signed it, as after the loss of a CA.
        AlertDescription::UnknownCA | AlertDescription::DecryptError => {
            "it is not signed by a CA that node trusts"
        }
        AlertDescription::CertificateExpired => {
            "by that node's clock it is not in date: compare the clocks, or renew the certificate"
        }
        AlertDescription::AccessDenied => "it is not a node's of that cluster",
        AlertDescription::BadCertificate | AlertDescription::CertificateUnknown => {
            "it could not be verified"
        }
        _ => return err,
    };
    io::Error::new(err.kind(), format!("{addr} refused this node's certificate: {why}"))
}
