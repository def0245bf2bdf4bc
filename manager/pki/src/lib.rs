//! Identity of a cluster and its nodes: who may join, who a peer is, and what each may call.
//!
//! A cluster has one CA ([`Ca`]), kept by the managers. A node makes its own key ([`NodeKey`]), which never leaves it, and
//! gets a certificate whose subject says everything: `O` = cluster, `OU` = role, `CN` = node. A [`JoinToken`] is all a
//! new node needs: managers' addresses, the CA's fingerprint, and a secret that it tells only to the holder of that CA.
//!
//! Every connection between nodes is TLS 1.3 with both certificates ([`TlsStore`], [`Incoming`], [`channel`]); the one
//! exception is the call that joins ([`join_channel`]). What a caller may do is decided in one place, by path, before any
//! handler runs ([`AuthTable`], [`AuthLayer`]).
//!
//! Pure parts (token, fingerprint, limiter, table) take clock and randomness as arguments. The edges that draw them
//! themselves: key generation and [`random_bytes`] (the operating system's generator), and rustls, which reads the wall
//! clock to judge certificates. This crate keeps no state but the files of [`NodeIdentity::store`]; [`replace`] is how every file of a
//! node that must survive a crash is written.
#![forbid(unsafe_code)]

pub mod authz;
pub mod ca;
pub mod error;
pub mod fingerprint;
pub mod identity;
pub mod limiter;
pub mod peer;
pub mod sealed;
pub mod secret_key;
pub mod tls;
pub mod token;

mod base32;
mod replace;

pub use authz::{AuthLayer, AuthTable, AuthzError, Speaker, Who};
pub use ca::{Ca, Issue};
pub use error::PkiError;
pub use fingerprint::Fingerprint;
pub use identity::{NodeIdentity, NodeKey, Validity};
pub use limiter::JoinLimiter;
pub use peer::{Caller, Peer};
pub use replace::replace;
pub use secret_key::{InvalidUnlockKey, SecretKey, UnlockKey};
pub use tls::accept::{AcceptStats, Incoming, NodeStream};
pub use tls::connect::{channel, explain, is_nobody_there, join_channel};
pub use tls::error::ConnectError;
pub use tls::store::TlsStore;
pub use token::{JoinSecret, JoinToken, TokenError};

use ring::rand::SecureRandom as _;

/// Bytes from the operating system's generator: identifiers, join secrets, serial numbers.
///
/// # Errors
/// [`PkiError::Random`] when the system gives none.
pub fn random_bytes<const N: usize>() -> Result<[u8; N], PkiError> {
    let mut bytes = [0; N];
    ring::rand::SystemRandom::new().fill(&mut bytes).map_err(|_| PkiError::Random)?;
    Ok(bytes)
}
