//! PEM in: certificates and keys from text. At least one, every section sound, keys P-256 in PKCS #8.

use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};

use crate::error::PkiError;

/// All certificates in `text`; never empty.
pub(crate) fn certs(
    what: &'static str,
    text: &str,
) -> Result<Vec<CertificateDer<'static>>, PkiError> {
    let certs: Vec<_> = CertificateDer::pem_slice_iter(text.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|err| PkiError::Pem { err })?;
    if certs.is_empty() { Err(PkiError::NoPem { what }) } else { Ok(certs) }
}

/// The first private key in `text`.
pub(crate) fn key(text: &str) -> Result<KeyPair, PkiError> {
    let mut keys = PrivatePkcs8KeyDer::pem_slice_iter(text.as_bytes());
    let der = keys
        .next()
        .ok_or(PkiError::NoPem { what: "private key" })?
        .map_err(|err| PkiError::Pem { err })?;
    KeyPair::from_pkcs8_der_and_sign_algo(&der, &PKCS_ECDSA_P256_SHA256)
        .map_err(|err| PkiError::Key { err })
}
