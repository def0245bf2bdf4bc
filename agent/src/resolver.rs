//! Names in sandboxes: sockets opened inside, served by this process.
//!
//! Inputs: which sandbox sees which zones ([`NamesWish`]). Kernel objects: one UDP and one TCP socket in each sandbox, at
//! 127.0.0.11 on a high port, closed before the sandbox goes: an open socket keeps a namespace alive.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use socket2::{Domain, Socket, Type};
use swarmnet_dns::resolv_conf::ResolvConf;
use swarmnet_dns::{
    Config, Forward, Forwarder, Handle, NameServer, NameServerError, NodeSockets, Order,
    SandboxNames, Transport, UpstreamSockets, Upstreams,
};
use swarmnet_kernel::sockets::{SocketOptions, tcp_in, udp_in};
use swarmnet_kernel::{KernelError, Netns};
use swarmnet_types::SandboxId;

use crate::desired::DNS_PORT;
use crate::desired::names::{ForwardWish, NamesWish};

const DNS: u16 = 53;

/// Names could not be served in one sandbox.
#[derive(Debug, thiserror::Error)]
pub enum ResolverError {
    #[error(transparent)]
    Kernel(#[from] KernelError),
    #[error(transparent)]
    Server(#[from] NameServerError),
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

/// See the module.
#[derive(Debug)]
pub struct Resolver {
    server: Handle,
    node: Arc<Forwarder>,
    served: BTreeMap<SandboxId, NamesWish>,
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
        Ok(Self { server: NameServer::start(&Config::default())?, node, served: BTreeMap::new() })
    }

    /// Stops serving sandboxes that are not wanted any more. Their sockets are closed when this returns.
    pub fn remove_surplus(&mut self, wanted: &BTreeMap<SandboxId, NamesWish>) {
        let keys: BTreeSet<_> = wanted.keys().copied().collect();
        let gone: Vec<_> = self.served.keys().filter(|id| !keys.contains(id)).copied().collect();
        for id in gone {
            self.served.remove(&id);
            if let Err(err) = self.server.remove(id) {
                tracing::warn!(sandbox = %id.short(), %err, "the name server stopped");
            }
        }
    }

    /// Serves what is wanted; what fails is returned, by sandbox.
    pub fn bring(
        &mut self,
        wanted: &BTreeMap<SandboxId, NamesWish>,
    ) -> BTreeMap<SandboxId, ResolverError> {
        let mut failed = BTreeMap::new();
        for (id, wish) in wanted {
            let served = self.served.get(id);
            if served.is_some_and(|s| s.is_same(wish)) {
                continue;
            }
            let known = served.is_some_and(|s| s.netns == wish.netns);
            match self.serve(*id, wish, known) {
                Ok(()) => drop(self.served.insert(*id, wish.clone())),
                Err(err) => drop(failed.insert(*id, err)),
            }
        }
        failed
    }

    fn serve(&mut self, id: SandboxId, wish: &NamesWish, known: bool) -> Result<(), ResolverError> {
        let forward = match &wish.forward {
            ForwardWish::Never => Forward::Never,
            ForwardWish::Node => Forward::To(Arc::clone(&self.node)),
            ForwardWish::Own(servers) => {
                let sockets = Arc::new(SandboxSockets(wish.netns.clone()));
                Forward::To(forwarder(servers, sockets))
            }
        };
        let names = Arc::new(SandboxNames::new(wish.zones.clone(), forward));
        if known {
            return Ok(self.server.update(id, names)?);
        }
        self.server.remove(id)?;
        let netns = Netns::open(&wish.netns)?;
        let at = SocketAddr::from((Ipv4Addr::new(127, 0, 0, 11), DNS_PORT));
        let options = SocketOptions { reuse_port: true, ..SocketOptions::default() };
        let (udp, tcp) = (udp_in(&netns, at, options)?, tcp_in(&netns, at, options)?);
        Ok(self.server.serve(id, udp, tcp, names)?)
    }
}
