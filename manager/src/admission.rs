//! Who may be a node: the CA, the life of certificates, and join tokens, as operators see and change them.

use std::time::Duration;

use swarmnet_manager_core::{
    ClusterChange, Command, CreateToken, FurtherToken, Outcome, Secret, TokenEnd,
};
use swarmnet_proto::v1;
use swarmnet_proto::v1::admission_server::Admission;
use swarmnet_types::Role;
use tonic::{Request, Response, Status};

use crate::ca::{self, CERT_EXPIRY_MIN};
use crate::join;
use crate::writer::{Writer, now_ms};

/// A node that is restarted is not gone.
const EPHEMERAL_MIN: Duration = Duration::from_secs(10);

type Answer<T> = Result<Response<T>, Status>;

#[derive(Debug, Clone)]
pub(crate) struct AdmissionGrpc {
    writer: Writer,
}

impl AdmissionGrpc {
    pub(crate) fn new(writer: Writer) -> Self {
        Self { writer }
    }

    fn ca(&self) -> Answer<v1::CaStatus> {
        let cluster = join::cluster(&self.writer)?;
        self.writer.read(|state| ca::status(state, &cluster)).map(Response::new)
    }
}

fn milliseconds(seconds: u64) -> Option<u64> {
    (seconds > 0).then(|| seconds.saturating_mul(1000))
}

fn listed(token: &FurtherToken, now_ms: u64) -> v1::Token {
    let state = match token.end(now_ms) {
        None => v1::TokenState::Valid,
        Some((TokenEnd::Revoked, _)) => v1::TokenState::Revoked,
        Some((TokenEnd::UsedUp, _)) => v1::TokenState::UsedUp,
        Some((TokenEnd::Expired, _)) => v1::TokenState::Expired,
    };
    v1::Token {
        id: token.id.as_bytes().to_vec().into(),
        role: v1::Role::from(token.role).into(),
        created_ms: token.created_ms,
        expires_ms: token.expires_ms.unwrap_or_default(),
        uses: token.uses,
        uses_max: token.uses_max.unwrap_or_default(),
        used_ms: token.used_ms,
        ephemeral_ms: token.ephemeral_ms.unwrap_or_default(),
        state: state.into(),
    }
}

#[tonic::async_trait]
impl Admission for AdmissionGrpc {
    async fn get_ca(&self, _: Request<v1::GetCaRequest>) -> Answer<v1::CaStatus> {
        // Without a quorum nothing changes any more: what this manager knows is better than no answer.
        if let Err(err) = self.writer.raft().barrier().await {
            tracing::debug!(%err, "tells of the CA without a quorum");
        }
        self.ca()
    }

    async fn rotate_ca(&self, request: Request<v1::RotateCaRequest>) -> Answer<v1::CaStatus> {
        self.writer.catch_up().await?;
        let cluster = join::cluster(&self.writer)?;
        ca::rotate(&self.writer, &cluster, request.into_inner()).await?;
        self.ca()
    }

    async fn update_cluster(
        &self,
        request: Request<v1::UpdateClusterRequest>,
    ) -> Answer<v1::UpdateClusterResponse> {
        let request = request.into_inner();
        let cert_expiry_ms = milliseconds(request.cert_expiry_s);
        let least_ms = CERT_EXPIRY_MIN.as_millis();
        if cert_expiry_ms.is_some_and(|ms| u128::from(ms) < least_ms) {
            return Err(Status::invalid_argument("minimum certificate expiry time is: 1h0m0s"));
        }
        let command = Command::UpdateCluster(ClusterChange { cert_expiry_ms });
        let (revision, _) = self.writer.write(command, &request.request_id).await?;
        Ok(Response::new(v1::UpdateClusterResponse { revision: revision.0 }))
    }

    async fn create_token(
        &self,
        request: Request<v1::CreateTokenRequest>,
    ) -> Answer<v1::CreateTokenResponse> {
        let request = request.into_inner();
        let role: Role = Option::from(request.role())
            .ok_or_else(|| Status::invalid_argument("malformed message: role: missing"))?;
        let ephemeral_ms = milliseconds(request.ephemeral_s);
        if ephemeral_ms.is_some_and(|ms| u128::from(ms) < EPHEMERAL_MIN.as_millis()) {
            return Err(Status::invalid_argument(
                "an ephemeral node may be gone for 10s at least: one that restarts is not gone",
            ));
        }
        let secret: [u8; 16] =
            swarmnet_pki::random_bytes().map_err(|err| Status::internal(err.to_string()))?;
        let command = Command::CreateToken(CreateToken {
            role,
            secret: Secret::new(secret),
            ttl_ms: milliseconds(request.ttl_s),
            uses: (request.uses > 0).then_some(request.uses),
            ephemeral_ms,
        });
        let (_, outcome) = self.writer.write(command, &request.request_id).await?;
        let Outcome::TokenCreated { token } = outcome else {
            return Err(Status::internal("the state answered a new token with something else"));
        };
        // A call that was repeated finds what the first try made.
        let row = self.writer.read(|s| s.further_token(token).cloned());
        let row = row.ok_or_else(|| Status::aborted("the token was removed at once"))?;
        let text = join::token_with(&self.writer, role, &row.secret)?.to_string();
        Ok(Response::new(v1::CreateTokenResponse {
            id: token.as_bytes().to_vec().into(),
            token: text,
        }))
    }

    async fn list_tokens(
        &self,
        _: Request<v1::ListTokensRequest>,
    ) -> Answer<v1::ListTokensResponse> {
        self.writer.catch_up().await?;
        let now_ms = now_ms();
        let mut tokens: Vec<_> =
            self.writer.read(|s| s.further_tokens().map(|t| listed(t, now_ms)).collect());
        tokens.sort_by_key(|t| t.created_ms);
        Ok(Response::new(v1::ListTokensResponse { tokens }))
    }

    async fn remove_token(
        &self,
        request: Request<v1::RemoveTokenRequest>,
    ) -> Answer<v1::RemoveTokenResponse> {
        let request = request.into_inner();
        let command = Command::RemoveToken { token: request.reference };
        self.writer.write(command, &request.request_id).await?;
        Ok(Response::new(v1::RemoveTokenResponse {}))
    }
}
