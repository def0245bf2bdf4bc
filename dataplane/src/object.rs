//! The nouns of a kernel's network state: namespaces, links, routes, neighbours and so on, as plain data.
//!
//! Both what is seen ([`crate::Actual`]) and what is wished for are written in these types, so that one comparison serves all.
//! Invariant: nothing here holds an interface index; objects are told apart by namespace and name, which survive a restart.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;

use ipnet::IpNet;
use swarmnet_types::{Mac, SandboxId, Vni};

/// Longest interface name in bytes (`IFNAMSIZ` is 16 with the terminating zero).
pub const LINK_NAME_LEN_MAX: usize = 15;

/// Which network namespace an object is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Ns {
    /// The one the daemon runs in.
    Node,
    /// The hidden one of this node that holds all overlay bridges and VXLAN devices, out of the reach of the host's firewall
    /// and bridge-netfilter.
    Overlay,
    Sandbox(SandboxId),
}

/// Where a namespace is found, and whether it is ours to make and to remove.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Netns {
    /// A file that is bound to the namespace, or `/proc/<pid>/ns/net`.
    pub path: PathBuf,
    pub ours: bool,
}

/// An interface name: 1 to 15 bytes, without `/` and white space, neither `.` nor `..` (`dev_valid_name` in `net/core/dev.c`).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkName(String);

impl LinkName {
    /// `None` when the kernel would refuse the name.
    pub fn new(name: impl Into<String>) -> Option<Self> {
        let name = name.into();
        let bad = |c: char| c == '/' || c == ':' || c.is_whitespace();
        let dots = name == "." || name == "..";
        (!name.is_empty() && name.len() <= LINK_NAME_LEN_MAX && !dots && !name.contains(bad))
            .then_some(Self(name))
    }

    pub fn loopback() -> Self {
        Self("lo".to_owned())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for LinkName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What kind of device a link is, with what cannot be changed after creation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkKind {
    /// Never made nor removed, only brought up.
    Loopback,
    /// No spanning tree, no multicast snooping, no ageing where it carries an overlay.
    Bridge {
        /// `ageing_time 0`: it learns nothing, all entries are ours.
        ageing: bool,
    },
    /// Made from the node's namespace whatever namespace it lives in, so that its UDP socket is on the underlay.
    Vxlan(Vxlan),
    /// One end of a pair. The other end is told at creation only ([`crate::Op::AddVeth`]).
    Veth,
    /// Anything else under a name we want: somebody else's.
    Other,
}

/// RFC 7348. Always `nolearning`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vxlan {
    pub vni: Vni,
    /// The underlay address that outer packets leave from; remotes are of its family.
    pub local: IpAddr,
    pub port: u16,
    /// Answers ARP and neighbour solicitations from its own neighbour table.
    pub proxy: bool,
}

/// Behaviour of a bridge port. All of it can be changed at any time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct PortFlags {
    pub learning: bool,
    /// Unknown unicast is sent here.
    pub flood: bool,
    pub mcast_flood: bool,
    pub bcast_flood: bool,
    /// Exchanges frames only with ports that are not isolated, and the bridge itself.
    pub isolated: bool,
    pub hairpin: bool,
}

/// A network device. Seen ones have every field filled in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    pub kind: LinkKind,
    /// `None` in a wish: whatever the kernel chose.
    pub mac: Option<Mac>,
    /// Bytes of the layer-3 packet. `None` in a wish: whatever the kernel chose.
    pub mtu_bytes: Option<u32>,
    pub up: bool,
    pub master: Option<LinkName>,
    /// `None` in a wish: no bridge port, or one whose flags do not matter.
    pub port: Option<PortFlags>,
    /// Generates no link-local IPv6 address (`addrgenmode none`); set at creation, before the link is up.
    pub no_link_local: bool,
    /// `ifalias`; begins with [`crate::names::MARKER`] on everything we made.
    pub alias: String,
}

/// One attribute of a link that changes in place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkChange {
    Mac(Mac),
    MtuBytes(u32),
    Up,
    Master(Option<LinkName>),
    Port(PortFlags),
    Alias(String),
}

/// Which route: its table, destination and metric. The family follows from the destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct RouteKey {
    /// 254 is `main`, 255 `local`.
    pub table: u32,
    pub dst: IpNet,
    /// As the kernel reports it: 0 by default for IPv4, 1024 for IPv6.
    pub metric: u32,
}

impl RouteKey {
    pub const MAIN: u32 = 254;
    pub const LOCAL: u32 = 255;

    /// With the kernel's default metric.
    pub const fn new(table: u32, dst: IpNet) -> Self {
        Self { table, dst, metric: if matches!(dst, IpNet::V6(_)) { 1024 } else { 0 } }
    }
}

/// Where a route leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RouteTo {
    /// The destination is on this link (scope link).
    Link(LinkName),
    /// By a gateway that need not lie in a subnet of the link (`onlink`).
    Via { gateway: IpAddr, link: LinkName },
    /// By a nexthop object.
    Nexthop(u32),
    /// The destination is this host (`local … dev link table local`).
    Local(LinkName),
}

/// A rule of the routing policy database: where it applies, `table` is looked up.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct RouteRule {
    pub ipv6: bool,
    pub pref: u32,
    /// Value and mask of the packet mark, host order.
    pub fwmark: Option<(u32, u32)>,
    /// Source.
    pub from: Option<IpNet>,
    pub table: u32,
}

/// A nexthop object (Linux 5.3): many routes, one place to change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nexthop {
    pub gateway: IpAddr,
    pub link: LinkName,
}

/// Where frames to a MAC go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FdbTo {
    /// Out of this bridge port (`master static`).
    Port,
    /// To this VTEP (`self permanent`, on the VXLAN device).
    Vtep(IpAddr),
    /// To all these VTEPs: the all-zero address of a VXLAN device, for broadcast and multicast (head-end replication).
    Flood(BTreeSet<IpAddr>),
}

/// A base chain on the forward hook that belongs to another program.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ForeignChain {
    pub table: crate::nft::TableId,
    pub chain: String,
}

/// What our one kind of rule in another program's forward chain accepts: packets that enter or leave by an interface of ours.
/// The name may end with `*`. Both are what `iptables -i`/`-o … -j ACCEPT` makes, so that iptables-nft still lists the chain.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum ForwardMatch {
    In(String),
    Out(String),
}

impl fmt::Display for Ns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Node => f.write_str("node"),
            Self::Overlay => f.write_str("overlay"),
            Self::Sandbox(id) => write!(f, "sandbox {}", id.short()),
        }
    }
}

impl fmt::Display for LinkKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Loopback => f.write_str("loopback"),
            Self::Bridge { .. } => f.write_str("bridge"),
            Self::Vxlan(v) => write!(f, "vxlan {} local {} port {}", v.vni, v.local, v.port),
            Self::Veth => f.write_str("veth"),
            Self::Other => f.write_str("other"),
        }
    }
}

impl fmt::Display for LinkChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mac(mac) => write!(f, "address {mac}"),
            Self::MtuBytes(mtu) => write!(f, "mtu {mtu}"),
            Self::Up => f.write_str("up"),
            Self::Master(Some(master)) => write!(f, "master {master}"),
            Self::Master(None) => f.write_str("nomaster"),
            Self::Port(p) => write!(
                f,
                "learning {} flood {} mcast_flood {} bcast_flood {} isolated {} hairpin {}",
                p.learning, p.flood, p.mcast_flood, p.bcast_flood, p.isolated, p.hairpin
            ),
            Self::Alias(alias) => write!(f, "alias {alias}"),
        }
    }
}

impl fmt::Display for RouteKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} table {} metric {}", self.dst, self.table, self.metric)
    }
}

impl fmt::Display for RouteTo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Link(link) => write!(f, "dev {link}"),
            Self::Via { gateway, link } => write!(f, "via {gateway} dev {link} onlink"),
            Self::Nexthop(id) => write!(f, "nhid {id}"),
            Self::Local(link) => write!(f, "local dev {link}"),
        }
    }
}

impl fmt::Display for RouteRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} pref {}", if self.ipv6 { "ipv6" } else { "ipv4" }, self.pref)?;
        if let Some(from) = self.from {
            write!(f, " from {from}")?;
        }
        if let Some((value, mask)) = self.fwmark {
            write!(f, " fwmark {value:#x}/{mask:#x}")?;
        }
        write!(f, " lookup {}", self.table)
    }
}

impl fmt::Display for FdbTo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Port => f.write_str("master static"),
            Self::Vtep(vtep) => write!(f, "dst {vtep} self permanent"),
            Self::Flood(vteps) => {
                f.write_str("dst")?;
                vteps.iter().try_for_each(|v| write!(f, " {v}"))?;
                f.write_str(" self permanent")
            }
        }
    }
}

impl fmt::Display for ForeignChain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {} {}", self.table.family, self.table.name, self.chain)
    }
}

impl fmt::Display for ForwardMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::In(name) => write!(f, "iifname {name}"),
            Self::Out(name) => write!(f, "oifname {name}"),
        }
    }
}
