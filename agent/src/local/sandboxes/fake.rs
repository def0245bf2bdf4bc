//! A machine, reconcilers and managers for tests: in memory, but for the gRPC, which is real and on loopback.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};

use async_trait::async_trait;
use swarmnet_kernel::KernelError;
use swarmnet_proto::v1;
use swarmnet_proto::v1::dispatcher_server::{Dispatcher, DispatcherServer};
use swarmnet_runtime::Supervisor;
use swarmnet_types::{
    AttachmentSpec, ClusterId, Condition, Driver, DualStack, Endpoint, EndpointId, Name, Network,
    NetworkId, NetworkSpec, NodeId, NodeView, Revision, Role, SandboxId, SubnetSpec, Vni,
};
use tokio_stream::Stream;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::{Channel, Server};
use tonic::{Request, Response, Status, Streaming};

use crate::local::border::{AgentStatus, KernelStatus, Managers, NoManager, Session, Standing};
use crate::local::host::Host;
use crate::local::networks::Routes;
use crate::local::ports::Others;
use crate::local::resolv::HostResolver;

pub(super) const NODE: NodeId = NodeId::from_bytes([7; 16]);

/// What the tests switch and read.
#[derive(Debug, Default)]
pub(super) struct World {
    pub(super) netns: BTreeSet<PathBuf>,
    pub(super) netns_fails: bool,
    /// Why the reconcilers cannot build anything.
    pub(super) kernel_fails: Option<String>,
    pub(super) others: Others,
    pub(super) joined: bool,
    /// Where managers are looked for; the first is tried first.
    pub(super) managers: Vec<SocketAddr>,
    /// What the cluster knows of this node's endpoints.
    pub(super) endpoints: BTreeMap<EndpointId, Condition>,
    /// Endpoints given so far.
    pub(super) given: u8,
    /// What every manager answers to an attach.
    pub(super) refuse: Option<(tonic::Code, &'static str)>,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Fake(Arc<Mutex<World>>);

impl Fake {
    pub(super) fn world(&self) -> MutexGuard<'_, World> {
        self.0.lock().expect("no test panics while it holds this")
    }

    /// A manager that answers; the node is in its cluster from now on.
    pub(super) async fn manager(&self, supervisor: &Supervisor) -> SocketAddr {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let addr = listener.local_addr().expect("it is bound");
        let service = DispatcherServer::new(self.clone());
        supervisor.spawn_transient("manager", async move {
            let served = Server::builder()
                .add_service(service)
                .serve_with_incoming(TcpListenerStream::new(listener));
            served.await.expect("served");
        });
        let mut world = self.world();
        world.joined = true;
        world.managers.push(addr);
        addr
    }
}

// === the machine ===

impl Host for Fake {
    fn create_netns(&self, path: &Path) -> Result<(), KernelError> {
        let mut world = self.world();
        if world.netns_fails || !world.netns.insert(path.to_owned()) {
            let err = std::io::ErrorKind::AlreadyExists.into();
            return Err(KernelError::NetnsCreate { path: path.to_owned(), err });
        }
        Ok(())
    }

    fn remove_netns(&self, path: &Path) -> Result<(), KernelError> {
        self.world().netns.remove(path);
        Ok(())
    }

    fn has_netns(&self, path: &Path) -> bool {
        self.world().netns.contains(path)
    }

    fn routes(&self) -> Result<Routes, KernelError> {
        Ok(Routes::default())
    }

    fn ports(&self) -> Result<Others, KernelError> {
        Ok(self.world().others.clone())
    }

    fn resolver(&self) -> HostResolver {
        HostResolver::parse("nameserver 192.0.2.53\nsearch corp.example\noptions edns0\n")
    }
}

#[async_trait]
impl KernelStatus for Fake {
    async fn wait_applied(&self, _: SandboxId, _: u64) -> Result<(), String> {
        self.world().kernel_fails.clone().map_or(Ok(()), Err)
    }
}

impl Session for Fake {
    fn status(&self) -> AgentStatus {
        AgentStatus::default()
    }

    fn view(&self) -> Option<Arc<NodeView>> {
        None
    }
}

// === the cluster ===

#[async_trait]
impl Managers for Fake {
    fn standing(&self) -> Option<Standing> {
        let cluster = ClusterId::from_bytes([8; 16]);
        self.world().joined.then_some(Standing { node: NODE, cluster, role: Role::Worker })
    }

    async fn channel(&self) -> Result<Channel, NoManager> {
        let first = self.world().managers.first().copied();
        let tried = || NoManager { tried: vec!["192.0.2.1:2377".into()] };
        let addr = first.ok_or_else(tried)?;
        let endpoint = Channel::from_shared(format!("http://{addr}")).expect("an address");
        Ok(endpoint.connect_lazy())
    }

    fn failed(&self) {
        let mut world = self.world();
        if !world.managers.is_empty() {
            world.managers.rotate_left(1);
        }
    }
}

/// `over` is 10.0.1.0/24, `inner` 10.0.2.0/24 and internal.
fn network(name: &str) -> Result<Network, Status> {
    let number = match name {
        "over" => 1,
        "inner" => 2,
        _ => return Err(Status::not_found(format!("network {name} not found"))),
    };
    let subnet = SubnetSpec {
        gateway: Some([10, 0, number, 1].into()),
        ..SubnetSpec::plain(format!("10.0.{number}.0/24").parse().expect("a subnet"))
    };
    Ok(Network {
        id: NetworkId::from_bytes([100 + number; 16]),
        spec: NetworkSpec {
            internal: number == 2,
            attachable: true,
            ..NetworkSpec::named(Name::new(name).expect("a name"), Driver::Overlay)
        },
        subnets: vec![subnet],
        vni: Vni::new(4096 + u32::from(number)).ok(),
        created_ms: 0,
        created: Revision(1),
        changed: Revision(1),
    })
}

impl Fake {
    fn give(&self, request: &v1::AttachRequest, network: NetworkId, third: u8) -> Endpoint {
        let mut world = self.world();
        world.given += 1;
        let n = world.given;
        let addrs = DualStack::new(Some([10, third, network.as_bytes()[0], n].into()), None);
        let id = EndpointId::from_bytes([n; 16]);
        world.endpoints.insert(id, Condition::Starting);
        Endpoint {
            id,
            network,
            node: NODE,
            sandbox: SandboxId::try_from(&request.sandbox[..]).expect("an id"),
            name: Name::new(request.name.clone()).expect("a name"),
            hostname: request.hostname.clone(),
            aliases: Vec::new(),
            addrs,
            mac: addrs.mac().expect("it has an address"),
            service: None,
            slot: None,
            condition: Condition::Starting,
            created_ms: 0,
            created: Revision(1),
            changed: Revision(1),
        }
    }
}

#[tonic::async_trait]
impl Dispatcher for Fake {
    type SessionStream = Pin<Box<dyn Stream<Item = Result<v1::ManagerMessage, Status>> + Send>>;

    async fn session(
        &self,
        _: Request<Streaming<v1::AgentMessage>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        Err(Status::unimplemented("not in these tests"))
    }

    async fn attach(
        &self,
        request: Request<v1::AttachRequest>,
    ) -> Result<Response<v1::AttachResponse>, Status> {
        let request = request.into_inner();
        assert_eq!(request.request_id.len(), 16);
        if let Some((code, sentence)) = self.world().refuse {
            return Err(Status::new(code, sentence));
        }
        let specs = request.attachments.iter().map(|a| AttachmentSpec::try_from(a.clone()));
        let specs: Vec<AttachmentSpec> = specs.collect::<Result<_, _>>()?;
        let networks: Vec<Network> =
            specs.iter().map(|s| network(&s.network)).collect::<Result<_, _>>()?;
        let mut endpoints: Vec<Endpoint> =
            networks.iter().map(|n| self.give(&request, n.id, 0)).collect();
        if !request.existing && networks.iter().any(|n| !n.spec.internal) {
            endpoints.push(self.give(&request, NetworkId::from_bytes([99; 16]), 255));
        }
        Ok(Response::new(v1::AttachResponse {
            endpoints: endpoints.iter().map(Into::into).collect(),
            networks: networks.iter().map(Into::into).collect(),
            service: None,
            revision: 1,
        }))
    }

    async fn detach(
        &self,
        request: Request<v1::DetachRequest>,
    ) -> Result<Response<v1::DetachResponse>, Status> {
        for id in request.into_inner().endpoints {
            self.world().endpoints.remove(&EndpointId::try_from(&id[..]).expect("an id"));
        }
        Ok(Response::new(v1::DetachResponse { revision: 2 }))
    }

    async fn report(
        &self,
        request: Request<v1::ReportRequest>,
    ) -> Result<Response<v1::ReportResponse>, Status> {
        for one in request.into_inner().conditions {
            let id = EndpointId::try_from(&one.endpoint[..]).expect("an id");
            let now = Condition::try_from(one.condition())?;
            if let Some(condition) = self.world().endpoints.get_mut(&id) {
                *condition = now;
            }
        }
        Ok(Response::new(v1::ReportResponse { revision: 3 }))
    }

    async fn renew(
        &self,
        _: Request<v1::RenewRequest>,
    ) -> Result<Response<v1::RenewResponse>, Status> {
        Err(Status::unimplemented("not in these tests"))
    }

    async fn standing(
        &self,
        _: Request<v1::StandingRequest>,
    ) -> Result<Response<v1::StandingResponse>, Status> {
        Err(Status::unimplemented("not in these tests"))
    }

    async fn leave(
        &self,
        _: Request<v1::GoodbyeRequest>,
    ) -> Result<Response<v1::GoodbyeResponse>, Status> {
        Err(Status::unimplemented("not in these tests"))
    }
}
