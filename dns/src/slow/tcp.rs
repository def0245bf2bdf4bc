//! DNS by TCP (RFC 7766): two bytes of length before each message, several queries on one connection, answered as they are
//! ready.
//!
//! A silent client costs one connection for the idle time and nothing else. A sandbox has a bounded number of them; when it
//! is full, the one that has been quiet for longest makes room, so that idle clients cannot lock out others (CVE-2024-8418).

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::{answer, overloaded};
use crate::handler::Arrival;
use crate::sandbox::Sandbox;

/// Queries of one connection in work at a time; further ones wait in the client's socket.
const PIPELINE_MAX: usize = 32;
/// Pause after `accept` failed for want of file descriptors or memory.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

#[derive(Debug, Clone, Copy)]
pub(crate) struct TcpLimits {
    /// Connections of one sandbox.
    pub(crate) connections_max: usize,
    /// Between two queries, for one whole query to arrive, and for one answer to be taken.
    pub(crate) idle: Duration,
}

/// One open connection, as the listener sees it.
struct Connection {
    closed: CancellationToken,
    activity: Arc<Activity>,
}

/// When a connection last did something, in milliseconds since its listener's start.
struct Activity {
    epoch: Instant,
    last_ms: AtomicU64,
}

impl Activity {
    fn touch(&self) {
        self.last_ms.store(self.epoch.elapsed().as_millis() as u64, Ordering::Relaxed);
    }
}

/// Accepts connections until its scope ends.
pub(super) async fn serve(listener: TcpListener, sandbox: Arc<Sandbox>, limits: TcpLimits) {
    let epoch = Instant::now();
    let mut connections: Vec<Connection> = Vec::new();
    loop {
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(err) => {
                tracing::warn!(sandbox = %sandbox.id, %err, "cannot accept a names client");
                tokio::time::sleep(ACCEPT_RETRY).await;
                continue;
            }
        };
        make_room(&mut connections, limits.connections_max);
        let activity = Arc::new(Activity { epoch, last_ms: AtomicU64::new(0) });
        activity.touch();
        let closed = CancellationToken::new();
        let whole = Client { sandbox: Arc::clone(&sandbox), peer, limits };
        let scope = sandbox.scope.clone();
        let worker = whole.run(stream, Arc::clone(&activity), closed.clone());
        connections.push(Connection { closed, activity });
        scope.spawn(worker);
    }
}

/// Forgets closed connections and, at the limit, closes the quietest.
fn make_room(connections: &mut Vec<Connection>, connections_max: usize) {
    if connections.len() < connections_max {
        return;
    }
    connections.retain(|connection| !connection.closed.is_cancelled());
    if connections.len() < connections_max {
        return;
    }
    let quietest = connections
        .iter()
        .enumerate()
        .min_by_key(|(_, connection)| connection.activity.last_ms.load(Ordering::Relaxed));
    if let Some((index, _)) = quietest {
        connections.swap_remove(index).closed.cancel();
    }
}

struct Client {
    sandbox: Arc<Sandbox>,
    peer: SocketAddr,
    limits: TcpLimits,
}

impl Client {
    /// Serves one connection until the client leaves, is silent or slow, or `closed` is cancelled; then cancels `closed`.
    async fn run(self, stream: TcpStream, activity: Arc<Activity>, closed: CancellationToken) {
        let _guard = closed.clone().drop_guard();
        let (read, write) = stream.into_split();
        // As deep as the pipeline; full, it holds up the workers, they their slots, and those the reader.
        let (answers, outbox) = mpsc::channel(PIPELINE_MAX);
        let idle = self.limits.idle;
        tokio::select! {
            biased;
            // cancel-safe: whichever ends first ends the connection.
            () = closed.cancelled() => {}
            () = async {
                let reading = self.read(read, &activity, &closed, answers);
                let writing = async {
                    let result = write_all(write, outbox, idle).await;
                    // After the last answer, or one that was not taken, there is nothing left to read for.
                    closed.cancel();
                    result
                };
                // How a connection ends is the client's business.
                let _ = tokio::join!(reading, writing);
            } => {}
        }
    }

    /// Reads queries and has each answered by a worker of its own.
    async fn read(
        &self,
        mut read: OwnedReadHalf,
        activity: &Activity,
        closed: &CancellationToken,
        answers: mpsc::Sender<Vec<u8>>,
    ) -> io::Result<()> {
        let pipeline = Arc::new(Semaphore::new(PIPELINE_MAX));
        loop {
            let Ok(slot) = Arc::clone(&pipeline).acquire_owned().await else { return Ok(()) };
            let message = timeout(self.limits.idle, read_message(&mut read)).await??;
            activity.touch();
            if let Some(reply) = overloaded(&self.sandbox, &message) {
                // The writer is gone: so is the connection.
                if answers.send(reply).await.is_err() {
                    return Ok(());
                }
                continue;
            }
            let (sandbox, peer) = (Arc::clone(&self.sandbox), self.peer);
            let (answers, closed) = (answers.clone(), closed.clone());
            self.sandbox.scope.spawn(async move {
                let reply = answer(&sandbox, message, peer, Arrival::Tcp);
                match closed.run_until_cancelled(reply).await {
                    // Waits with its slot for a client that is slow to read.
                    Some(Some(reply)) => drop(answers.send(reply).await),
                    // Not answered: nothing sensible comes over this connection.
                    Some(None) => closed.cancel(),
                    None => {}
                }
                drop(slot);
            });
        }
    }
}

async fn read_message(read: &mut OwnedReadHalf) -> io::Result<Vec<u8>> {
    let mut message = vec![0; usize::from(read.read_u16().await?)];
    read.read_exact(&mut message).await?;
    Ok(message)
}

/// Writes answers until there are no more to come or one is not taken in time.
async fn write_all(
    mut write: OwnedWriteHalf,
    mut outbox: mpsc::Receiver<Vec<u8>>,
    idle: Duration,
) -> io::Result<()> {
    while let Some(reply) = outbox.recv().await {
        let Ok(len) = u16::try_from(reply.len()) else { continue };
        let framed = [&len.to_be_bytes(), reply.as_slice()].concat();
        timeout(idle, write.write_all(&framed)).await??;
    }
    Ok(())
}
