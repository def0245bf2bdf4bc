//! Channels to other nodes for tonic's clients.
//!
//! A channel connects at its first call, and again at the next call after a loss, each time with the configuration of that
//! moment; its caller decides how soon to call again. TCP gets 500 ms, the TLS handshake 2 s more (a manager that a thousand
//! agents return to at once is slow, not dead). HTTP/2 pings find a silent peer within 4 s. The peer is checked by role,
//! not by address.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use swarmnet_types::{ClusterId, Role};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::Status;
use tonic::transport::{self, Channel};

use super::error::{ConnectError, refusal};
use super::store::{TlsStore, join_config};
use super::stream::{Known, KnownStream};
use crate::fingerprint::Fingerprint;
use crate::peer::{AGENT_SERVER_NAME, MANAGER_SERVER_NAME, Peer};

/// A host on the same network answers in well under one; raft and agents try the next manager after it.
const TCP_TIMEOUT: Duration = Duration::from_millis(500);
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(2);
/// What requests name as their host; nobody looks at it. Not the address: one with a scope (`fe80::1%2`) makes no URI.
/// "http", because tonic would want its own TLS for "https".
const AUTHORITY: &str = "http://node.swarmnet";
const PING_INTERVAL: Duration = Duration::from_secs(2);
const PING_TIMEOUT: Duration = Duration::from_secs(2);

/// A channel to the node at `addr`, which must prove to be a node of our cluster with role `expect` (a manager passes as
/// an agent too). Connects at the first call. Must be called inside a tokio runtime.
pub fn channel(addr: SocketAddr, expect: Role, tls: &TlsStore) -> Channel {
    let tls = tls.clone();
    lazy(move || {
        let current = tls.current();
        Dial {
            addr,
            expect,
            config: Arc::clone(&current.client),
            cluster: Some(current.identity.cluster()),
        }
    })
}

/// A channel for the one call without a certificate: to a manager whose CA has the fingerprint that the token carries.
/// Nothing is sent to a server that cannot prove it. Must be called inside a tokio runtime.
pub fn join_channel(addr: SocketAddr, ca: Fingerprint) -> Channel {
    let config = Arc::new(join_config(ca));
    lazy(move || Dial { addr, expect: Role::Manager, config: Arc::clone(&config), cluster: None })
}

/// What went wrong with a call, in one line: the reason for which no connection was made, or else what the peer said.
pub fn explain(status: &Status) -> String {
    let mut deepest = None;
    for err in causes(status) {
        if let Some(connect) = err.downcast_ref::<ConnectError>() {
            return connect.to_string();
        }
        deepest = Some(err);
    }
    deepest.map_or_else(|| status.message().to_owned(), ToString::to_string)
}

/// Did the peer's machine answer that nobody listens at the address? Its daemon does not run then.
pub fn is_nobody_there(status: &Status) -> bool {
    let mut connects = causes(status).filter_map(|err| err.downcast_ref::<ConnectError>());
    connects.any(|connect| {
        matches!(connect, ConnectError::Unreachable { err, .. } if err.kind() == io::ErrorKind::ConnectionRefused)
    })
}

fn causes(status: &Status) -> impl Iterator<Item = &(dyn std::error::Error + 'static)> {
    std::iter::successors(std::error::Error::source(status), |err| err.source())
}

fn lazy(dial: impl Fn() -> Dial + Send + Sync + 'static) -> Channel {
    transport::Endpoint::from_static(AUTHORITY)
        .http2_keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT)
        .keep_alive_while_idle(true)
        .connect_with_connector_lazy(tower::service_fn(move |_: http::Uri| dial().connect()))
}

/// One attempt to connect.
struct Dial {
    addr: SocketAddr,
    expect: Role,
    config: Arc<ClientConfig>,
    /// Checked beside the chain, because an operator's own CA may serve several clusters. `None`: not known yet.
    cluster: Option<ClusterId>,
}

impl Dial {
    async fn connect(
        self,
    ) -> Result<TokioIo<KnownStream<TlsStream<TcpStream>, Server>>, ConnectError> {
        let addr = self.addr;
        let tcp = timeout(TCP_TIMEOUT, TcpStream::connect(addr))
            .await
            .map_err(|_| ConnectError::Timeout { addr, after: TCP_TIMEOUT })?
            .and_then(|tcp| tcp.set_nodelay(true).map(|()| tcp))
            .map_err(|err| ConnectError::Unreachable { addr, err })?;
        let name = ServerName::try_from(match self.expect {
            Role::Manager => MANAGER_SERVER_NAME,
            Role::Worker => AGENT_SERVER_NAME,
        })
        .expect("our server names are valid DNS names");
        let handshake = TlsConnector::from(self.config).connect(name, tcp);
        let tls = timeout(HANDSHAKE_TIMEOUT, handshake)
            .await
            .map_err(|_| ConnectError::Timeout { addr, after: HANDSHAKE_TIMEOUT })?
            .map_err(|err| ConnectError::handshake(addr, self.expect, err))?;
        if let Some(expected) = self.cluster {
            check_cluster(addr, expected, &tls)?;
        }
        Ok(TokioIo::new(KnownStream { tls, known: Server(addr) }))
    }
}

fn check_cluster(
    addr: SocketAddr,
    expected: ClusterId,
    tls: &TlsStream<TcpStream>,
) -> Result<(), ConnectError> {
    let shown = tls.get_ref().1.peer_certificates().and_then(<[_]>::first);
    let seen = shown
        .and_then(|leaf| Peer::from_der(leaf).ok())
        .ok_or(ConnectError::UnknownCa { addr })?
        .cluster;
    if seen == expected { Ok(()) } else { Err(ConnectError::OtherCluster { addr, expected, seen }) }
}

/// Where we connected to: names the server in its refusal of our certificate.
#[derive(Debug)]
struct Server(SocketAddr);

impl Known for Server {
    fn reword(&self, err: io::Error) -> io::Error {
        refusal(self.0, err)
    }
}
