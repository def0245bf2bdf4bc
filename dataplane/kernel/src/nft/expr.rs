//! Expressions to attributes: one small encoding for each instruction.
//!
//! Everything is big-endian except data, which are the bytes as they lie in the register.

use swarmnet_dataplane::nft::{
    CmpOp, CtDirection, CtKey, Expr, FibKey, FibResult, MetaKey, NatKind, PayloadBase, Reg, Reject,
    Verdict,
};

use super::wire::{
    DATA_VALUE, DATA_VERDICT, LIST_ELEM, VERDICT_CHAIN, VERDICT_CODE, object, verdict,
};
use crate::netlink::Message;

/// The register that a verdict is written to (`NFT_REG_VERDICT`).
const REG_VERDICT: u32 = 0;
/// `AF_INET`, `AF_INET6`.
const AF_INET: u32 = 2;
const AF_INET6: u32 = 10;

/// Appends the instruction to a list of expressions.
pub(super) fn encode(m: &mut Message, expr: &Expr) {
    match expr {
        Expr::Payload { .. } | Expr::PayloadSet { .. } => payload(m, expr),
        Expr::Meta { key, dreg } => named(m, "meta", |m| {
            m.be32(2, meta_key(*key)).be32(1, dreg.number());
        }),
        Expr::MetaSet { key, sreg } => named(m, "meta", |m| {
            m.be32(2, meta_key(*key)).be32(3, sreg.number());
        }),
        Expr::Ct { key, direction, dreg } => ct(m, *key, *direction, *dreg),
        Expr::CtSet { key, sreg } => named(m, "ct", |m| {
            m.be32(2, ct_key(*key)).be32(4, sreg.number());
        }),
        Expr::Fib { key, result, dreg } => fib(m, *key, *result, *dreg),
        Expr::Cmp { op, sreg, data } => named(m, "cmp", |m| {
            m.be32(1, sreg.number()).be32(2, cmp_op(*op));
            value(m, 3, data);
        }),
        Expr::Range { negate, sreg, from, to } => named(m, "range", |m| {
            m.be32(1, sreg.number()).be32(2, u32::from(*negate));
            value(m, 3, from);
            value(m, 4, to);
        }),
        Expr::Bitwise { sreg, dreg, mask, xor } => named(m, "bitwise", |m| {
            m.be32(1, sreg.number()).be32(2, dreg.number()).be32(3, mask.len() as u32);
            value(m, 4, mask);
            value(m, 5, xor);
        }),
        Expr::Immediate { dreg, data } => named(m, "immediate", |m| {
            m.be32(1, dreg.number());
            value(m, 2, data);
        }),
        Expr::Lookup { set, sreg, negate } => lookup(m, set, *sreg, None, *negate),
        Expr::MapLookup { map, sreg, dreg } => lookup(m, map, *sreg, Some(dreg.number()), false),
        Expr::VerdictMap { map, sreg } => lookup(m, map, *sreg, Some(REG_VERDICT), false),
        Expr::Verdict(verdict) => named(m, "immediate", |m| {
            m.be32(1, REG_VERDICT);
            encode_verdict(m, 2, verdict);
        }),
        _ => statement(m, expr),
    }
}

fn statement(m: &mut Message, expr: &Expr) {
    match expr {
        Expr::Numgen { dreg, modulus, random } => named(m, "numgen", |m| {
            m.be32(1, dreg.number()).be32(2, *modulus).be32(3, u32::from(*random)).be32(4, 0);
        }),
        Expr::Jhash { sreg, len, dreg, modulus, seed } => named(m, "hash", |m| {
            m.be32(1, sreg.number()).be32(2, dreg.number()).be32(3, *len);
            // Type 0 is Jenkins'.
            m.be32(4, *modulus).be32(5, *seed).be32(6, 0).be32(7, 0);
        }),
        Expr::Nat { kind, ipv6, to } => named(m, "nat", |m| {
            m.be32(1, u32::from(*kind == NatKind::Dnat));
            m.be32(2, if *ipv6 { AF_INET6 } else { AF_INET });
            if let Some(addr) = to.addr {
                m.be32(3, addr.number());
            }
            if let Some(port) = to.port {
                m.be32(5, port.number());
            }
        }),
        Expr::Masquerade => named(m, "masq", |_| {}),
        Expr::Counter(name) => named(m, "objref", |m| {
            m.be32(1, object::TYPE_COUNTER).text(2, name);
        }),
        Expr::Notrack => named(m, "notrack", |_| {}),
        Expr::Reject(kind) => reject(m, *kind),
        Expr::Limit { rate, unit, burst, over } => named(m, "limit", |m| {
            m.be64(1, *rate).be64(2, unit.seconds()).be32(3, *burst);
            // Packets, not bytes; flag 1 is "over".
            m.be32(4, 0).be32(5, u32::from(*over));
        }),
        Expr::Log { prefix } => named(m, "log", |m| {
            m.text(2, prefix);
        }),
        other => unreachable!("encoded before: {other}"),
    }
}

fn named(m: &mut Message, name: &str, fill: impl FnOnce(&mut Message)) {
    m.nest(LIST_ELEM, |m| {
        m.text(1, name).nest(2, fill);
    });
}

/// A `NFTA_DATA_VALUE` inside attribute `kind`.
pub(super) fn value(m: &mut Message, kind: u16, data: &[u8]) {
    m.nest(kind, |m| {
        m.bytes(DATA_VALUE, data);
    });
}

/// A `NFTA_DATA_VERDICT` inside attribute `kind`.
pub(super) fn encode_verdict(m: &mut Message, kind: u16, verdict: &Verdict) {
    let code = match verdict {
        Verdict::Accept => verdict::ACCEPT,
        Verdict::Drop => verdict::DROP,
        Verdict::Return => verdict::RETURN,
        Verdict::Jump(_) => verdict::JUMP,
        Verdict::Goto(_) => verdict::GOTO,
    };
    m.nest(kind, |m| {
        m.nest(DATA_VERDICT, |m| {
            m.be32(VERDICT_CODE, code.cast_unsigned());
            if let Some(chain) = verdict.chain() {
                m.text(VERDICT_CHAIN, chain);
            }
        });
    });
}

fn payload(m: &mut Message, expr: &Expr) {
    let (base, offset, len, register, checksum) = match expr {
        Expr::Payload { base, offset, len, dreg } => (base, offset, len, (1, dreg), None),
        Expr::PayloadSet { base, offset, len, sreg, checksum } => {
            (base, offset, len, (5, sreg), *checksum)
        }
        other => unreachable!("only payload expressions come here: {other}"),
    };
    let base = match base {
        PayloadBase::Link => 0,
        PayloadBase::Network => 1,
        PayloadBase::Transport => 2,
    };
    named(m, "payload", |m| {
        m.be32(register.0, register.1.number()).be32(2, base).be32(3, *offset).be32(4, *len);
        if register.0 == 5 {
            // NFT_PAYLOAD_CSUM_NONE is 0, NFT_PAYLOAD_CSUM_INET 1.
            m.be32(6, u32::from(checksum.is_some())).be32(7, checksum.unwrap_or(0)).be32(8, 0);
        }
    });
}

fn ct(m: &mut Message, key: CtKey, direction: Option<CtDirection>, dreg: Reg) {
    named(m, "ct", |m| {
        m.be32(1, dreg.number()).be32(2, ct_key(key));
        if let Some(direction) = direction {
            m.u8(3, u8::from(direction == CtDirection::Reply));
        }
    });
}

fn fib(m: &mut Message, key: FibKey, result: FibResult, dreg: Reg) {
    let result = match result {
        FibResult::Oif => 1,
        FibResult::AddrType => 3,
    };
    let flags = match key {
        FibKey::Saddr => 1,
        FibKey::Daddr => 2,
    };
    named(m, "fib", |m| {
        m.be32(1, dreg.number()).be32(2, result).be32(3, flags);
    });
}

fn lookup(m: &mut Message, set: &str, sreg: Reg, dreg: Option<u32>, negate: bool) {
    named(m, "lookup", |m| {
        m.text(1, set).be32(2, sreg.number());
        if let Some(dreg) = dreg {
            m.be32(3, dreg);
        }
        if negate {
            m.be32(5, 1);
        }
    });
}

fn reject(m: &mut Message, kind: Reject) {
    // `NFT_REJECT_TCP_RST`, or `NFT_REJECT_ICMPX_UNREACH` with a code of `enum nft_reject_inet_code`.
    let (kind, code) = match kind {
        Reject::TcpReset => (1, 0),
        Reject::PortUnreachable => (2, 1),
        Reject::AdminProhibited => (2, 3),
    };
    named(m, "reject", |m| {
        m.be32(1, kind).u8(2, code);
    });
}

const fn cmp_op(op: CmpOp) -> u32 {
    match op {
        CmpOp::Eq => 0,
        CmpOp::Neq => 1,
        CmpOp::Lt => 2,
        CmpOp::Lte => 3,
        CmpOp::Gt => 4,
        CmpOp::Gte => 5,
    }
}

const fn meta_key(key: MetaKey) -> u32 {
    match key {
        MetaKey::Protocol => 1,
        MetaKey::Mark => 3,
        MetaKey::Iif => 4,
        MetaKey::Oif => 5,
        MetaKey::IifName => 6,
        MetaKey::OifName => 7,
        MetaKey::NfProto => 15,
        MetaKey::L4Proto => 16,
        MetaKey::PktType => 19,
    }
}

const fn ct_key(key: CtKey) -> u32 {
    match key {
        CtKey::State => 0,
        CtKey::Direction => 1,
        CtKey::Status => 2,
        CtKey::Mark => 3,
        CtKey::ProtoSrc => 11,
        CtKey::ProtoDst => 12,
        CtKey::SrcIp => 19,
        CtKey::DstIp => 20,
        CtKey::SrcIp6 => 21,
        CtKey::DstIp6 => 22,
    }
}
