//! Calls about this node: its sandboxes and their processes.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use nix::sys::signal::Signal;
use swarmnet_proto::v1;
use swarmnet_proto::v1::local_node_server::LocalNode;
use swarmnet_types::AttachmentSpec;
use tonic::{Request, Response, Status};

use super::{audit, message, refused, trace};
use crate::local::objects::{ProcessSpec, SandboxRecord};
use crate::local::{LocalError, Managers, Session, lookup};
use crate::renew::unix_ms;
use crate::trace::Tracer;
use crate::workload::Workloads;

/// See the module.
#[derive(Debug, Clone)]
pub struct NodeGrpc {
    workloads: Workloads,
    managers: Arc<dyn Managers>,
    session: Arc<dyn Session>,
    tracer: Tracer,
}

impl NodeGrpc {
    pub fn new(
        workloads: Workloads,
        managers: Arc<dyn Managers>,
        session: Arc<dyn Session>,
        tracer: Tracer,
    ) -> Self {
        Self { workloads, managers, session, tracer }
    }

    fn find(&self, reference: &str) -> Result<Arc<SandboxRecord>, Status> {
        let objects = self.workloads.sandboxes().means().store.current();
        lookup::sandbox(&objects, reference).map_err(|err| refused(&err))
    }

    fn message(&self, record: &SandboxRecord) -> v1::Sandbox {
        let paths = self.workloads.sandboxes().means().paths.sandbox(record.id);
        message::sandbox(record, &paths, self.workloads.status(record.id))
    }

    fn answer(
        &self,
        result: Result<Arc<SandboxRecord>, LocalError>,
    ) -> Result<Response<v1::Sandbox>, Status> {
        let record = result.map_err(|err| refused(&err))?;
        Ok(Response::new(self.message(&record)))
    }
}

/// `TERM`, `SIGTERM` or `15`.
fn signal_number(text: &str) -> Result<i32, LocalError> {
    let bad = || LocalError::Signal { text: text.to_owned() };
    if text.is_empty() {
        return Ok(Signal::SIGTERM as i32);
    }
    if let Ok(number) = text.parse::<i32>() {
        return Signal::try_from(number).map(|s| s as i32).map_err(|_| bad());
    }
    let upper = text.to_ascii_uppercase();
    let name = if upper.starts_with("SIG") { upper } else { format!("SIG{upper}") };
    name.parse::<Signal>().map(|s| s as i32).map_err(|_| bad())
}

#[tonic::async_trait]
impl LocalNode for NodeGrpc {
    async fn status(
        &self,
        _: Request<v1::StatusRequest>,
    ) -> Result<Response<v1::StatusResponse>, Status> {
        let status = self.session.status();
        let standing = self.managers.standing();
        let sandboxes = self.workloads.sandboxes().means().store.current().sandboxes.len();
        let peers = status.peers.into_iter().map(|p| v1::PeerLiveness {
            node: Bytes::copy_from_slice(p.node.as_bytes()),
            name: p.name,
            state: p.state,
        });
        let id = |b: &[u8; 16]| Bytes::copy_from_slice(b);
        Ok(Response::new(v1::StatusResponse {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            node: standing.map(|s| id(s.node.as_bytes())).unwrap_or_default(),
            cluster: standing.map(|s| id(s.cluster.as_bytes())).unwrap_or_default(),
            role: standing.map_or(v1::Role::Unspecified, |s| s.role.into()).into(),
            name: status.name,
            view_revision: status.view_revision,
            applied_revision: status.applied_revision,
            manager: status.manager.unwrap_or_default(),
            repaired: status.repaired,
            problems: status.problems,
            pid: std::process::id(),
            peers: peers.collect(),
            sandboxes: u32::try_from(sandboxes).unwrap_or(u32::MAX),
            locked: self.managers.is_locked(),
            gossip: status.gossip.map(message::gossip),
            certificate: status.certificate.map(|c| v1::Certificate {
                not_before_ms: unix_ms(c.starts),
                not_after_ms: unix_ms(c.ends),
                issuer: c.issuer.map(|ca| ca.to_string()).unwrap_or_default(),
                serial: c.serial,
            }),
        }))
    }

    async fn create_sandbox(
        &self,
        request: Request<v1::CreateSandboxRequest>,
    ) -> Result<Response<v1::Sandbox>, Status> {
        audit(&request, "create_sandbox");
        let request = request.into_inner();
        let mut wish = message::wish(request.spec)?;
        wish.named = request.named;
        wish.owner_pid = Some(request.owner_pid).filter(|pid| *pid != 0);
        self.answer(self.workloads.create(wish).await)
    }

    async fn remove_sandbox(
        &self,
        request: Request<v1::RemoveSandboxRequest>,
    ) -> Result<Response<v1::RemoveSandboxResponse>, Status> {
        audit(&request, "remove_sandbox");
        let v1::RemoveSandboxRequest { reference, force } = request.into_inner();
        let record = self.find(&reference)?;
        self.workloads.remove(record.id, force).await.map_err(|err| refused(&err))?;
        Ok(Response::new(v1::RemoveSandboxResponse {
            id: Bytes::copy_from_slice(record.id.as_bytes()),
            name: record.name.to_string(),
        }))
    }

    async fn list_sandboxes(
        &self,
        _: Request<v1::ListSandboxesRequest>,
    ) -> Result<Response<v1::ListSandboxesResponse>, Status> {
        let objects = self.workloads.sandboxes().means().store.current();
        let sandboxes = objects.sandboxes.values().map(|record| self.message(record)).collect();
        Ok(Response::new(v1::ListSandboxesResponse { sandboxes }))
    }

    async fn inspect_sandbox(
        &self,
        request: Request<v1::InspectSandboxRequest>,
    ) -> Result<Response<v1::Sandbox>, Status> {
        let record = self.find(&request.into_inner().reference)?;
        Ok(Response::new(self.message(&record)))
    }

    async fn run(&self, request: Request<v1::RunRequest>) -> Result<Response<v1::Sandbox>, Status> {
        audit(&request, "run");
        let request = request.into_inner();
        let mut wish = message::wish(request.spec)?;
        if request.argv.is_empty() {
            return Err(refused(&LocalError::NoCommand));
        }
        let restart = match request.restart.as_str() {
            "" => crate::workload::RestartPolicy::No,
            text => text.parse().map_err(|err| refused(&LocalError::Restart(err)))?,
        };
        wish.process = Some(ProcessSpec {
            argv: request.argv,
            env: request.env,
            user: request.user,
            workdir: request.workdir,
            restart,
            remove_when_done: request.remove_when_done,
            stop_signal: signal_number(&request.stop_signal).map_err(|err| refused(&err))?,
        });
        self.answer(self.workloads.create(wish).await)
    }

    async fn stop(
        &self,
        request: Request<v1::StopRequest>,
    ) -> Result<Response<v1::Sandbox>, Status> {
        audit(&request, "stop");
        let v1::StopRequest { reference, grace_s } = request.into_inner();
        let record = self.find(&reference)?;
        let grace = Duration::from_secs(grace_s.into());
        self.workloads.stop(record.id, grace).await.map_err(|err| refused(&err))?;
        // It may have gone with its process (`--rm`): it is shown as it was.
        Ok(Response::new(self.message(&record)))
    }

    async fn connect_network(
        &self,
        request: Request<v1::ConnectNetworkRequest>,
    ) -> Result<Response<v1::Sandbox>, Status> {
        audit(&request, "connect_network");
        let request = request.into_inner();
        let record = self.find(&request.sandbox)?;
        let spec: AttachmentSpec = request
            .attachment
            .ok_or_else(|| Status::invalid_argument("malformed message: attachment: missing"))?
            .try_into()?;
        self.answer(self.workloads.connect(record.id, spec).await)
    }

    async fn disconnect_network(
        &self,
        request: Request<v1::DisconnectNetworkRequest>,
    ) -> Result<Response<v1::Sandbox>, Status> {
        audit(&request, "disconnect_network");
        let request = request.into_inner();
        let record = self.find(&request.sandbox)?;
        self.answer(self.workloads.disconnect(record.id, request.network).await)
    }

    async fn trace(
        &self,
        request: Request<v1::TraceRequest>,
    ) -> Result<Response<v1::TraceResponse>, Status> {
        audit(&request, "trace");
        let (from, question) = trace::asked(request.into_inner())?;
        let (record, found) =
            self.tracer.trace(&from, question).await.map_err(|err| refused(&err))?;
        Ok(Response::new(trace::found(&record, &self.session.status().name, found)))
    }
}
