//! What the node's own objects need of the machine: namespaces, listeners, routes, port ranges.
//!
//! One trait, so that tests need neither root nor a kernel; [`KernelHost`] is the real one. Calls block for microseconds to
//! milliseconds; callers run them on a thread for such.

use std::fmt::Debug;
use std::path::Path;

use swarmnet_kernel::{KernelError, Netns};

use super::networks::Routes;
use super::ports::{self, Others};
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
        Ok(Routes::default())
    }

    fn ports(&self) -> Result<Others, KernelError> {
        let read = |name: &str| std::fs::read_to_string(format!("/proc/sys/net/ipv4/{name}"));
        let mut others = Others::default();
        if let Some(range) = read("ip_local_port_range").ok().and_then(|t| ports::parse_range(&t)) {
            others.ephemeral = range;
        }
        others.reserved =
            read("ip_local_reserved_ports").map(|t| ports::parse_reserved(&t)).unwrap_or_default();
        Ok(others)
    }

    fn resolver(&self) -> HostResolver {
        std::fs::read_to_string("/etc/resolv.conf")
            .map(|text| HostResolver::parse(&text))
            .unwrap_or_default()
    }
}
