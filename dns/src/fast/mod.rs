//! The fast path: one thread for the UDP sockets of all sandboxes.
//!
//! Inputs: commands (a socket to serve, a sandbox to let go) and datagrams. Outputs: answers, and what it cannot answer on a
//! bounded channel to the slow path. Invariant: when a removal is acknowledged, this thread holds no socket of that sandbox.
//! Never blocks but in `epoll_wait`; never allocates per query that it answers itself.

mod answer;
mod batch;

pub(crate) use answer::{Answerer, Verdict};

use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::{Arc, Weak, mpsc};
use std::thread::JoinHandle;

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::socket::{SockaddrIn, SockaddrIn6};
use rand::SeedableRng;
use rand::rngs::SmallRng;
use swarmnet_types::SandboxId;

use crate::NameServerError;
use crate::sandbox::Sandbox;
use batch::Batch;

/// epoll's word for the eventfd that announces commands; sockets count up from 1.
const WAKE: u64 = 0;
/// Sockets told of per `epoll_wait`.
const EVENTS_MAX: usize = 64;
/// Batches that one socket may have before the others get their turn: 4 × 32 queries, about half a millisecond.
const BATCHES_PER_TURN: usize = 4;
/// Commands waiting; callers of a full queue wait, which they do for the answer anyway.
const COMMANDS_MAX: usize = 64;

/// A query that the fast path does not answer.
#[derive(Debug)]
pub(crate) struct SlowQuery {
    pub(crate) message: Vec<u8>,
    pub(crate) peer: SocketAddr,
    pub(crate) sandbox: Arc<Sandbox>,
    /// Weak, so that a query in flight does not keep the socket, and with it a namespace, alive.
    pub(crate) socket: Weak<UdpSocket>,
}

enum Command {
    Add { sandbox: Arc<Sandbox>, socket: UdpSocket, done: mpsc::SyncSender<io::Result<()>> },
    Remove { id: SandboxId, done: mpsc::SyncSender<()> },
    Stop,
}

/// Owns the thread; stops it on drop.
#[derive(Debug)]
pub(crate) struct FastPath {
    commands: mpsc::SyncSender<Command>,
    wake: Arc<EventFd>,
    thread: Option<JoinHandle<()>>,
}

impl std::fmt::Debug for Command {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Add { .. } => "Add",
            Self::Remove { .. } => "Remove",
            Self::Stop => "Stop",
        })
    }
}

impl FastPath {
    pub(crate) fn start(
        slow: tokio::sync::mpsc::Sender<SlowQuery>,
    ) -> Result<Self, NameServerError> {
        let thread_name = "names-fast";
        let start_error = |err: io::Error| NameServerError::Start { thread: thread_name, err };
        let wake = EventFd::from_flags(EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC);
        let wake = Arc::new(wake.map_err(|errno| start_error(errno.into()))?);
        let (commands, inbox) = mpsc::sync_channel(COMMANDS_MAX);
        let mut worker = Worker::new(inbox, Arc::clone(&wake), slow).map_err(start_error)?;
        let thread = std::thread::Builder::new()
            .name(thread_name.to_owned())
            .spawn(move || worker.run())
            .map_err(start_error)?;
        Ok(Self { commands, wake, thread: Some(thread) })
    }

    /// Serves `socket` from now on. Blocks for the thread's answer, microseconds.
    pub(crate) fn add(
        &self,
        sandbox: Arc<Sandbox>,
        socket: UdpSocket,
    ) -> Result<(), NameServerError> {
        let id = sandbox.id;
        let (done, answer) = mpsc::sync_channel(1);
        self.send(Command::Add { sandbox, socket, done })?;
        let result = answer.recv().map_err(|_| NameServerError::Stopped)?;
        result.map_err(|err| NameServerError::Socket { sandbox: id, err })
    }

    /// Closes the sandbox's socket; it is closed on return. Blocks likewise.
    pub(crate) fn remove(&self, id: SandboxId) -> Result<(), NameServerError> {
        let (done, answer) = mpsc::sync_channel(1);
        self.send(Command::Remove { id, done })?;
        answer.recv().map_err(|_| NameServerError::Stopped)
    }

    fn send(&self, command: Command) -> Result<(), NameServerError> {
        self.commands.send(command).map_err(|_| NameServerError::Stopped)?;
        self.wake.write(1).map_err(|_| NameServerError::Stopped)?;
        Ok(())
    }
}

impl Drop for FastPath {
    fn drop(&mut self) {
        let told = self.send(Command::Stop).is_ok();
        if let Some(thread) = self.thread.take().filter(|_| told)
            && thread.join().is_err()
        {
            tracing::error!("the names fast path ended by a panic");
        }
    }
}

#[derive(Debug)]
struct Socket {
    udp: Arc<UdpSocket>,
    is_ipv6: bool,
    sandbox: Arc<Sandbox>,
}

#[derive(Debug)]
struct Worker {
    epoll: Epoll,
    wake: Arc<EventFd>,
    inbox: mpsc::Receiver<Command>,
    slow: tokio::sync::mpsc::Sender<SlowQuery>,
    /// epoll's word → socket.
    sockets: BTreeMap<u64, Socket>,
    last_word: u64,
    answerer: Answerer,
}

/// The buffers live on the thread: they hold pointers of the kernel's interface and cannot move to another.
struct Batches {
    v4: Batch<SockaddrIn>,
    v6: Batch<SockaddrIn6>,
}

impl Worker {
    fn new(
        inbox: mpsc::Receiver<Command>,
        wake: Arc<EventFd>,
        slow: tokio::sync::mpsc::Sender<SlowQuery>,
    ) -> io::Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        epoll.add(&*wake, EpollEvent::new(EpollFlags::EPOLLIN, WAKE))?;
        let answerer = Answerer::new(SmallRng::from_rng(&mut rand::rng()));
        let sockets = BTreeMap::new();
        Ok(Self { epoll, wake, inbox, slow, sockets, last_word: WAKE, answerer })
    }

    fn run(&mut self) {
        let mut events = [EpollEvent::empty(); EVENTS_MAX];
        let mut batches = Batches { v4: Batch::new(), v6: Batch::new() };
        loop {
            let ready = match self.epoll.wait(&mut events, EpollTimeout::NONE) {
                Ok(ready) => ready,
                Err(Errno::EINTR) => continue,
                Err(errno) => {
                    tracing::error!(%errno, "the names fast path cannot wait for queries");
                    return;
                }
            };
            for event in &events[..ready] {
                if event.data() != WAKE {
                    self.serve(event.data(), &mut batches);
                } else if self.obey().is_err() {
                    return;
                }
            }
        }
    }

    /// Carries out all waiting commands.
    ///
    /// # Errors
    /// `Err` means stop.
    fn obey(&mut self) -> Result<(), ()> {
        // A spurious wake-up has nothing to read; commands are what counts.
        let _ = self.wake.read();
        loop {
            match self.inbox.try_recv() {
                Ok(Command::Add { sandbox, socket, done }) => {
                    let result = self.add(sandbox, socket);
                    // The caller is gone only when its thread was: nobody is left to tell.
                    let _ = done.send(result);
                }
                Ok(Command::Remove { id, done }) => {
                    self.remove(id);
                    let _ = done.send(());
                }
                Ok(Command::Stop) | Err(mpsc::TryRecvError::Disconnected) => return Err(()),
                Err(mpsc::TryRecvError::Empty) => return Ok(()),
            }
        }
    }

    fn add(&mut self, sandbox: Arc<Sandbox>, socket: UdpSocket) -> io::Result<()> {
        let is_ipv6 = socket.local_addr()?.is_ipv6();
        self.last_word += 1;
        self.epoll.add(&socket, EpollEvent::new(EpollFlags::EPOLLIN, self.last_word))?;
        self.sockets.insert(self.last_word, Socket { udp: Arc::new(socket), is_ipv6, sandbox });
        Ok(())
    }

    fn remove(&mut self, id: SandboxId) {
        let Self { sockets, epoll, .. } = self;
        sockets.retain(|_, socket| {
            let keep = socket.sandbox.id != id;
            if !keep && let Err(errno) = epoll.delete(&*socket.udp) {
                tracing::warn!(sandbox = %id, %errno, "cannot unregister a names socket");
            }
            keep
        });
    }

    /// Answers what waits in one socket, up to its turn.
    fn serve(&mut self, word: u64, batches: &mut Batches) {
        // An event of this round may be for a socket that a command of this round removed.
        let Some(socket) = self.sockets.get(&word) else { return };
        let names = socket.sandbox.names.load();
        let (answerer, slow) = (&mut self.answerer, &self.slow);
        for _ in 0..BATCHES_PER_TURN {
            let answer = |message: &[u8], peer, out: &mut Vec<u8>| {
                let verdict = answerer.answer(message, &names, out);
                if verdict == Verdict::Slow && !hand_over(socket, slow, message, peer) {
                    answerer.tally.dropped += 1;
                }
                verdict == Verdict::Answered
            };
            let more = if socket.is_ipv6 {
                batches.v6.turn(&socket.udp, answer)
            } else {
                batches.v4.turn(&socket.udp, answer)
            };
            match more {
                Ok(turn) => {
                    answerer.tally.unsent += turn.unsent;
                    if !turn.full {
                        break;
                    }
                }
                Err(errno) => {
                    tracing::debug!(sandbox = %socket.sandbox.id, %errno, "names socket");
                    break;
                }
            }
        }
        socket.sandbox.stats.add(&std::mem::take(&mut self.answerer.tally));
    }
}

/// False when the slow path has no room: the client will ask again.
fn hand_over(
    socket: &Socket,
    slow: &tokio::sync::mpsc::Sender<SlowQuery>,
    message: &[u8],
    peer: SocketAddr,
) -> bool {
    slow.try_send(SlowQuery {
        message: message.to_vec(),
        peer,
        sandbox: Arc::clone(&socket.sandbox),
        socket: Arc::downgrade(&socket.udp),
    })
    .is_ok()
}

#[cfg(test)]
mod tests;
