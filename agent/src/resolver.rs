//! Names in sandboxes: sockets opened inside, served by this process.
//!
//! Inputs: which sandbox sees which zones ([`NamesWish`]). Kernel objects: one UDP and one TCP socket in each sandbox, at
//! 127.0.0.11 on a high port, closed before the sandbox goes: an open socket keeps a namespace alive.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use socket2::{Domain, Socket, Type};
use swarmnet_dns::resolv_conf::{ResolvConf, SANDBOX_NAMESERVER};
use swarmnet_dns::{
    Config, Forward, Forwarder, Handle, NameServer, NameServerError, NodeSockets, Order,
    SandboxNames, Stats, Transport, UpstreamSockets, Upstreams,
};
use swarmnet_kernel::sockets::{SocketOptions, tcp_in, udp_in};
use swarmnet_kernel::{KernelError, Netns};
use swarmnet_types::SandboxId;

use crate::desired::DNS_PORT;
use crate::desired::names::{ForwardWish, NamesWish};
use crate::local::error::chain;

const DNS: u16 = 53;

/// Names could not be served in one sandbox.
#[derive(Debug, thiserror::Error)]
pub enum ResolverError {
    #[error(transparent)]
    Kernel(#[from] KernelError),
    #[error(transparent)]
    Server(#[from] NameServerError),
}

/// What the reconciler wants of a name server.
pub trait Names: Send + 'static {
    /// Stops serving sandboxes that are not wanted any more. Their sockets are closed when this returns.
    fn remove_surplus(&mut self, wanted: &BTreeMap<SandboxId, NamesWish>);

    /// Serves what is wanted; what fails is returned, by sandbox.
    fn bring(&mut self, wanted: &BTreeMap<SandboxId, NamesWish>) -> BTreeMap<SandboxId, String>;
}

/// Asks from inside a sandbox. The namespace is opened for each exchange, so that nothing keeps it alive in between.
#[derive(Debug)]
struct SandboxSockets(PathBuf);

impl UpstreamSockets for SandboxSockets {
    fn open(&self, upstream: SocketAddr, transport: Transport) -> io::Result<Socket> {
        let kind = match transport {
            Transport::Udp => Type::DGRAM,
            Transport::Tcp => Type::STREAM,
        };
        let netns = Netns::open(&self.0).map_err(io::Error::other)?;
        netns
            .run(|| Socket::new(Domain::for_address(upstream), kind, None))
            .map_err(io::Error::other)?
    }
}

/// The servers a sandbox asks itself, with the one who asks; kept over changes of its names, so that its cache is.
#[derive(Debug)]
struct OwnServers {
    netns: PathBuf,
    servers: Vec<IpAddr>,
    forwarder: Arc<Forwarder>,
}

/// See the module.
#[derive(Debug)]
pub struct Resolver {
    server: Handle,
    node: Arc<Forwarder>,
    served: BTreeMap<SandboxId, NamesWish>,
    own: BTreeMap<SandboxId, OwnServers>,
}

fn forwarder(servers: &[IpAddr], sockets: Arc<dyn UpstreamSockets>) -> Arc<Forwarder> {
    let servers = servers.iter().map(|ip| SocketAddr::new(*ip, DNS)).collect();
    Arc::new(Forwarder::new(Upstreams { servers, order: Order::Ordered, sockets }))
}

impl Resolver {
    /// Starts the name server; queries that are not ours go to the resolvers of the host's `resolv.conf`.
    ///
    /// # Errors
    /// [`NameServerError`].
    pub fn start(resolv_conf: &Path) -> Result<Self, NameServerError> {
        let text = std::fs::read_to_string(resolv_conf).unwrap_or_default();
        let servers = ResolvConf::parse(&text).servers;
        let node = forwarder(&servers, Arc::new(NodeSockets));
        let server = NameServer::start(&Config::default())?;
        Ok(Self { server, node, served: BTreeMap::new(), own: BTreeMap::new() })
    }

    /// What it counts, over all sandboxes.
    pub fn counters(&self) -> Arc<Stats> {
        self.server.counters()
    }

    fn forward(&mut self, id: SandboxId, wish: &NamesWish) -> Forward {
        let servers = match &wish.forward {
            ForwardWish::Never => return Forward::Never,
            ForwardWish::Node => return Forward::To(Arc::clone(&self.node)),
            ForwardWish::Own(servers) => servers,
        };
        if let Some(own) = self.own.get(&id)
            && own.netns == wish.netns
            && own.servers == *servers
        {
            return Forward::To(Arc::clone(&own.forwarder));
        }
        let forwarder = forwarder(servers, Arc::new(SandboxSockets(wish.netns.clone())));
        let (netns, servers) = (wish.netns.clone(), servers.clone());
        self.own.insert(id, OwnServers { netns, servers, forwarder: Arc::clone(&forwarder) });
        Forward::To(forwarder)
    }

    fn serve(&mut self, id: SandboxId, wish: &NamesWish) -> Result<(), ResolverError> {
        let known = self.served.get(&id).is_some_and(|s| s.netns == wish.netns);
        let names = Arc::new(SandboxNames::new(wish.zones.clone(), self.forward(id, wish)));
        if known {
            return Ok(self.server.update(id, names)?);
        }
        self.server.remove(id)?;
        let netns = Netns::open(&wish.netns)?;
        let at = SocketAddr::from((SANDBOX_NAMESERVER, DNS_PORT));
        // A daemon that starts may bind before the sockets of the one before it are gone.
        let options = SocketOptions { reuse_port: true, ..SocketOptions::default() };
        let (udp, tcp) = (udp_in(&netns, at, options)?, tcp_in(&netns, at, options)?);
        Ok(self.server.serve(id, udp, tcp, names)?)
    }
}

impl Names for Resolver {
    fn remove_surplus(&mut self, wanted: &BTreeMap<SandboxId, NamesWish>) {
        let gone = self.served.keys().filter(|id| !wanted.contains_key(id));
        for id in gone.copied().collect::<Vec<_>>() {
            self.served.remove(&id);
            self.own.remove(&id);
            if let Err(err) = self.server.remove(id) {
                tracing::warn!(sandbox = %id.short(), %err, "the name server stopped");
            }
        }
    }

    fn bring(&mut self, wanted: &BTreeMap<SandboxId, NamesWish>) -> BTreeMap<SandboxId, String> {
        let mut failed = BTreeMap::new();
        for (id, wish) in wanted {
            if self.served.get(id).is_some_and(|s| s.is_same(wish)) {
                continue;
            }
            match self.serve(*id, wish) {
                Ok(()) => drop(self.served.insert(*id, wish.clone())),
                Err(err) => drop(failed.insert(*id, chain(&err))),
            }
        }
        failed
    }
}
