//! Calls to the managers, for this node: with failover, and in `swarmnet_types` instead of messages.
//!
//! Every call that changes something carries a request id, so that it can be sent again to another manager: the cluster answers
//! the second time what it did the first.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use swarmnet_proto::v1;
use swarmnet_proto::v1::control_client::ControlClient;
use swarmnet_proto::v1::dispatcher_client::DispatcherClient;
use swarmnet_types::{
    AttachmentSpec, Condition, Endpoint, EndpointId, Name, Network, Role, SandboxId, Service,
};
use tonic::transport::Channel;
use tonic::{Code, Response, Status};

use super::border::{Managers, NoManager, Standing};
use super::error::LocalError;

/// How many managers are tried for one call before the user hears of it.
const ATTEMPTS: u32 = 5;
/// Between two attempts, once another manager was asked at once: a leader's successor is elected within a second or two (C4).
const PAUSE: Duration = Duration::from_millis(400);
/// The longest one attempt may take: Docker's own limit for a request.
const ATTEMPT_MAX: Duration = Duration::from_secs(20);

/// What the cluster granted a sandbox.
#[derive(Debug, Clone, Default)]
pub struct Granted {
    /// In the order of the attachments asked for.
    pub endpoints: Vec<Endpoint>,
    /// An address in the ingress fabric, when one was granted.
    pub fabric: Option<Endpoint>,
    pub networks: Vec<Network>,
    pub service: Option<Service>,
}

/// What a sandbox asks of the cluster.
#[derive(Debug, Clone)]
pub struct Reservation {
    pub sandbox: SandboxId,
    pub name: Name,
    pub hostname: String,
    pub service: Option<Name>,
    pub attachments: Vec<AttachmentSpec>,
    /// The sandbox has endpoints already.
    pub existing: bool,
}

/// The managers as this node sees them. Clones share the way to them.
#[derive(Debug, Clone)]
pub struct Cluster {
    managers: Arc<dyn Managers>,
}

/// Drawn anew for each operation, kept for its retries.
pub fn request_id() -> bytes::Bytes {
    bytes::Bytes::copy_from_slice(&rand::random::<[u8; 16]>())
}

/// Did the call fail on the way, or for want of a leader, so that another manager may do it? A manager's own refusal has no
/// source; what the transport made up has one.
fn is_passing(status: &Status) -> bool {
    status.code() == Code::Unavailable || std::error::Error::source(status).is_some()
}

impl Cluster {
    pub fn new(managers: Arc<dyn Managers>) -> Self {
        Self { managers }
    }

    /// `None`: in no cluster.
    pub fn standing(&self) -> Option<Standing> {
        self.managers.standing()
    }

    /// May this node's users change the cluster? Swarm's sentences (`sw:M3`).
    ///
    /// # Errors
    /// [`LocalError::NotInCluster`], [`LocalError::Worker`].
    pub fn may_write(&self) -> Result<(), LocalError> {
        match self.standing() {
            None => Err(LocalError::NotInCluster),
            Some(standing) if standing.role == Role::Worker => Err(LocalError::Worker),
            Some(_) => Ok(()),
        }
    }

    /// Does a manager answer?
    pub async fn is_reachable(&self) -> bool {
        self.standing().is_some() && self.managers.channel().await.is_ok()
    }

    /// Makes `call` with a channel to one manager after another until one answers.
    ///
    /// # Errors
    /// [`LocalError::NotInCluster`], [`LocalError::Locked`], [`LocalError::NoManager`], or the manager's own refusal.
    pub async fn call<T, F>(&self, call: impl Fn(Channel) -> F) -> Result<T, LocalError>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        if self.standing().is_none() {
            return Err(LocalError::NotInCluster);
        }
        if self.managers.is_locked() {
            return Err(LocalError::Locked);
        }
        let mut last = None;
        for attempt in 0..ATTEMPTS {
            if attempt > 1 {
                tokio::time::sleep(PAUSE).await;
            }
            match self.attempt(&call).await {
                Ok(answer) => return Ok(answer),
                Err(Failed::Refused(status)) => return Err(LocalError::Cluster { status }),
                Err(passing) => last = Some(passing),
            }
        }
        Err(match last {
            Some(Failed::Passing(status)) if std::error::Error::source(&status).is_none() => {
                // A manager's own word, such as that there is no leader.
                LocalError::Cluster { status }
            }
            Some(Failed::Passing(status)) => LocalError::NoManager {
                sentence: format!("no manager answers ({})", swarmnet_proto::sentence(&status)),
            },
            Some(Failed::Nobody(err)) => LocalError::NoManager { sentence: err.to_string() },
            Some(Failed::Refused(status)) => LocalError::Cluster { status },
            None => LocalError::NotInCluster,
        })
    }

    async fn attempt<T, F>(&self, call: impl Fn(Channel) -> F) -> Result<T, Failed>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        let channel = self.managers.channel().await.map_err(Failed::Nobody)?;
        let answer = tokio::time::timeout(ATTEMPT_MAX, call(channel)).await;
        match answer {
            Ok(Ok(response)) => Ok(response.into_inner()),
            Ok(Err(status)) if is_passing(&status) => {
                self.managers.failed();
                Err(Failed::Passing(status))
            }
            Ok(Err(status)) => Err(Failed::Refused(status)),
            Err(_elapsed) => {
                self.managers.failed();
                Err(Failed::Passing(Status::unavailable("the manager does not answer in time")))
            }
        }
    }

    /// The network of that name, id or prefix; `None` when the cluster knows none.
    ///
    /// # Errors
    /// As [`call`](Self::call), an ambiguous prefix included.
    pub async fn network(&self, reference: &str) -> Result<Option<Network>, LocalError> {
        let request = v1::InspectRequest { reference: reference.to_owned() };
        let found = self
            .call(|channel| {
                let request = request.clone();
                async move { ControlClient::new(channel).inspect_network(request).await }
            })
            .await;
        match found {
            Ok(detail) => {
                let network = detail.network.ok_or_else(|| {
                    LocalError::Malformed(swarmnet_proto::Malformed::new("network", "missing"))
                })?;
                Network::try_from(network).map(Some).map_err(LocalError::Malformed)
            }
            Err(LocalError::Cluster { status }) if status.code() == Code::NotFound => Ok(None),
            Err(err) => Err(err),
        }
    }

    /// Reserves the endpoints of a sandbox, all or none.
    pub async fn attach(&self, wish: &Reservation) -> Result<Granted, LocalError> {
        let request = v1::AttachRequest {
            request_id: request_id(),
            sandbox: bytes::Bytes::copy_from_slice(wish.sandbox.as_bytes()),
            name: wish.name.to_string(),
            hostname: wish.hostname.clone(),
            service: wish.service.as_ref().map(ToString::to_string).unwrap_or_default(),
            attachments: wish.attachments.iter().map(Into::into).collect(),
            existing: wish.existing,
        };
        let response = self
            .call(|channel| {
                let request = request.clone();
                async move { DispatcherClient::new(channel).attach(request).await }
            })
            .await?;
        granted(response, wish.attachments.len()).map_err(LocalError::Malformed)
    }

    /// Releases endpoints; those that are gone already are no error.
    pub async fn detach(&self, endpoints: &[EndpointId]) -> Result<(), LocalError> {
        let id = |e: &EndpointId| bytes::Bytes::copy_from_slice(e.as_bytes());
        let request = v1::DetachRequest {
            request_id: request_id(),
            endpoints: endpoints.iter().map(id).collect(),
        };
        self.call(|channel| {
            let request = request.clone();
            async move { DispatcherClient::new(channel).detach(request).await }
        })
        .await
        .map(|_| ())
    }

    /// Tells how endpoints fare.
    pub async fn report(&self, conditions: &[(EndpointId, Condition)]) -> Result<(), LocalError> {
        let one = |(endpoint, condition): &(EndpointId, Condition)| v1::EndpointCondition {
            endpoint: bytes::Bytes::copy_from_slice(endpoint.as_bytes()),
            condition: v1::Condition::from(*condition).into(),
        };
        let request = v1::ReportRequest {
            request_id: request_id(),
            conditions: conditions.iter().map(one).collect(),
        };
        self.call(|channel| {
            let request = request.clone();
            async move { DispatcherClient::new(channel).report(request).await }
        })
        .await
        .map(|_| ())
    }
}

/// How one attempt ended.
enum Failed {
    /// No channel to any manager.
    Nobody(NoManager),
    /// Another manager may do better.
    Passing(Status),
    /// The cluster's answer.
    Refused(Status),
}

fn granted(
    response: v1::AttachResponse,
    asked: usize,
) -> Result<Granted, swarmnet_proto::Malformed> {
    let mut endpoints =
        response.endpoints.into_iter().map(Endpoint::try_from).collect::<Result<Vec<_>, _>>()?;
    if endpoints.len() < asked || endpoints.len() > asked + 1 {
        let problem = format!("{} for {asked} attachments", endpoints.len());
        return Err(swarmnet_proto::Malformed::new("endpoints", problem));
    }
    let fabric = if endpoints.len() > asked { endpoints.pop() } else { None };
    let networks =
        response.networks.into_iter().map(Network::try_from).collect::<Result<Vec<_>, _>>()?;
    if let Some(stray) = endpoints.iter().find(|e| networks.iter().all(|n| n.id != e.network)) {
        return Err(swarmnet_proto::Malformed::new(
            "networks",
            format!("{} missing", stray.network),
        ));
    }
    let service = response.service.map(Service::try_from).transpose()?;
    Ok(Granted { endpoints, fabric, networks, service })
}
