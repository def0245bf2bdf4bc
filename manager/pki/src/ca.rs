//! The cluster's certificate authority: makes itself once, then signs nodes' keys.
//!
//! In: a certificate request (only its key and the proof that the sender holds it are used; its subject and extensions
//! are ignored) and what the managers decided about the node. Out: PEM. The clock is an argument; serial numbers and keys
//! are drawn from the operating system here. The CA's private key is in this value and in [`Ca::key_pem`], nowhere else.
//!
//! A CA is replaced by rotation: the new one's key is signed by the old one too ([`Ca::cross_sign`]), so that who trusts only the
//! old root can check certificates of the new one. An operator may bring one ([`Ca::adopt`]).

mod own;

use std::fmt;
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName,
    DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256, PublicKeyData as _, SanType, SerialNumber,
};
use rustls::pki_types::CertificateDer;
use swarmnet_types::{ClusterId, NodeId, Role};
use time::OffsetDateTime;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::error::PkiError;
use crate::fingerprint::Fingerprint;
use crate::identity::pem;
use crate::peer::{self, SERIAL_LEN};

/// 20 years, as Swarm's: a CA is replaced by rotation, not by its end.
const CA_LIFETIME: Duration = Duration::from_hours(20 * 365 * 24);
/// How far the clock of a node may lag behind the CA's: certificates begin this much before they are made.
pub const BACKDATE: Duration = Duration::from_hours(1);
/// Ours have about 250 bytes.
const CSR_LEN_MAX: usize = 8 * 1024;
/// A P-256 public key: 0x04 and two coordinates (SEC 1 §2.3.3).
const P256_POINT_LEN: usize = 65;

/// The CA's certificate and key.
pub struct Ca {
    cluster: ClusterId,
    cert: CertificateDer<'static>,
    cert_pem: String,
    validity: (SystemTime, SystemTime),
    issuer: Issuer<'static, KeyPair>,
}

/// What the managers decided about a node before its key is signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Issue {
    pub node_id: NodeId,
    pub role: Role,
    /// From now; cut at the end of the CA's own life.
    pub lifetime: Duration,
}

// === impl Ca ===

impl Ca {
    /// A new CA with a new P-256 key, valid from an hour before `now` for 20 years.
    ///
    /// # Errors
    /// [`PkiError::Random`], [`PkiError::Make`].
    pub fn create(cluster: ClusterId, now: SystemTime) -> Result<Self, PkiError> {
        let key = generate("the CA's key")?;
        // A name of its own, so that a root and its successor are told apart wherever certificates are listed.
        let tag: [u8; 4] = crate::random_bytes()?;
        let name = format!("swarmnet CA {:08x}", u32::from_be_bytes(tag));
        let mut params = params(&[(DnType::CommonName, name)], cluster)?;
        params.not_before = OffsetDateTime::from(now - BACKDATE);
        params.not_after = OffsetDateTime::from(now + CA_LIFETIME);
        // One level of CAs below: a rotated CA is cross-signed by its predecessor.
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(1));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let cert = params
            .self_signed(&key)
            .map_err(|err| PkiError::Make { what: "the CA's certificate", err })?;
        Self::from_pem(cluster, &cert.pem(), &key.serialize_pem())
    }

    /// From what [`Ca::cert_pem`] and [`Ca::key_pem`] gave. An operator's own CA does not name the cluster.
    ///
    /// # Errors
    /// Damaged or missing PEM, a certificate that is no CA's, or a key that is not its own.
    pub fn from_pem(cluster: ClusterId, cert_pem: &str, key_pem: &str) -> Result<Self, PkiError> {
        let key = pem::key(key_pem)?;
        let cert = pem::certs("CA certificate", cert_pem)?.swap_remove(0);
        let validity = {
            let (_, x509) = X509Certificate::from_der(&cert).map_err(|_| PkiError::Certificate)?;
            if !x509.is_ca() {
                return Err(PkiError::NotACa);
            }
            if *x509.public_key().subject_public_key.data != *key.public_key_raw() {
                return Err(PkiError::KeyMismatch);
            }
            own::subject(&x509)?;
            let at = |time: x509_parser::time::ASN1Time| peer::system_time(time.timestamp());
            (at(x509.validity().not_before), at(x509.validity().not_after))
        };
        let issuer = Issuer::from_ca_cert_der(&cert, key)
            .map_err(|err| PkiError::Make { what: "an issuer of the CA", err })?;
        Ok(Self { cluster, cert, cert_pem: cert_pem.to_owned(), validity, issuer })
    }

    pub fn cluster(&self) -> ClusterId {
        self.cluster
    }

    /// What join tokens carry.
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(&self.cert)
    }

    /// The root that every node trusts.
    pub fn cert_pem(&self) -> &str {
        &self.cert_pem
    }

    /// The private key, PKCS #8. Whoever holds it can make managers: it belongs into the encrypted Raft state only.
    pub fn key_pem(&self) -> String {
        self.issuer.key().serialize_pem()
    }

    /// From and to when.
    pub fn validity(&self) -> (SystemTime, SystemTime) {
        self.validity
    }

    /// Whether both have the same key, whatever their certificates say.
    pub fn has_key_of(&self, other: &Self) -> bool {
        self.issuer.key().public_key_raw() == other.issuer.key().public_key_raw()
    }

    /// A certificate of `next`, signed by this CA: the link between certificates of `next` and those who trust this one only.
    /// Returns PEM.
    ///
    /// # Errors
    /// [`PkiError::Random`], [`PkiError::Make`].
    pub fn cross_sign(&self, next: &Self) -> Result<String, PkiError> {
        let what = "a cross-signed CA certificate";
        let (_, x509) = X509Certificate::from_der(&next.cert).map_err(|_| PkiError::Certificate)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = own::subject(&x509)?;
        params.not_before = OffsetDateTime::from(next.validity.0);
        params.not_after = OffsetDateTime::from(next.validity.1);
        params.serial_number = Some(serial_number()?);
        // It signs nodes, and no CAs.
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.use_authority_key_identifier_extension = true;
        let cert = params
            .signed_by(next.issuer.key(), &self.issuer)
            .map_err(|err| PkiError::Make { what, err })?;
        Ok(cert.pem())
    }

    /// Signs the key in `csr` (DER, PKCS #10). Returns the certificate as PEM.
    ///
    /// # Errors
    /// [`PkiError::Csr`], [`PkiError::CsrTooLarge`], [`PkiError::CsrKey`] for a bad request; [`PkiError::CaExpired`].
    pub fn sign_csr(&self, csr: &[u8], issue: &Issue, now: SystemTime) -> Result<String, PkiError> {
        if csr.len() > CSR_LEN_MAX {
            return Err(PkiError::CsrTooLarge { bytes: csr.len(), limit: CSR_LEN_MAX });
        }
        let request = CertificateSigningRequestParams::from_der(&csr.into())
            .map_err(|err| PkiError::Csr { err })?;
        let key = &request.public_key;
        if *key.algorithm() != PKCS_ECDSA_P256_SHA256 || key.der_bytes().len() != P256_POINT_LEN {
            return Err(PkiError::CsrKey);
        }
        let end = self.validity.1;
        if now >= end {
            return Err(PkiError::CaExpired);
        }
        let names = [
            (DnType::OrganizationalUnitName, peer::ou_of(issue.role).to_owned()),
            (DnType::CommonName, issue.node_id.to_string()),
        ];
        let mut params = params(&names, self.cluster)?;
        let not_after = now.checked_add(issue.lifetime).map_or(end, |t| t.min(end));
        params.not_before = OffsetDateTime::from(now - BACKDATE);
        params.not_after = OffsetDateTime::from(not_after);
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        for name in peer::server_names_of(issue.role) {
            let name = (*name).try_into().expect("our server names are ASCII");
            params.subject_alt_names.push(SanType::DnsName(name));
        }
        let cert = params
            .signed_by(key, &self.issuer)
            .map_err(|err| PkiError::Make { what: "a node's certificate", err })?;
        Ok(cert.pem())
    }
}

/// Never shows the key.
impl fmt::Debug for Ca {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ca")
            .field("cluster", &self.cluster)
            .field("fingerprint", &self.fingerprint())
            .field("not_after", &self.validity.1)
            .finish_non_exhaustive()
    }
}

/// A new P-256 key.
pub(crate) fn generate(what: &'static str) -> Result<KeyPair, PkiError> {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(|err| PkiError::Make { what, err })
}

/// Subject `O` = cluster and `names`, and a random serial number: rcgen's own follows from the key, and would repeat when
/// a node renews.
fn params(names: &[(DnType, String)], cluster: ClusterId) -> Result<CertificateParams, PkiError> {
    let mut subject = DistinguishedName::new();
    subject.push(DnType::OrganizationName, cluster.to_string());
    for (kind, name) in names {
        subject.push(kind.clone(), name.as_str());
    }
    let mut params = CertificateParams::default();
    params.distinguished_name = subject;
    params.serial_number = Some(serial_number()?);
    Ok(params)
}

fn serial_number() -> Result<SerialNumber, PkiError> {
    let mut serial: [u8; SERIAL_LEN] = crate::random_bytes()?;
    // Positive and without a leading zero (RFC 5280 §4.1.2.2); 126 bits are left.
    serial[0] = serial[0] & 0x7f | 0x40;
    Ok(SerialNumber::from_slice(&serial))
}

#[cfg(test)]
mod tests;
