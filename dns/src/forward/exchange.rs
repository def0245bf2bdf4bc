//! Asking upstream resolvers: which first, when the next, by UDP and by TCP where an answer was cut.
//!
//! Every exchange has a socket, a source port and an id of its own, so that an answer cannot be guessed from outside. Holds
//! no lock and no state but which servers failed lately.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, UdpSocket};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};

use super::response::Response;
use super::upstream::{Order, SERVERS_MAX, Transport, Upstreams};
use crate::wire::{self, Query, UDP_EDNS_MAX_BYTES};

/// One server's whole time, TCP included; Docker's number.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(4);
/// When the next server is asked while one is silent. Three servers have had their turn before a client's 5 seconds end.
const NEXT_SERVER_AFTER: Duration = Duration::from_millis(1200);
/// How long a server that failed is asked last.
const FAILED_FOR: Duration = Duration::from_secs(10);
/// Exchanges at a time, each with a socket; above it queries fail at once.
const EXCHANGES_MAX: usize = 1024;

/// What the upstreams said.
#[derive(Debug, Clone)]
pub(super) enum Outcome {
    Answer(Arc<Response>),
    /// All that answered say that they cannot or will not.
    Failure(Arc<Response>),
    Silence,
}

#[derive(Debug)]
pub(super) struct Exchanger {
    upstreams: Upstreams,
    slots: Semaphore,
    /// One for each server: until when it comes last.
    failed_until: Mutex<Vec<Instant>>,
}

impl Exchanger {
    pub(super) fn new(mut upstreams: Upstreams) -> Self {
        upstreams.servers.truncate(SERVERS_MAX);
        let failed_until = Mutex::new(Vec::new());
        Self { upstreams, slots: Semaphore::new(EXCHANGES_MAX), failed_until }
    }

    /// Asks until a server gives a good answer or none is left. `message` is the client's, and parsed as `query`.
    pub(super) async fn ask(&self, message: &[u8], query: &Query) -> Outcome {
        let Ok(_slot) = self.slots.try_acquire() else { return Outcome::Silence };
        let mut servers = self.in_order(Instant::now()).into_iter();
        let mut waiting = FuturesUnordered::new();
        let mut last = Outcome::Silence;
        loop {
            if let Some(index) = servers.next() {
                waiting.push(self.attempt(index, message, query));
                if self.upstreams.order == Order::Parallel && servers.len() > 0 {
                    continue;
                }
            } else if waiting.is_empty() {
                return last;
            }
            let finished = if servers.len() > 0 {
                match timeout(NEXT_SERVER_AFTER, waiting.next()).await {
                    Ok(finished) => finished,
                    Err(_) => continue,
                }
            } else {
                waiting.next().await
            };
            let Some((index, result)) = finished else { continue };
            match result {
                Ok(response) if response.is_failure() => last = Outcome::Failure(response.into()),
                Ok(response) => return Outcome::Answer(response.into()),
                Err(err) => {
                    let server = self.upstreams.servers[index];
                    tracing::debug!(%server, %err, name = %query.name, "upstream resolver");
                    self.note_failure(index);
                }
            }
        }
    }

    /// Indices of the servers, those that failed lately last.
    fn in_order(&self, now: Instant) -> Vec<usize> {
        let failed_until = self.failed_until.lock().unwrap_or_else(PoisonError::into_inner);
        let mut order: Vec<usize> = (0..self.upstreams.servers.len()).collect();
        order.sort_by_key(|&i| failed_until.get(i).is_some_and(|&until| now < until));
        order
    }

    fn note_failure(&self, index: usize) {
        let now = Instant::now();
        let mut failed_until = self.failed_until.lock().unwrap_or_else(PoisonError::into_inner);
        if failed_until.is_empty() {
            failed_until.resize(self.upstreams.servers.len(), now);
        }
        failed_until[index] = now + FAILED_FOR;
    }

    async fn attempt(
        &self,
        index: usize,
        message: &[u8],
        query: &Query,
    ) -> (usize, io::Result<Response>) {
        let server = self.upstreams.servers[index];
        let result = match timeout(ATTEMPT_TIMEOUT, self.exchange(server, message, query)).await {
            Ok(result) => result,
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        };
        (index, result)
    }

    async fn exchange(
        &self,
        server: SocketAddr,
        message: &[u8],
        query: &Query,
    ) -> io::Result<Response> {
        let mut asked = message.to_vec();
        wire::set_id(&mut asked, rand::random());
        let response = self.by_udp(server, &asked, query).await?;
        if response.is_truncated() {
            self.by_tcp(server, &asked, query).await
        } else {
            Ok(response)
        }
    }

    async fn by_udp(
        &self,
        server: SocketAddr,
        asked: &[u8],
        query: &Query,
    ) -> io::Result<Response> {
        let socket = self.upstreams.sockets.open(server, Transport::Udp)?;
        socket.set_nonblocking(true)?;
        // Connected: datagrams from elsewhere never get here, and a closed port is an error instead of silence.
        socket.connect(&server.into())?;
        let socket = UdpSocket::from_std(socket.into())?;
        socket.send(asked).await?;
        let offered = query.edns.map_or(0, |edns| usize::from(edns.payload_bytes));
        let mut room = vec![0; offered.max(UDP_EDNS_MAX_BYTES)];
        loop {
            let len = socket.recv(&mut room).await?;
            // What does not fit the question is a late or forged answer: the right one may still come.
            if let Some(response) = Response::check(room[..len].to_vec(), asked, query) {
                return Ok(response);
            }
        }
    }

    async fn by_tcp(
        &self,
        server: SocketAddr,
        asked: &[u8],
        query: &Query,
    ) -> io::Result<Response> {
        let socket = self.upstreams.sockets.open(server, Transport::Tcp)?;
        socket.set_nonblocking(true)?;
        let mut stream = TcpSocket::from_std_stream(socket.into()).connect(server).await?;
        let len = u16::try_from(asked.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
        stream.write_all(&[&len.to_be_bytes(), asked].concat()).await?;
        let mut room = vec![0; usize::from(stream.read_u16().await?)];
        stream.read_exact(&mut room).await?;
        Response::check(room, asked, query).ok_or_else(|| io::ErrorKind::InvalidData.into())
    }
}
