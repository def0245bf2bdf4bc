//! The control API: what operators and runtimes ask. One file for each noun holds what its calls do; here they meet gRPC.
//!
//! Reads are answered from this manager's own state, which may be a moment behind the leader's; a write is in it when its answer
//! comes.

use std::pin::Pin;

use swarmnet_proto::v1;
use swarmnet_proto::v1::control_server::Control;
use tokio_stream::Stream;
use tonic::{Request, Response, Status};

use crate::acks::Acks;
use crate::manager::{Liveness, Routes};
use crate::writer::Writer;

mod cluster;
mod events;
mod managers;
mod networks;
mod nodes;
mod services;

#[derive(Debug, Clone)]
pub(crate) struct ControlGrpc {
    writer: Writer,
    acks: Acks,
    liveness: Liveness,
    routes: Routes,
}

impl ControlGrpc {
    pub(crate) fn new(writer: Writer, acks: Acks, liveness: Liveness, routes: Routes) -> Self {
        Self { writer, acks, liveness, routes }
    }
}

fn missing(field: &'static str) -> Status {
    Status::invalid_argument(format!("malformed message: {field}: missing"))
}

fn id(bytes: &[u8; 16]) -> bytes::Bytes {
    bytes::Bytes::copy_from_slice(bytes)
}

type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl Control for ControlGrpc {
    async fn create_network(
        &self,
        request: Request<v1::CreateNetworkRequest>,
    ) -> Answer<v1::CreateNetworkResponse> {
        self.network_create(request.into_inner()).await.map(Response::new)
    }

    async fn remove_network(
        &self,
        request: Request<v1::RemoveNetworkRequest>,
    ) -> Answer<v1::RemoveNetworkResponse> {
        self.network_remove(request.into_inner()).await.map(Response::new)
    }

    async fn list_networks(
        &self,
        _: Request<v1::ListNetworksRequest>,
    ) -> Answer<v1::ListNetworksResponse> {
        let networks = self.writer.read(|s| s.networks().map(Into::into).collect());
        Ok(Response::new(v1::ListNetworksResponse { networks }))
    }

    async fn inspect_network(
        &self,
        request: Request<v1::InspectRequest>,
    ) -> Answer<v1::NetworkDetail> {
        self.network_inspect(&request.into_inner().reference).await.map(Response::new)
    }

    async fn clear_endpoint(
        &self,
        request: Request<v1::ClearEndpointRequest>,
    ) -> Answer<v1::ClearEndpointResponse> {
        self.endpoint_clear(request.into_inner()).await.map(Response::new)
    }

    async fn create_service(
        &self,
        request: Request<v1::CreateServiceRequest>,
    ) -> Answer<v1::ServiceResponse> {
        self.service_create(request.into_inner()).await.map(Response::new)
    }

    async fn update_service(
        &self,
        request: Request<v1::UpdateServiceRequest>,
    ) -> Answer<v1::ServiceResponse> {
        self.service_update(request.into_inner()).await.map(Response::new)
    }

    async fn remove_service(
        &self,
        request: Request<v1::RemoveServiceRequest>,
    ) -> Answer<v1::RemoveServiceResponse> {
        self.service_remove(request.into_inner()).await.map(Response::new)
    }

    async fn publish(&self, request: Request<v1::PublishRequest>) -> Answer<v1::ServiceResponse> {
        self.service_publish(request.into_inner()).await.map(Response::new)
    }

    async fn unpublish(
        &self,
        request: Request<v1::UnpublishRequest>,
    ) -> Answer<v1::ServiceResponse> {
        self.service_unpublish(request.into_inner()).await.map(Response::new)
    }

    async fn change_backends(
        &self,
        request: Request<v1::ChangeBackendsRequest>,
    ) -> Answer<v1::ServiceResponse> {
        self.service_backends(request.into_inner()).await.map(Response::new)
    }

    async fn list_services(
        &self,
        _: Request<v1::ListServicesRequest>,
    ) -> Answer<v1::ListServicesResponse> {
        let services =
            self.writer.read(|s| s.services().map(|one| services::detail(s, one)).collect());
        Ok(Response::new(v1::ListServicesResponse { services }))
    }

    async fn inspect_service(
        &self,
        request: Request<v1::InspectRequest>,
    ) -> Answer<v1::ServiceDetail> {
        let reference = request.into_inner().reference;
        self.writer
            .read(|s| s.find_service(&reference).map(|one| services::detail(s, one)))
            .map(Response::new)
            .map_err(|err| crate::writer::refusal(&err))
    }

    async fn list_nodes(&self, _: Request<v1::ListNodesRequest>) -> Answer<v1::ListNodesResponse> {
        Ok(Response::new(v1::ListNodesResponse { nodes: self.node_list().await }))
    }

    async fn inspect_node(&self, request: Request<v1::InspectRequest>) -> Answer<v1::NodeStatus> {
        let speaker = swarmnet_pki::Speaker::of(&request)?.node_id();
        self.node_inspect(&request.into_inner().reference, speaker).await.map(Response::new)
    }

    async fn update_node(&self, request: Request<v1::UpdateNodeRequest>) -> Answer<v1::NodeStatus> {
        self.node_update(request.into_inner()).await.map(Response::new)
    }

    async fn remove_node(
        &self,
        request: Request<v1::RemoveNodeRequest>,
    ) -> Answer<v1::RemoveNodeResponse> {
        self.node_remove(request.into_inner()).await.map(Response::new)
    }

    async fn list_managers(&self, _: Request<v1::ListManagersRequest>) -> Answer<v1::ManagerGroup> {
        Ok(Response::new(self.manager_list().await))
    }

    async fn get_token(
        &self,
        request: Request<v1::GetTokenRequest>,
    ) -> Answer<v1::GetTokenResponse> {
        self.token(request.into_inner()).await.map(Response::new)
    }

    async fn get_cluster(&self, _: Request<v1::GetClusterRequest>) -> Answer<v1::ClusterStatus> {
        self.cluster_status().map(Response::new)
    }

    type WaitStream = Pin<Box<dyn Stream<Item = Result<v1::WaitProgress, Status>> + Send>>;

    async fn wait(&self, request: Request<v1::WaitRequest>) -> Answer<Self::WaitStream> {
        Ok(Response::new(Box::pin(self.clone().wait_for(request.into_inner().revision))))
    }

    type EventsStream = Pin<Box<dyn Stream<Item = Result<v1::EventsResponse, Status>> + Send>>;

    async fn events(&self, request: Request<v1::EventsRequest>) -> Answer<Self::EventsStream> {
        let stream = self.clone().follow_events(request.into_inner()).await?;
        Ok(Response::new(Box::pin(stream)))
    }
}
