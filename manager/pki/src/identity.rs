//! A node's own identity: its key, its certificate, and the roots it trusts; in memory and on disk.
//!
//! Files in `<state>/certs`: `node.key` (mode 0600; made once, kept for the node's life; sealed on a manager of a cluster that locks
//! its managers), `ca.crt` (roots), `node.crt`
//! (written last: its presence means that the node has joined). Each is replaced whole by write, fsync, rename, so a
//! crash leaves the old or the new one. A file that is damaged, of a newer format or not of one piece with the others is
//! refused by name, and nothing is changed. The functions that touch files block; they are for start-up and renewal.
//!
//! Time is no reason to refuse: a host without a battery clock boots in 1970, and must still keep its sandboxes
//! ([`NodeIdentity::validity`] says what the clock means for the certificate).

pub(crate) mod files;
pub(crate) mod pem;
mod sealed_key;

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rcgen::{CertificateParams, DistinguishedName, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use swarmnet_types::{ClusterId, NodeId, Role};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::ca;
use crate::error::PkiError;
use crate::fingerprint::Fingerprint;
use crate::peer::Peer;
use crate::secret_key::SecretKey;
use crate::tls::verify;

pub const KEY_FILE: &str = "node.key";
pub const CERT_FILE: &str = "node.crt";
pub const CA_FILE: &str = "ca.crt";

/// A node's private key: ECDSA P-256. Shared, never copied out except to its file and to rustls.
#[derive(Clone)]
pub struct NodeKey(Arc<KeyPair>);

/// A key with the certificate made for it, and the roots that peers must chain to. Always of one piece: the certificate
/// names a node, holds this key, and is signed by one of the roots.
#[derive(Clone)]
pub struct NodeIdentity {
    key: NodeKey,
    chain: Vec<CertificateDer<'static>>,
    chain_pem: String,
    roots: Vec<CertificateDer<'static>>,
    roots_pem: String,
    issuer: Option<Fingerprint>,
    peer: Peer,
}

/// What the clock says about a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Validity {
    Valid,
    /// The clock is wrong, here or on the manager that signed.
    NotYet {
        starts: SystemTime,
    },
    Expired {
        ended: SystemTime,
    },
}

// === impl NodeKey ===

impl NodeKey {
    /// A new random key.
    ///
    /// # Errors
    /// [`PkiError::Make`] when the system gives no randomness.
    pub fn generate() -> Result<Self, PkiError> {
        ca::generate("the node's key").map(|key| Self(Arc::new(key)))
    }

    /// The key in `dir`; makes and stores one when there is none yet.
    ///
    /// # Errors
    /// Names the file that cannot be read, used or written.
    pub fn ensure(dir: &Path) -> Result<Self, PkiError> {
        if let Some(key) = Self::load(dir, None)? {
            return Ok(key);
        }
        let key = Self::generate()?;
        files::write(dir, KEY_FILE, &key.0.serialize_pem())?;
        Ok(key)
    }

    fn load(dir: &Path, seal: Option<&SecretKey>) -> Result<Option<Self>, PkiError> {
        let Some(text) = files::read(dir, KEY_FILE)? else { return Ok(None) };
        let at = |err| files::content(dir, KEY_FILE, err);
        let text = sealed_key::open(text, seal).map_err(at)?;
        let key = pem::key(&text).map_err(at)?;
        Ok(Some(Self(Arc::new(key))))
    }

    /// Whether the key in `dir` is sealed; a key that is not there is not.
    ///
    /// # Errors
    /// Names the file that cannot be read.
    pub fn is_sealed(dir: &Path) -> Result<bool, PkiError> {
        Ok(files::read(dir, KEY_FILE)?.is_some_and(|text| sealed_key::is_sealed(&text)))
    }

    /// Brings the key's file into the form it is to have: sealed with this key, or plain. One that has it is left alone.
    ///
    /// # Errors
    /// Names the file; the old one is then still whole.
    pub fn protect(&self, dir: &Path, seal: Option<&SecretKey>) -> Result<(), PkiError> {
        let present = files::read(dir, KEY_FILE)?;
        if present.is_some_and(|text| sealed_key::is_sealed(&text) == seal.is_some()) {
            return Ok(());
        }
        let plain = self.0.serialize_pem();
        let text = seal.map_or_else(|| Ok(plain.clone()), |seal| sealed_key::seal(&plain, seal))?;
        files::write(dir, KEY_FILE, &text)
    }

    /// A certificate request (DER, PKCS #10) signed by this key. Its subject is empty: the CA decides every name.
    ///
    /// # Errors
    /// [`PkiError::Make`].
    pub fn csr(&self) -> Result<Vec<u8>, PkiError> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        let csr = params
            .serialize_request(&*self.0)
            .map_err(|err| PkiError::Make { what: "a certificate request", err })?;
        Ok(csr.der().to_vec())
    }

    pub(crate) fn for_rustls(&self) -> PrivateKeyDer<'static> {
        PrivatePkcs8KeyDer::from(self.0.serialize_der()).into()
    }
}

impl fmt::Debug for NodeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NodeKey(…)")
    }
}

// === impl NodeIdentity ===

impl NodeIdentity {
    /// From a key and what a manager answered: the certificate (and intermediates, if any), leaf first, and the roots.
    ///
    /// # Errors
    /// [`PkiError::NoPem`], [`PkiError::Pem`], [`PkiError::Certificate`], [`PkiError::Subject`],
    /// [`PkiError::KeyMismatch`], [`PkiError::Untrusted`].
    pub fn new(key: NodeKey, chain_pem: &str, roots_pem: &str) -> Result<Self, PkiError> {
        let roots = pem::certs("CA certificate", roots_pem)?;
        let chain = pem::certs("certificate", chain_pem)?;
        let peer = Peer::from_der(&chain[0])?;
        let (_, leaf) = X509Certificate::from_der(&chain[0]).map_err(|_| PkiError::Certificate)?;
        if *leaf.public_key().subject_public_key.data != *key.0.public_key_raw() {
            return Err(PkiError::KeyMismatch);
        }
        verify::own_chain(&chain, &roots, &peer)?;
        let signed = |root: &&CertificateDer<'static>| {
            verify::own_chain(&chain[..1], std::slice::from_ref(*root), &peer).is_ok()
        };
        let issuer = roots.iter().find(signed).map(|root| Fingerprint::of(root));
        let (chain_pem, roots_pem) = (chain_pem.to_owned(), roots_pem.to_owned());
        Ok(Self { key, chain, chain_pem, roots, roots_pem, issuer, peer })
    }

    /// The same certificate, with other roots to check peers by.
    ///
    /// # Errors
    /// As [`NodeIdentity::new`]: the certificate must chain to one of them.
    pub fn with_roots(&self, roots_pem: &str) -> Result<Self, PkiError> {
        Self::new(self.key.clone(), &self.chain_pem, roots_pem)
    }

    /// The identity in `dir`; `None` when the node has not joined. `seal`: what opens a sealed key.
    ///
    /// # Errors
    /// Names the file that cannot be read or used.
    pub fn load(dir: &Path, seal: Option<&SecretKey>) -> Result<Option<Self>, PkiError> {
        let Some(chain_pem) = files::read(dir, CERT_FILE)? else { return Ok(None) };
        let key = NodeKey::load(dir, seal)?.ok_or_else(|| files::missing(dir, KEY_FILE))?;
        let roots_pem = files::read(dir, CA_FILE)?.ok_or_else(|| files::missing(dir, CA_FILE))?;
        pem::certs("CA certificate", &roots_pem)
            .map_err(|err| files::content(dir, CA_FILE, err))?;
        Self::new(key, &chain_pem, &roots_pem)
            .map(Some)
            .map_err(|err| files::content(dir, CERT_FILE, err))
    }

    /// Who the certificate in `dir` says that this node is: all that can be known while its key is locked. `None` when the node has not
    /// joined.
    ///
    /// # Errors
    /// Names the file that cannot be read or used.
    pub fn stored_peer(dir: &Path) -> Result<Option<Peer>, PkiError> {
        let Some(chain_pem) = files::read(dir, CERT_FILE)? else { return Ok(None) };
        let peer =
            pem::certs("certificate", &chain_pem).and_then(|chain| Peer::from_der(&chain[0]));
        peer.map(Some).map_err(|err| files::content(dir, CERT_FILE, err))
    }

    /// Writes the files, the certificate last. The key's file, made once for the node's life, stays as it is when it is there:
    /// [`NodeKey::protect`] says in which form.
    ///
    /// # Errors
    /// [`PkiError::File`] names the file; those before it are written.
    pub fn store(&self, dir: &Path) -> Result<(), PkiError> {
        if files::read(dir, KEY_FILE)?.is_none() {
            files::write(dir, KEY_FILE, &self.key.0.serialize_pem())?;
        }
        files::write(dir, CA_FILE, &self.roots_pem)?;
        files::write(dir, CERT_FILE, &self.chain_pem)
    }

    pub fn key(&self) -> &NodeKey {
        &self.key
    }

    /// This node as others see it.
    pub fn peer(&self) -> &Peer {
        &self.peer
    }

    pub fn node_id(&self) -> NodeId {
        self.peer.node_id
    }

    pub fn role(&self) -> Role {
        self.peer.role
    }

    pub fn cluster(&self) -> ClusterId {
        self.peer.cluster
    }

    pub fn chain_pem(&self) -> &str {
        &self.chain_pem
    }

    pub fn roots_pem(&self) -> &str {
        &self.roots_pem
    }

    /// The root whose key signed this node's certificate; `None` when that is the key of a CA below a root only.
    pub fn issuer(&self) -> Option<Fingerprint> {
        self.issuer
    }

    /// The CAs that peers may be signed by.
    pub fn root_fingerprints(&self) -> impl Iterator<Item = Fingerprint> {
        self.roots.iter().map(|root| Fingerprint::of(root))
    }

    /// Whether the CA with this fingerprint is among the roots: after a join it must be the token's.
    pub fn trusts(&self, ca: Fingerprint) -> bool {
        self.root_fingerprints().any(|root| root == ca)
    }

    pub fn validity(&self, now: SystemTime) -> Validity {
        if now < self.peer.not_before {
            Validity::NotYet { starts: self.peer.not_before }
        } else if now > self.peer.not_after {
            Validity::Expired { ended: self.peer.not_after }
        } else {
            Validity::Valid
        }
    }

    /// When to ask for the next certificate: between 50 and 80 % of this one's life, spread by the random byte `draw`, so
    /// that nodes that joined together do not renew together.
    pub fn renew_at(&self, draw: u8) -> SystemTime {
        let issued = self.peer.issued();
        let life = self.peer.not_after.duration_since(issued).unwrap_or(Duration::ZERO);
        issued + life / 2 + life * 3 / 10 * u32::from(draw) / u32::from(u8::MAX)
    }

    pub(crate) fn chain(&self) -> &[CertificateDer<'static>] {
        &self.chain
    }

    pub(crate) fn roots(&self) -> &[CertificateDer<'static>] {
        &self.roots
    }
}

impl fmt::Debug for NodeIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NodeIdentity").field("peer", &self.peer).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
