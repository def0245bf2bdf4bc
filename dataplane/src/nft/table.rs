//! The nouns: tables, chains, maps (a set is a map without data), elements.
//!
//! Cardinalities: a table holds named counters, maps and chains; a chain holds ordered rules; a map holds elements by key. Keys
//! are the bytes the kernel compares, each field padded to four (see [`super::key`]).

use std::collections::{BTreeMap, BTreeSet};

use super::expr::Verdict;
use super::rule::Rule;

/// Address family of a table (`NFPROTO_*`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// IPv4 and IPv6 in one table.
    Inet,
    /// IPv4 alone: tables of iptables-nft.
    Ip,
    /// IPv6 alone.
    Ip6,
    /// Hooks of one device.
    Netdev,
}

/// Which table: its family and name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TableId {
    pub family: Family,
    pub name: String,
}

/// A table, wished for or seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    pub id: TableId,
    /// Named counters: they outlive the rules that count with them.
    pub counters: BTreeSet<String>,
    pub maps: BTreeMap<String, Map>,
    pub chains: BTreeMap<String, Chain>,
}

/// A list of rules; with a hook the kernel enters it by itself, without one only by jump or goto.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Chain {
    pub hook: Option<Hook>,
    pub rules: Vec<Rule>,
}

/// Where and when a base chain runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hook {
    pub kind: ChainKind,
    pub point: HookPoint,
    /// Lower runs earlier; conntrack is at -200, DNAT at -100, SNAT at 100.
    pub priority: i32,
    /// Only in [`Family::Netdev`].
    pub device: Option<String>,
    pub policy: Policy,
}

/// A base chain's type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ChainKind {
    Filter,
    Nat,
    /// Routes again when a rule changes mark or addresses.
    Route,
}

/// A hook, of either family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum HookPoint {
    Prerouting,
    Input,
    Forward,
    Output,
    Postrouting,
    /// netdev, after the tap on receipt.
    Ingress,
    /// netdev, before the queueing discipline; Linux 5.16.
    Egress,
}

/// What happens to a packet no rule decided about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Policy {
    #[default]
    Accept,
    Drop,
}

/// What one field of a key or value is. The kernel looks at the length alone; the type is for `nft list`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Datatype {
    Ipv4,
    Ipv6,
    Ether,
    L4Proto,
    Port,
    /// 32 bits in host order: packet marks, and also results of numgen and jhash.
    Mark,
    IfName,
    /// 32 bits in network order (the VNI as it lies in a VXLAN header, shifted by 8).
    Be32,
}

/// Definition of a map; two maps with equal definitions differ in elements only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MapSpec {
    /// One field, or a concatenation.
    pub key: Vec<Datatype>,
    pub data: MapData,
    /// Keys are ranges: every element has an [`Elem::end`].
    pub interval: bool,
}

/// What a key leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MapData {
    /// A set.
    None,
    /// A value of these fields.
    Value(Vec<Datatype>),
    Verdict,
}

/// A named set or map.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Map {
    pub spec: MapSpec,
    pub elements: Elems,
}

/// Elements by key.
pub type Elems = BTreeMap<Vec<u8>, Elem>;

/// One element besides its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Elem {
    /// Last key of the range, inclusive; `Some` exactly when the map is an interval map.
    pub end: Option<Vec<u8>>,
    pub data: ElemData,
}

/// What an element's key leads to; agrees with [`MapSpec::data`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ElemData {
    None,
    Value(Vec<u8>),
    Verdict(Verdict),
}

/// How ranges of a map travel to the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ranges {
    /// No ranges: a hash set.
    None,
    /// One field: a start element and an end element (rbtree).
    Single,
    /// Several fields: key and key end in one element (pipapo, Linux 5.6).
    Concat,
}

// === impl Table ===

impl Table {
    pub fn new(family: Family, name: impl Into<String>) -> Self {
        Self {
            id: TableId { family, name: name.into() },
            counters: BTreeSet::new(),
            maps: BTreeMap::new(),
            chains: BTreeMap::new(),
        }
    }

    /// Adds or replaces a chain entered by jump or goto.
    pub fn chain(&mut self, name: impl Into<String>, rules: Vec<Rule>) -> &mut Self {
        self.chains.insert(name.into(), Chain { hook: None, rules });
        self
    }

    /// Adds or replaces a base chain.
    pub fn base_chain(
        &mut self,
        name: impl Into<String>,
        hook: Hook,
        rules: Vec<Rule>,
    ) -> &mut Self {
        self.chains.insert(name.into(), Chain { hook: Some(hook), rules });
        self
    }

    /// Adds or replaces a map.
    pub fn map(&mut self, name: impl Into<String>, spec: MapSpec, elements: Elems) -> &mut Self {
        self.maps.insert(name.into(), Map { spec, elements });
        self
    }

    /// Adds a named counter, which starts at zero.
    pub fn counter(&mut self, name: impl Into<String>) -> &mut Self {
        self.counters.insert(name.into());
        self
    }
}

// === impl Hook ===

impl Hook {
    /// A filter hook of an inet table, policy accept.
    pub const fn filter(point: HookPoint, priority: i32) -> Self {
        Self { kind: ChainKind::Filter, point, priority, device: None, policy: Policy::Accept }
    }

    /// A nat hook of an inet table. NAT chains see the first packet of a flow only.
    pub const fn nat(point: HookPoint, priority: i32) -> Self {
        Self { kind: ChainKind::Nat, point, priority, device: None, policy: Policy::Accept }
    }

    /// A filter hook of one device, for netdev tables.
    pub fn device(point: HookPoint, device: impl Into<String>, priority: i32) -> Self {
        Self { device: Some(device.into()), ..Self::filter(point, priority) }
    }

    #[must_use]
    pub fn policy(self, policy: Policy) -> Self {
        Self { policy, ..self }
    }
}

impl HookPoint {
    /// `NF_INET_*` or `NF_NETDEV_*`.
    pub const fn number(self) -> u32 {
        match self {
            Self::Prerouting | Self::Ingress => 0,
            Self::Input | Self::Egress => 1,
            Self::Forward => 2,
            Self::Output => 3,
            Self::Postrouting => 4,
        }
    }
}

impl ChainKind {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Filter => "filter",
            Self::Nat => "nat",
            Self::Route => "route",
        }
    }
}

// === impl Datatype ===

impl Datatype {
    /// Bytes of the value, without padding.
    pub const fn bytes(self) -> usize {
        match self {
            Self::Ipv4 | Self::Mark | Self::Be32 => 4,
            Self::Ipv6 | Self::IfName => 16,
            Self::Ether => 6,
            Self::L4Proto => 1,
            Self::Port => 2,
        }
    }

    /// Registers of 32 bits it takes, which is also its share of a concatenation.
    pub const fn registers(self) -> u8 {
        self.bytes().div_ceil(4) as u8
    }

    /// Number of nft's own type (`enum datatypes` of nftables' `include/datatype.h`), so that `nft list` prints it well.
    pub const fn nft_type(self) -> u32 {
        match self {
            Self::Ipv4 => 7,
            Self::Ipv6 => 8,
            Self::Ether => 9,
            Self::L4Proto => 12,
            Self::Port => 13,
            // `integer` has no length of its own and `nft list` gives up on it; a mark is 32 bits.
            Self::Mark | Self::Be32 => 19,
            Self::IfName => 41,
        }
    }
}

// === impl MapSpec ===

impl MapSpec {
    pub fn set(key: &[Datatype]) -> Self {
        Self { key: key.to_vec(), data: MapData::None, interval: false }
    }

    pub fn verdicts(key: &[Datatype]) -> Self {
        Self { key: key.to_vec(), data: MapData::Verdict, interval: false }
    }

    pub fn values(key: &[Datatype], data: &[Datatype]) -> Self {
        Self { key: key.to_vec(), data: MapData::Value(data.to_vec()), interval: false }
    }

    /// The same with ranges as keys.
    #[must_use]
    pub fn interval(self) -> Self {
        Self { interval: true, ..self }
    }

    pub fn ranges(&self) -> Ranges {
        match (self.interval, self.key.len()) {
            (false, _) => Ranges::None,
            (true, 0 | 1) => Ranges::Single,
            (true, _) => Ranges::Concat,
        }
    }

    /// Bytes of a key as the kernel holds it: each field of a concatenation is padded to four, a single one is not.
    pub fn key_len(&self) -> usize {
        fields_len(&self.key)
    }
}

/// Bytes of a concatenation; a single field is not padded.
pub(super) fn fields_len(fields: &[Datatype]) -> usize {
    match fields {
        [one] => one.bytes(),
        many => many.iter().map(|f| usize::from(f.registers()) * 4).sum(),
    }
}

impl MapData {
    /// Bytes of a value; 0 for sets and verdicts.
    pub fn value_len(&self) -> usize {
        match self {
            Self::Value(fields) => fields_len(fields),
            Self::None | Self::Verdict => 0,
        }
    }
}

// === impl Elem ===

impl Elem {
    /// A member of a set.
    pub const MEMBER: Self = Self { end: None, data: ElemData::None };

    pub const fn value(value: Vec<u8>) -> Self {
        Self { end: None, data: ElemData::Value(value) }
    }

    pub const fn verdict(verdict: Verdict) -> Self {
        Self { end: None, data: ElemData::Verdict(verdict) }
    }

    /// `goto chain`.
    pub fn goto(chain: impl Into<String>) -> Self {
        Self::verdict(Verdict::Goto(chain.into()))
    }

    /// The same for a range that ends with `end`, inclusive.
    #[must_use]
    pub fn until(self, end: Vec<u8>) -> Self {
        Self { end: Some(end), ..self }
    }
}
