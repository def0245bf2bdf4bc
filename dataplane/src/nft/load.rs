//! What a rule can load into registers, and how: the left-hand sides of nft's matches and map keys.
//!
//! Fields of a concatenation go to consecutive registers, each rounded up to whole ones, which is how the kernel lays out the
//! keys of its sets.

use super::expr::{CtDirection, CtKey, Expr, FibKey, FibResult, MetaKey, PayloadBase, Reg};

/// One field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Load {
    IpSaddr,
    IpDaddr,
    Ip6Saddr,
    Ip6Daddr,
    /// Source and destination port of TCP, UDP, SCTP; only meaningful together with the protocol.
    Sport,
    Dport,
    EtherSaddr,
    EtherDaddr,
    Meta(MetaKey),
    Ct(CtKey),
    /// A field of one direction's tuple.
    CtTuple(CtKey, CtDirection),
    Fib(FibKey, FibResult),
    /// Packet bytes.
    Raw {
        base: PayloadBase,
        offset: u32,
        len: u32,
    },
    /// 0 to `modulus - 1`, one after another; the count is the rule's own.
    RoundRobin {
        modulus: u32,
    },
    Random {
        modulus: u32,
    },
    /// Hash of the fields, which are loaded into the upper half of the registers.
    Hash {
        of: Vec<Load>,
        modulus: u32,
        seed: u32,
    },
}

/// Where [`Load::Hash`] puts what it hashes: keys use the lower registers.
const HASH_SOURCE: Reg = Reg(8);

impl Load {
    /// Instructions that put the field into `dreg` and on.
    pub fn exprs(&self, dreg: Reg) -> Vec<Expr> {
        let payload = |base, offset, len| vec![Expr::Payload { base, offset, len, dreg }];
        match self {
            Self::IpSaddr => payload(PayloadBase::Network, 12, 4),
            Self::IpDaddr => payload(PayloadBase::Network, 16, 4),
            Self::Ip6Saddr => payload(PayloadBase::Network, 8, 16),
            Self::Ip6Daddr => payload(PayloadBase::Network, 24, 16),
            Self::Sport => payload(PayloadBase::Transport, 0, 2),
            Self::Dport => payload(PayloadBase::Transport, 2, 2),
            Self::EtherDaddr => payload(PayloadBase::Link, 0, 6),
            Self::EtherSaddr => payload(PayloadBase::Link, 6, 6),
            Self::Raw { base, offset, len } => payload(*base, *offset, *len),
            Self::Meta(key) => vec![Expr::Meta { key: *key, dreg }],
            Self::Ct(key) => vec![Expr::Ct { key: *key, direction: None, dreg }],
            Self::CtTuple(key, direction) => {
                vec![Expr::Ct { key: *key, direction: Some(*direction), dreg }]
            }
            Self::Fib(key, result) => vec![Expr::Fib { key: *key, result: *result, dreg }],
            Self::RoundRobin { modulus } => {
                vec![Expr::Numgen { dreg, modulus: *modulus, random: false }]
            }
            Self::Random { modulus } => {
                vec![Expr::Numgen { dreg, modulus: *modulus, random: true }]
            }
            Self::Hash { of, modulus, seed } => {
                let (mut exprs, end) = load_all(of, HASH_SOURCE);
                let len = u32::from(end.0 - HASH_SOURCE.0) * 4;
                exprs.push(Expr::Jhash {
                    sreg: HASH_SOURCE,
                    len,
                    dreg,
                    modulus: *modulus,
                    seed: *seed,
                });
                exprs
            }
        }
    }

    /// Registers the field takes.
    pub const fn registers(&self) -> u8 {
        match self {
            Self::EtherSaddr | Self::EtherDaddr => 2,
            Self::Ip6Saddr
            | Self::Ip6Daddr
            | Self::Meta(MetaKey::IifName | MetaKey::OifName)
            | Self::Ct(CtKey::SrcIp6 | CtKey::DstIp6)
            | Self::CtTuple(CtKey::SrcIp6 | CtKey::DstIp6, _) => 4,
            Self::Raw { len, .. } => len.div_ceil(4) as u8,
            _ => 1,
        }
    }

    /// The IP version a packet must have for the field to exist; `Some(true)` is IPv6.
    pub fn needs_ipv6(&self) -> Option<bool> {
        match self {
            Self::IpSaddr | Self::IpDaddr => Some(false),
            Self::Ip6Saddr | Self::Ip6Daddr => Some(true),
            Self::Hash { of, .. } => of.iter().find_map(Self::needs_ipv6),
            _ => None,
        }
    }
}

/// Loads fields one after another from `first`; also returns the register after the last.
pub(super) fn load_all(fields: &[Load], first: Reg) -> (Vec<Expr>, Reg) {
    let mut exprs = Vec::new();
    let mut reg = first;
    for field in fields {
        exprs.extend(field.exprs(reg));
        reg = reg.plus(field.registers());
    }
    (exprs, reg)
}
