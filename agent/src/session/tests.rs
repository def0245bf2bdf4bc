//! The session with a manager of the test.

use std::time::SystemTime;

use swarmnet_pki::{Ca, Issue, NodeIdentity, NodeKey, TlsStore};
use swarmnet_types::{Name, Revision, Role};

use super::*;
use crate::desired::fixture;
use crate::local::{Managers, Standing};

struct Bench {
    config: SessionConfig,
    view: watch::Receiver<Option<Arc<NodeView>>>,
}

fn addr(last: u8) -> SocketAddr {
    ([192, 0, 2, last], 2377).into()
}

fn description() -> NodeDescription {
    let (name, version) = ("n1".to_owned(), "0.1.0".to_owned());
    NodeDescription { name, addr: addr(1), data_path: addr(1).ip(), version }
}

fn pool(managers: &[SocketAddr]) -> ManagerPool {
    let cluster = fixture::view().cluster.id;
    let ca = Ca::create(cluster, SystemTime::now()).expect("a CA");
    let key = NodeKey::generate().expect("a key");
    let lifetime = Duration::from_hours(24);
    let issue = Issue { node_id: fixture::ME, role: Role::Worker, lifetime };
    let csr = key.csr().expect("a request");
    let cert = ca.sign_csr(&csr, &issue, SystemTime::now()).expect("a certificate");
    let identity = NodeIdentity::new(key, &cert, ca.cert_pem()).expect("an identity");
    let pool = ManagerPool::default();
    let standing = Standing { node: fixture::ME, cluster, role: Role::Worker };
    pool.enter(standing, TlsStore::new(identity).expect("TLS"), managers.to_vec());
    pool
}

fn bench(known: Option<NodeView>) -> Bench {
    let sender = watch::Sender::new(known.map(Arc::new));
    let view = sender.subscribe();
    let (_, description) = watch::channel(description());
    let (_, applied) = watch::channel(Applied::default());
    let pool = pool(&[addr(1), addr(2), addr(3)]);
    let config = SessionConfig {
        tls: pool.tls().expect("in a cluster"),
        trust: watch::Sender::default(),
        pool,
        description,
        view: sender,
        applied,
        served_by: watch::Sender::default(),
    };
    Bench { config, view }
}

fn said(message: manager_message::Message) -> v1::ManagerMessage {
    v1::ManagerMessage { message: Some(message) }
}

fn renamed(view: &NodeView) -> NodeView {
    let mut newer = view.clone();
    newer.revision = Revision(view.revision.0 + 1);
    newer.services.get_mut(&fixture::WEB).expect("there").name = Name::new("api").expect("a name");
    newer
}

#[tokio::test]
async fn a_snapshot_then_deltas_make_the_view() {
    let bench = bench(None);
    let first = fixture::view();
    let snapshot = manager_message::Message::Snapshot((&first).into());
    assert!(hear(&bench.config, said(snapshot)).is_ok());
    assert_eq!(bench.view.borrow().as_deref(), Some(&first));
    let second = renamed(&first);
    let delta = manager_message::Message::Delta((&first.delta_to(&second)).into());
    assert!(hear(&bench.config, said(delta)).is_ok());
    assert_eq!(bench.view.borrow().as_deref(), Some(&second));
}

#[tokio::test]
async fn a_gap_keeps_the_view_and_asks_for_a_whole_one() {
    let bench = bench(Some(fixture::view()));
    let later = renamed(&renamed(&fixture::view()));
    let delta = renamed(&fixture::view()).delta_to(&later);
    let message = manager_message::Message::Delta((&delta).into());
    let broken = hear(&bench.config, said(message)).expect_err("it does not fit");
    assert!(matches!(broken, Broken::Gap(_)));
    assert_eq!(bench.view.borrow().as_deref(), Some(&fixture::view()));
    assert_eq!(hello(&bench.config, false).have_revision, 7);
    assert_eq!(hello(&bench.config, true).have_revision, 0);
}

#[tokio::test]
async fn a_message_that_makes_no_sense_ends_the_stream_and_changes_nothing() {
    let bench = bench(Some(fixture::view()));
    let mut snapshot = v1::NodeView::from(&fixture::view());
    snapshot.me = vec![1, 2].into();
    for message in [
        manager_message::Message::Snapshot(snapshot),
        manager_message::Message::Delta(v1::ViewDelta {
            applies_to: 7,
            results_in: 8,
            changes: vec![v1::ViewChange { change: None }],
        }),
        manager_message::Message::Redirect(v1::Redirect { addr: "nowhere".to_owned() }),
    ] {
        assert!(matches!(hear(&bench.config, said(message)), Err(Broken::Stream(_))));
    }
    assert_eq!(bench.view.borrow().as_deref(), Some(&fixture::view()));
}

#[test]
fn a_manager_whose_version_is_unknown_is_not_listened_to() {
    let welcome = |wire| said(manager_message::Message::Welcome(v1::Welcome { wire }));
    assert!(agree(&welcome(1)).is_ok());
    assert!(agree(&welcome(0)).is_ok());
    let older = said(manager_message::Message::Heartbeat(v1::Heartbeat {}));
    assert!(agree(&older).is_ok(), "a manager from before versions were agreed on");
    assert!(agree(&v1::ManagerMessage { message: None }).is_ok());
    assert_eq!(
        agree(&welcome(3)).expect_err("unknown").message(),
        "the manager speaks version 3 of the protocol between daemons, this node version 1: upgrade swarmnet on the node"
    );
}

#[tokio::test]
async fn a_session_that_cannot_be_opened_names_the_manager_to_leave() {
    let mut bench = bench(None);
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let gone = nobody.local_addr().expect("bound");
    drop(nobody);
    bench.config.pool = pool(&[gone]);
    let ended = one(&mut bench.config, false).await;
    assert_eq!((ended.by, ended.gap), (Some(gone), false));
    assert!(swarmnet_pki::explain(&ended.status).contains("cannot reach"), "{:?}", ended.status);
    assert!(swarmnet_pki::is_nobody_there(&ended.status), "its machine says so");
    assert!(!swarmnet_pki::is_nobody_there(&Status::unavailable("a manager's own word")));
}

#[tokio::test]
async fn the_pool_stays_with_who_answers_and_moves_on_once() {
    let pool = pool(&[addr(1), addr(2), addr(3)]);
    let now = || pool.current().map(|(addr, _)| addr);
    assert_eq!(now(), Some(addr(1)));
    pool.gave_up(addr(1));
    // A second complaint about the same manager must not skip the next.
    pool.gave_up(addr(1));
    assert_eq!(now(), Some(addr(2)));
    pool.update(&[addr(4), addr(3), addr(2)]);
    assert_eq!(now(), Some(addr(2)), "still a manager");
    pool.update(&[]);
    assert_eq!(now(), Some(addr(2)), "an empty list is no list");
    pool.prefer(addr(3));
    assert_eq!(now(), Some(addr(3)));
    pool.prefer(addr(9));
    assert_eq!(now(), Some(addr(3)));
    pool.set_role(Role::Manager);
    assert_eq!(pool.standing().map(|s| s.role), Some(Role::Manager));
    pool.leave();
    assert!(now().is_none() && pool.channel().await.is_err());
}

#[tokio::test]
async fn a_manager_that_is_behind_is_left_and_its_view_is_not_taken() {
    let newer = renamed(&fixture::view());
    let bench = bench(Some(newer.clone()));
    let behind = manager_message::Message::Snapshot((&fixture::view()).into());
    assert!(matches!(hear(&bench.config, said(behind)), Err(Broken::Stream(_))));
    assert_eq!(bench.view.borrow().as_deref(), Some(&newer));
    let mut other = fixture::view();
    other.cluster.id = swarmnet_types::ClusterId::from_bytes([8; 16]);
    let elsewhere = manager_message::Message::Snapshot((&other).into());
    assert!(hear(&bench.config, said(elsewhere)).is_ok(), "numbers of another cluster say nothing");
    assert_eq!(bench.view.borrow().as_deref(), Some(&other));
}
