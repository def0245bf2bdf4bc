//! DNS by TCP (RFC 7766): two bytes of length before each message, several queries on one connection, answered as they are
//! ready.
//!
//! What a connection may hold of our memory is bounded: its task (below 2 KiB), one query as far as it has come (at most
//! [`QUERY_MAX_BYTES`], claimed as the bytes come, not when a length is promised), one local answer on its way out (at most
//! 64 KiB), and the queries that it has at upstream resolvers, which the sandbox's limit on waiting queries counts. Silent
//! clients cost 4 KiB each: 4 MiB for a full sandbox, 64 MiB for the most clients of all sandboxes.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Mutex, Semaphore};
use tokio::time::timeout;

use super::connections::{Connections, Place};
use super::{Answer, answer, relay};
use crate::handler::Arrival;
use crate::sandbox::Sandbox;
use crate::wire::QUERY_MAX_BYTES;

/// Queries of one connection at upstream resolvers at a time; further ones wait in the client's socket.
const PIPELINE_MAX: u32 = 32;
/// Pause after `accept` failed for want of file descriptors or memory.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);
/// Room claimed for a query before its bytes have come.
const QUERY_USUAL_BYTES: usize = 128;

/// What the listeners of all sandboxes go by.
#[derive(Debug, Clone)]
pub(crate) struct TcpRules {
    pub(crate) connections: Arc<Connections>,
    /// Between two queries, for one whole query to arrive, and for one answer to be taken.
    pub(crate) idle: Duration,
}

/// Accepts connections until its scope ends. At the limit one client waits here for a place, others in the listener's queue,
/// where they cost no file descriptor of ours.
pub(super) async fn serve(listener: TcpListener, sandbox: Arc<Sandbox>, rules: TcpRules) {
    loop {
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(err) => {
                tracing::debug!(sandbox = %sandbox.id, %err, "cannot accept a names client");
                if let Some(held_back) = sandbox.notices.accept.due(Instant::now()) {
                    tracing::warn!(sandbox = %sandbox.id, %err, held_back, "cannot accept names clients");
                }
                tokio::time::sleep(ACCEPT_RETRY).await;
                continue;
            }
        };
        let place = rules.connections.place(sandbox.id).await;
        sandbox.scope.spawn(run(stream, peer, Arc::clone(&sandbox), (place, rules.idle)));
    }
}

/// Serves one connection until the client leaves, is silent or slow, or it has to make room.
async fn run(
    stream: TcpStream,
    peer: SocketAddr,
    sandbox: Arc<Sandbox>,
    (place, idle): (Place, Duration),
) {
    let (read, write) = stream.into_split();
    let client = Arc::new(Client { write: Mutex::new(write), place, sandbox, peer, idle });
    let closed = client.place.closed.clone();
    // How a connection ends is the client's business. cancel-safe: what is dropped is all there is of it.
    drop(closed.run_until_cancelled(client.read(read)).await);
    // Workers that still wait for an upstream let go of the connection.
    closed.cancel();
}

struct Client {
    // Dropped before the place: that is free when the file descriptor is closed.
    write: Mutex<OwnedWriteHalf>,
    place: Place,
    sandbox: Arc<Sandbox>,
    peer: SocketAddr,
    idle: Duration,
}

impl Client {
    /// Reads queries; answers local ones itself and has each other one answered by a worker of its own.
    async fn read(self: &Arc<Self>, mut read: OwnedReadHalf) -> io::Result<()> {
        let pipeline = Arc::new(Semaphore::new(PIPELINE_MAX as usize));
        loop {
            let Ok(slot) = Arc::clone(&pipeline).acquire_owned().await else { return Ok(()) };
            let Some(message) = timeout(self.idle, read_message(&mut read)).await?? else { break };
            self.place.asked();
            let (asked, forwarder) = match answer(&self.sandbox, message, self.peer, Arrival::Tcp) {
                Answer::Ready(reply) => {
                    self.write(&reply).await?;
                    continue;
                }
                // Not answered: nothing sensible comes over this connection.
                Answer::Silence => return Ok(()),
                Answer::Outside(asked, forwarder) => (asked, forwarder),
            };
            let client = Arc::clone(self);
            self.sandbox.scope.spawn_query(async move {
                let closed = client.place.closed.clone();
                let work = async {
                    let reply = relay(&client.sandbox, &asked, &forwarder).await;
                    client.write(&reply).await
                };
                if let Some(Err(_)) = closed.run_until_cancelled(work).await {
                    closed.cancel();
                }
                drop(slot);
            });
        }
        // Half-closed: what was asked is still answered.
        drop(pipeline.acquire_many(PIPELINE_MAX).await);
        Ok(())
    }

    async fn write(&self, reply: &[u8]) -> io::Result<()> {
        let len = u16::try_from(reply.len()).map_err(io::Error::other)?;
        let framed = [&len.to_be_bytes(), reply].concat();
        let mut write = self.write.lock().await;
        self.place.writing();
        timeout(self.idle, write.write_all(&framed)).await??;
        self.place.answered();
        Ok(())
    }
}

/// The next message, or `None` when the client sends no more. Of one longer than any query the rest is read and let go; the
/// reader of queries refuses what is left.
async fn read_message(read: &mut OwnedReadHalf) -> io::Result<Option<Vec<u8>>> {
    let mut prefix = [0; 2];
    if read.read(&mut prefix[..1]).await? == 0 {
        return Ok(None);
    }
    read.read_exact(&mut prefix[1..]).await?;
    let len = usize::from(u16::from_be_bytes(prefix));
    let kept = len.min(QUERY_MAX_BYTES);
    let mut message = Vec::with_capacity(kept.min(QUERY_USUAL_BYTES));
    read.take(kept as u64).read_to_end(&mut message).await?;
    let mut rest = len - message.len();
    let mut scrap = [0; 256];
    while rest > 0 && message.len() == kept {
        let room = rest.min(scrap.len());
        match read.read(&mut scrap[..room]).await? {
            0 => break,
            count => rest -= count,
        }
    }
    if rest > 0 { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(Some(message)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the module's head says of memory.
    #[test]
    fn a_connections_task_is_small() {
        fn size<F: Future>(
            _: impl Fn(TcpStream, SocketAddr, Arc<Sandbox>, (Place, Duration)) -> F,
        ) -> usize {
            size_of::<F>()
        }
        assert!(size(run) < 2048, "{} bytes", size(run));
    }
}
