//! What one source may ask before it is a node (C3, C7): attempts to join are counted, whatever is in them.

use std::time::Duration;

use swarmnet_pki::JoinToken;
use swarmnet_proto::v1;
use swarmnet_proto::v1::join_client::JoinClient;
use swarmnet_types::Role;
use tonic::{Code, Status};

use crate::node::{Node, STOP};

const LIFE: Duration = Duration::from_hours(24);
/// Above what a rested source may try at once.
const ATTEMPTS: usize = 100;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_that_guesses_is_slowed_down_and_then_heard_again() {
    let node = Node::first(LIFE).await;
    let token = node.manager.as_ref().expect("a manager").0.token(Role::Worker).expect("a token");
    let token: JoinToken = token.parse().expect("a token");
    let channel = swarmnet_pki::join_channel(node.addr, token.ca_fingerprint);
    let guess = || {
        let mut client = JoinClient::new(channel.clone());
        let request = v1::JoinRequest { secret: vec![1; 16].into(), ..Default::default() };
        async move { client.join(request).await.expect_err("a guess") }
    };
    let answers: Vec<Status> = futures_util::future::join_all((0..ATTEMPTS).map(|_| guess())).await;
    let slowed = |status: &Status| status.code() == Code::ResourceExhausted;
    let (held, heard): (Vec<_>, Vec<_>) = answers.iter().partition(|status| slowed(status));
    assert!(heard.len() < ATTEMPTS / 2 && heard.len() >= 32, "{} were heard", heard.len());
    let sentence = "too many attempts to join from this address: wait a little";
    assert!(held.iter().all(|status| status.message() == sentence), "{held:?}");
    assert!(heard.iter().all(|status| status.code() != Code::Internal), "{heard:?}");
    // Nodes are not held up by it.
    let nodes = node.control(&node.tls).list_nodes(v1::ListNodesRequest {}).await;
    assert_eq!(nodes.expect("answered").into_inner().nodes.len(), 1, "nobody got in");
    let heard_again = async {
        while slowed(&guess().await) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), heard_again).await.expect("one each second");
    drop(channel);
    tokio::time::timeout(STOP, node.stop()).await.ok();
}
