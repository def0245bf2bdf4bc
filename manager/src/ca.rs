//! The cluster's CA at work: certificates, what nodes are told to trust, and the beginning of a rotation.
//!
//! The state holds the CAs ([`Cluster`]); each use reads them anew. Keys leave the state only for the length of one signature.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use swarmnet_manager_core::{
    CertificateAuthority, Cluster, Command, NodeTls, RotateCa, RotationProgress, Secret, State,
};
use swarmnet_pki::{Ca, Issue, PkiError};
use swarmnet_proto::v1;
use swarmnet_types::{ClusterId, NodeId, Role};
use tonic::Status;

use crate::writer::Writer;

/// Swarm's minimum (`sw:§1.1`).
pub const CERT_EXPIRY_MIN: Duration = Duration::from_hours(1);
/// Names of nodes that a status lists.
const MISSING_MAX: usize = 8;

/// What a node gets.
#[derive(Debug)]
pub(crate) struct Issued {
    /// Its certificate, then those between it and a root, if any.
    pub(crate) chain_pem: String,
    pub(crate) roots_pem: String,
    pub(crate) tls: NodeTls,
}

/// Unix time in milliseconds; zero before 1970.
pub(crate) fn unix_ms(at: SystemTime) -> u64 {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// For the state.
pub(crate) fn row(ca: &Ca) -> CertificateAuthority {
    CertificateAuthority {
        cert_pem: ca.cert_pem().to_owned(),
        key_pem: Secret::new(ca.key_pem()),
        fingerprint: ca.fingerprint().0,
    }
}

fn load(cluster: ClusterId, row: &CertificateAuthority) -> Result<Ca, PkiError> {
    let key = String::from_utf8_lossy(row.key_pem.expose()).into_owned();
    Ca::from_pem(cluster, &row.cert_pem, &key)
}

fn loaded(cluster: ClusterId, row: &CertificateAuthority) -> Result<Ca, Status> {
    load(cluster, row).map_err(|err| Status::internal(err.to_string()))
}

fn roots_pem(cluster: &Cluster) -> String {
    cluster.roots().map(|ca| with_newline(&ca.cert_pem)).collect()
}

/// A PEM section ends its line, so that another one can follow.
fn with_newline(pem: &str) -> String {
    let end = if pem.ends_with('\n') { "" } else { "\n" };
    format!("{pem}{end}")
}

/// A certificate for a node of this cluster, which asked for it.
pub(crate) fn issue(
    cluster: &Cluster,
    csr_der: &[u8],
    whom: (NodeId, Role),
) -> Result<Issued, Status> {
    let ca = loaded(cluster.id, cluster.issuer())?;
    sign(cluster, &ca, csr_der, whom).map_err(|err| Status::invalid_argument(err.to_string()))
}

/// As [`issue`], for this node itself.
pub(crate) fn issue_own(
    cluster: &Cluster,
    csr_der: &[u8],
    whom: (NodeId, Role),
) -> Result<Issued, PkiError> {
    sign(cluster, &load(cluster.id, cluster.issuer())?, csr_der, whom)
}

fn sign(
    cluster: &Cluster,
    ca: &Ca,
    csr_der: &[u8],
    (node_id, role): (NodeId, Role),
) -> Result<Issued, PkiError> {
    let lifetime = Duration::from_millis(cluster.cert_expiry_ms);
    let issuer = cluster.issuer();
    let now = SystemTime::now();
    let leaf = ca.sign_csr(csr_der, &Issue { node_id, role, lifetime }, now)?;
    let cross = cluster.rotation.as_ref().map(|r| r.cross_pem.as_str()).unwrap_or_default();
    let end = ca.validity().1;
    let until = now.checked_add(lifetime).map_or(end, |t| t.min(end));
    Ok(Issued {
        chain_pem: with_newline(&leaf) + cross,
        roots_pem: roots_pem(cluster),
        tls: NodeTls {
            issuer: Some(issuer.fingerprint),
            roots: cluster.roots().map(|ca| ca.fingerprint).collect(),
            until_ms: unix_ms(until),
        },
    })
}

/// What every node is to trust and to have.
pub(crate) fn trust(cluster: &Cluster) -> v1::Trust {
    v1::Trust {
        roots_pem: roots_pem(cluster),
        issuer: cluster.issuer().fingerprint.to_vec().into(),
    }
}

/// The end of the certificate of the CA that signs now.
pub(crate) fn ends(cluster: &Cluster) -> Option<SystemTime> {
    load(cluster.id, cluster.issuer()).ok().map(|ca| ca.validity().1)
}

/// Whether two clusters' [`trust`] is the same, without making it.
pub(crate) fn trusted(cluster: &Cluster) -> ([u8; 32], [u8; 32]) {
    (cluster.ca.fingerprint, cluster.issuer().fingerprint)
}

/// Begins to replace the CA by the operator's, or by a new one.
pub(crate) async fn rotate(
    writer: &Writer,
    cluster: &Cluster,
    request: v1::RotateCaRequest,
) -> Result<(), Status> {
    let refused = |err: PkiError| Status::invalid_argument(err.to_string());
    let now = SystemTime::now();
    let present = loaded(cluster.id, &cluster.ca)?;
    let next = match (request.ca_cert_pem.as_str(), request.ca_key_pem.as_str()) {
        ("", "") => Ca::create(cluster.id, now).map_err(refused)?,
        // sw:M18
        (_, "") => {
            return Err(Status::invalid_argument(
                "the --ca-cert flag requires that a --ca-key flag be provided as well",
            ));
        }
        ("", _) => {
            return Err(Status::invalid_argument(
                "the --ca-key flag requires that a --ca-cert flag be provided as well",
            ));
        }
        (cert, key) => Ca::adopt(cluster.id, cert, key, now).map_err(refused)?,
    };
    let same = next.fingerprint() == present.fingerprint();
    if !same && next.has_key_of(&present) {
        return Err(swarmnet_proto::refused(
            swarmnet_types::RefusalKind::Conflict,
            "Cannot update to a cert with an identical key",
        ));
    }
    let secret = || swarmnet_pki::random_bytes::<16>().map(Secret::new).map_err(refused);
    let command = Command::RotateCa(Box::new(RotateCa {
        to: row(&next),
        from: present.fingerprint().0,
        cross_pem: if same { String::new() } else { present.cross_sign(&next).map_err(refused)? },
        worker_token: secret()?,
        manager_token: secret()?,
    }));
    writer.write(command, &request.request_id).await?;
    tracing::info!(from = %present.fingerprint(), to = %next.fingerprint(), "the CA is being rotated");
    Ok(())
}

/// The CA, and how far its replacement is.
pub(crate) fn status(state: &State, cluster: &Cluster) -> Result<v1::CaStatus, Status> {
    let shown = |row: &CertificateAuthority| {
        let (starts, ends) = loaded(cluster.id, row)?.validity();
        Ok::<_, Status>(v1::Ca {
            cert_pem: with_newline(&row.cert_pem),
            fingerprint: row.fingerprint.to_vec().into(),
            not_before_ms: unix_ms(starts),
            not_after_ms: unix_ms(ends),
        })
    };
    let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    let name = |id: &NodeId| state.node(*id).map_or_else(|| id.short(), |n| n.name.clone());
    let rotation = match (&cluster.rotation, state.rotation_progress()) {
        (Some(rotation), Some(RotationProgress { trusting, renewed, nodes, missing })) => {
            Some(v1::CaRotation {
                to: Some(shown(&rotation.to)?),
                started_ms: rotation.started_ms,
                nodes: count(nodes),
                trusting: count(trusting),
                renewed: count(renewed),
                missing: missing.iter().take(MISSING_MAX).map(name).collect(),
            })
        }
        _ => None,
    };
    Ok(v1::CaStatus {
        present: Some(shown(&cluster.ca)?),
        rotation,
        cert_expiry_ms: cluster.cert_expiry_ms,
    })
}

/// What a node says of itself.
pub(crate) fn node_tls(said: &v1::NodeTls) -> Result<NodeTls, Status> {
    let fingerprint = |bytes: &[u8]| -> Result<[u8; 32], Status> {
        let wrong = || swarmnet_proto::Malformed::new("fingerprint", "want 32 bytes");
        bytes.try_into().map_err(|_| wrong().into())
    };
    Ok(NodeTls {
        issuer: match &said.issuer[..] {
            [] => None,
            bytes => Some(fingerprint(bytes)?),
        },
        roots: said.roots.iter().map(|root| fingerprint(root)).collect::<Result<_, _>>()?,
        until_ms: said.until_ms,
    })
}
