//! The slow path: one thread with a tokio runtime for TCP, odd queries and forwarding.
//!
//! Inputs: commands, and queries that the fast path passes on over a bounded channel. Outputs: answers, through the socket
//! the query came by. A worker of its own serves each query, all in the scope of the sandbox they came from. Invariant: when
//! the end of a sandbox is acknowledged, no worker and no socket of it is left. A single-threaded runtime is faster here
//! than several threads (a quarter, measured), and the work waits rather than computes.

mod connections;
mod tcp;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, mpsc as blocking};
use std::thread::JoinHandle;
use std::time::Instant;

use tokio::sync::mpsc;

use crate::NameServerError;
use crate::fast::SlowQuery;
use crate::forward::{Asked, Forwarder, Source};
use crate::handler::{Arrival, Decision, Ending, decide};
use crate::sandbox::Sandbox;
use crate::stats::{Stats, bump};
use crate::wire::{code, error_reply};

pub(crate) use connections::{Connections, Limits};
pub(crate) use tcp::TcpRules;

/// Queries between the two threads; when it is full, further ones are dropped and the clients ask again.
pub(crate) const QUEUE_MAX: usize = 1024;

enum Command {
    Serve { sandbox: Arc<Sandbox>, listener: TcpListener, done: Done<io::Result<()>> },
    End { sandbox: Arc<Sandbox>, done: Done<()> },
}

type Done<T> = blocking::SyncSender<T>;

/// Owns the thread; stops it on drop.
#[derive(Debug)]
pub(crate) struct SlowPath {
    /// Unbounded, but never longer than there are callers: each waits for its command to be done. `None` only while dropped.
    commands: Option<mpsc::UnboundedSender<Command>>,
    thread: Option<JoinHandle<()>>,
}

impl SlowPath {
    pub(crate) fn start(
        queries: mpsc::Receiver<SlowQuery>,
        rules: TcpRules,
    ) -> Result<Self, NameServerError> {
        let thread_name = "names-slow";
        let start_error = |err| NameServerError::Start { thread: thread_name, err };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(start_error)?;
        let (commands, inbox) = mpsc::unbounded_channel();
        let thread = std::thread::Builder::new()
            .name(thread_name.to_owned())
            .spawn(move || runtime.block_on(run(inbox, queries, rules)))
            .map_err(start_error)?;
        Ok(Self { commands: Some(commands), thread: Some(thread) })
    }

    /// Serves `listener` from now on. Blocks for the thread's answer.
    pub(crate) fn serve(
        &self,
        sandbox: Arc<Sandbox>,
        listener: TcpListener,
    ) -> Result<(), NameServerError> {
        let id = sandbox.id;
        self.call(|done| Command::Serve { sandbox, listener, done })?
            .map_err(|err| NameServerError::Socket { sandbox: id, err })
    }

    /// Ends all work for the sandbox; its sockets are closed on return. Blocks for as long as the thread is busy.
    pub(crate) fn end(&self, sandbox: Arc<Sandbox>) -> Result<(), NameServerError> {
        self.call(|done| Command::End { sandbox, done })
    }

    fn call<T>(&self, command: impl FnOnce(Done<T>) -> Command) -> Result<T, NameServerError> {
        let (done, answer) = blocking::sync_channel(1);
        let commands = self.commands.as_ref().ok_or(NameServerError::Stopped)?;
        commands.send(command(done)).map_err(|_| NameServerError::Stopped)?;
        answer.recv().map_err(|_| NameServerError::Stopped)
    }
}

impl Drop for SlowPath {
    fn drop(&mut self) {
        self.commands = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the names slow path ended by a panic");
        }
    }
}

/// Until there is nobody left to command. Workers end with the runtime.
async fn run(
    mut commands: mpsc::UnboundedReceiver<Command>,
    mut queries: mpsc::Receiver<SlowQuery>,
    rules: TcpRules,
) {
    loop {
        tokio::select! {
            biased;
            // cancel-safe: `recv` of both channels loses nothing.
            command = commands.recv() => match command {
                Some(command) => obey(command, &rules).await,
                None => return,
            },
            Some(query) = queries.recv() => accept(query),
        }
    }
}

/// A caller that is gone needs no answer.
async fn obey(command: Command, rules: &TcpRules) {
    match command {
        Command::Serve { sandbox, listener, done } => {
            let result = tokio::net::TcpListener::from_std(listener).map(|listener| {
                let scope = sandbox.scope.clone();
                scope.spawn(tcp::serve(listener, sandbox, rules.clone()));
            });
            let _ = done.send(result);
        }
        Command::End { sandbox, done } => {
            sandbox.scope.end().await;
            let _ = done.send(());
        }
    }
}

/// Takes one query from the fast path.
fn accept(query: SlowQuery) {
    let SlowQuery { message, peer, sandbox, socket } = query;
    if sandbox.scope.has_ended() {
        return;
    }
    let stats = Arc::clone(&sandbox.stats);
    let send = move |reply: &[u8]| {
        // The socket is non-blocking: a full buffer loses the answer, as the network might.
        if socket.upgrade().is_some_and(|socket| socket.send_to(reply, peer).is_err()) {
            bump(&stats.unsent);
        }
    };
    match answer(&sandbox, message, peer, Arrival::Udp) {
        Answer::Ready(reply) => send(&reply),
        Answer::Silence => {}
        Answer::Outside(asked, forwarder) => {
            let scope = sandbox.scope.clone();
            scope.spawn_query(async move { send(&relay(&sandbox, &asked, &forwarder).await) });
        }
    }
}

/// What becomes of one message.
enum Answer {
    Ready(Vec<u8>),
    /// It gets none.
    Silence,
    /// Has to be asked for, see [`relay`].
    Outside(Box<Asked>, Arc<Forwarder>),
}

/// The answer to one message, as far as it is known here. Never waits.
fn answer(sandbox: &Sandbox, message: Vec<u8>, peer: SocketAddr, arrival: Arrival) -> Answer {
    let stats = &sandbox.stats;
    match decide(&message, peer, arrival, &sandbox.names.load()) {
        Decision::Silent => {
            bump(&stats.dropped);
            Answer::Silence
        }
        Decision::Reply { reply, ending, truncated } => {
            count(stats, ending, truncated);
            if ending == Ending::Failed
                && let Some(held_back) = sandbox.notices.encode.due(Instant::now())
            {
                tracing::warn!(sandbox = %sandbox.id, held_back, "answers that cannot be encoded");
            }
            Answer::Ready(reply)
        }
        // So many wait already that this one would wait for nothing.
        Decision::Forward { query, .. } if sandbox.scope.is_full() => {
            bump(&stats.overloaded);
            Answer::Ready(error_reply(&message, &query, code::SERVER_FAILURE))
        }
        Decision::Forward { query, forwarder } => {
            let limit_bytes = match arrival {
                Arrival::Udp => query.udp_limit_bytes(),
                Arrival::Tcp => usize::from(u16::MAX),
            };
            {
                let asked = Asked { message: message.into(), query: *query, limit_bytes };
                Answer::Outside(asked.into(), forwarder)
            }
        }
    }
}

/// Asks upstream resolvers.
async fn relay(sandbox: &Sandbox, asked: &Asked, forwarder: &Arc<Forwarder>) -> Vec<u8> {
    let relayed = forwarder.relay(asked, &sandbox.scope).await;
    count_relayed(&sandbox.stats, relayed.source, relayed.truncated);
    relayed.reply
}

fn count(stats: &Stats, ending: Ending, truncated: bool) {
    bump(match ending {
        Ending::Local => &stats.local,
        Ending::NoData => &stats.nodata,
        Ending::NoName => &stats.nxdomain,
        Ending::Refused => &stats.refused,
        Ending::Malformed => &stats.malformed,
        Ending::Failed => &stats.unsent,
    });
    if truncated {
        bump(&stats.truncated);
    }
}

fn count_relayed(stats: &Stats, source: Source, truncated: bool) {
    if source == Source::Nobody {
        bump(&stats.servfail);
        return;
    }
    bump(&stats.forwarded);
    match source {
        Source::Cache => bump(&stats.cache_hits),
        Source::Stale => bump(&stats.stale),
        Source::Upstream | Source::Nobody => {}
    }
    if truncated {
        bump(&stats.truncated);
    }
}
