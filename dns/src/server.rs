//! The name server of a node: starts and owns the two threads, and keeps the list of sandboxes.
//!
//! Sandboxes come and go through [`Handle`]; each brings a bound UDP socket and a bound TCP listener, from any namespace.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::net::{TcpListener, UdpSocket};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::process::{Resource, getrlimit};
use swarmnet_types::SandboxId;
use tokio::sync::mpsc;

use crate::NameServerError;
use crate::fast::FastPath;
use crate::names::{Forward, SandboxNames};
use crate::notice::Notices;
use crate::sandbox::Sandbox;
use crate::slow::{Connections, Limits, QUEUE_MAX, SlowPath, TcpRules};
use crate::stats::{Stats, StatsSnapshot};

#[derive(Debug, Clone)]
pub struct Config {
    /// TCP clients of one sandbox at a time; above it silent ones make room. Each costs a file descriptor.
    pub tcp_connections_max: usize,
    /// TCP clients of all sandboxes at a time. At most a quarter of what the process may open counts, see [`NameServer::start`].
    pub tcp_connections_total_max: usize,
    /// How long a TCP client may be silent, and how long one query or answer may take.
    pub tcp_idle: Duration,
    /// How long a TCP client may let us wait when others want its place.
    pub tcp_grace: Duration,
}

/// 1,024 connections: a thousand clients at once are all heard. 16,384 in all: a quarter of the unit's `LimitNOFILE`, and 64 MiB
/// at most, see `slow/tcp.rs`. 10 s: RFC 7766 §6.2.3 asks for "a few seconds". 500 ms: a client on the sandbox's loopback asks
/// as soon as it is connected.
impl Default for Config {
    fn default() -> Self {
        Self {
            tcp_connections_max: 1024,
            tcp_connections_total_max: 16_384,
            tcp_idle: Duration::from_secs(10),
            tcp_grace: Duration::from_millis(500),
        }
    }
}

/// The share of the process's file descriptors that TCP clients may take: the other parts of a daemon need theirs.
const FILES_SHARE: u64 = 4;

/// How many TCP clients there may be in all.
fn tcp_total(config: &Config) -> usize {
    let files = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let share = usize::try_from(files / FILES_SHARE).unwrap_or(usize::MAX);
    config.tcp_connections_total_max.min(share).max(1)
}

/// See [`NameServer::start`].
#[derive(Debug)]
pub struct NameServer;

impl NameServer {
    /// Starts the threads, which serve nothing yet. Whoever wants many TCP clients raises the process's soft limit on open files
    /// before.
    ///
    /// # Errors
    /// [`NameServerError::Start`] when the system gives no thread, epoll or eventfd.
    pub fn start(config: &Config) -> Result<Handle, NameServerError> {
        let (to_slow, queries) = mpsc::channel(QUEUE_MAX);
        let limits = Limits {
            per_sandbox: config.tcp_connections_max,
            total: tcp_total(config),
            grace: config.tcp_grace,
        };
        let rules = TcpRules { connections: Connections::new(limits), idle: config.tcp_idle };
        let slow = SlowPath::start(queries, rules)?;
        let fast = FastPath::start(to_slow)?;
        Ok(Handle {
            fast,
            slow,
            stats: Arc::default(),
            notices: Arc::default(),
            sandboxes: Mutex::default(),
        })
    }
}

/// Owns the name server; its threads and all sockets are gone when it is dropped.
///
/// Methods are synchronous and wait for the threads: microseconds, and milliseconds for [`Handle::remove`] under load.
#[derive(Debug)]
pub struct Handle {
    // Dropped first: it feeds the slow path.
    fast: FastPath,
    slow: SlowPath,
    stats: Arc<Stats>,
    notices: Arc<Notices>,
    sandboxes: Mutex<BTreeMap<SandboxId, Arc<Sandbox>>>,
}

impl Handle {
    /// Serves `names` at both sockets. `udp` must be bound to one address, not to the wildcard: answers go out from it.
    ///
    /// # Errors
    /// [`NameServerError::Served`] for a sandbox that is there already; [`NameServerError::Socket`] when a socket is not
    /// usable. Nothing is served then, and both sockets are closed.
    pub fn serve(
        &self,
        key: SandboxId,
        udp: UdpSocket,
        tcp: TcpListener,
        names: Arc<SandboxNames>,
    ) -> Result<(), NameServerError> {
        let socket_error = |err| NameServerError::Socket { sandbox: key, err };
        udp.set_nonblocking(true).map_err(socket_error)?;
        tcp.set_nonblocking(true).map_err(socket_error)?;
        let mut sandboxes = self.sandboxes();
        let Entry::Vacant(vacant) = sandboxes.entry(key) else {
            return Err(NameServerError::Served { sandbox: key });
        };
        let (stats, notices) = (Arc::clone(&self.stats), Arc::clone(&self.notices));
        let sandbox = Arc::new(Sandbox::new(key, names, stats, notices));
        self.slow.serve(Arc::clone(&sandbox), tcp)?;
        if let Err(err) = self.fast.add(Arc::clone(&sandbox), udp) {
            self.slow.end(sandbox)?;
            return Err(err);
        }
        vacant.insert(sandbox);
        Ok(())
    }

    /// Replaces the names of a sandbox: the next query sees the new ones.
    ///
    /// # Errors
    /// [`NameServerError::NotServed`].
    pub fn update(&self, key: SandboxId, names: Arc<SandboxNames>) -> Result<(), NameServerError> {
        let sandboxes = self.sandboxes();
        let sandbox = sandboxes.get(&key).ok_or(NameServerError::NotServed { sandbox: key })?;
        sandbox.names.store(names);
        Ok(())
    }

    /// Stops serving a sandbox. On return all its sockets are closed, those to its upstream resolvers too: an open one would
    /// keep its namespace alive. Unknown sandboxes are fine.
    ///
    /// # Errors
    /// [`NameServerError::Stopped`]; the sockets are closed then too.
    pub fn remove(&self, key: SandboxId) -> Result<(), NameServerError> {
        let Some(sandbox) = self.sandboxes().remove(&key) else { return Ok(()) };
        self.fast.remove(key)?;
        // Queries on their way between the threads hold the sandbox for a moment longer, but not what its names hold: a
        // socket factory may have the namespace open.
        let nothing = SandboxNames::new(Vec::new(), Forward::Never);
        sandbox.names.store(Arc::new(nothing));
        self.slow.end(sandbox)
    }

    /// The sandboxes that are served.
    pub fn served(&self) -> Vec<SandboxId> {
        self.sandboxes().keys().copied().collect()
    }

    /// Counters over all sandboxes since the start.
    pub fn stats(&self) -> StatsSnapshot {
        self.stats.snapshot()
    }

    /// The same as they go on, for a reader that outlives the handle.
    pub fn counters(&self) -> Arc<Stats> {
        Arc::clone(&self.stats)
    }

    fn sandboxes(&self) -> MutexGuard<'_, BTreeMap<SandboxId, Arc<Sandbox>>> {
        self.sandboxes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
