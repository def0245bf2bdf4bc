//! Services, their ports and backends.

use swarmnet_manager_core::{
    AddBackend, Command, NetworkChange, Outcome, Publish, ServiceChange, State, Unpublish,
};
use swarmnet_proto::{Malformed, v1};
use swarmnet_types::service::ExternalBackend;
use swarmnet_types::{Name, Protocol, PublishSpec, Revision, Service, ServiceId, ServiceSpec};
use tonic::Status;

use super::{ControlGrpc, id, missing};
use crate::writer::refusal;

pub(super) fn detail(state: &State, service: &Service) -> v1::ServiceDetail {
    let tasks: Vec<_> = state
        .tasks_of(service.id)
        .filter(|e| state.network(e.network).is_some_and(|n| !n.spec.ingress))
        .collect();
    let nodes: std::collections::BTreeSet<_> = tasks.iter().map(|e| e.node).collect();
    v1::ServiceDetail {
        service: Some(service.into()),
        networks: service.vips.keys().filter_map(|n| state.network(*n)).map(Into::into).collect(),
        nodes: nodes.into_iter().filter_map(|n| state.node(n)).map(Into::into).collect(),
        tasks: tasks.into_iter().map(Into::into).collect(),
    }
}

fn specs(publications: Vec<v1::Publication>) -> Result<Vec<PublishSpec>, Status> {
    Ok(publications.into_iter().map(PublishSpec::try_from).collect::<Result<_, Malformed>>()?)
}

fn named(service: String) -> Option<String> {
    Some(service).filter(|s| !s.is_empty())
}

/// `PORT[/PROTOCOL]`.
fn port(text: &str) -> Result<(u16, Option<Protocol>), Status> {
    let (port, protocol) = text.split_once('/').map_or((text, None), |(p, q)| (p, Some(q)));
    let number = port.parse().ok().filter(|p| *p != 0).ok_or_else(|| {
        Status::invalid_argument(format!("invalid port ({text}): want PORT or PORT/PROTOCOL"))
    })?;
    let protocol = protocol.map(str::parse).transpose().map_err(
        |err: swarmnet_types::publish::PublishError| Status::invalid_argument(err.to_string()),
    )?;
    Ok((number, protocol))
}

impl ControlGrpc {
    fn answer(&self, revision: Revision, service: ServiceId, created: bool) -> v1::ServiceResponse {
        v1::ServiceResponse {
            service: self.writer.read(|s| s.service(service).map(Into::into)),
            revision: revision.0,
            created,
            warnings: Vec::new(),
        }
    }

    async fn change(
        &self,
        command: Command,
        request_id: &[u8],
    ) -> Result<v1::ServiceResponse, Status> {
        let (revision, outcome) = self.writer.write(command, request_id).await?;
        match outcome {
            Outcome::ServiceCreated { service, .. } => Ok(self.answer(revision, service, true)),
            Outcome::ServiceUpdated { service, .. } => Ok(self.answer(revision, service, false)),
            Outcome::Published { service, created, .. } => {
                Ok(self.answer(revision, service, created))
            }
            Outcome::Unpublished { service, name, .. } => {
                let mut answer = self.answer(revision, service, false);
                // It may have gone with its last port: the answer still says whose port that was.
                answer.service.get_or_insert_with(|| gone(service, name, revision));
                Ok(answer)
            }
            _ => Err(Status::internal(
                "the state answered a change of a service with something else",
            )),
        }
    }

    pub(super) async fn service_create(
        &self,
        request: v1::CreateServiceRequest,
    ) -> Result<v1::ServiceResponse, Status> {
        let spec: ServiceSpec = request.spec.ok_or_else(|| missing("spec"))?.try_into()?;
        self.change(Command::CreateService(spec), &request.request_id).await
    }

    pub(super) async fn service_update(
        &self,
        request: v1::UpdateServiceRequest,
    ) -> Result<v1::ServiceResponse, Status> {
        let (algorithm, mode) =
            (Option::from(request.algorithm()), Option::from(request.endpoint_mode()));
        for text in &request.publish_remove {
            let (port, protocol) = port(text)?;
            let service = Some(request.reference.clone());
            let command = Command::Unpublish(Unpublish { service, port, protocol });
            // sw:P11: an absent one is not an error.
            match self.writer.write(command, &[]).await {
                Ok(_) => {}
                Err(status) if status.code() == tonic::Code::NotFound => {}
                Err(status) => return Err(status),
            }
        }
        let change = ServiceChange {
            service: request.reference,
            endpoint_mode: mode,
            algorithm,
            networks: NetworkChange { add: request.networks_add, remove: request.networks_remove },
            publish_add: specs(request.publish_add)?,
            labels_add: request.labels_add.into_iter().collect(),
            labels_rm: request.labels_remove,
        };
        self.change(Command::UpdateService(change), &request.request_id).await
    }

    pub(super) async fn service_remove(
        &self,
        request: v1::RemoveServiceRequest,
    ) -> Result<v1::RemoveServiceResponse, Status> {
        let command = Command::RemoveService { service: request.reference };
        let (revision, outcome) = self.writer.write(command, &request.request_id).await?;
        let Outcome::ServiceRemoved { service, .. } = outcome else {
            return Err(Status::internal("the state answered a removal with something else"));
        };
        Ok(v1::RemoveServiceResponse { id: id(service.as_bytes()), revision: revision.0 })
    }

    pub(super) async fn service_publish(
        &self,
        request: v1::PublishRequest,
    ) -> Result<v1::ServiceResponse, Status> {
        let specs = specs(request.publications)?;
        let publish = Publish { service: named(request.service), specs };
        self.change(Command::Publish(publish), &request.request_id).await
    }

    pub(super) async fn service_unpublish(
        &self,
        request: v1::UnpublishRequest,
    ) -> Result<v1::ServiceResponse, Status> {
        let (port, protocol) = port(&request.port)?;
        let unpublish = Unpublish { service: named(request.service), port, protocol };
        self.change(Command::Unpublish(unpublish), &request.request_id).await
    }

    /// One command for each backend: each is accepted or refused by itself, in order.
    pub(super) async fn service_backends(
        &self,
        request: v1::ChangeBackendsRequest,
    ) -> Result<v1::ServiceResponse, Status> {
        let service = &request.service;
        let mut commands = Vec::new();
        for backend in request.add {
            let backend: ExternalBackend = backend.try_into()?;
            commands.push(Command::AddBackend(AddBackend { service: service.clone(), backend }));
        }
        for name in &request.remove {
            let backend = Name::new(name.as_str())
                .map_err(|err| Status::invalid_argument(err.to_string()))?;
            commands.push(Command::RemoveBackend { service: service.clone(), backend });
        }
        let mut revision = Revision::default();
        for command in commands {
            revision = self.writer.write(command, &[]).await?.0;
        }
        let found = self.writer.read(|s| s.find_service(service).map(|one| one.id));
        found.map(|id| self.answer(revision, id, false)).map_err(|err| refusal(&err))
    }
}

fn gone(id: ServiceId, name: Name, revision: Revision) -> v1::Service {
    (&Service {
        id,
        name,
        endpoint_mode: swarmnet_types::EndpointMode::default(),
        algorithm: swarmnet_types::Algorithm::default(),
        labels: swarmnet_types::StringMap::new(),
        vips: std::collections::BTreeMap::new(),
        publications: Vec::new(),
        externals: Vec::new(),
        created_ms: 0,
        created: revision,
        changed: revision,
    })
        .into()
}
