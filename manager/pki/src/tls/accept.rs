//! The listening side: TCP in, authenticated streams out, for tonic's `serve_with_incoming`.
//!
//! Each connection has its own worker for the handshake, with a deadline, so that a silent or slow peer holds up nobody.
//! The workers belong to the stream and end with it. Limits: 256 handshakes at once, 64 from one address; beyond the
//! first, connections wait in the kernel's backlog; beyond the second, they are closed. Whatever is not our TLS is
//! dropped and counted ([`AcceptStats`]).

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{Sleep, sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_stream::Stream;
use tonic::transport::server::Connected;
use tracing::{debug, warn};

use super::store::TlsStore;
use super::stream::{Known, KnownStream};
use crate::peer::{Caller, Peer};

const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
const HANDSHAKES_MAX: usize = 256;
/// A quarter, so that one host cannot take all; plenty for honest hosts, which need one or two.
const HANDSHAKES_PER_SOURCE_MAX: usize = 64;
/// Out of file descriptors: they come back as connections end.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long, and how much, is read of a refused peer so that it hears why: closing a socket with unread data sends a
/// reset, which overtakes the alert.
const FAREWELL_TIMEOUT: Duration = Duration::from_secs(1);
const FAREWELL_BYTES_MAX: u64 = 64 * 1024;

/// A stream of authenticated connections. Never ends and never fails.
#[derive(Debug)]
pub struct Incoming {
    listener: TcpListener,
    tls: TlsStore,
    stats: Arc<AcceptStats>,
    workers: JoinSet<(IpAddr, Option<NodeStream>)>,
    /// Handshakes under way, by source; sums up to `workers.len()`.
    sources: BTreeMap<IpAddr, usize>,
    pause: Option<Pin<Box<Sleep>>>,
}

/// What came in since the start.
#[derive(Debug, Default)]
pub struct AcceptStats {
    accepted: AtomicU64,
    refused: AtomicU64,
    timed_out: AtomicU64,
    over_limit: AtomicU64,
}

/// One connection from another node, or from one that wants to join. Its [`Caller`] is in the extensions of each request.
pub type NodeStream = KnownStream<TlsStream<TcpStream>, Caller>;

// === impl AcceptStats ===

impl AcceptStats {
    /// Connections handed to the server.
    pub fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::Relaxed)
    }

    /// Not TLS, or a certificate that is not of our cluster.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// No handshake within 5 s.
    pub fn timed_out(&self) -> u64 {
        self.timed_out.load(Ordering::Relaxed)
    }

    /// Closed unread: too many handshakes from that address.
    pub fn over_limit(&self) -> u64 {
        self.over_limit.load(Ordering::Relaxed)
    }
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

// === impl Incoming ===

impl Incoming {
    pub fn new(listener: TcpListener, tls: TlsStore) -> Self {
        Self {
            listener,
            tls,
            stats: Arc::default(),
            workers: JoinSet::new(),
            sources: BTreeMap::new(),
            pause: None,
        }
    }

    /// The counters, to be kept after the stream is given to the server.
    pub fn stats(&self) -> Arc<AcceptStats> {
        Arc::clone(&self.stats)
    }

    /// The next finished handshake that succeeded.
    fn poll_finished(&mut self, cx: &mut Context<'_>) -> Poll<NodeStream> {
        loop {
            let (source, stream) = match self.workers.poll_join_next(cx) {
                Poll::Ready(Some(Ok(done))) => done,
                // Nobody aborts a worker, so it panicked: a bug, which must not be hidden.
                Poll::Ready(Some(Err(err))) => std::panic::resume_unwind(err.into_panic()),
                Poll::Ready(None) | Poll::Pending => return Poll::Pending,
            };
            if let Some(under_way) = self.sources.get_mut(&source) {
                *under_way -= 1;
                if *under_way == 0 {
                    self.sources.remove(&source);
                }
            }
            if let Some(stream) = stream {
                count(&self.stats.accepted);
                return Poll::Ready(stream);
            }
        }
    }

    /// Accepts as many connections as there is room for.
    fn poll_accept(&mut self, cx: &mut Context<'_>) {
        while self.workers.len() < HANDSHAKES_MAX {
            if let Some(pause) = &mut self.pause {
                if pause.as_mut().poll(cx).is_pending() {
                    return;
                }
                self.pause = None;
            }
            match self.listener.poll_accept(cx) {
                Poll::Ready(Ok((tcp, remote))) => self.begin(tcp, remote),
                Poll::Ready(Err(err)) if is_of_the_peer(&err) => {}
                Poll::Ready(Err(err)) => {
                    warn!(%err, "cannot accept connections, will go on in {ACCEPT_PAUSE:?}");
                    self.pause = Some(Box::pin(sleep(ACCEPT_PAUSE)));
                }
                Poll::Pending => return,
            }
        }
    }

    fn begin(&mut self, tcp: TcpStream, remote: SocketAddr) {
        let source = remote.ip().to_canonical();
        let under_way = self.sources.entry(source).or_default();
        if *under_way >= HANDSHAKES_PER_SOURCE_MAX {
            count(&self.stats.over_limit);
            debug!(%remote, "closed: too many handshakes from this address");
            return;
        }
        *under_way += 1;
        let (tls, stats) = (self.tls.clone(), Arc::clone(&self.stats));
        self.workers.spawn(async move {
            let stream = match timeout(HANDSHAKE_TIMEOUT, handshake(tcp, remote, &tls)).await {
                Ok(Ok(stream)) => Some(stream),
                Ok(Err(err)) => {
                    count(&stats.refused);
                    debug!(%remote, %err, "refused a connection");
                    None
                }
                Err(_) => {
                    count(&stats.timed_out);
                    debug!(%remote, "no handshake in time");
                    None
                }
            };
            (source, stream)
        });
    }
}

impl Stream for Incoming {
    type Item = io::Result<NodeStream>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if let Poll::Ready(stream) = self.poll_finished(cx) {
                return Poll::Ready(Some(Ok(stream)));
            }
            let before = self.workers.len();
            self.poll_accept(cx);
            if self.workers.len() == before {
                return Poll::Pending;
            }
            // New workers: register for their ends too.
        }
    }
}

/// Errors of one connection that ended before it was accepted (accept(2)).
fn is_of_the_peer(err: &io::Error) -> bool {
    matches!(
        err.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::Interrupted
    )
}

async fn handshake(tcp: TcpStream, remote: SocketAddr, tls: &TlsStore) -> io::Result<NodeStream> {
    // tonic sets it only on connections that it accepts itself; without it, calls wait for delayed ACKs.
    tcp.set_nodelay(true)?;
    let current = tls.current();
    let acceptor = TlsAcceptor::from(Arc::clone(&current.server));
    let tls = match acceptor.accept(tcp).into_fallible().await {
        Ok(tls) => tls,
        Err((err, tcp)) => {
            farewell(tcp).await;
            return Err(err);
        }
    };
    let peer = match tls.get_ref().1.peer_certificates().and_then(<[_]>::first) {
        Some(leaf) => Some(Peer::from_der(leaf).map_err(io::Error::other)?),
        None => None,
    };
    // An operator's own CA may serve several clusters.
    if peer.is_some_and(|peer| peer.cluster != current.identity.cluster()) {
        return Err(io::Error::other("a node of another cluster"));
    }
    Ok(NodeStream { tls, known: Caller { remote, peer } })
}

/// Lets a refused peer read the alert that was sent.
async fn farewell(mut tcp: TcpStream) {
    if tcp.shutdown().await.is_ok() {
        let mut rest = tcp.take(FAREWELL_BYTES_MAX);
        // However it ends, the connection is closed now.
        let _ = timeout(FAREWELL_TIMEOUT, tokio::io::copy(&mut rest, &mut tokio::io::sink())).await;
    }
}

// === impl NodeStream ===

impl NodeStream {
    pub fn caller(&self) -> &Caller {
        &self.known
    }
}

impl Known for Caller {}

impl Connected for NodeStream {
    type ConnectInfo = Caller;

    fn connect_info(&self) -> Caller {
        self.known
    }
}
