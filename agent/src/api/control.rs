//! The control API on a node: local networks are answered here, everything else by a manager. With no manager the networks of the
//! last view are still shown.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use swarmnet_proto::v1;
use swarmnet_proto::v1::control_client::ControlClient;
use swarmnet_proto::v1::control_server::Control;
use swarmnet_types::{Network, NetworkId, NetworkSpec, Role, Scope};
use tokio::time::timeout;
use tokio_stream::{Stream, StreamExt as _};
use tonic::{Code, Request, Response, Status};

use super::{audit, refused};
use crate::local::cluster::Cluster;
use crate::local::host::Host;
use crate::local::sandboxes::{Means, now_ms};
use crate::local::{LocalError, LocalStore, Session, lookup, networks};

/// How long the cluster is asked about a name before the last view has to do.
const ASK_MAX: Duration = Duration::from_secs(1);
/// Four thousand events are about 2 MB.
const MESSAGE_BYTES_MAX: usize = 64 << 20;

/// See the module.
#[derive(Debug, Clone)]
pub struct ControlProxy {
    store: Arc<LocalStore>,
    host: Arc<dyn Host>,
    cluster: Cluster,
    session: Arc<dyn Session>,
}

type Answer<T> = Result<Response<T>, Status>;

/// Passes a read on to a manager.
macro_rules! read {
    ($self:ident, $request:ident, $method:ident) => {{ pass_on!($self, ControlClient, $request, $method) }};
}

/// Passes a change on to a manager, when this node may make one.
macro_rules! write {
    ($self:ident, $request:ident, $method:ident) => {{
        audit(&$request, stringify!($method));
        $self.cluster.may_write().map_err(|err| refused(&err))?;
        read!($self, $request, $method)
    }};
}

impl ControlProxy {
    pub fn new(means: &Means) -> Self {
        Self {
            store: Arc::clone(&means.store),
            host: Arc::clone(&means.host),
            cluster: means.cluster.clone(),
            session: Arc::clone(&means.session),
        }
    }

    /// Makes the predefined networks that are missing.
    ///
    /// # Errors
    /// See [`LocalError`].
    pub async fn ensure_predefined(&self) -> Result<(), LocalError> {
        let routes = self.host.routes()?;
        let ids = [(); 3].map(|()| NetworkId::from_bytes(rand::random()));
        self.store
            .change(|draft| {
                for network in networks::predefined(&draft.objects, ids, now_ms(), &routes)? {
                    draft.objects.networks.insert(network.id, Arc::new(network));
                }
                Ok(())
            })
            .await
            .map(drop)
    }

    async fn create_local(&self, spec: NetworkSpec) -> Result<Network, LocalError> {
        if self.cluster_has(spec.name.as_str()).await {
            return Err(LocalError::NetworkExists { name: spec.name });
        }
        let routes = self.host.routes()?;
        let id = NetworkId::from_bytes(rand::random());
        let (network, _) = self
            .store
            .change(|draft| {
                let network = networks::grant(&draft.objects, spec, id, (now_ms(), &routes))?;
                draft.objects.networks.insert(id, Arc::new(network.clone()));
                Ok(network)
            })
            .await?;
        Ok(network)
    }

    /// Names are one space over both scopes (`sw:C8`): asked of a manager, or of the last view when none answers soon.
    async fn cluster_has(&self, name: &str) -> bool {
        if self.cluster.standing().is_none() {
            return false;
        }
        let known = |network: &Network| network.spec.name.as_str() == name;
        match timeout(ASK_MAX, self.cluster.network(name)).await {
            Ok(Ok(found)) => found.as_ref().is_some_and(known),
            Ok(Err(_)) | Err(_) => {
                self.session.view().is_some_and(|v| v.networks.values().any(known))
            }
        }
    }

    /// Networks of the cluster: all of them, or those of the last view when no manager answers.
    async fn cluster_networks(&self) -> Result<Vec<v1::Network>, LocalError> {
        let call = |channel| async move {
            ControlClient::new(channel).list_networks(v1::ListNetworksRequest {}).await
        };
        match (self.cluster.call(call).await, self.session.view()) {
            (Ok(answer), _) => Ok(answer.networks),
            (Err(LocalError::NoManager { .. } | LocalError::Locked), Some(view)) => {
                Ok(view.networks.values().map(Into::into).collect())
            }
            (Err(err), _) => Err(err),
        }
    }

    /// A network as the last view has it.
    fn viewed(&self, reference: &str) -> Option<v1::NetworkDetail> {
        let view = self.session.view()?;
        let meant =
            |n: &&Network| n.id.to_string() == reference || n.spec.name.as_str() == reference;
        let network = view.networks.values().find(meant)?;
        let endpoints = view.endpoints.values().filter(|e| e.network == network.id);
        let services = view.services.values().filter(|s| s.vips.contains_key(&network.id));
        Some(v1::NetworkDetail {
            network: Some(network.into()),
            endpoints: endpoints.map(Into::into).collect(),
            services: services.map(Into::into).collect(),
            usage: Vec::new(),
            nodes: Vec::new(),
        })
    }

    /// The manager that answers has marked itself; it is this node that was asked.
    fn mark_own<'a>(&self, statuses: impl Iterator<Item = &'a mut v1::NodeStatus>) {
        let me = self.cluster.standing().map(|s| s.node);
        for status in statuses {
            let node = status.node.as_ref().map(|n| n.id.clone()).unwrap_or_default();
            status.myself = me.is_some_and(|me| node[..] == me.as_bytes()[..]);
        }
    }

    fn local(&self, reference: &str) -> Result<Option<Arc<Network>>, Status> {
        let found = lookup::network(&self.store.current(), reference);
        found.map(|f| f.map(|(network, _)| network)).map_err(|err| refused(&err))
    }

    fn local_detail(&self, network: &Network) -> v1::NetworkDetail {
        let objects = self.store.current();
        let on = objects.sandboxes.values().flat_map(|s| &s.attachments);
        let endpoints = on.filter(|a| a.network.id == network.id).map(|a| (&a.endpoint).into());
        let saturated = |n: u128| u64::try_from(n).unwrap_or(u64::MAX);
        let usage = networks::usage(&objects, network).into_iter().map(|(subnet, (used, free))| {
            v1::SubnetUsage {
                subnet: subnet.to_string(),
                used: saturated(used),
                free: saturated(free),
            }
        });
        v1::NetworkDetail {
            network: Some(network.into()),
            endpoints: endpoints.collect(),
            services: Vec::new(),
            usage: usage.collect(),
            nodes: Vec::new(),
        }
    }
}

#[tonic::async_trait]
impl Control for ControlProxy {
    async fn create_network(
        &self,
        request: Request<v1::CreateNetworkRequest>,
    ) -> Answer<v1::CreateNetworkResponse> {
        let wanted = request.get_ref().spec.clone();
        let spec: NetworkSpec = wanted
            .ok_or_else(|| Status::invalid_argument("malformed message: spec: missing"))?
            .try_into()?;
        if spec.scope == Scope::Local {
            audit(&request, "create_network");
            let network = self.create_local(spec).await.map_err(|err| refused(&err))?;
            let network = Some((&network).into());
            return Ok(Response::new(v1::CreateNetworkResponse { network, revision: 0 }));
        }
        if self.local(spec.name.as_str())?.is_some_and(|n| n.spec.name == spec.name) {
            return Err(refused(&LocalError::NetworkExists { name: spec.name }));
        }
        if self.cluster.standing().is_some_and(|s| s.role == Role::Worker) {
            return Err(refused(&LocalError::WorkerNetwork));
        }
        write!(self, request, create_network)
    }

    async fn remove_network(
        &self,
        request: Request<v1::RemoveNetworkRequest>,
    ) -> Answer<v1::RemoveNetworkResponse> {
        let Some(network) = self.local(&request.get_ref().reference)? else {
            if self.cluster.standing().is_none() {
                let text = request.into_inner().reference;
                return Err(refused(&LocalError::NoNetwork { text }));
            }
            return write!(self, request, remove_network);
        };
        audit(&request, "remove_network");
        self.store
            .change(|draft| {
                networks::check_removal(&draft.objects, &network)?;
                draft.objects.networks.remove(&network.id);
                Ok(())
            })
            .await
            .map_err(|err| refused(&err))?;
        let id = Bytes::copy_from_slice(network.id.as_bytes());
        Ok(Response::new(v1::RemoveNetworkResponse { id, revision: 0 }))
    }

    /// Those of this node, and those of the cluster.
    async fn list_networks(
        &self,
        _: Request<v1::ListNetworksRequest>,
    ) -> Answer<v1::ListNetworksResponse> {
        let local = self.store.current();
        let mut all: Vec<v1::Network> = local.networks.values().map(|n| (&**n).into()).collect();
        if self.cluster.standing().is_some() {
            all.extend(self.cluster_networks().await.map_err(|err| refused(&err))?);
        }
        Ok(Response::new(v1::ListNetworksResponse { networks: all }))
    }

    async fn inspect_network(
        &self,
        request: Request<v1::InspectRequest>,
    ) -> Answer<v1::NetworkDetail> {
        match self.local(&request.get_ref().reference)? {
            Some(network) => Ok(Response::new(self.local_detail(&network))),
            None if self.cluster.standing().is_none() => {
                let text = request.into_inner().reference;
                Err(refused(&LocalError::NoNetwork { text }))
            }
            None => {
                let viewed = self.viewed(&request.get_ref().reference);
                let answer: Answer<v1::NetworkDetail> = read!(self, request, inspect_network);
                match (answer, viewed) {
                    (Err(status), Some(detail)) if status.code() == Code::FailedPrecondition => {
                        Ok(Response::new(detail))
                    }
                    (answer, _) => answer,
                }
            }
        }
    }

    /// Networks of this node have no endpoints that outlive their sandbox.
    async fn clear_endpoint(
        &self,
        request: Request<v1::ClearEndpointRequest>,
    ) -> Answer<v1::ClearEndpointResponse> {
        if self.local(&request.get_ref().network)?.is_some() {
            let text = request.into_inner().name;
            return Err(refused(&LocalError::NoSandbox { text }));
        }
        write!(self, request, clear_endpoint)
    }

    async fn create_service(
        &self,
        request: Request<v1::CreateServiceRequest>,
    ) -> Answer<v1::ServiceResponse> {
        write!(self, request, create_service)
    }

    async fn update_service(
        &self,
        request: Request<v1::UpdateServiceRequest>,
    ) -> Answer<v1::ServiceResponse> {
        write!(self, request, update_service)
    }

    async fn remove_service(
        &self,
        request: Request<v1::RemoveServiceRequest>,
    ) -> Answer<v1::RemoveServiceResponse> {
        write!(self, request, remove_service)
    }

    async fn publish(&self, request: Request<v1::PublishRequest>) -> Answer<v1::ServiceResponse> {
        write!(self, request, publish)
    }

    async fn unpublish(
        &self,
        request: Request<v1::UnpublishRequest>,
    ) -> Answer<v1::ServiceResponse> {
        write!(self, request, unpublish)
    }

    async fn change_backends(
        &self,
        request: Request<v1::ChangeBackendsRequest>,
    ) -> Answer<v1::ServiceResponse> {
        write!(self, request, change_backends)
    }

    async fn list_services(
        &self,
        request: Request<v1::ListServicesRequest>,
    ) -> Answer<v1::ListServicesResponse> {
        read!(self, request, list_services)
    }

    async fn inspect_service(
        &self,
        request: Request<v1::InspectRequest>,
    ) -> Answer<v1::ServiceDetail> {
        read!(self, request, inspect_service)
    }

    async fn list_nodes(
        &self,
        request: Request<v1::ListNodesRequest>,
    ) -> Answer<v1::ListNodesResponse> {
        let mut answer: Response<v1::ListNodesResponse> = read!(self, request, list_nodes)?;
        self.mark_own(answer.get_mut().nodes.iter_mut());
        Ok(answer)
    }

    async fn inspect_node(&self, request: Request<v1::InspectRequest>) -> Answer<v1::NodeStatus> {
        read!(self, request, inspect_node)
    }

    async fn list_managers(
        &self,
        request: Request<v1::ListManagersRequest>,
    ) -> Answer<v1::ManagerGroup> {
        let mut answer: Response<v1::ManagerGroup> = read!(self, request, list_managers)?;
        for member in &mut answer.get_mut().members {
            self.mark_own(member.status.iter_mut());
        }
        Ok(answer)
    }

    async fn update_node(&self, request: Request<v1::UpdateNodeRequest>) -> Answer<v1::NodeStatus> {
        write!(self, request, update_node)
    }

    async fn remove_node(
        &self,
        request: Request<v1::RemoveNodeRequest>,
    ) -> Answer<v1::RemoveNodeResponse> {
        write!(self, request, remove_node)
    }

    async fn get_token(
        &self,
        request: Request<v1::GetTokenRequest>,
    ) -> Answer<v1::GetTokenResponse> {
        write!(self, request, get_token)
    }

    async fn get_cluster(
        &self,
        request: Request<v1::GetClusterRequest>,
    ) -> Answer<v1::ClusterStatus> {
        read!(self, request, get_cluster)
    }

    type WaitStream = Pin<Box<dyn Stream<Item = Result<v1::WaitProgress, Status>> + Send>>;

    async fn wait(&self, request: Request<v1::WaitRequest>) -> Answer<Self::WaitStream> {
        let wanted = request.into_inner();
        let call = |channel| async move { ControlClient::new(channel).wait(wanted).await };
        let stream = self.cluster.call(call).await.map_err(|err| refused(&err))?;
        Ok(Response::new(Box::pin(stream)))
    }

    type EventsStream = Pin<Box<dyn Stream<Item = Result<v1::EventsResponse, Status>> + Send>>;

    async fn events(&self, request: Request<v1::EventsRequest>) -> Answer<Self::EventsStream> {
        let wanted = request.into_inner();
        let call = |channel| async move {
            let client = ControlClient::new(channel);
            client.max_decoding_message_size(MESSAGE_BYTES_MAX).events(wanted).await
        };
        let stream = self.cluster.call(call).await.map_err(|err| match err {
            // For now: whoever follows asks again.
            LocalError::NoManager { sentence } => Status::unavailable(sentence),
            other => refused(&other),
        })?;
        // What broke on the way, another manager can go on with.
        let passing = |status: Status| match std::error::Error::source(&status) {
            None => status,
            Some(_) => Status::unavailable("the manager is gone"),
        };
        Ok(Response::new(Box::pin(stream.map(move |said| said.map_err(passing)))))
    }
}
