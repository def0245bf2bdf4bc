//! Renewal in real time (C7), with certificates that live for seconds. The least life of a certificate (1 h) is checked where an
//! operator says it, in the CLI's daemon and the managers' API; the parts that are put together here take any.

use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime};

use swarmnet_pki::{NodeIdentity, TlsStore};
use swarmnet_proto::v1;
use swarmnet_proto::v1::admission_client::AdmissionClient;
use swarmnet_runtime::Supervisor;
use swarmnet_types::Role;
use tokio::sync::watch;
use tokio::time::sleep;

use crate::node::{Node, STOP, certs};

const LIFE: Duration = Duration::from_secs(12);
/// Two renewals of everyone: each comes after at most 80 % of a life.
const WATCHED: Duration = Duration::from_secs(21);

/// Three managers and two agents, each with an open session.
async fn cluster() -> Vec<Node> {
    let mut nodes = vec![Node::first(LIFE).await];
    for role in [Role::Manager, Role::Manager, Role::Worker, Role::Worker] {
        let node = Node::join(&nodes[0], role).await;
        nodes.push(node);
    }
    for node in &mut nodes {
        node.served_by.wait_for(Option::is_some).await.expect("a session opens");
    }
    nodes
}

/// When in its life, in hundredths, each certificate of a node was followed by the next.
fn watch_renewals(node: &Node, worker: &Supervisor) -> watch::Receiver<Vec<u32>> {
    let (seen, ages) = watch::channel(Vec::new());
    let (tls, mut swaps) = (node.tls.clone(), node.tls.swaps());
    let mut last = node.tls.identity();
    worker.spawn_transient("watch", async move {
        while swaps.changed().await.is_ok() {
            let next = tls.identity();
            if next.peer().serial != last.peer().serial {
                let left = last.peer().not_after.duration_since(SystemTime::now());
                let left = left.unwrap_or_default().as_millis();
                let percent = 100 - left.min(LIFE.as_millis()) * 100 / LIFE.as_millis();
                seen.send_modify(|all: &mut Vec<u32>| {
                    all.push(u32::try_from(percent).expect("at most 100"));
                });
            }
            last = next;
        }
    });
    ages
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everyone_renews_in_time_and_no_session_or_raft_connection_ends() {
    let nodes = cluster().await;
    let observer = Supervisor::new("observer");
    let ages: Vec<_> = nodes.iter().map(|n| watch_renewals(n, &observer)).collect();
    // It has no renewal: what becomes of a node that sleeps.
    let asleep = TlsStore::new(nodes[4].tls.identity()).expect("usable");
    let opened: Vec<_> = nodes.iter().map(|n| n.served_by.clone()).collect();
    let status = |tls: TlsStore, node: &Node| {
        let mut control = node.control(&tls);
        async move {
            control.get_cluster(v1::GetClusterRequest {}).await.map(tonic::Response::into_inner)
        }
    };
    let term = status(nodes[0].tls.clone(), &nodes[0]).await.expect("answers").term;

    // Writes go on through a follower, each by a new connection and by the certificates of the moment.
    let (begun, mut writes) = (Instant::now(), 0u32);
    while begun.elapsed() < WATCHED {
        let labels = BTreeMap::from([("n".to_owned(), writes.to_string())]);
        let request = v1::UpdateNodeRequest {
            reference: nodes[4].tls.identity().node_id().to_string(),
            labels_add: labels.into_iter().collect(),
            ..v1::UpdateNodeRequest::default()
        };
        let written = nodes[1].control(&nodes[2].tls).update_node(request).await;
        assert!(written.is_ok(), "{:?} into the test: {written:?}", begun.elapsed());
        writes += 1;
        sleep(Duration::from_millis(100)).await;
    }
    for (at, ages) in ages.iter().enumerate() {
        let ages = ages.borrow().clone();
        println!("node {at} renewed at {ages:?} % of its certificates' lives");
        assert!(ages.len() >= 2, "node {at} renewed {} times in {WATCHED:?}", ages.len());
        assert!(ages.iter().all(|p| (49..95).contains(p)), "node {at}: {ages:?}");
    }
    let reopened = opened.iter().any(|session| session.has_changed().expect("it runs"));
    assert!(!reopened, "sessions live on");
    let now = status(nodes[0].tls.clone(), &nodes[0]).await.expect("answers");
    assert_eq!(
        now.term, term,
        "so do the connections of consensus: no election in {writes} writes"
    );
    // In which words depends on whether the alert or the end of the connection comes first.
    assert!(status(asleep, &nodes[0]).await.is_err(), "what was not renewed has expired");
    observer.shutdown(STOP).await;
    for node in nodes {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_renew_through_whichever_manager_is_left() {
    let mut nodes = cluster().await;
    let left = nodes.split_off(1);
    for node in nodes {
        node.stop().await;
    }
    let before: Vec<_> = left.iter().map(Node::serial).collect();
    let begun = Instant::now();
    while left.iter().zip(&before).any(|(node, before)| node.serial() == *before) {
        assert!(begun.elapsed() < LIFE, "before their certificates end");
        sleep(Duration::from_millis(50)).await;
    }
    for node in left {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rotation_reaches_every_file_and_a_restart_finds_it_sound() {
    let nodes = cluster().await;
    let channel = swarmnet_pki::channel(nodes[1].addr, Role::Manager, &nodes[1].tls);
    let mut admission = AdmissionClient::new(channel);
    let old = nodes[0].tls.identity().issuer();
    let request = v1::RotateCaRequest::default();
    let begun = admission.rotate_ca(request).await.expect("begun").into_inner();
    let to = begun.rotation.and_then(|r| r.to).expect("under way").fingerprint;
    let done = |node: &Node| {
        let loaded = NodeIdentity::load(&certs(&node.dir), None);
        // Between two of its files it is still sound.
        let identity = loaded.expect("sound at every moment").expect("joined");
        let roots: Vec<_> = identity.root_fingerprints().map(|ca| ca.0.to_vec()).collect();
        roots == [to.to_vec()] && identity.issuer().is_some_and(|ca| ca.0[..] == to[..])
    };
    let begun = Instant::now();
    // The first manager's files are written by `init`, the others' by their renewal.
    while !nodes.iter().all(done) {
        assert!(begun.elapsed() < LIFE, "a rotation takes a second or two");
        sleep(Duration::from_millis(5)).await;
    }
    assert_ne!(nodes[0].tls.identity().issuer(), old);
    for node in nodes {
        node.stop().await;
    }
}
