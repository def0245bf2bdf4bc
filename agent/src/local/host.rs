//! What the node's own objects need of the machine: namespaces, listeners, routes, port ranges.
//!
//! One trait, so that tests need neither root nor a kernel; [`KernelHost`] is the real one. Calls block for microseconds to
//! milliseconds; callers run them on a thread for such.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::path::Path;

use swarmnet_dataplane::{LinkName, RouteKey, RouteTo, names};
use swarmnet_kernel::route::{Route, RouteSeen};
use swarmnet_kernel::sockdiag::{self, Transport};
use swarmnet_kernel::{KernelError, Netns};
use swarmnet_types::{Protocol, Subnet};

use super::networks::Routes;
use super::ports::{self, Listener, Others};
use super::resolv::HostResolver;

/// See the module.
pub trait Host: Send + Sync + Debug {
    /// Makes a network namespace and keeps it alive at `path`.
    fn create_netns(&self, path: &Path) -> Result<(), KernelError>;

    /// Removes what [`create_netns`](Self::create_netns) made; nothing there is done.
    fn remove_netns(&self, path: &Path) -> Result<(), KernelError>;

    /// Does `path` keep a namespace alive? What a reboot leaves of one is an empty file.
    fn has_netns(&self, path: &Path) -> bool;

    /// Subnets the node's namespace has routes to, default routes and those of our own bridges left out.
    fn routes(&self) -> Result<Routes, KernelError>;

    /// Sockets that take new clients in the node's namespace, and the ports that may be chosen.
    fn ports(&self) -> Result<Others, KernelError>;

    /// The host's own `/etc/resolv.conf`.
    fn resolver(&self) -> HostResolver;
}

/// The machine itself.
#[derive(Debug, Clone, Copy, Default)]
pub struct KernelHost;

impl Host for KernelHost {
    fn create_netns(&self, path: &Path) -> Result<(), KernelError> {
        Netns::create(path).map(drop)
    }

    fn remove_netns(&self, path: &Path) -> Result<(), KernelError> {
        Netns::remove(path)
    }

    fn has_netns(&self, path: &Path) -> bool {
        Netns::open(path).is_ok()
    }

    fn routes(&self) -> Result<Routes, KernelError> {
        let mut route = Route::open(&Netns::current()?)?;
        let links = route.links()?;
        let ours: BTreeSet<&LinkName> = links
            .iter()
            .filter(|seen| seen.link.alias.starts_with(names::MARKER))
            .map(|seen| &seen.name)
            .collect();
        let foreign = |seen: &RouteSeen| {
            let of_ours = match &seen.to {
                RouteTo::Link(link) | RouteTo::Local(link) | RouteTo::Via { link, .. } => {
                    ours.contains(link)
                }
                RouteTo::Nexthop(_) => true,
            };
            let main = seen.key.table == RouteKey::MAIN && seen.protocol != names::ROUTE_PROTOCOL;
            main && !of_ours && seen.key.dst.prefix_len() > 0
        };
        let all = route.routes(0, &links)?;
        let nets = all.iter().filter(|r| foreign(r)).map(|r| r.key.dst.trunc());
        Ok(Routes(nets.filter_map(|net| Subnet::new(net).ok()).collect()))
    }

    fn ports(&self) -> Result<Others, KernelError> {
        let read = |name: &str| std::fs::read_to_string(format!("/proc/sys/net/ipv4/{name}"));
        let mut others = Others::default();
        if let Some(range) = read("ip_local_port_range").ok().and_then(|t| ports::parse_range(&t)) {
            others.ephemeral = range;
        }
        others.reserved =
            read("ip_local_reserved_ports").map(|t| ports::parse_reserved(&t)).unwrap_or_default();
        let protocol = |transport| match transport {
            Transport::Tcp => Protocol::Tcp,
            Transport::Udp => Protocol::Udp,
        };
        others.listeners = sockdiag::listeners(&Netns::current()?)?
            .into_iter()
            .map(|l| Listener { protocol: protocol(l.transport), addr: l.addr })
            .collect();
        Ok(others)
    }

    fn resolver(&self) -> HostResolver {
        std::fs::read_to_string("/etc/resolv.conf")
            .map(|text| HostResolver::parse(&text))
            .unwrap_or_default()
    }
}
