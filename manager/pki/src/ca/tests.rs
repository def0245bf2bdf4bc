//! What the CA signs, and what it does not.

use rcgen::PKCS_ECDSA_P384_SHA384;
use x509_parser::extensions::GeneralName;

use super::*;
use crate::identity::NodeKey;
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
    assert_eq!(Peer::from_der(&der).expect("a node's").not_after, ca.not_after);
    let after = ca.not_after;
    assert!(matches!(ca.sign_csr(&csr, &forever, after), Err(PkiError::CaExpired)));
}

#[test]
fn pem_round_trips_and_must_be_of_one_piece() {
    let (a, b) = (ca(), ca());
    let again = Ca::from_pem(a.cert_pem(), &a.key_pem()).expect("the same CA");
    assert_eq!((again.fingerprint(), again.cluster()), (a.fingerprint(), cluster()));
    assert_ne!(a.fingerprint(), b.fingerprint());
    assert!(matches!(Ca::from_pem(a.cert_pem(), &b.key_pem()), Err(PkiError::KeyMismatch)));
    assert!(matches!(Ca::from_pem("", &a.key_pem()), Err(PkiError::NoPem { .. })));
    assert!(matches!(Ca::from_pem(a.cert_pem(), a.cert_pem()), Err(PkiError::NoPem { .. })));
    assert!(!format!("{a:?}").contains("PRIVATE"));
}
