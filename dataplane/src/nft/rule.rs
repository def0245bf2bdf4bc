//! Rules, their identity, and the builder that writes them the way `nft` reads.
//!
//! A rule's identity is the FNV-1a hash of its canonical text (comment and expressions, see `text.rs`). The kernel stores
//! it in the rule's user data, so an observed rule is recognised without decoding its expressions.

use super::expr::{
    CmpOp, CtKey, Expr, FibKey, FibResult, MetaKey, NatKind, NatRange, PayloadBase, Reg, Reject,
    Verdict, ct_state,
};
use super::key;
use super::load::{Load, load_all};

/// Identity of a rule's content. `RuleId::FOREIGN` is any rule that does not carry ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RuleId(pub u64);

impl RuleId {
    pub const FOREIGN: Self = Self(0);
}

/// A rule, wished for or seen. A seen one has no expressions, only its identity and comment.
#[derive(Debug, Clone)]
pub struct Rule {
    id: RuleId,
    comment: String,
    exprs: Vec<Expr>,
}

/// Rules are equal when their content is, which the identity stands for.
impl PartialEq for Rule {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id && self.id != RuleId::FOREIGN
    }
}

impl Eq for Rule {}

impl Rule {
    /// Starts a rule. `comment` says in a few words what it is for and is shown by `nft list`.
    pub fn builder(comment: impl Into<String>) -> RuleBuilder {
        RuleBuilder { comment: comment.into(), exprs: Vec::new(), ipv6: None, netdev: false }
    }

    /// Starts a rule of a netdev chain, where the IP version is told by the Ethernet protocol.
    pub fn netdev_builder(comment: impl Into<String>) -> RuleBuilder {
        RuleBuilder { netdev: true, ..Self::builder(comment) }
    }

    /// A rule of these expressions.
    pub fn new(comment: impl Into<String>, exprs: Vec<Expr>) -> Self {
        let mut rule = Self { id: RuleId::FOREIGN, comment: comment.into(), exprs };
        rule.id = RuleId(fnv1a(rule.to_string().as_bytes()));
        rule
    }

    /// A rule found in the kernel.
    pub fn observed(id: RuleId, comment: impl Into<String>) -> Self {
        Self { id, comment: comment.into(), exprs: Vec::new() }
    }

    pub const fn id(&self) -> RuleId {
        self.id
    }

    pub fn comment(&self) -> &str {
        &self.comment
    }

    pub fn exprs(&self) -> &[Expr] {
        &self.exprs
    }
}

/// FNV-1a, 64 bits (Fowler, Noll, Vo). Written out because it must give the same value in every release: it is compared with
/// what an earlier daemon left in the kernel.
fn fnv1a(bytes: &[u8]) -> u64 {
    let hash = bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(*b)).wrapping_mul(0x100_0000_01b3));
    // 0 means "foreign".
    if hash == 0 { 1 } else { hash }
}

/// Which port of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PortEnd {
    Source,
    Destination,
}

/// An interface name or, with a final `*`, the start of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IfName<'a>(pub &'a str);

impl IfName<'_> {
    /// What the register is compared with: all sixteen bytes, or the prefix alone.
    fn bytes(self) -> Vec<u8> {
        match self.0.strip_suffix('*') {
            Some(prefix) => prefix.as_bytes().to_vec(),
            None => key::ifname(self.0),
        }
    }
}

/// Writes a rule from left to right, as `nft` is read. Matches use register 0 and on; a match on a field of one IP version
/// first checks the version, once.
#[derive(Debug, Clone)]
pub struct RuleBuilder {
    comment: String,
    exprs: Vec<Expr>,
    /// The IP version already checked.
    ipv6: Option<bool>,
    /// In netdev chains `meta nfproto` is NFPROTO_NETDEV for every packet.
    netdev: bool,
}

impl RuleBuilder {
    pub fn build(self) -> Rule {
        Rule::new(self.comment, self.exprs)
    }

    /// Appends an instruction as it is.
    #[must_use]
    pub fn expr(mut self, expr: Expr) -> Self {
        self.exprs.push(expr);
        self
    }

    /// Loads fields into registers 0 and on.
    #[must_use]
    pub fn load(mut self, fields: &[Load]) -> Self {
        if let Some(ipv6) = fields.iter().find_map(Load::needs_ipv6) {
            self = self.ip_version(ipv6);
        }
        self.exprs.extend(load_all(fields, Reg::R0).0);
        self
    }

    // --- matches ---

    /// `meta nfproto ipv4|ipv6` (`meta protocol` in netdev chains); a second call for the same version adds nothing.
    #[must_use]
    pub fn ip_version(mut self, ipv6: bool) -> Self {
        if self.ipv6 == Some(ipv6) {
            return self;
        }
        self.ipv6 = Some(ipv6);
        if self.netdev {
            return self.ether_type(if ipv6 { 0x86dd } else { 0x0800 });
        }
        self.matches(&Load::Meta(MetaKey::NfProto), vec![if ipv6 { 10 } else { 2 }])
    }

    /// `meta protocol`: 0x0800 IPv4, 0x86dd IPv6, 0x0806 ARP.
    #[must_use]
    pub fn ether_type(self, ether_type: u16) -> Self {
        self.matches(&Load::Meta(MetaKey::Protocol), ether_type.to_be_bytes().to_vec())
    }

    /// `field == value`.
    #[must_use]
    pub fn matches(self, field: &Load, value: Vec<u8>) -> Self {
        self.compare(field, CmpOp::Eq, value)
    }

    /// `field op value`.
    #[must_use]
    pub fn compare(self, field: &Load, op: CmpOp, value: Vec<u8>) -> Self {
        self.load(std::slice::from_ref(field)).expr(Expr::Cmp { op, sreg: Reg::R0, data: value })
    }

    /// `field & mask == value`, or `!=`; field, mask and value of one length.
    #[must_use]
    pub fn masked(self, field: &Load, mask: Vec<u8>, op: CmpOp, value: Vec<u8>) -> Self {
        let xor = vec![0; mask.len()];
        self.load(std::slice::from_ref(field))
            .expr(Expr::Bitwise { sreg: Reg::R0, dreg: Reg::R0, mask, xor })
            .expr(Expr::Cmp { op, sreg: Reg::R0, data: value })
    }

    #[must_use]
    pub fn l4proto(self, proto: u8) -> Self {
        self.matches(&Load::Meta(MetaKey::L4Proto), vec![proto])
    }

    #[must_use]
    pub fn dport(self, port: u16) -> Self {
        self.matches(&Load::Dport, key::port(port))
    }

    #[must_use]
    pub fn iif(self, name: IfName<'_>) -> Self {
        self.matches(&Load::Meta(MetaKey::IifName), name.bytes())
    }

    #[must_use]
    pub fn iif_not(self, name: IfName<'_>) -> Self {
        self.compare(&Load::Meta(MetaKey::IifName), CmpOp::Neq, name.bytes())
    }

    #[must_use]
    pub fn oif(self, name: IfName<'_>) -> Self {
        self.matches(&Load::Meta(MetaKey::OifName), name.bytes())
    }

    #[must_use]
    pub fn oif_not(self, name: IfName<'_>) -> Self {
        self.compare(&Load::Meta(MetaKey::OifName), CmpOp::Neq, name.bytes())
    }

    /// `ct state` has one of these bits of [`ct_state`].
    #[must_use]
    pub fn ct_state(self, bits: u32) -> Self {
        self.masked(&Load::Ct(CtKey::State), key::mark(bits), CmpOp::Neq, key::mark(0))
    }

    #[must_use]
    pub fn ct_new(self) -> Self {
        self.ct_state(ct_state::NEW)
    }

    /// `ct status` has one of these bits of [`super::ct_status`].
    #[must_use]
    pub fn ct_status(self, bits: u32) -> Self {
        self.masked(&Load::Ct(CtKey::Status), key::mark(bits), CmpOp::Neq, key::mark(0))
    }

    /// The packet goes against the direction of the connection's first.
    #[must_use]
    pub fn ct_reply(self) -> Self {
        self.matches(&Load::Ct(CtKey::Direction), vec![1])
    }

    /// `meta mark & mask == value`.
    #[must_use]
    pub fn mark(self, mask: u32, value: u32) -> Self {
        self.masked(&Load::Meta(MetaKey::Mark), key::mark(mask), CmpOp::Eq, key::mark(value))
    }

    /// `ct mark & mask == value`.
    #[must_use]
    pub fn ct_mark(self, mask: u32, value: u32) -> Self {
        self.masked(&Load::Ct(CtKey::Mark), key::mark(mask), CmpOp::Eq, key::mark(value))
    }

    /// `fib saddr|daddr type local`: the address is one of this namespace's. In `output` the same lookup serves.
    #[must_use]
    pub fn fib_local(self, address: FibKey) -> Self {
        const RTN_LOCAL: u32 = 2;
        self.matches(&Load::Fib(address, FibResult::AddrType), RTN_LOCAL.to_ne_bytes().to_vec())
    }

    /// The key made of `fields` is a member of the set.
    #[must_use]
    pub fn in_set(self, fields: &[Load], set: impl Into<String>) -> Self {
        self.load(fields).expr(Expr::Lookup { set: set.into(), sreg: Reg::R0, negate: false })
    }

    /// The key made of `fields` is no member of the set.
    #[must_use]
    pub fn not_in_set(self, fields: &[Load], set: impl Into<String>) -> Self {
        self.load(fields).expr(Expr::Lookup { set: set.into(), sreg: Reg::R0, negate: true })
    }

    // --- statements ---

    #[must_use]
    pub fn counter(self, name: impl Into<String>) -> Self {
        self.expr(Expr::Counter(name.into()))
    }

    #[must_use]
    pub fn verdict(self, verdict: Verdict) -> Self {
        self.expr(Expr::Verdict(verdict))
    }

    #[must_use]
    pub fn accept(self) -> Self {
        self.verdict(Verdict::Accept)
    }

    #[must_use]
    pub fn drop(self) -> Self {
        self.verdict(Verdict::Drop)
    }

    #[must_use]
    pub fn jump(self, chain: impl Into<String>) -> Self {
        self.verdict(Verdict::Jump(chain.into()))
    }

    #[must_use]
    pub fn goto(self, chain: impl Into<String>) -> Self {
        self.verdict(Verdict::Goto(chain.into()))
    }

    #[must_use]
    pub fn reject(self, reject: Reject) -> Self {
        self.expr(Expr::Reject(reject))
    }

    #[must_use]
    pub fn notrack(self) -> Self {
        self.expr(Expr::Notrack)
    }

    #[must_use]
    pub fn masquerade(self) -> Self {
        self.expr(Expr::Masquerade)
    }

    /// `vmap @map` on the key made of `fields`.
    #[must_use]
    pub fn vmap(self, fields: &[Load], map: impl Into<String>) -> Self {
        self.load(fields).expr(Expr::VerdictMap { map: map.into(), sreg: Reg::R0 })
    }

    /// DNAT to the address found under the key, and to the port behind it when `with_port`.
    #[must_use]
    pub fn dnat_map(
        self,
        fields: &[Load],
        map: impl Into<String>,
        ipv6: bool,
        with_port: bool,
    ) -> Self {
        let port = with_port.then_some(Reg(if ipv6 { 4 } else { 1 }));
        self.ip_version(ipv6)
            .load(fields)
            .expr(Expr::MapLookup { map: map.into(), sreg: Reg::R0, dreg: Reg::R0 })
            .expr(Expr::Nat {
                kind: NatKind::Dnat,
                ipv6,
                to: NatRange { addr: Some(Reg::R0), port },
            })
    }

    /// DNAT to a fixed address and, when given, port.
    #[must_use]
    pub fn dnat(self, to: std::net::IpAddr, port: Option<u16>) -> Self {
        self.nat(NatKind::Dnat, to, port)
    }

    /// SNAT to a fixed address.
    #[must_use]
    pub fn snat(self, to: std::net::IpAddr) -> Self {
        self.nat(NatKind::Snat, to, None)
    }

    fn nat(self, kind: NatKind, to: std::net::IpAddr, port: Option<u16>) -> Self {
        let ipv6 = to.is_ipv6();
        let addr_reg = Reg::R0;
        let port_reg = Reg(4);
        let mut rule =
            self.ip_version(ipv6).expr(Expr::Immediate { dreg: addr_reg, data: key::ip(to) });
        if let Some(port) = port {
            rule = rule.expr(Expr::Immediate { dreg: port_reg, data: key::port(port) });
        }
        let to = NatRange { addr: Some(addr_reg), port: port.map(|_| port_reg) };
        rule.expr(Expr::Nat { kind, ipv6, to })
    }

    /// `ct mark set field`.
    #[must_use]
    pub fn set_ct_mark(self, from: &Load) -> Self {
        self.load(std::slice::from_ref(from)).expr(Expr::CtSet { key: CtKey::Mark, sreg: Reg::R0 })
    }

    /// `meta mark set field`.
    #[must_use]
    pub fn set_mark(self, from: &Load) -> Self {
        self.load(std::slice::from_ref(from))
            .expr(Expr::MetaSet { key: MetaKey::Mark, sreg: Reg::R0 })
    }

    /// `meta mark set value`.
    #[must_use]
    pub fn set_mark_value(self, value: u32) -> Self {
        self.expr(Expr::Immediate { dreg: Reg::R0, data: key::mark(value) })
            .expr(Expr::MetaSet { key: MetaKey::Mark, sreg: Reg::R0 })
    }

    /// `ether daddr set` from `len` bytes of `sreg` at `offset` of the address.
    #[must_use]
    pub fn set_ether_daddr(self, sreg: Reg, offset: u32, len: u32) -> Self {
        let base = PayloadBase::Link;
        self.expr(Expr::PayloadSet { base, offset, len, sreg, checksum: None })
    }

    /// `udp|tcp sport set port`, and the like for the destination. The rule must have matched `proto`, UDP or TCP.
    #[must_use]
    pub fn set_port(self, end: PortEnd, proto: u8, port: u16) -> Self {
        // RFC 768, RFC 9293 §3.1: the checksum is the fourth word of UDP's header, the ninth of TCP's.
        let checksum = Some(if proto == key::UDP { 6 } else { 16 });
        let offset = match end {
            PortEnd::Source => 0,
            PortEnd::Destination => 2,
        };
        let (base, len, sreg) = (PayloadBase::Transport, 2, Reg::R0);
        self.expr(Expr::Immediate { dreg: sreg, data: key::port(port) }).expr(Expr::PayloadSet {
            base,
            offset,
            len,
            sreg,
            checksum,
        })
    }
}
