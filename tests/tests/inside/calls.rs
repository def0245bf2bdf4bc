//! Whatever a peer sends, a manager answers, and goes on.

use std::time::Duration;

use swarmnet_pki::JoinToken;
use swarmnet_proto::v1;
use swarmnet_proto::v1::manager_peer_client::ManagerPeerClient;
use swarmnet_tests::Lab;
use swarmnet_types::Role;
use tonic::Code;
use tonic::transport::Endpoint;

use crate::message::Words;
use crate::node::{Node, STOP};
use crate::storm::{self, Faults, memory_max_kib, note_panics, panics, services};

const LIFE: Duration = Duration::from_hours(24);
/// Far more than a manager of nothing needs; without a bound anywhere a message of four million items would show.
const MEMORY_MAX_KIB: u64 = 1 << 20;
/// On a node's unix socket only.
const LOCAL: [&str; 4] = [
    "swarmnet.v1.Daemon",
    "swarmnet.v1.LocalNode",
    "swarmnet.v1.Membership",
    "swarmnet.v1.Recovery",
];

/// A cluster with a network and a service, and the words for them.
async fn cluster() -> (Node, Words) {
    let node = Node::first(LIFE).await;
    let mut control = node.control(&node.tls);
    let spec = v1::NetworkSpec {
        name: "blue".into(),
        driver: "overlay".into(),
        ipv4: true,
        attachable: true,
        ..v1::NetworkSpec::default()
    };
    let request = v1::CreateNetworkRequest { spec: Some(spec), ..Default::default() };
    let network = control.create_network(request).await.expect("created").into_inner();
    let spec = v1::ServiceSpec {
        name: "web".into(),
        networks: vec!["blue".into()],
        ..v1::ServiceSpec::default()
    };
    let request = v1::CreateServiceRequest { spec: Some(spec), ..Default::default() };
    let service = control.create_service(request).await.expect("created").into_inner();
    let me = node.tls.identity().node_id();
    let token = node.manager.as_ref().expect("a manager").0.token(Role::Worker).expect("a token");
    let token: JoinToken = token.parse().expect("a token");
    let secret = token.secret.as_bytes().to_vec().into();
    let network = network.network.expect("it is told").id;
    let service = service.service.expect("it is told").id;
    let words = Words {
        texts: vec!["blue".into(), "web".into(), "m1".into(), me.to_string()],
        ids: vec![secret, network, service, me.as_bytes().to_vec().into()],
    };
    (node, words)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_manager_answers_whatever_a_peer_sends() {
    note_panics();
    let mut faults = Faults::new();
    for service in services() {
        // Of its own: some may be changed so that a cluster is none any more.
        let (node, words) = cluster().await;
        let channel = swarmnet_pki::channel(node.addr, Role::Manager, &node.tls);
        let is_served = storm::storm(&channel, &service, &words, &mut faults).await;
        assert_eq!(is_served, !LOCAL.contains(&service.full_name()), "{}", service.full_name());
        let alive = node.control(&node.tls).list_nodes(v1::ListNodesRequest {}).await;
        if let Err(status) = alive
            && std::error::Error::source(&status).is_some()
        {
            faults.insert(format!("after {}: {status:?}", service.full_name()));
        }
        drop(channel);
        tokio::time::timeout(STOP, node.stop()).await.ok();
        println!("{}: {} KiB at most", service.full_name(), memory_max_kib("self"));
    }
    assert_eq!(panics(), Vec::<String>::new());
    assert!(faults.is_empty(), "{faults:#?}");
    assert!(memory_max_kib("self") < MEMORY_MAX_KIB, "{} KiB", memory_max_kib("self"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_is_none_does_not_enter_the_group() {
    let (node, _) = cluster().await;
    let channel = swarmnet_pki::channel(node.addr, Role::Manager, &node.tls);
    let mut peer = ManagerPeerClient::new(channel);
    let refused =
        [(7, "192.0.2.7:2377", Code::FailedPrecondition), (1, "nowhere", Code::InvalidArgument)];
    for (index, addr, code) in refused {
        let request = v1::AddMemberRequest { index, addr: addr.to_owned() };
        let status = peer.add_member(request).await.expect_err("refused at once");
        assert_eq!(status.code(), code, "{status:?}");
    }
    let members = node.manager.as_ref().expect("a manager").0.raft().status().members;
    assert_eq!(members.len(), 1, "{members:?}");
    tokio::time::timeout(STOP, node.stop()).await.ok();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_daemon_answers_whatever_its_user_sends() {
    let mut lab = Lab::up("storm", "--managers 1 --agents 0 --clients 0");
    lab.ok("m1", "network create -d overlay --attachable blue");
    lab.ok("m1", "network create house");
    lab.ok("m1", "service create --network blue web");
    let words = Words {
        texts: ["blue", "house", "web", "m1", "true"].map(str::to_owned).to_vec(),
        ids: Vec::new(),
    };
    let folder = lab.folder().join("storm/m1");
    let pid = lab.status()[0]["Daemon"].as_str().expect("it runs").to_owned();
    let socket = format!("unix:{}", folder.join("run/swarmnet.sock").display());
    let channel = Endpoint::try_from(socket).expect("a socket").connect_lazy();
    let mut faults = Faults::new();
    // Last what may take the node out of its cluster.
    let (last, first): (Vec<_>, Vec<_>) =
        services().into_iter().partition(|s| s.full_name() == "swarmnet.v1.Membership");
    for service in first.into_iter().chain(last) {
        let is_served = storm::storm(&channel, &service, &words, &mut faults).await;
        assert!(is_served || !LOCAL.contains(&service.full_name()), "{}", service.full_name());
        println!("{}: {} KiB at most", service.full_name(), memory_max_kib(&pid));
    }
    let log = std::fs::read_to_string(folder.join("state/daemon.log")).expect("its log");
    let panics: Vec<_> = log.lines().filter(|line| line.contains("panicked")).collect();
    assert_eq!(panics, Vec::<&str>::new());
    assert!(faults.is_empty(), "{faults:#?}");
    assert!(memory_max_kib(&pid) < MEMORY_MAX_KIB, "{} KiB", memory_max_kib(&pid));
    lab.ok("m1", "info");
    lab.down();
}
