//! Real servers and clients over loopback: who gets in, who does not, and what the refused are told.
//!
//! `lab.rs` holds the cluster and the small service; the tests below read as sentences.

mod lab;

use std::net::SocketAddrV6;
use std::time::Duration;

use lab::{ADMIN, Cluster, JOIN, Node, READ, SESSION, call, watch};
use swarmnet_pki::{Fingerprint, channel, explain, join_channel};
use swarmnet_types::Role;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_stream::StreamExt as _;
use tonic::{Code, Request, Status};

type TestResult = Result<(), Box<dyn std::error::Error>>;

fn refused(result: Result<String, Status>) -> (Code, String) {
    let status = result.expect_err("refused");
    (status.code(), explain(&status))
}

#[tokio::test]
async fn roles_are_checked_before_the_handler() -> TestResult {
    let cluster = Cluster::new(1);
    let manager = cluster.node(1, Role::Manager);
    let agent = cluster.node(2, Role::Worker);
    let server = manager.serve().await;

    let by_manager = channel(server.addr, Role::Manager, &manager.tls);
    let by_agent = channel(server.addr, Role::Manager, &agent.tls);
    assert_eq!(call(&by_manager, ADMIN, Request::new(())).await?, manager.says(ADMIN));
    assert_eq!(call(&by_agent, READ, Request::new(())).await?, agent.says(READ));
    assert_eq!(call(&by_agent, JOIN, Request::new(())).await?, agent.says(JOIN));
    let (code, text) = refused(call(&by_agent, ADMIN, Request::new(())).await);
    assert_eq!(code, Code::PermissionDenied);
    assert!(text.contains("for managers only") && text.contains(&agent.id.to_string()), "{text}");
    let (code, _) = refused(call(&by_manager, "/test.Test/Unlisted", Request::new(())).await);
    assert_eq!(code, Code::Unimplemented, "the handler would have answered");
    Ok(())
}

#[tokio::test]
async fn an_agent_speaks_for_itself_only() -> TestResult {
    let cluster = Cluster::new(1);
    let manager = cluster.node(1, Role::Manager);
    let (agent, other) = (cluster.node(2, Role::Worker), cluster.node(3, Role::Worker));
    let server = manager.serve().await;
    let as_other = || {
        let mut request = Request::new(());
        swarmnet_pki::authz::speak_for(&mut request, other.id);
        request
    };
    let by_agent = channel(server.addr, Role::Manager, &agent.tls);
    assert_eq!(call(&by_agent, SESSION, Request::new(())).await?, agent.says(SESSION));
    let (code, text) = refused(call(&by_agent, SESSION, as_other()).await);
    assert_eq!(code, Code::PermissionDenied);
    assert!(text.contains("may not speak for"), "{text}");
    let by_manager = channel(server.addr, Role::Manager, &manager.tls);
    assert_eq!(call(&by_manager, SESSION, as_other()).await?, other.says(SESSION), "forwarded");
    Ok(())
}

#[tokio::test]
async fn a_removed_node_is_cut_off_while_its_certificate_is_in_date() -> TestResult {
    let cluster = Cluster::new(1);
    let (manager, agent) = (cluster.node(1, Role::Manager), cluster.node(2, Role::Worker));
    let server = manager.serve().await;
    let by_agent = channel(server.addr, Role::Manager, &agent.tls);
    call(&by_agent, READ, Request::new(())).await?;
    server.revoke(agent.id);
    let (code, text) = refused(call(&by_agent, READ, Request::new(())).await);
    assert_eq!(code, Code::PermissionDenied);
    assert!(text.contains("was removed from the cluster"), "{text}");
    Ok(())
}

#[tokio::test]
async fn a_demoted_manager_is_a_worker_whatever_its_certificate_says() -> TestResult {
    let cluster = Cluster::new(1);
    let (manager, other) = (cluster.node(1, Role::Manager), cluster.node(2, Role::Manager));
    let server = manager.serve().await;
    let by_other = channel(server.addr, Role::Manager, &other.tls);
    call(&by_other, ADMIN, Request::new(())).await?;
    server.demote(other.id);
    call(&by_other, READ, Request::new(())).await?;
    let (code, text) = refused(call(&by_other, ADMIN, Request::new(())).await);
    assert_eq!(code, Code::PermissionDenied);
    assert!(text.contains("for managers only"), "{text}");
    let mut for_another = Request::new(());
    swarmnet_pki::authz::speak_for(&mut for_another, manager.id);
    let (_, text) = refused(call(&by_other, SESSION, for_another).await);
    assert!(text.contains("may not speak for"), "{text}");
    Ok(())
}

#[tokio::test]
async fn a_new_node_may_join_and_nothing_else() -> TestResult {
    let cluster = Cluster::new(1);
    let server = cluster.node(1, Role::Manager).serve().await;
    let newcomer = join_channel(server.addr, cluster.ca.fingerprint());
    assert_eq!(call(&newcomer, JOIN, Request::new(())).await?, "/test.Test/Join nobody 127.0.0.1");
    for path in [READ, ADMIN, SESSION] {
        let (code, text) = refused(call(&newcomer, path, Request::new(())).await);
        assert_eq!(code, Code::Unauthenticated, "{path}");
        assert!(text.contains("join the cluster first"), "{text}");
    }
    Ok(())
}

#[tokio::test]
async fn a_join_tells_nothing_to_another_clusters_manager() -> TestResult {
    let (mine, other) = (Cluster::new(1), Cluster::new(2));
    let server = other.node(1, Role::Manager).serve().await;
    let pin = mine.ca.fingerprint();
    let (code, text) = refused(call(&join_channel(server.addr, pin), JOIN, Request::new(())).await);
    assert_eq!(code, Code::Unavailable);
    let words = format!("remote CA does not match fingerprint. Expected: {pin}");
    assert!(text.starts_with(&words), "{text}");
    assert!(text.contains(&other.ca.fingerprint().to_string()), "{text}");
    assert_eq!(server.calls(), 0);
    // The right CA shown, but by a server that holds no key of a certificate signed by it.
    let forged = other.forged(&mine).serve().await;
    let (_, text) = refused(call(&join_channel(forged.addr, pin), JOIN, Request::new(())).await);
    assert!(text.contains("is not signed by a CA that this node trusts"), "{text}");
    assert_eq!(forged.calls(), 0);
    Ok(())
}

#[tokio::test]
async fn a_worker_cannot_pose_as_a_manager() -> TestResult {
    let cluster = Cluster::new(1);
    let (agent, manager) = (cluster.node(2, Role::Worker), cluster.node(1, Role::Manager));
    let posing = agent.serve().await;
    let pinned = join_channel(posing.addr, cluster.ca.fingerprint());
    let joined = channel(posing.addr, Role::Manager, &manager.tls);
    for channel in [pinned, joined] {
        let (_, text) = refused(call(&channel, JOIN, Request::new(())).await);
        assert!(text.ends_with("is not a manager"), "{text}");
    }
    // A manager is an agent too; an agent's certificate is enough where an agent is expected.
    let as_agent = channel(posing.addr, Role::Worker, &manager.tls);
    call(&as_agent, READ, Request::new(())).await?;
    let server = manager.serve().await;
    call(&channel(server.addr, Role::Worker, &agent.tls), READ, Request::new(())).await?;
    Ok(())
}

#[tokio::test]
async fn foreign_clusters_are_told_so_on_both_sides() -> TestResult {
    let (mine, other) = (Cluster::new(1), Cluster::new(2));
    let server = mine.node(1, Role::Manager).serve().await;
    let stranger = other.node(2, Role::Worker);
    let to_mine = channel(server.addr, Role::Manager, &stranger.tls);
    let (code, text) = refused(call(&to_mine, READ, Request::new(())).await);
    assert_eq!(code, Code::Unavailable);
    assert!(text.contains("belongs to another cluster"), "{text}");

    // Of our cluster by name and by the CA it trusts, so it is the server that refuses. A refusal can be overtaken by a
    // reset, so one success proves little.
    let half = Cluster::new(1).trusting(2, &mine);
    for _ in 0..20 {
        let to_mine = channel(server.addr, Role::Manager, &half.tls);
        let (_, text) = refused(call(&to_mine, READ, Request::new(())).await);
        assert!(text.contains("refused this node's certificate: it is not signed"), "{text}");
    }
    assert_eq!(server.calls(), 0);
    Ok(())
}

#[tokio::test]
async fn trusting_another_clusters_ca_does_not_make_one_cluster() -> TestResult {
    let (mine, other) = (Cluster::new(1), Cluster::new(2));
    let server = mine.node(1, Role::Manager).serve().await;
    let to_mine = channel(server.addr, Role::Manager, &other.trusting(2, &mine).tls);
    let (_, text) = refused(call(&to_mine, READ, Request::new(())).await);
    assert!(text.contains("belongs to another cluster"), "{text}");
    Ok(())
}

#[tokio::test]
async fn clock_skew_and_expiry_have_their_own_words() -> TestResult {
    let cluster = Cluster::new(1);
    let agent = cluster.node(2, Role::Worker);
    let ahead = cluster.node_at(1, Role::Manager, 2 * 3600, 3600).serve().await;
    let pinned = join_channel(ahead.addr, cluster.ca.fingerprint());
    for channel in [pinned, channel(ahead.addr, Role::Manager, &agent.tls)] {
        let (_, text) = refused(call(&channel, JOIN, Request::new(())).await);
        assert!(text.contains("this node's clock shows 20") && text.contains("set the clocks"));
    }
    let ended = cluster.node_at(1, Role::Manager, -7200, 3600).serve().await;
    let to_ended = channel(ended.addr, Role::Manager, &agent.tls);
    let (_, text) = refused(call(&to_ended, READ, Request::new(())).await);
    assert!(text.contains(" ended at 20"), "{text}");

    let late = cluster.node_at(3, Role::Worker, -7200, 3600);
    let server = cluster.node(1, Role::Manager).serve().await;
    let (_, text) = refused(
        call(&channel(server.addr, Role::Manager, &late.tls), READ, Request::new(())).await,
    );
    assert!(text.contains("by that node's clock it is not in date"), "{text}");
    Ok(())
}

#[tokio::test]
async fn unreachable_is_said_at_once() -> TestResult {
    let cluster = Cluster::new(1);
    let agent = cluster.node(2, Role::Worker);
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let addr = listener.local_addr()?;
    drop(listener);
    let (code, text) =
        refused(call(&channel(addr, Role::Manager, &agent.tls), READ, Request::new(())).await);
    assert_eq!(code, Code::Unavailable);
    assert!(text.starts_with(&format!("cannot reach {addr}: ")), "{text}");
    let scoped = SocketAddrV6::new("fe80::1".parse()?, 9, 0, 1).into();
    let (_, text) =
        refused(call(&channel(scoped, Role::Manager, &agent.tls), READ, Request::new(())).await);
    assert!(text.starts_with("cannot reach [fe80::1%1]:9: "), "{text}");
    Ok(())
}

#[tokio::test]
async fn a_server_of_something_else_is_named() -> TestResult {
    let cluster = Cluster::new(1);
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let addr = listener.local_addr()?;
    let answer = async {
        let (mut tcp, _) = listener.accept().await?;
        tcp.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await?;
        tcp.read_to_end(&mut Vec::new()).await
    };
    let pinned = join_channel(addr, cluster.ca.fingerprint());
    let (_, result) = tokio::join!(answer, call(&pinned, JOIN, Request::new(())));
    let (_, text) = refused(result);
    assert!(text.contains("does not speak TLS"), "{text}");
    Ok(())
}

#[tokio::test]
async fn reload_keeps_live_streams_and_shows_the_new_certificate() -> TestResult {
    let cluster = Cluster::new(1);
    let (manager, agent) = (cluster.node(1, Role::Manager), cluster.node(2, Role::Worker));
    let server = manager.serve().await;
    let open = channel(server.addr, Role::Manager, &agent.tls);
    let mut stream = watch(&open).await?;
    let first = stream.next().await.ok_or("ended")??;
    let old = agent.tls.identity().peer().serial;
    assert_eq!(first, old.to_string());

    agent.tls.swap(cluster.renewed(&agent))?;
    manager.tls.swap(cluster.renewed(&manager))?;
    let new = agent.tls.identity().peer().serial;
    assert_ne!(old, new);
    let fresh = channel(server.addr, Role::Manager, &agent.tls);
    let mut second = watch(&fresh).await?;
    assert_eq!(second.next().await.ok_or("ended")??, new.to_string());
    server.tick();
    assert_eq!(stream.next().await.ok_or("ended")??, old.to_string(), "the old one goes on");
    assert_eq!(call(&open, READ, Request::new(())).await?, agent.says(READ));

    // The CA changes too: only nodes that know both get through, in either direction.
    let next = Cluster::new(1);
    agent.tls.swap(cluster.with_roots(&agent, &[&next]))?;
    manager.tls.swap(next.node_trusting(1, Role::Manager, &[&cluster]))?;
    call(&channel(server.addr, Role::Manager, &agent.tls), READ, Request::new(())).await?;
    server.tick();
    assert_eq!(stream.next().await.ok_or("ended")??, old.to_string());
    Ok(())
}

#[tokio::test]
async fn garbage_and_silence_cost_nothing() -> TestResult {
    let cluster = Cluster::new(1);
    let (manager, agent) = (cluster.node(1, Role::Manager), cluster.node(2, Role::Worker));
    let server = manager.serve().await;
    let mut silent = Vec::new();
    for _ in 0..40 {
        silent.push(TcpStream::connect(server.addr).await?);
    }
    let noises: [&[u8]; 4] =
        [b"GET / HTTP/1.1\r\n\r\n", &[0; 300], b"\x16\x03\x01\xff\xff", b"PRI * HTTP/2.0\r\n\r\n"];
    for noise in noises.into_iter().cycle().take(40) {
        let mut tcp = TcpStream::connect(server.addr).await?;
        tcp.write_all(noise).await?;
        tcp.shutdown().await?;
    }
    let by_agent = channel(server.addr, Role::Manager, &agent.tls);
    let answer =
        tokio::time::timeout(Duration::from_secs(2), call(&by_agent, READ, Request::new(())));
    assert_eq!(answer.await??, agent.says(READ), "served among the garbage");
    let stats = server.stats();
    lab::until(|| stats.refused() == 40).await;
    assert_eq!((stats.accepted(), stats.timed_out()), (1, 0));
    // The silent ones are closed by the deadline.
    let closed = tokio::time::timeout(Duration::from_secs(8), silent[0].read(&mut [0; 16])).await?;
    assert!(matches!(closed, Ok(0) | Err(_)));
    lab::until(|| stats.timed_out() == 40).await;
    Ok(())
}

#[tokio::test]
async fn one_source_cannot_take_every_handshake() -> TestResult {
    let cluster = Cluster::new(1);
    let server = cluster.node(1, Role::Manager).serve().await;
    let mut silent = Vec::new();
    for _ in 0..100 {
        silent.push(TcpStream::connect(server.addr).await?);
    }
    let stats = server.stats();
    lab::until(|| stats.over_limit() == 36).await;
    // Another address is served meanwhile.
    let from = tokio::net::TcpSocket::new_v4()?;
    from.bind("127.0.0.2:0".parse()?)?;
    let mut other = from.connect(server.addr).await?;
    other.write_all(b"not TLS at all, but answered").await?;
    lab::until(|| stats.refused() == 1).await;
    Ok(())
}

#[tokio::test]
async fn a_join_ends_in_an_identity_that_trusts_the_tokens_ca() {
    let cluster = Cluster::new(1);
    let node: Node = cluster.node(2, Role::Worker);
    assert!(node.tls.identity().trusts(cluster.ca.fingerprint()));
    assert!(!node.tls.identity().trusts(Fingerprint::of(b"another")));
}
