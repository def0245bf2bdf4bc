//! Joining: a secret and a certificate request become a member with a certificate.

use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use swarmnet_manager_core::{CLOCK_SKEW_MS_MAX, Cluster, Command, JoinNode, Outcome};
use swarmnet_pki::{Ca, Issue, JoinLimiter, JoinSecret, JoinToken, PkiError, authz};
use swarmnet_proto::v1;
use swarmnet_proto::v1::join_server::Join;
use swarmnet_types::{NodeId, Role};
use tonic::{Request, Response, Status};

use crate::writer::{Writer, now_ms};

#[derive(Debug)]
pub(crate) struct JoinGrpc {
    writer: Writer,
    limiter: Mutex<JoinLimiter>,
}

impl JoinGrpc {
    pub(crate) fn new(writer: Writer) -> Self {
        Self { writer, limiter: Mutex::default() }
    }

    fn admit(&self, remote: Option<SocketAddr>) -> Result<(), Status> {
        let Some(remote) = remote else { return Ok(()) };
        let mut limiter = self.limiter.lock().unwrap_or_else(PoisonError::into_inner);
        if limiter.allow(remote.ip(), Instant::now()) {
            Ok(())
        } else {
            Err(Status::resource_exhausted(
                "too many attempts to join from this address: wait a little",
            ))
        }
    }
}

/// The cluster's own facts, copied out of the state.
pub(crate) fn cluster(writer: &Writer) -> Result<Cluster, Status> {
    writer
        .read(|s| s.cluster().cloned())
        .ok_or_else(|| Status::unavailable("this manager has not caught up with its cluster yet"))
}

fn secret(bytes: &[u8]) -> Result<JoinSecret, Status> {
    let bytes =
        bytes.try_into().map_err(|_| Status::internal("a stored secret has another length"))?;
    Ok(JoinSecret::from_bytes(bytes))
}

/// The join token of a role, with the managers' addresses in it.
pub(crate) fn token(writer: &Writer, role: Role) -> Result<JoinToken, Status> {
    let cluster = cluster(writer)?;
    let ca = authority(&cluster).map_err(|err| Status::internal(err.to_string()))?;
    Ok(JoinToken {
        ca_fingerprint: ca.fingerprint(),
        secret: secret(cluster.tokens.of(role).expose())?,
        role,
        addrs: writer.read(|s| s.managers().map(|n| n.addr).collect()),
    })
}

/// The cluster's CA, as the state holds it.
pub(crate) fn authority(cluster: &Cluster) -> Result<Ca, PkiError> {
    let key = String::from_utf8_lossy(cluster.ca.key_pem.expose()).into_owned();
    Ca::from_pem(&cluster.ca.cert_pem, &key)
}

/// A certificate for a node of this cluster.
pub(crate) fn issue(
    cluster: &Cluster,
    csr_der: &[u8],
    (node_id, role): (NodeId, Role),
) -> Result<String, Status> {
    let lifetime = Duration::from_millis(cluster.cert_expiry_ms);
    authority(cluster)
        .map_err(|err| Status::internal(err.to_string()))?
        .sign_csr(csr_der, &Issue { node_id, role, lifetime }, SystemTime::now())
        .map_err(|err| Status::invalid_argument(err.to_string()))
}

#[tonic::async_trait]
impl Join for JoinGrpc {
    async fn join(
        &self,
        request: Request<v1::JoinRequest>,
    ) -> Result<Response<v1::JoinResponse>, Status> {
        self.admit(authz::caller(&request).map(|c| c.remote))?;
        let request = request.into_inner();
        let availability = Option::from(request.availability()).unwrap_or_default();
        let cluster = cluster(&self.writer)?;
        let role = [Role::Worker, Role::Manager]
            .into_iter()
            .find(|role| {
                secret(cluster.tokens.of(*role).expose()).is_ok_and(|s| s.matches(&request.secret))
            })
            .ok_or_else(|| {
                Status::permission_denied(
                    "A valid join token is necessary to join this cluster (this one was rotated: get the current one with `swarmnet manager token`)",
                )
            })?;
        if request.now_ms != 0 && request.now_ms.abs_diff(now_ms()) > CLOCK_SKEW_MS_MAX {
            return Err(Status::failed_precondition(format!(
                "the clocks of this machine and of the manager are {} minutes apart: set them, then join again",
                request.now_ms.abs_diff(now_ms()) / 60_000
            )));
        }
        let node = NodeId::from_bytes(rand::random());
        let certificate_pem = issue(&cluster, &request.csr_der, (node, role))?;
        let description = request
            .description
            .ok_or_else(|| Status::invalid_argument("malformed message: description: missing"))?
            .try_into()?;
        let command = Command::JoinNode(JoinNode { node, role, availability, description });
        let (_, outcome) = self.writer.write(command, &[]).await?;
        let Outcome::NodeJoined { index, .. } = outcome else {
            return Err(Status::internal("the state answered a join with something else"));
        };
        tracing::info!(%node, %role, "joined");
        Ok(Response::new(v1::JoinResponse {
            node: node.as_bytes().to_vec().into(),
            index: index.get(),
            certificate_pem,
            ca_pem: cluster.ca.cert_pem.clone(),
            managers: self.writer.read(|s| s.managers().map(|n| n.addr.to_string()).collect()),
            cluster: cluster.id.as_bytes().to_vec().into(),
        }))
    }
}
