//! What the CA signs, and what it does not.

use rcgen::PKCS_ECDSA_P384_SHA384;
use x509_parser::extensions::GeneralName;

use super::*;
use crate::identity::{NodeIdentity, NodeKey};
use crate::peer::Peer;

const DAY: Duration = Duration::from_hours(24);

fn cluster() -> ClusterId {
    ClusterId::from_bytes([7; 16])
}

/// Whole seconds, as certificates have.
fn now() -> SystemTime {
    peer::system_time(1_800_000_000)
}

fn issue(role: Role) -> Issue {
    Issue { node_id: NodeId::from_bytes([3; 16]), role, lifetime: DAY * 90 }
}

fn ca() -> Ca {
    Ca::create(cluster(), now()).expect("a CA")
}

#[test]
fn the_ca_decides_every_name() {
    // A request that asks to be a manager, a CA and a web server.
    let key = generate("a key").expect("a key");
    let mut wish = CertificateParams::new(vec!["example.org".to_owned()]).expect("names");
    wish.distinguished_name.push(DnType::CommonName, "me");
    wish.distinguished_name.push(DnType::OrganizationalUnitName, "swarmnet-manager");
    wish.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let csr = wish.serialize_request(&key).expect("a request");
    let pem = ca().sign_csr(csr.der(), &issue(Role::Worker), now()).expect("signed");
    let der = pem::certs("certificate", &pem).expect("PEM").swap_remove(0);
    let peer = Peer::from_der(&der).expect("a node's certificate");
    assert_eq!(peer.cluster, cluster());
    assert_eq!((peer.node_id, peer.role), (NodeId::from_bytes([3; 16]), Role::Worker));
    assert_eq!(peer.not_before, now() - BACKDATE);
    assert_eq!(peer.not_after, now() + DAY * 90);
    let (_, x509) = X509Certificate::from_der(&der).expect("X.509");
    assert!(!x509.is_ca());
    let names = x509.subject_alternative_name().expect("one").expect("some");
    assert_eq!(names.value.general_names, [GeneralName::DNSName("agent.swarmnet")]);
    let usage = x509.extended_key_usage().expect("one").expect("some").value;
    assert!(usage.client_auth && usage.server_auth && !usage.any);
}

#[test]
fn serial_numbers_differ_for_one_key() {
    let (ca, key) = (ca(), NodeKey::generate().expect("a key"));
    let csr = key.csr().expect("a request");
    let serial = || {
        let pem = ca.sign_csr(&csr, &issue(Role::Manager), now()).expect("signed");
        let der = pem::certs("certificate", &pem).expect("PEM").swap_remove(0);
        Peer::from_der(&der).expect("a node's certificate").serial
    };
    assert_ne!(serial(), serial());
}

#[test]
fn bad_requests_are_refused() {
    let ca = ca();
    let sign = |csr: &[u8]| ca.sign_csr(csr, &issue(Role::Worker), now());
    let good = NodeKey::generate().and_then(|key| key.csr()).expect("a request");
    assert!(sign(&good).is_ok());
    assert!(matches!(sign(b""), Err(PkiError::Csr { .. })));
    assert!(matches!(sign(&good[..good.len() - 1]), Err(PkiError::Csr { .. })));
    let mut forged = good.clone();
    *forged.last_mut().expect("bytes") ^= 1;
    assert!(matches!(sign(&forged), Err(PkiError::Csr { .. })));
    assert!(matches!(sign(&vec![0; CSR_LEN_MAX + 1]), Err(PkiError::CsrTooLarge { .. })));
    let p384 = KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).expect("a key");
    let other = CertificateParams::default().serialize_request(&p384).expect("a request");
    assert!(matches!(sign(other.der()), Err(PkiError::CsrKey)));
}

#[test]
fn lifetime_ends_with_the_ca() {
    let ca = ca();
    let csr = NodeKey::generate().and_then(|key| key.csr()).expect("a request");
    let forever = Issue { lifetime: Duration::MAX, ..issue(Role::Worker) };
    let pem = ca.sign_csr(&csr, &forever, now()).expect("signed");
    let der = pem::certs("certificate", &pem).expect("PEM").swap_remove(0);
    assert_eq!(Peer::from_der(&der).expect("a node's").not_after, ca.validity.1);
    let after = ca.validity.1;
    assert!(matches!(ca.sign_csr(&csr, &forever, after), Err(PkiError::CaExpired)));
}

#[test]
fn pem_round_trips_and_must_be_of_one_piece() {
    let (a, b) = (ca(), ca());
    let again = Ca::from_pem(cluster(), a.cert_pem(), &a.key_pem()).expect("the same CA");
    assert_eq!((again.fingerprint(), again.cluster()), (a.fingerprint(), cluster()));
    assert_ne!(a.fingerprint(), b.fingerprint());
    assert!(matches!(
        Ca::from_pem(cluster(), a.cert_pem(), &b.key_pem()),
        Err(PkiError::KeyMismatch)
    ));
    assert!(matches!(Ca::from_pem(cluster(), "", &a.key_pem()), Err(PkiError::NoPem { .. })));
    assert!(matches!(
        Ca::from_pem(cluster(), a.cert_pem(), a.cert_pem()),
        Err(PkiError::NoPem { .. })
    ));
    assert!(!format!("{a:?}").contains("PRIVATE"));
}

/// Leaf of a node, signed by `ca` at the time of the tests.
fn leaf(ca: &Ca, key: &NodeKey) -> String {
    ca.sign_csr(&key.csr().expect("a request"), &issue(Role::Manager), now()).expect("signed")
}

#[test]
fn a_rotated_ca_is_trusted_through_its_predecessor() {
    let (old, new, key) = (ca(), ca(), NodeKey::generate().expect("a key"));
    let cross = old.cross_sign(&new).expect("signed");
    let (by_old, by_new) = (leaf(&old, &key), leaf(&new, &key) + &cross);
    let both = old.cert_pem().to_owned() + new.cert_pem();
    // What is shown, what is trusted, whose key signed it.
    for (chain, roots, issuer) in [
        (&by_old, old.cert_pem(), Some(old.fingerprint())),
        (&by_old, &both, Some(old.fingerprint())),
        (&by_new, &both, Some(new.fingerprint())),
        (&by_new, new.cert_pem(), Some(new.fingerprint())),
        (&by_new, old.cert_pem(), None),
    ] {
        let identity = NodeIdentity::new(key.clone(), chain, roots).expect("verifies");
        assert_eq!(identity.issuer(), issuer);
    }
    assert!(NodeIdentity::new(key.clone(), &by_old, new.cert_pem()).is_err(), "no way back");
    let bare = leaf(&new, &key);
    assert!(NodeIdentity::new(key, &bare, old.cert_pem()).is_err(), "without the link");
}

#[test]
fn roots_change_under_a_certificate_only_while_it_verifies() {
    let (old, new, key) = (ca(), ca(), NodeKey::generate().expect("a key"));
    let held = NodeIdentity::new(key.clone(), &leaf(&old, &key), old.cert_pem()).expect("sound");
    let both = old.cert_pem().to_owned() + new.cert_pem();
    let wider = held.with_roots(&both).expect("still verifies");
    assert!(wider.trusts(new.fingerprint()) && wider.peer() == held.peer());
    assert!(matches!(wider.with_roots(new.cert_pem()), Err(PkiError::Untrusted { .. })));
}

/// A CA as an operator might bring it.
fn foreign(change: impl FnOnce(&mut CertificateParams)) -> (String, String) {
    let key = generate("a key").expect("a key");
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CountryName, "DE");
    params.distinguished_name.push(DnType::CommonName, "Example Root");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.not_before = OffsetDateTime::from(now() - DAY);
    params.not_after = OffsetDateTime::from(now() + DAY * 3650);
    change(&mut params);
    (params.self_signed(&key).expect("made").pem(), key.serialize_pem())
}

fn adopted(change: impl FnOnce(&mut CertificateParams)) -> Result<Ca, String> {
    let (cert, key) = foreign(change);
    Ca::adopt(cluster(), &cert, &key, now()).map_err(|err| err.to_string())
}

#[test]
fn an_operators_ca_signs_for_this_cluster() {
    let own = adopted(|_| {}).expect("sound");
    let key = NodeKey::generate().expect("a key");
    let identity = NodeIdentity::new(key.clone(), &leaf(&own, &key), own.cert_pem());
    assert_eq!(identity.expect("verifies").cluster(), cluster());
    // In both directions of a rotation.
    let (made, key) = (ca(), NodeKey::generate().expect("a key"));
    for (from, to) in [(&made, &own), (&own, &made)] {
        let chain = leaf(to, &key) + &from.cross_sign(to).expect("signed");
        assert!(NodeIdentity::new(key.clone(), &chain, from.cert_pem()).is_ok());
    }
}

#[test]
fn an_operators_ca_that_would_fail_later_is_refused_now() {
    let words = |result: Result<Ca, String>| result.expect_err("refused");
    assert!(words(adopted(|p| p.is_ca = IsCa::ExplicitNoCa)).contains("CA:TRUE"));
    let usage = vec![KeyUsagePurpose::DigitalSignature];
    assert!(words(adopted(|p| p.key_usages = usage)).contains("keyCertSign"));
    let short = IsCa::Ca(BasicConstraints::Constrained(0));
    assert!(words(adopted(|p| p.is_ca = short)).contains("path length of 0"));
    let soon = OffsetDateTime::from(now() + DAY * 364);
    assert!(words(adopted(|p| p.not_after = soon)).starts_with("CA certificate expires too soon"));
    let later = OffsetDateTime::from(now() + DAY);
    assert!(words(adopted(|p| p.not_before = later)).contains("not valid yet"));
    let (cert, key) = foreign(|_| {});
    let adopt = |cert: &str, key: &str| Ca::adopt(cluster(), cert, key, now());
    let (other, _) = foreign(|_| {});
    assert!(matches!(adopt(&other, &key), Err(PkiError::KeyMismatch)));
    let two = cert.clone() + &other;
    assert!(matches!(adopt(&two, &key), Err(PkiError::CaCount { found: 2 })));
    assert!(matches!(adopt("", &key), Err(PkiError::NoPem { .. })));
    assert!(matches!(
        adopt(&cert, "-----BEGIN"),
        Err(PkiError::Pem { .. } | PkiError::NoPem { .. })
    ));
}
