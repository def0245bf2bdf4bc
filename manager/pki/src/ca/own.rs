//! An operator's own CA, checked before the cluster depends on it; and the subject of a CA's certificate, repeated byte by byte.

use std::time::{Duration, SystemTime};

use rcgen::string::{Ia5String, PrintableString};
use rcgen::{DistinguishedName, DnType, DnValue};
use swarmnet_types::{ClusterId, NodeId, Role};
use x509_parser::asn1_rs::Tag;
use x509_parser::prelude::{FromDer as _, X509Certificate};
use x509_parser::x509::AttributeTypeAndValue;

use super::{Ca, Issue};
use crate::error::PkiError;
use crate::identity::{NodeIdentity, NodeKey, pem};

/// A root must outlast this (`sw:M18`): a cluster's nodes renew well before it ends, and an operator has time to rotate.
const LEFT_MIN: Duration = Duration::from_hours(365 * 24);
/// Of the certificate that is signed to try the CA.
const TRIAL: Duration = Duration::from_hours(1);

impl Ca {
    /// From an operator's certificate and key. Checked: one certificate, of a CA that may sign and leaves room for the
    /// rotation to a later one, in date for a year, with its own P-256 key; and that a certificate signed by it verifies.
    ///
    /// # Errors
    /// The fault, in one line.
    pub fn adopt(
        cluster: ClusterId,
        cert_pem: &str,
        key_pem: &str,
        now: SystemTime,
    ) -> Result<Self, PkiError> {
        let certs = pem::certs("CA certificate", cert_pem)?;
        let [cert] = certs.as_slice() else {
            return Err(PkiError::CaCount { found: certs.len() });
        };
        let ca = Self::from_pem(cluster, cert_pem, key_pem)?;
        let (_, x509) = X509Certificate::from_der(cert).map_err(|_| PkiError::Certificate)?;
        let damaged = |_| PkiError::Certificate;
        if let Some(usage) = x509.key_usage().map_err(damaged)?
            && !usage.value.key_cert_sign()
        {
            return Err(PkiError::CaUsage);
        }
        if let Some(constraints) = x509.basic_constraints().map_err(damaged)?
            && constraints.value.path_len_constraint == Some(0)
        {
            return Err(PkiError::CaPathLen);
        }
        let (starts, ends) = ca.validity();
        if now < starts {
            return Err(PkiError::CaNotYet);
        }
        if ends < now + LEFT_MIN {
            return Err(PkiError::CaTooSoon);
        }
        ca.try_out(now)?;
        Ok(ca)
    }

    /// What [`subject`] cannot repeat (a name given twice) shows here: nothing signed by the CA would verify.
    fn try_out(&self, now: SystemTime) -> Result<(), PkiError> {
        let key = NodeKey::generate()?;
        let issue = Issue { node_id: NodeId::default(), role: Role::Manager, lifetime: TRIAL };
        let leaf = self.sign_csr(&key.csr()?, &issue, now)?;
        NodeIdentity::new(key, &leaf, self.cert_pem()).map(drop).map_err(|_| PkiError::CaUnfit)
    }
}

/// The subject of `cert`, for certificates that name it as their issuer or carry it themselves.
///
/// # Errors
/// [`PkiError::CaUnfit`]: it has several values in one place, or text of an old form.
pub(super) fn subject(cert: &X509Certificate<'_>) -> Result<DistinguishedName, PkiError> {
    let mut name = DistinguishedName::new();
    for place in cert.subject().iter_rdn() {
        let mut values = place.iter();
        let (Some(one), None) = (values.next(), values.next()) else {
            return Err(PkiError::CaUnfit);
        };
        let kind = one.attr_type().iter().ok_or(PkiError::CaUnfit)?;
        name.push(DnType::CustomDnType(kind.collect()), text(one)?);
    }
    Ok(name)
}

fn text(value: &AttributeTypeAndValue<'_>) -> Result<DnValue, PkiError> {
    let text = std::str::from_utf8(value.attr_value().data).map_err(|_| PkiError::CaUnfit)?;
    let printable = |text| PrintableString::try_from(text).map_err(|_| PkiError::CaUnfit);
    let ia5 = |text| Ia5String::try_from(text).map_err(|_| PkiError::CaUnfit);
    match value.attr_value().header.tag() {
        Tag::Utf8String => Ok(DnValue::Utf8String(text.to_owned())),
        Tag::PrintableString => printable(text).map(DnValue::PrintableString),
        Tag::Ia5String => ia5(text).map(DnValue::Ia5String),
        _ => Err(PkiError::CaUnfit),
    }
}
