//! Admission on a node's socket: every call is a manager's to answer.

use swarmnet_proto::v1;
use swarmnet_proto::v1::admission_client::AdmissionClient;
use swarmnet_proto::v1::admission_server::Admission;
use tonic::{Request, Response, Status};

use super::{audit, refused};
use crate::local::cluster::Cluster;

/// See the module.
#[derive(Debug, Clone)]
pub struct AdmissionProxy {
    cluster: Cluster,
}

type Answer<T> = Result<Response<T>, Status>;

impl AdmissionProxy {
    pub fn new(cluster: Cluster) -> Self {
        Self { cluster }
    }
}

#[tonic::async_trait]
impl Admission for AdmissionProxy {
    async fn get_ca(&self, request: Request<v1::GetCaRequest>) -> Answer<v1::CaStatus> {
        pass_on!(self, AdmissionClient, request, get_ca)
    }

    async fn rotate_ca(&self, request: Request<v1::RotateCaRequest>) -> Answer<v1::CaStatus> {
        manage!(self, AdmissionClient, request, rotate_ca)
    }

    async fn update_cluster(
        &self,
        request: Request<v1::UpdateClusterRequest>,
    ) -> Answer<v1::UpdateClusterResponse> {
        manage!(self, AdmissionClient, request, update_cluster)
    }

    async fn create_token(
        &self,
        request: Request<v1::CreateTokenRequest>,
    ) -> Answer<v1::CreateTokenResponse> {
        manage!(self, AdmissionClient, request, create_token)
    }

    async fn list_tokens(
        &self,
        request: Request<v1::ListTokensRequest>,
    ) -> Answer<v1::ListTokensResponse> {
        manage!(self, AdmissionClient, request, list_tokens)
    }

    async fn remove_token(
        &self,
        request: Request<v1::RemoveTokenRequest>,
    ) -> Answer<v1::RemoveTokenResponse> {
        manage!(self, AdmissionClient, request, remove_token)
    }
}
