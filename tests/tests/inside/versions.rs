//! Versions of the protocol between daemons (C14): a newer peer is refused by number, and one from before there were numbers is served.

use std::fs;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, stream};
use prost::Message as _;
use swarmnet_pki::{JoinToken, NodeKey};
use swarmnet_proto::v1::{self, agent_message, manager_message};
use swarmnet_proto::wire::SPOKEN;
use swarmnet_types::Role;
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::node::{Node, description};
use crate::{raw, recorded};

const LIFE: Duration = Duration::from_hours(24);
const JOIN: &str = "/swarmnet.v1.Join/Join";
const SESSION: &str = "/swarmnet.v1.Dispatcher/Session";
const NEWER: Option<v1::WireRange> = Some(v1::WireRange { min: 2, max: 3 });
const REFUSED: &str = "the node speaks versions 2 to 3 of the protocol between daemons, this manager version 1: upgrade swarmnet on the manager";

/// An agent's greeting.
fn hello(wire: Option<v1::WireRange>) -> Vec<u8> {
    let addr = ([192, 0, 2, 51], 2377).into();
    let tls = v1::NodeTls {
        issuer: vec![1; 32].into(),
        roots: vec![vec![1; 32].into()],
        until_ms: 1_800_000_000_000,
    };
    let hello = v1::Hello {
        have_revision: 0,
        description: Some((&description("a1", addr)).into()),
        tls: Some(tls),
        wire,
    };
    let hello = agent_message::Message::Hello(hello);
    v1::AgentMessage { message: Some(hello) }.encode_to_vec()
}

/// A join without its secret.
fn join(wire: Option<v1::WireRange>) -> Vec<u8> {
    let addr = ([192, 0, 2, 51], 2377).into();
    let request = v1::JoinRequest {
        csr_der: NodeKey::generate().expect("a key").csr().expect("a request").into(),
        availability: v1::Availability::Active.into(),
        description: Some((&description("a1", addr)).into()),
        wire,
        ..v1::JoinRequest::default()
    };
    request.encode_to_vec()
}

/// The same with the secret of a token: fields of a message follow each other in any order.
fn with_secret(mut join: Vec<u8>, token: &JoinToken) -> Bytes {
    let secret = token.secret.as_bytes().to_vec().into();
    join.extend(v1::JoinRequest { secret, ..v1::JoinRequest::default() }.encode_to_vec());
    join.into()
}

/// One message, then a caller that stays.
fn said(message: impl Into<Bytes>) -> impl Stream<Item = Bytes> + Send + 'static {
    stream::iter([message.into()]).chain(stream::pending())
}

fn worker_token(node: &Node) -> JoinToken {
    let manager = node.manager.as_ref().expect("a manager");
    manager.0.token(Role::Worker).expect("a token").parse().expect("a token")
}

/// What the manager says to an agent that greets it, without its heartbeats.
async fn greeted(
    channel: &Channel,
    hello: impl Into<Bytes>,
) -> Result<Vec<v1::ManagerMessage>, Status> {
    let mut answers = raw::call(channel, SESSION, said(hello)).await?;
    let mut all = Vec::new();
    while let Some(answer) = answers.next().await {
        let answer = v1::ManagerMessage::decode(answer?).expect("a manager's message");
        let is_view = matches!(answer.message, Some(manager_message::Message::Snapshot(_)));
        all.push(answer);
        if is_view {
            break;
        }
    }
    Ok(all)
}

async fn joined(channel: &Channel, join: Bytes) -> Result<v1::JoinResponse, Status> {
    let mut answers = raw::call(channel, JOIN, stream::iter([join])).await?;
    let answer = answers.next().await.expect("an answer")?;
    Ok(v1::JoinResponse::decode(answer).expect("a manager's answer"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn peers_of_earlier_versions_are_served() {
    let node = Node::first(LIFE).await;
    let channel = swarmnet_pki::channel(node.addr, Role::Manager, &node.tls);
    let token = worker_token(&node);
    for recording in recorded::all("wire") {
        let read = |name| fs::read(recording.join(name)).expect("recorded");
        let answers = greeted(&channel, read("hello")).await.expect("a session");
        let first = answers.first().and_then(|first| first.message.as_ref());
        let Some(manager_message::Message::Welcome(welcome)) = first else {
            panic!("{}: {first:?} is no welcome", recording.display());
        };
        assert_eq!(welcome.wire, 1);
        let channel = swarmnet_pki::join_channel(node.addr, token.ca_fingerprint);
        let answer = joined(&channel, with_secret(read("join"), &token)).await.expect("joined");
        assert_eq!((answer.wire, answer.node.len()), (1, 16));
    }
    drop(channel);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_newer_peer_is_refused_by_version() {
    let node = Node::first(LIFE).await;
    let channel = swarmnet_pki::channel(node.addr, Role::Manager, &node.tls);
    let token = worker_token(&node);
    let session = greeted(&channel, hello(NEWER)).await.expect_err("refused");
    let join_channel = swarmnet_pki::join_channel(node.addr, token.ca_fingerprint);
    let join = joined(&join_channel, with_secret(join(NEWER), &token)).await.expect_err("refused");
    for status in [session, join] {
        assert_eq!((status.code(), status.message()), (Code::FailedPrecondition, REFUSED));
    }
    // One that has kept the version of here.
    let both = Some(v1::WireRange { min: 1, max: 2 });
    assert!(greeted(&channel, hello(both)).await.is_ok());
    drop(channel);
    node.stop().await;
}

#[test]
#[ignore = "records the greetings of this version, and those from before versions were said"]
fn record_greetings() {
    for (name, wire) in [("unversioned", None), ("1", Some(SPOKEN.into()))] {
        let dir = recorded::begin("wire", name);
        fs::write(dir.join("hello"), hello(wire)).expect("written");
        fs::write(dir.join("join"), join(wire)).expect("written");
    }
}
