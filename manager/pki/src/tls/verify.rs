//! Chains checked outside rustls' standard configuration: our own at load, and a manager's at join.
//!
//! Both end in webpki's path building (rustls' `WebPkiServerVerifier`); only the choice of trust anchor is ours.

use std::sync::Arc;
use std::time::UNIX_EPOCH;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, DigitallySignedStruct, OtherError, RootCertStore, SignatureScheme};

use super::store::provider;
use crate::error::PkiError;
use crate::fingerprint::Fingerprint;
use crate::peer::{AGENT_SERVER_NAME, Peer};

/// # Errors
/// [`PkiError::Untrusted`] when one cannot serve as a root.
pub(crate) fn root_store(
    roots: &[CertificateDer<'static>],
) -> Result<Arc<RootCertStore>, PkiError> {
    let mut store = RootCertStore::empty();
    for root in roots {
        store.add(root.clone()).map_err(|err| PkiError::Untrusted { err })?;
    }
    Ok(Arc::new(store))
}

/// That `chain` (leaf first) ends in one of `roots`, whatever the clock says now.
pub(crate) fn own_chain(
    chain: &[CertificateDer<'static>],
    roots: &[CertificateDer<'static>],
    leaf: &Peer,
) -> Result<(), PkiError> {
    let roots = root_store(roots)?;
    let verifier = WebPkiServerVerifier::builder_with_provider(roots, provider())
        .build()
        .map_err(|err| PkiError::Roots { err })?;
    let since_epoch = leaf.not_after.duration_since(UNIX_EPOCH).unwrap_or_default();
    verifier
        .verify_server_cert(
            &chain[0],
            &chain[1..],
            &ServerName::try_from(AGENT_SERVER_NAME).expect("a valid DNS name"),
            &[],
            UnixTime::since_unix_epoch(since_epoch),
        )
        .map(|_| ())
        .map_err(|err| PkiError::Untrusted { err })
}

/// None of the certificates shown is the CA that the token names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("remote CA does not match fingerprint. Expected: {expected}, seen: {seen}")]
pub(crate) struct PinMismatch {
    pub(crate) expected: Fingerprint,
    pub(crate) seen: Fingerprint,
}

/// Trusts one CA, known by its fingerprint, wherever it stands in the chain that the server shows.
#[derive(Debug)]
pub(crate) struct PinnedCa {
    ca: Fingerprint,
    provider: Arc<CryptoProvider>,
}

impl PinnedCa {
    pub(crate) fn new(ca: Fingerprint) -> Self {
        Self { ca, provider: provider() }
    }
}

impl ServerCertVerifier for PinnedCa {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let Some(root) = intermediates.iter().find(|cert| Fingerprint::of(cert) == self.ca) else {
            let seen = Fingerprint::of(intermediates.last().unwrap_or(end_entity));
            let mismatch = PinMismatch { expected: self.ca, seen };
            return Err(CertificateError::Other(OtherError(Arc::new(mismatch))).into());
        };
        let mut store = RootCertStore::empty();
        store.add(root.clone().into_owned())?;
        WebPkiServerVerifier::builder_with_provider(store.into(), Arc::clone(&self.provider))
            .build()
            .map_err(|_| CertificateError::UnknownIssuer)?
            .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, cert, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, cert, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
