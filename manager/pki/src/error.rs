//! What can go wrong with keys, certificates and their files. Nothing here changes state: a failed call leaves the files
//! and the running TLS configuration as they were. A retry helps only for [`PkiError::File`] and [`PkiError::Random`].

use std::io;
use std::path::PathBuf;

use crate::sealed::SealedError;

/// Errors of the CA, of identities and of TLS configurations.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// The operating system's random generator failed.
    #[error("the system's random generator gives no bytes")]
    Random,
    /// A sealed file was refused.
    #[error(transparent)]
    Sealed(#[from] SealedError),
    /// rcgen could not build or sign `what`.
    #[error("cannot make {what}")]
    Make {
        what: &'static str,
        #[source]
        err: rcgen::Error,
    },
    /// The request to sign is larger than any honest one.
    #[error("the certificate request has {bytes} bytes, at most {limit} are accepted")]
    CsrTooLarge { bytes: usize, limit: usize },
    /// The request to sign is malformed, or not signed by its own key.
    #[error("the certificate request is malformed or not signed by its own key")]
    Csr {
        #[source]
        err: rcgen::Error,
    },
    /// The request carries a key of another kind than P-256.
    #[error("the certificate request has a key that is not ECDSA P-256")]
    CsrKey,
    /// The CA itself ends before the certificate would begin.
    #[error("the cluster's CA has expired: rotate it with `swarmnet manager ca --rotate`")]
    CaExpired,
    /// A certificate that may not sign others.
    #[error("the certificate is no CA's: it needs the basic constraint CA:TRUE")]
    NotACa,
    /// More than the one certificate that is to be the root.
    #[error("{found} certificates where the CA's alone is wanted")]
    CaCount { found: usize },
    #[error("the CA certificate may not sign certificates: its key usage lacks keyCertSign")]
    CaUsage,
    /// A rotation to a later CA needs a CA certificate below this one.
    #[error(
        "the CA certificate's path length of 0 leaves no room for a rotation to a later CA: want 1 or more, or none"
    )]
    CaPathLen,
    #[error("the CA certificate is not valid yet: check the clock of this manager")]
    CaNotYet,
    /// `sw:M18`.
    #[error("CA certificate expires too soon: it must be valid for another year")]
    CaTooSoon,
    #[error(
        "certificates signed by this CA cannot be verified: its subject has names of an unusual form"
    )]
    CaUnfit,
    /// Not one PEM section of the wanted kind.
    #[error("no {what} found: want PEM")]
    NoPem { what: &'static str },
    /// A PEM section that cannot be decoded.
    #[error("damaged PEM: {err}")]
    Pem { err: rustls::pki_types::pem::Error },
    /// A private key that cannot be used.
    #[error(
        "damaged private key, or not an ECDSA P-256 key in PKCS #8 (`openssl pkcs8 -topk8 -nodes` converts other forms)"
    )]
    Key {
        #[source]
        err: rcgen::Error,
    },
    /// Bytes that are no X.509 certificate.
    #[error("damaged certificate")]
    Certificate,
    /// A certificate of somebody else's making: the named part of the subject is missing or not ours.
    #[error("not a swarmnet certificate: bad `{field}` in its subject")]
    Subject { field: &'static str },
    /// A key beside a certificate made for another one.
    #[error("the certificate was made for another key")]
    KeyMismatch,
    /// The certificate does not chain to the roots beside it.
    #[error("the certificate is not signed by the CA beside it")]
    Untrusted {
        #[source]
        err: rustls::Error,
    },
    /// A file that cannot be read or written.
    #[error("{}: {err}", path.display())]
    File {
        path: PathBuf,
        #[source]
        err: io::Error,
    },
    /// A file that others may read.
    #[error("{}: mode {mode:04o} lets others read the node's key: chmod 600 it", path.display())]
    FileMode { path: PathBuf, mode: u32 },
    /// A file written by a newer release.
    #[error(
        "{}: format {found} is newer than this swarmnet reads ({known}): upgrade swarmnet",
        path.display()
    )]
    FileVersion { path: PathBuf, found: u32, known: u32 },
    /// A file with wrong contents; `err` says which.
    #[error("{}: {err}", path.display())]
    FileContent {
        path: PathBuf,
        #[source]
        err: Box<PkiError>,
    },
    /// rustls refuses the identity.
    #[error("the identity cannot be used for TLS")]
    Tls {
        #[source]
        err: rustls::Error,
    },
    /// The roots cannot be used to check peers.
    #[error("the CA cannot be used to check peers")]
    Roots {
        #[source]
        err: rustls::server::VerifierBuilderError,
    },
}
