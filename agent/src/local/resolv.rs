//! The two files that a sandbox sees over `/etc/resolv.conf` and `/etc/hosts` (D1, D4, `sw:§3.6`).
//!
//! Pure: the host's own `resolv.conf` comes in as text.

use std::fmt::Write as _;
use std::net::IpAddr;

use super::objects::SandboxRecord;

/// Where the agent answers in every sandbox with a user-defined network.
pub const RESOLVER: &str = "127.0.0.11";
/// Docker's last resort when the host names no server that a sandbox can reach.
const FALLBACK: [&str; 2] = ["8.8.8.8", "8.8.4.4"];

/// What of a `resolv.conf` matters here.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HostResolver {
    pub servers: Vec<IpAddr>,
    pub search: Vec<String>,
    pub options: Vec<String>,
}

impl HostResolver {
    /// Reads the text of a `resolv.conf`; lines of no known kind are passed over, of several `search` lines the last counts.
    pub fn parse(text: &str) -> Self {
        let mut host = Self::default();
        for line in text.lines() {
            let line = line.split(['#', ';']).next().unwrap_or_default();
            let mut words = line.split_whitespace();
            let key = words.next().unwrap_or_default();
            let rest = words.map(str::to_owned);
            match key {
                // A zone (`fe80::1%eth0`) means nothing in another namespace.
                "nameserver" => host.servers.extend(rest.filter_map(|w| w.parse::<IpAddr>().ok())),
                "search" | "domain" => host.search = rest.collect(),
                "options" => host.options.extend(rest),
                _ => {}
            }
        }
        host
    }

    /// Servers that can be reached from another namespace.
    fn outside(&self) -> Vec<IpAddr> {
        self.servers.iter().copied().filter(|ip| !ip.is_loopback()).collect()
    }
}

/// The sandbox's `resolv.conf`.
pub fn resolv_conf(record: &SandboxRecord, host: &HostResolver) -> String {
    let dns = &record.dns;
    let own = record.resolves_names();
    let servers: Vec<String> = if own {
        vec![RESOLVER.to_owned()]
    } else if dns.servers.is_empty() {
        let host_stack = record.shares_host_stack();
        let servers = if host_stack { host.servers.clone() } else { host.outside() };
        if servers.is_empty() {
            FALLBACK.map(str::to_owned).to_vec()
        } else {
            servers.iter().map(ToString::to_string).collect()
        }
    } else {
        dns.servers.iter().map(ToString::to_string).collect()
    };
    let search = match &dns.search[..] {
        [] => host.search.clone(),
        [root] if root.is_root() => Vec::new(),
        given => given.iter().map(ToString::to_string).collect(),
    };
    let mut options: Vec<String> = match &dns.options[..] {
        [] => host.options.clone(),
        given => given.iter().map(ToString::to_string).collect(),
    };
    if own && !options.iter().any(|o| o.starts_with("ndots:")) {
        options.push("ndots:0".to_owned());
    }
    let mut text = String::new();
    for server in servers {
        let _ = writeln!(text, "nameserver {server}");
    }
    if !search.is_empty() {
        let _ = writeln!(text, "search {}", search.join(" "));
    }
    if !options.is_empty() {
        let _ = writeln!(text, "options {}", options.join(" "));
    }
    text
}

/// The sandbox's `hosts`: loopback, its own addresses with its host name, and what the user added.
pub fn hosts(record: &SandboxRecord) -> String {
    let mut text = String::from(
        "127.0.0.1\tlocalhost\n\
         ::1\tlocalhost ip6-localhost ip6-loopback\n\
         fe00::\tip6-localnet\n\
         ff00::\tip6-mcastprefix\n\
         ff02::1\tip6-allnodes\n\
         ff02::2\tip6-allrouters\n",
    );
    for (name, addr) in &record.dns.extra_hosts {
        let _ = writeln!(text, "{addr}\t{name}");
    }
    for addr in record.addrs() {
        let _ = writeln!(text, "{addr}\t{}", record.hostname);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::desired::fixture;

    fn written(predefined: bool, host: &str, change: impl FnOnce(&mut SandboxRecord)) -> String {
        let mut record = fixture::record();
        if predefined {
            for attachment in &mut record.attachments {
                attachment.network.spec.name = fixture::name("bridge");
            }
        }
        change(&mut record);
        resolv_conf(&record, &HostResolver::parse(host))
    }

    #[test]
    fn a_user_defined_network_has_our_resolver_only() {
        let host =
            "# by hand\nnameserver 127.0.0.53\nsearch a.example\nsearch b.example c.example\n";
        let text = written(false, host, |r| r.dns.servers = vec![[192, 0, 2, 1].into()]);
        let want = "nameserver 127.0.0.11\nsearch b.example c.example\noptions ndots:0\n";
        assert_eq!(text, want);
        let text = written(false, host, |r| {
            r.dns.search = vec![".".parse().unwrap()];
            r.dns.options = ["ndots:2", "rotate"].map(|o| o.parse().unwrap()).into();
        });
        assert_eq!(text, "nameserver 127.0.0.11\noptions ndots:2 rotate\n");
    }

    #[test]
    fn the_default_bridge_has_the_hosts_servers_that_can_be_reached() {
        let host = "nameserver 127.0.0.53\nnameserver 192.0.2.2\nnameserver fe80::1%eth0\n";
        assert_eq!(written(true, host, |_| ()), "nameserver 192.0.2.2\n");
        let only_loopback = "nameserver 127.0.0.53 # systemd-resolved\n";
        let fallback = "nameserver 8.8.8.8\nnameserver 8.8.4.4\n";
        assert_eq!(written(true, only_loopback, |_| ()), fallback);
        let own = written(true, host, |r| r.dns.servers = vec![[192, 0, 2, 1].into()]);
        assert_eq!(own, "nameserver 192.0.2.1\n");
    }
}
