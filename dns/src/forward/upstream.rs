//! Whom to ask for names that are not ours, and from where: the caller's factory opens the sockets, so that a sandbox's own
//! `--dns` servers are asked from inside it and the node's resolvers from the node.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use socket2::{Domain, Socket, Type};

/// Docker's limit, and the C library's (`MAXNS`): of more servers the rest is not used.
pub const SERVERS_MAX: usize = 3;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    Udp,
    Tcp,
}

/// How several servers are asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Order {
    /// The first that works: the next one is asked when one fails or is slow. Servers that failed lately come last.
    #[default]
    Ordered,
    /// All at once, the first good answer wins.
    Parallel,
}

/// Opens sockets towards upstream resolvers.
pub trait UpstreamSockets: Send + Sync {
    /// A new socket, neither bound nor connected, in the namespace that `upstream` is to be asked from. Called on the slow
    /// names thread for every exchange: should take microseconds.
    ///
    /// # Errors
    /// What the system says; the server then counts as failed.
    fn open(&self, upstream: SocketAddr, transport: Transport) -> io::Result<Socket>;
}

/// Sockets in the namespace of the process: for the node's own resolvers.
#[derive(Debug, Clone, Copy, Default)]
pub struct NodeSockets;

impl UpstreamSockets for NodeSockets {
    fn open(&self, upstream: SocketAddr, transport: Transport) -> io::Result<Socket> {
        let kind = match transport {
            Transport::Udp => Type::DGRAM,
            Transport::Tcp => Type::STREAM,
        };
        Socket::new(Domain::for_address(upstream), kind, None)
    }
}

#[derive(Clone)]
pub struct Upstreams {
    /// The first [`SERVERS_MAX`] count. Without any, every query fails.
    pub servers: Vec<SocketAddr>,
    pub order: Order,
    pub sockets: Arc<dyn UpstreamSockets>,
}

impl fmt::Debug for Upstreams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upstreams")
            .field("servers", &self.servers)
            .field("order", &self.order)
            .finish_non_exhaustive()
    }
}
