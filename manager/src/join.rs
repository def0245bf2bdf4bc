//! Joining: a secret and a certificate request become a member with a certificate.

use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use swarmnet_manager_core::{
    CLOCK_SKEW_MS_MAX, Cluster, Command, JoinNode, Outcome, Rejection, Secret,
};
use swarmnet_pki::{Fingerprint, JoinLimiter, JoinSecret, JoinToken, authz};
use swarmnet_proto::v1;
use swarmnet_proto::v1::join_server::Join;
use swarmnet_proto::wire::{self, Spoken};
use swarmnet_types::{NodeId, Role, TokenId};
use tonic::{Request, Response, Status};

use crate::ca;
use crate::writer::{Writer, now_ms, refusal};

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

    /// The role that the secret stands for, and the further token that it belongs to. That a token is still good is judged again when
    /// the join is applied; here, so that nothing is signed in vain.
    fn token_of(&self, cluster: &Cluster, told: &[u8]) -> Result<(Role, Option<TokenId>), Status> {
        let is_it = |of: &Secret| secret(of.expose()).is_ok_and(|s| s.matches(told));
        let standing = [Role::Worker, Role::Manager];
        if let Some(role) = standing.into_iter().find(|role| is_it(cluster.tokens.of(*role))) {
            return Ok((role, None));
        }
        let further = self.writer.read(|s| s.further_tokens().find(|t| is_it(&t.secret)).cloned());
        let token = further.ok_or_else(|| refusal(&Rejection::TokenUnknown))?;
        match token.end(now_ms()) {
            None => Ok((token.role, Some(token.id))),
            Some((end, _)) => Err(refusal(&Rejection::TokenOver { end })),
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

/// The standing join token of a role, with the managers' addresses in it.
pub(crate) fn token(writer: &Writer, role: Role) -> Result<JoinToken, Status> {
    token_with(writer, role, cluster(writer)?.tokens.of(role))
}

/// A token with this secret. It names the CA that signs now: the one that is left when a rotation ends.
pub(crate) fn token_with(
    writer: &Writer,
    role: Role,
    stored: &Secret,
) -> Result<JoinToken, Status> {
    Ok(JoinToken {
        ca_fingerprint: Fingerprint(cluster(writer)?.issuer().fingerprint),
        secret: secret(stored.expose())?,
        role,
        addrs: writer.read(|s| s.managers().map(|n| n.addr).collect()),
    })
}

#[tonic::async_trait]
impl Join for JoinGrpc {
    async fn join(
        &self,
        request: Request<v1::JoinRequest>,
    ) -> Result<Response<v1::JoinResponse>, Status> {
        self.admit(authz::caller(&request).map(|c| c.remote))?;
        let request = request.into_inner();
        let wire = wire::agree("manager", "node", Spoken::told(request.wire))?;
        let availability = Option::from(request.availability()).unwrap_or_default();
        // A token that was revoked at another manager a moment ago must not do here, nor a CA that was replaced sign.
        self.writer.catch_up().await?;
        let cluster = cluster(&self.writer)?;
        let (role, token) = self.token_of(&cluster, &request.secret)?;
        if request.now_ms != 0 && request.now_ms.abs_diff(now_ms()) > CLOCK_SKEW_MS_MAX {
            return Err(Status::failed_precondition(format!(
                "the clocks of this machine and of the manager are {} minutes apart: set them, then join again",
                request.now_ms.abs_diff(now_ms()) / 60_000
            )));
        }
        let node = NodeId::from_bytes(rand::random());
        let issued = ca::issue(&cluster, &request.csr_der, (node, role))?;
        let description = request
            .description
            .ok_or_else(|| Status::invalid_argument("malformed message: description: missing"))?
            .try_into()?;
        let tls = issued.tls;
        let command =
            Command::JoinNode(JoinNode { node, role, availability, description, tls, token });
        let (_, outcome) = self.writer.write(command, &[]).await?;
        let Outcome::NodeJoined { index, .. } = outcome else {
            return Err(Status::internal("the state answered a join with something else"));
        };
        tracing::info!(%node, %role, "joined");
        Ok(Response::new(v1::JoinResponse {
            node: node.as_bytes().to_vec().into(),
            index: index.get(),
            certificate_pem: issued.chain_pem,
            ca_pem: issued.roots_pem,
            managers: self.writer.read(|s| s.managers().map(|n| n.addr.to_string()).collect()),
            cluster: cluster.id.as_bytes().to_vec().into(),
            wire,
        }))
    }
}
