//! A cluster's CA, nodes with identities, and a server of a small service behind the authorisation layer.
//!
//! Each method answers `<path> <speaker> <address of the caller>`; `Watch` streams the caller's serial number, once at the
//! start and once per [`Server::tick`]. Servers end when dropped.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use http::uri::PathAndQuery;
use swarmnet_pki::authz::caller;
use swarmnet_pki::{
    AcceptStats, AuthLayer, AuthTable, Ca, Incoming, Issue, NodeIdentity, NodeKey, Speaker,
    TlsStore, Who,
};
use swarmnet_types::{ClusterId, NodeId, Role};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_stream::wrappers::WatchStream;
use tokio_stream::{Stream, StreamExt as _};
use tonic::body::Body;
use tonic::server::{Grpc, NamedService, ServerStreamingService, UnaryService};
use tonic::transport::{Channel, Server as Tonic};
use tonic::{Request, Response, Status, Streaming};
use tonic_prost::ProstCodec;

pub(crate) const JOIN: &str = "/test.Test/Join";
pub(crate) const READ: &str = "/test.Test/Read";
pub(crate) const ADMIN: &str = "/test.Test/Admin";
pub(crate) const SESSION: &str = "/test.Test/Session";
pub(crate) const STREAM: &str = "/test.Test/Watch";

const DAY: Duration = Duration::from_hours(24);

pub(crate) struct Cluster {
    pub(crate) ca: Ca,
}

pub(crate) struct Node {
    pub(crate) id: NodeId,
    pub(crate) tls: TlsStore,
}

impl Cluster {
    pub(crate) fn new(id: u8) -> Self {
        let id = ClusterId::from_bytes([id; 16]);
        Self { ca: Ca::create(id, SystemTime::now()).expect("a CA") }
    }

    pub(crate) fn node(&self, id: u8, role: Role) -> Node {
        self.node_trusting(id, role, &[]).into_node()
    }

    /// With a certificate made `ahead` seconds from now for `lifetime` seconds.
    pub(crate) fn node_at(&self, id: u8, role: Role, ahead: i64, lifetime: u64) -> Node {
        let offset = Duration::from_secs(ahead.unsigned_abs());
        let now = SystemTime::now();
        let at = if ahead < 0 { now - offset } else { now + offset };
        let key = NodeKey::generate().expect("a key");
        let lifetime = Duration::from_secs(lifetime);
        let issue = Issue { node_id: NodeId::from_bytes([id; 16]), role, lifetime };
        let chain = self.sign(&key, &issue, at);
        NodeIdentity::new(key, &chain, self.ca.cert_pem()).expect("an identity").into_node()
    }

    /// Trusts the other clusters' CAs as well.
    pub(crate) fn node_trusting(&self, id: u8, role: Role, also: &[&Self]) -> NodeIdentity {
        let key = NodeKey::generate().expect("a key");
        self.identity(key, NodeId::from_bytes([id; 16]), role, also)
    }

    pub(crate) fn trusting(&self, id: u8, other: &Self) -> Node {
        self.node_trusting(id, Role::Worker, &[other]).into_node()
    }

    /// A manager of this cluster that shows the CA of `other` beside its own chain.
    pub(crate) fn forged(&self, other: &Self) -> Node {
        self.node_trusting(1, Role::Manager, &[other]).into_node()
    }

    pub(crate) fn renewed(&self, node: &Node) -> NodeIdentity {
        self.with_roots(node, &[])
    }

    pub(crate) fn with_roots(&self, node: &Node, also: &[&Self]) -> NodeIdentity {
        let old = node.tls.identity();
        self.identity(old.key().clone(), old.node_id(), old.role(), also)
    }

    fn identity(&self, key: NodeKey, id: NodeId, role: Role, also: &[&Self]) -> NodeIdentity {
        let issue = Issue { node_id: id, role, lifetime: DAY * 90 };
        let chain = self.sign(&key, &issue, SystemTime::now());
        let roots: String =
            [self].iter().chain(also).map(|cluster| cluster.ca.cert_pem()).collect();
        NodeIdentity::new(key, &chain, &roots).expect("an identity")
    }

    fn sign(&self, key: &NodeKey, issue: &Issue, at: SystemTime) -> String {
        self.ca.sign_csr(&key.csr().expect("a request"), issue, at).expect("signed")
    }
}

pub(crate) trait IntoNode {
    fn into_node(self) -> Node;
}

impl IntoNode for NodeIdentity {
    fn into_node(self) -> Node {
        Node { id: self.node_id(), tls: TlsStore::new(self).expect("usable") }
    }
}

impl Node {
    /// What a server answers when this node is the speaker.
    pub(crate) fn says(&self, path: &str) -> String {
        format!("{path} {} 127.0.0.1", self.id)
    }

    pub(crate) async fn serve(&self) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let addr = listener.local_addr().expect("bound");
        let incoming = Incoming::new(listener, self.tls.clone());
        let stats = incoming.stats();
        let revoked: Arc<Mutex<BTreeSet<NodeId>>> = Arc::default();
        let demoted: Arc<Mutex<BTreeSet<NodeId>>> = Arc::default();
        let lists = [Arc::clone(&revoked), Arc::clone(&demoted)];
        let table = AuthTable::new(&[
            (JOIN, Who::Anyone),
            (READ, Who::AnyNode),
            (ADMIN, Who::Manager),
            (SESSION, Who::SelfNode),
            (STREAM, Who::SelfNode),
        ])
        .expect("no duplicates");
        let [gone, workers_now] =
            lists.map(|list| move |id: &NodeId| list.lock().expect("not poisoned").contains(id));
        let layer = AuthLayer::new(table, gone, move |peer| workers_now(&peer.node_id));
        let service = Test { calls: Arc::default(), ticks: watch::Sender::new(0) };
        let mut workers = JoinSet::new();
        let tonic = Tonic::builder().layer(layer).add_service(service.clone());
        workers.spawn(async move { tonic.serve_with_incoming(incoming).await });
        Server { addr, service, stats, revoked, demoted, _workers: workers }
    }
}

pub(crate) struct Server {
    pub(crate) addr: SocketAddr,
    service: Test,
    stats: Arc<AcceptStats>,
    revoked: Arc<Mutex<BTreeSet<NodeId>>>,
    demoted: Arc<Mutex<BTreeSet<NodeId>>>,
    _workers: JoinSet<Result<(), tonic::transport::Error>>,
}

impl Server {
    /// How many calls reached the handler.
    pub(crate) fn calls(&self) -> u64 {
        self.service.calls.load(Ordering::SeqCst)
    }

    pub(crate) fn stats(&self) -> Arc<AcceptStats> {
        Arc::clone(&self.stats)
    }

    pub(crate) fn revoke(&self, id: NodeId) {
        self.revoked.lock().expect("not poisoned").insert(id);
    }

    pub(crate) fn demote(&self, id: NodeId) {
        self.demoted.lock().expect("not poisoned").insert(id);
    }

    pub(crate) fn tick(&self) {
        self.service.ticks.send_modify(|ticks| *ticks += 1);
    }
}

pub(crate) async fn call(
    channel: &Channel,
    path: &'static str,
    request: Request<()>,
) -> Result<String, Status> {
    let mut client = tonic::client::Grpc::new(channel.clone());
    client.ready().await.map_err(|err| Status::from_error(err.into()))?;
    let codec = ProstCodec::<(), String>::default();
    let answer = client.unary(request, PathAndQuery::from_static(path), codec).await?;
    Ok(answer.into_inner())
}

pub(crate) async fn watch(channel: &Channel) -> Result<Streaming<String>, Status> {
    let mut client = tonic::client::Grpc::new(channel.clone());
    client.ready().await.map_err(|err| Status::from_error(err.into()))?;
    let codec = ProstCodec::<(), String>::default();
    let path = PathAndQuery::from_static(STREAM);
    Ok(client.server_streaming(Request::new(()), path, codec).await?.into_inner())
}

/// Polls; fails after 10 s.
pub(crate) async fn until(done: impl Fn() -> bool) {
    for _ in 0..1000 {
        if done() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("not within 10 s");
}

#[derive(Clone)]
struct Test {
    calls: Arc<AtomicU64>,
    ticks: watch::Sender<u64>,
}

struct Method {
    path: String,
    ticks: watch::Receiver<u64>,
}

impl NamedService for Test {
    const NAME: &'static str = "test.Test";
}

impl tower::Service<http::Request<Body>> for Test {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        self.calls.fetch_add(1, Ordering::SeqCst);
        let path = request.uri().path().to_owned();
        let streams = path == STREAM;
        let method = Method { path, ticks: self.ticks.subscribe() };
        Box::pin(async move {
            let mut grpc = Grpc::new(ProstCodec::<String, ()>::default());
            Ok(if streams {
                grpc.server_streaming(method, request).await
            } else {
                grpc.unary(method, request).await
            })
        })
    }
}

impl UnaryService<()> for Method {
    type Response = String;
    type Future = std::future::Ready<Result<Response<String>, Status>>;

    fn call(&mut self, request: Request<()>) -> Self::Future {
        let speaker = Speaker::of(&request)
            .map_or_else(|_| "nobody".to_owned(), |speaker| speaker.node_id().to_string());
        let remote = caller(&request).expect("accepted by us").remote.ip();
        std::future::ready(Ok(Response::new(format!("{} {speaker} {remote}", self.path))))
    }
}

impl ServerStreamingService<()> for Method {
    type Response = String;
    type ResponseStream = Pin<Box<dyn Stream<Item = Result<String, Status>> + Send>>;
    type Future = std::future::Ready<Result<Response<Self::ResponseStream>, Status>>;

    fn call(&mut self, request: Request<()>) -> Self::Future {
        let peer: &swarmnet_pki::Peer = request.extensions().get().expect("a node");
        let serial = peer.serial.to_string();
        let stream = WatchStream::new(self.ticks.clone()).map(move |_| Ok(serial.clone()));
        std::future::ready(Ok(Response::new(Box::pin(stream))))
    }
}
