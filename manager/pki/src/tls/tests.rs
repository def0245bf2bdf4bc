//! The sockets beneath: what only code inside can see. Whole servers and clients are in `tests/mtls`.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustls::pki_types::ServerName;
use swarmnet_types::{ClusterId, NodeId, Role};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::sleep;
use tokio_rustls::TlsConnector;
use tokio_stream::StreamExt as _;

use super::accept::Incoming;
use super::store::TlsStore;
use crate::ca::{Ca, Issue};
use crate::identity::{NodeIdentity, NodeKey};
use crate::peer::MANAGER_SERVER_NAME;

fn ca() -> Ca {
    Ca::create(ClusterId::from_bytes([1; 16]), SystemTime::now()).expect("a CA")
}

/// A manager signed by `ca` that trusts all of `roots`.
fn manager(ca: &Ca, roots: &[&Ca]) -> TlsStore {
    let key = NodeKey::generate().expect("a key");
    let issue = Issue {
        node_id: NodeId::from_bytes([2; 16]),
        role: Role::Manager,
        lifetime: Duration::from_hours(1),
    };
    let csr = key.csr().expect("a request");
    let chain = ca.sign_csr(&csr, &issue, SystemTime::now()).expect("signed");
    let roots: String = roots.iter().map(|ca| ca.cert_pem()).collect();
    TlsStore::new(NodeIdentity::new(key, &chain, &roots).expect("an identity")).expect("usable")
}

async fn listen(tls: TlsStore) -> (SocketAddr, Incoming) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    (listener.local_addr().expect("bound"), Incoming::new(listener, tls))
}

async fn connect(
    addr: SocketAddr,
    tls: &TlsStore,
) -> io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
    let connector = TlsConnector::from(Arc::clone(&tls.current().client));
    let name = ServerName::try_from(MANAGER_SERVER_NAME).expect("a name");
    connector.connect(name, TcpStream::connect(addr).await?).await
}

#[tokio::test]
async fn accepted_sockets_do_not_delay_small_writes() {
    let ca = ca();
    let tls = manager(&ca, &[&ca]);
    let (addr, mut incoming) = listen(tls.clone()).await;
    let (stream, client) = tokio::join!(incoming.next(), connect(addr, &tls));
    let stream = stream.expect("never ends").expect("never fails");
    assert!(stream.tls.get_ref().0.nodelay().expect("a socket option"));
    let (_, session) = client.as_ref().expect("connected").get_ref();
    assert_eq!(session.alpn_protocol(), Some(super::ALPN));
    assert_eq!(session.protocol_version(), Some(rustls::ProtocolVersion::TLSv1_3));
}

#[tokio::test]
async fn a_refused_client_that_writes_on_still_hears_why() -> io::Result<()> {
    let (ours, other) = (ca(), ca());
    let (addr, mut incoming) = listen(manager(&ours, &[&ours])).await;
    let refused = async {
        // TLS 1.3: the client believes itself connected until it reads.
        let mut client = connect(addr, &manager(&other, &[&other, &ours])).await?;
        for _ in 0..10 {
            client.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await?;
            client.flush().await?;
            sleep(Duration::from_millis(10)).await;
        }
        Ok(client.read(&mut [0; 16]).await.expect_err("an alert").to_string())
    };
    let text: io::Result<String> = tokio::select! {
        text = refused => text,
        _ = incoming.next() => unreachable!("nobody is let in"),
    };
    assert!(text?.contains("received fatal alert"));
    assert_eq!(incoming.stats().refused(), 0, "still reading");
    Ok(())
}
