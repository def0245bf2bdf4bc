//! The one worker: owns the socket, the clock, the keys and the engine.
//!
//! Inputs: datagrams, `watch`es of members and keys, commands of the handle, finished echoes. Outputs: datagrams, the `watch`es of
//! the liveness, of the doubts and of sightings, counters. In each turn it first reads all that has arrived, then fires what is due: a late turn
//! must not hold an answer for missing that already lies in the socket's buffer. A turn later than `STALL_MS` distrusts the silence
//! it saw.
//!
//! Stopping the worker says nothing to the peers: a stopped daemon is agent-lost, and only [`GossipHandle::leave`] is a good-bye.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use rand::RngExt;
use swarmnet_runtime::Supervisor;
use swarmnet_types::NodeId;
use tokio::net::UdpSocket;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::echo::Echo;
use crate::engine::Engine;
use crate::members::{Doubts, Liveness, Local, Members, Sightings};
use crate::replay::ReplayGuard;
use crate::seal::{DATAGRAM_BYTES_MAX, Keys, Sealer, Stamp};
use crate::stats::{Refusal, Stats, StatsSnapshot, bump};
use crate::table::Target;
use crate::track::ECHO_TIMEOUT_MS;

/// A turn this much later than planned means that we did not run: more than half a probe period.
const STALL_MS: u64 = 400;
/// Datagrams read in one turn, so that a flood cannot keep the timers from firing. What does not fit the socket's buffer
/// meanwhile is lost, as UDP may.
const RECEIVE_MAX: usize = 256;
/// Few nodes move at once; a node that makes up others must not fill the memory.
const SIGHTINGS_MAX: usize = 64;
/// Commands come from people; a full queue makes the caller wait.
const COMMAND_DEPTH: usize = 4;

/// What the gossip needs. The caller binds the socket, to IPv4 or IPv6 as the underlay is.
#[derive(Debug)]
pub struct GossipConfig<E> {
    pub me: Local,
    pub socket: UdpSocket,
    /// The nodes of the cluster state. Closing it ends the worker, and with it the daemon.
    pub members: watch::Receiver<Arc<Members>>,
    /// The cluster's keys. Closing it ends the worker, likewise.
    pub keys: watch::Receiver<Keys>,
    pub echo: E,
    /// An address outside the cluster that answers echoes whenever this node's network works, as the default gateway. Asked
    /// only when a single other node is left, see `table`.
    pub witness: Option<IpAddr>,
}

/// Starts the worker.
#[derive(Debug)]
pub struct Gossip;

/// The outside of the running worker. Dropping it does not stop the worker: the supervisor does.
#[derive(Debug, Clone)]
pub struct GossipHandle {
    liveness: watch::Receiver<Arc<Liveness>>,
    doubts: watch::Receiver<Arc<Doubts>>,
    sightings: watch::Receiver<Arc<Sightings>>,
    commands: mpsc::Sender<Command>,
    stats: Arc<Stats>,
}

#[derive(Debug)]
enum Command {
    Leave { done: oneshot::Sender<()> },
    Move { gossip: SocketAddr, vtep: IpAddr },
}

impl Gossip {
    /// Starts the gossip as a critical worker of `supervisor`. It joins by itself: announces go to known members until they
    /// are heard.
    pub fn start<E: Echo>(config: GossipConfig<E>, supervisor: &Supervisor) -> GossipHandle {
        let clock = Clock::start();
        let sealer = Sealer::new(&config.keys.borrow());
        let session = clock.now_ms();
        let node = config.me.node;
        let seed = rand::rng().random();
        let (liveness_tx, liveness) = watch::channel(Arc::default());
        let (doubts_tx, doubts) = watch::channel(Arc::default());
        let (sightings_tx, sightings) = watch::channel(Arc::default());
        let (commands, commands_rx) = mpsc::channel(COMMAND_DEPTH);
        let stats = Arc::new(Stats::default());
        let worker = Worker {
            node,
            session,
            sequence: 0,
            engine: Engine::new(config.me, config.witness, seed, session),
            sealer,
            replay: ReplayGuard::default(),
            socket: config.socket,
            members: config.members,
            keys: config.keys,
            commands: commands_rx,
            _commands_open: commands.clone(),
            echo: Arc::new(config.echo),
            echoes: FuturesUnordered::new(),
            liveness: liveness_tx,
            doubts: doubts_tx,
            sightings: sightings_tx,
            stats: Arc::clone(&stats),
            clock,
            shutdown: supervisor.token().clone(),
        };
        supervisor.spawn_critical("gossip", worker.run());
        GossipHandle { liveness, doubts, sightings, commands, stats }
    }
}

impl GossipHandle {
    /// The verdicts, replaced as a whole at each change.
    pub fn liveness(&self) -> watch::Receiver<Arc<Liveness>> {
        self.liveness.clone()
    }

    /// Whose agent is not heard. Apart from the liveness, because suspicions come and go and change nothing in the kernel.
    pub fn doubts(&self) -> watch::Receiver<Arc<Doubts>> {
        self.doubts.clone()
    }

    /// Nodes that are heard from where the state does not have them.
    pub fn sightings(&self) -> watch::Receiver<Arc<Sightings>> {
        self.sightings.clone()
    }

    /// Tells the peers that this node leaves the cluster for good; returns when the datagrams are sent (they may be lost: the
    /// state's removal of the node is what counts). Not for stopping or restarting the daemon.
    pub async fn leave(&self) {
        let (done, sent) = oneshot::channel();
        if self.commands.send(Command::Leave { done }).await.is_ok() {
            // An error means that the worker stopped in between: nobody is left to say good-bye.
            sent.await.ok();
        }
    }

    /// This node's addresses are others now (C12). The socket stays: it must be bound to the unspecified address.
    pub async fn move_to(&self, gossip: SocketAddr, vtep: IpAddr) {
        // An error means that the worker has stopped; its successor starts with the new address.
        self.commands.send(Command::Move { gossip, vtep }).await.ok();
    }

    pub fn stats(&self) -> StatsSnapshot {
        self.stats.snapshot()
    }
}

type EchoInFlight = Pin<Box<dyn Future<Output = (Target, bool)> + Send>>;

struct Worker<E> {
    node: NodeId,
    session: u64,
    sequence: u64,
    engine: Engine,
    sealer: Sealer,
    replay: ReplayGuard,
    socket: UdpSocket,
    members: watch::Receiver<Arc<Members>>,
    keys: watch::Receiver<Keys>,
    commands: mpsc::Receiver<Command>,
    /// Keeps `commands` open when all handles are dropped.
    _commands_open: mpsc::Sender<Command>,
    echo: Arc<E>,
    /// At most one for each peer and one for the witness.
    echoes: FuturesUnordered<EchoInFlight>,
    liveness: watch::Sender<Arc<Liveness>>,
    doubts: watch::Sender<Arc<Doubts>>,
    sightings: watch::Sender<Arc<Sightings>>,
    stats: Arc<Stats>,
    clock: Clock,
    shutdown: CancellationToken,
}

impl<E: Echo> Worker<E> {
    async fn run(mut self) {
        self.take_members();
        self.take_keys();
        loop {
            let deadline_ms = self.turn();
            // Cancel-safe: token, queue, watch versions, readiness (nothing is read), a set of futures that live outside, and a
            // deadline. No arm awaits in its body.
            tokio::select! {
                biased;
                () = self.shutdown.cancelled() => return,
                command = self.commands.recv() => self.command(command),
                open = self.members.changed() => match open {
                    Ok(()) => self.take_members(),
                    Err(_closed) => return,
                },
                open = self.keys.changed() => match open {
                    Ok(()) => self.take_keys(),
                    Err(_closed) => return,
                },
                Some((target, answered)) = self.echoes.next() => self.echoed(target, answered),
                ready = self.socket.readable() => {
                    if let Err(err) = ready {
                        tracing::error!(%err, "the gossip socket is gone");
                        return;
                    }
                }
                () = sleep_until(self.clock.at(deadline_ms)) => {}
            }
            let late_ms = self.clock.now_ms().saturating_sub(deadline_ms);
            if late_ms > STALL_MS {
                tracing::warn!(late_ms, "was not run: distrusting what looked like silence");
                bump(&self.stats.stalls);
                self.engine.stalled();
            }
        }
    }

    /// Reads, then fires, then sends. Returns when the next turn is due.
    fn turn(&mut self) -> u64 {
        self.receive();
        if let Some(liveness) = self.engine.advance(self.clock.now_ms()) {
            self.liveness.send_replace(Arc::new(liveness));
        }
        self.doubts.send_if_modified(|now| {
            let changed = **now != *self.engine.doubts();
            if changed {
                *now = Arc::new(self.engine.doubts().clone());
            }
            changed
        });
        self.stats.cut_off.store(self.engine.is_cut_off(), Ordering::Relaxed);
        while let Some((target, addr)) = self.engine.next_echo() {
            bump(&self.stats.echoes_sent);
            let echo = Arc::clone(&self.echo);
            let timeout = Duration::from_millis(ECHO_TIMEOUT_MS);
            self.echoes.push(Box::pin(async move { (target, echo.echo(addr, timeout).await) }));
        }
        self.flush();
        self.engine.next_deadline_ms()
    }

    fn receive(&mut self) {
        // One byte more than the longest, so that what is too long shows.
        let mut buf = [0; DATAGRAM_BYTES_MAX + 1];
        for _ in 0..RECEIVE_MAX {
            match self.socket.try_recv_from(&mut buf) {
                Ok((len, from)) => {
                    bump(&self.stats.received);
                    if let Err(why) = self.datagram(&mut buf[..len], from) {
                        tracing::debug!(%from, %why, "datagram refused");
                        self.stats.refused(why);
                    }
                }
                Err(err) if err.kind() == io::ErrorKind::WouldBlock => return,
                // The echo of an earlier send (port unreachable) on some kernels: says nothing gossip does not find out.
                Err(err) => tracing::debug!(%err, "receive"),
            }
        }
    }

    fn datagram(&mut self, datagram: &mut [u8], from: SocketAddr) -> Result<(), Refusal> {
        let (stamp, gossip) = self.sealer.open(datagram)?;
        if !self.members.borrow().contains_key(&stamp.sender) {
            self.sighted(stamp.sender, from);
            return Err(Refusal::UnknownNode);
        }
        let now_ms = self.clock.now_ms();
        self.replay.admit(&stamp, now_ms)?;
        self.sighted(stamp.sender, from);
        self.engine.receive(stamp.sender, gossip, now_ms)
    }

    /// Notes where a node is, when that is news.
    fn sighted(&self, sender: NodeId, from: SocketAddr) {
        let expected = self.members.borrow().get(&sender).map(|member| member.gossip);
        self.sightings.send_if_modified(|seen| {
            if expected == Some(from) {
                return seen.contains_key(&sender) && Arc::make_mut(seen).remove(&sender).is_some();
            }
            let is_news = seen.get(&sender) != Some(&from);
            let has_room = seen.len() < SIGHTINGS_MAX || seen.contains_key(&sender);
            if is_news && has_room && sender != self.node {
                Arc::make_mut(seen).insert(sender, from);
                return true;
            }
            false
        });
    }

    fn flush(&mut self) {
        while let Some((to, gossip)) = self.engine.next_send() {
            self.sequence += 1;
            let stamp = Stamp { sender: self.node, session: self.session, sequence: self.sequence };
            let datagram = self.sealer.seal(rand::rng().random(), &stamp, &gossip);
            match self.socket.try_send_to(&datagram, to) {
                Ok(_) => bump(&self.stats.sent),
                Err(err) => {
                    tracing::debug!(%to, %err, "send");
                    bump(&self.stats.send_failed);
                }
            }
        }
    }

    fn command(&mut self, command: Option<Command>) {
        let now_ms = self.clock.now_ms();
        match command {
            Some(Command::Leave { done }) => {
                self.engine.leave(now_ms);
                self.flush();
                // Who asked may be gone.
                done.send(()).ok();
            }
            Some(Command::Move { gossip, vtep }) => self.engine.move_to(gossip, vtep, now_ms),
            // Not while we hold a sender ourselves.
            None => {}
        }
    }

    fn take_members(&mut self) {
        let members = Arc::clone(&self.members.borrow_and_update());
        self.replay.retain(&members);
        self.engine.set_members(members, self.clock.now_ms());
    }

    fn take_keys(&mut self) {
        self.sealer = Sealer::new(&self.keys.borrow_and_update());
    }

    fn echoed(&mut self, target: Target, answered: bool) {
        if !answered {
            bump(&self.stats.echoes_lost);
        }
        self.engine.echoed(target, answered, self.clock.now_ms());
    }
}

/// Unix ms that never go backwards: the wall clock at the start, then the monotonic one.
#[derive(Debug, Clone, Copy)]
struct Clock {
    started: Instant,
    started_ms: u64,
}

impl Clock {
    fn start() -> Self {
        // A clock before 1970 counts as 1970: generations catch up by renewal.
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let started_ms = u64::try_from(unix.as_millis()).unwrap_or(u64::MAX / 2);
        Self { started: Instant::now(), started_ms }
    }

    fn now_ms(&self) -> u64 {
        let elapsed = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX / 2);
        self.started_ms + elapsed
    }

    /// Rounded up: waking before the deadline would spin.
    fn at(&self, deadline_ms: u64) -> Instant {
        self.started + Duration::from_millis(deadline_ms.saturating_sub(self.started_ms))
    }
}

#[cfg(test)]
mod tests;
