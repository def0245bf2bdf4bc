//! Debian's etcd as a cluster of three in a lab's nodes, and the two calls of it that are needed. Its messages are written down here:
//! the field numbers are those of etcd's `rpc.proto` (`etcdserverpb`).

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use bytes::Bytes;
use http::uri::PathAndQuery;
use tonic::Request;
use tonic::client::Grpc;
use tonic::transport::{Channel, Endpoint};
use tonic_prost::ProstCodec;

use super::{key, value};
use crate::api::run_in;
use crate::lab::{Lab, NODES};
use crate::process::{Program, installed};

const CLIENT_PORT: u16 = 23_790;
const PEER_PORT: u16 = 23_800;
/// From the start of the members to the first leader.
const START_MAX: Duration = Duration::from_secs(20);
const PAUSE: Duration = Duration::from_millis(100);

/// `KV.Put`.
#[derive(Clone, PartialEq, prost::Message)]
struct PutRequest {
    #[prost(bytes = "bytes", tag = "1")]
    key: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    value: Bytes,
}

/// Its header is not looked at.
#[derive(Clone, PartialEq, prost::Message)]
struct PutResponse {}

/// `Maintenance.Status`.
#[derive(Clone, PartialEq, prost::Message)]
struct StatusRequest {}

#[derive(Clone, PartialEq, prost::Message)]
struct StatusResponse {
    #[prost(message, optional, tag = "1")]
    header: Option<ResponseHeader>,
    /// 0: none.
    #[prost(uint64, tag = "4")]
    leader: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ResponseHeader {
    /// The member that answers.
    #[prost(uint64, tag = "2")]
    member_id: u64,
}

/// A running cluster.
#[derive(Debug)]
pub(super) struct Etcd {
    /// Ended with the value.
    _members: Vec<Program>,
    netns: PathBuf,
    leader: SocketAddr,
}

pub(super) fn program() -> Result<PathBuf> {
    installed("etcd", "etcd-server")
}

impl Etcd {
    /// One member in each node's namespace, its data beside the node's own; no TLS.
    pub(super) fn start(program: &Path, lab: &Lab) -> Result<Self> {
        let peer = |node: &str| -> Result<String> {
            Ok(format!("http://{}:{PEER_PORT}", lab.address(node)?))
        };
        let cluster: Vec<String> = NODES
            .iter()
            .map(|node| Ok(format!("{node}={}", peer(node)?)))
            .collect::<Result<_>>()?;
        let (mut members, mut addresses) = (Vec::new(), Vec::new());
        for node in NODES {
            let at: SocketAddr = format!("{}:{CLIENT_PORT}", lab.address(node)?).parse()?;
            let args = [
                format!("--name={node}"),
                format!("--data-dir={}/etcd", lab.folder(node)?),
                format!("--listen-client-urls=http://{at}"),
                format!("--advertise-client-urls=http://{at}"),
                format!("--listen-peer-urls={}", peer(node)?),
                format!("--initial-advertise-peer-urls={}", peer(node)?),
                format!("--initial-cluster={}", cluster.join(",")),
                "--initial-cluster-state=new".to_owned(),
            ];
            members.push(Program::start(&lab.netns(node)?, program, &args)?);
            addresses.push(at);
        }
        let netns = lab.netns("m1")?;
        let leader = run_in(&netns, || leader(&addresses))?;
        Ok(Self { _members: members, netns, leader })
    }

    /// Runs `work` where our client runs too: in the first node's namespace.
    pub(super) fn run<T, F>(&self, work: impl FnOnce() -> F + Send) -> Result<T>
    where
        T: Send,
        F: Future<Output = Result<T>>,
    {
        run_in(&self.netns, work)
    }

    /// A connection of its own, to the leader.
    pub(super) fn channel(&self) -> Channel {
        channel(self.leader)
    }
}

fn channel(to: SocketAddr) -> Channel {
    let endpoint = Endpoint::from_shared(format!("http://{to}"));
    endpoint.expect("an address makes a URI").tcp_nodelay(true).connect_lazy()
}

/// Asks the members until one says that it leads.
async fn leader(members: &[SocketAddr]) -> Result<SocketAddr> {
    let begun = Instant::now();
    while begun.elapsed() < START_MAX {
        for &at in members {
            if leads(at).await.unwrap_or(false) {
                return Ok(at);
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
    bail!("etcd has no leader within {START_MAX:?}")
}

async fn leads(at: SocketAddr) -> Result<bool> {
    let path = PathAndQuery::from_static("/etcdserverpb.Maintenance/Status");
    let mut client = Grpc::new(channel(at));
    client.ready().await?;
    let codec = ProstCodec::<StatusRequest, StatusResponse>::default();
    let status = client.unary(Request::new(StatusRequest {}), path, codec).await?.into_inner();
    Ok(status.leader != 0 && status.header.is_some_and(|header| header.member_id == status.leader))
}

/// A key of the client's own gets another value.
pub(super) async fn put(channel: Channel, client: u32, number: u32) -> Result<()> {
    let path = PathAndQuery::from_static("/etcdserverpb.KV/Put");
    let request = PutRequest { key: key(client).into(), value: value(number).into() };
    let mut grpc = Grpc::new(channel);
    grpc.ready().await?;
    let codec = ProstCodec::<PutRequest, PutResponse>::default();
    grpc.unary(Request::new(request), path, codec).await?;
    Ok(())
}
