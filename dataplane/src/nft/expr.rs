//! Expressions: the instructions of the nf_tables machine, one variant for each kernel expression we use.
//!
//! Registers are 32 bits wide, [`Reg`] 0 to 15; values longer than four bytes take consecutive ones. Data in an expression are
//! the bytes as they lie in the register: network order for what comes from packets, host order for marks, connection
//! states, and results of numgen and jhash. Source: `include/uapi/linux/netfilter/nf_tables.h`.

/// A 32-bit register, 0 to 15 (`NFT_REG32_00` is 8).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reg(pub u8);

impl Reg {
    pub const R0: Self = Self(0);

    /// The register `n` further on.
    #[must_use]
    pub const fn plus(self, n: u8) -> Self {
        Self(self.0 + n)
    }

    /// The kernel's number.
    pub const fn number(self) -> u32 {
        8 + self.0 as u32
    }
}

/// Where an offset into the packet is counted from (`NFT_PAYLOAD_*`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum PayloadBase {
    /// Ethernet header.
    Link,
    Network,
    Transport,
}

/// `NFT_META_*`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum MetaKey {
    /// Ethernet protocol, 2 bytes.
    Protocol,
    Mark,
    /// Index of the incoming device, host order.
    Iif,
    Oif,
    /// 16 bytes.
    IifName,
    OifName,
    /// `NFPROTO_IPV4` (2) or `NFPROTO_IPV6` (10), 1 byte.
    NfProto,
    L4Proto,
    /// Unicast, broadcast, multicast as the device saw it, 1 byte.
    PktType,
}

/// `NFT_CT_*`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum CtKey {
    State,
    /// 0 original, 1 reply, 1 byte.
    Direction,
    Status,
    Mark,
    /// Addresses and ports of a direction's tuple.
    SrcIp,
    DstIp,
    SrcIp6,
    DstIp6,
    ProtoSrc,
    ProtoDst,
}

/// Which tuple of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum CtDirection {
    Original,
    Reply,
}

/// Bits of [`CtKey::State`].
pub mod ct_state {
    pub const INVALID: u32 = 1;
    pub const ESTABLISHED: u32 = 2;
    pub const RELATED: u32 = 4;
    pub const NEW: u32 = 8;
    pub const UNTRACKED: u32 = 64;
}

/// Bits of [`CtKey::Status`] (`IPS_*`).
pub mod ct_status {
    pub const SNAT: u32 = 1 << 4;
    pub const DNAT: u32 = 1 << 5;
}

/// Which address of the packet a fib lookup asks about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum FibKey {
    Saddr,
    Daddr,
}

/// What a fib lookup yields.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum FibResult {
    /// `RTN_*`, 32 bits, host order.
    AddrType,
    /// Index of the outgoing device, 0 when there is no route.
    Oif,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum CmpOp {
    Eq,
    Neq,
    Lt,
    Lte,
    Gt,
    Gte,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum NatKind {
    Snat,
    Dnat,
}

/// Registers of a NAT target; `None` leaves that part of the tuple as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct NatRange {
    pub addr: Option<Reg>,
    pub port: Option<Reg>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reject {
    TcpReset,
    /// ICMP or ICMPv6 "administratively prohibited", whichever fits.
    AdminProhibited,
    /// "port unreachable", whichever fits.
    PortUnreachable,
}

/// Time a [`Expr::Limit`] counts over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LimitUnit {
    Second,
    Minute,
}

impl LimitUnit {
    pub const fn seconds(self) -> u64 {
        match self {
            Self::Second => 1,
            Self::Minute => 60,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    Accept,
    Drop,
    Return,
    Jump(String),
    Goto(String),
}

impl Verdict {
    /// The chain it leads to.
    pub fn chain(&self) -> Option<&str> {
        match self {
            Self::Jump(chain) | Self::Goto(chain) => Some(chain),
            Self::Accept | Self::Drop | Self::Return => None,
        }
    }
}

/// One instruction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expr {
    /// Packet bytes → register.
    Payload {
        base: PayloadBase,
        offset: u32,
        len: u32,
        dreg: Reg,
    },
    /// Register → packet bytes. `checksum` is where the Internet checksum (RFC 1071) that covers them lies, counted from the same
    /// base; `None` where none does (Ethernet addresses). The kernel leaves one alone that the device is still to compute.
    PayloadSet {
        base: PayloadBase,
        offset: u32,
        len: u32,
        sreg: Reg,
        checksum: Option<u32>,
    },
    Meta {
        key: MetaKey,
        dreg: Reg,
    },
    MetaSet {
        key: MetaKey,
        sreg: Reg,
    },
    Ct {
        key: CtKey,
        direction: Option<CtDirection>,
        dreg: Reg,
    },
    CtSet {
        key: CtKey,
        sreg: Reg,
    },
    Fib {
        key: FibKey,
        result: FibResult,
        dreg: Reg,
    },
    /// Goes on when the comparison holds. Fewer bytes than the register holds compare a prefix (`nl*`).
    Cmp {
        op: CmpOp,
        sreg: Reg,
        data: Vec<u8>,
    },
    /// Goes on when the value is inside (or outside) the range, ends included.
    Range {
        negate: bool,
        sreg: Reg,
        from: Vec<u8>,
        to: Vec<u8>,
    },
    /// `dreg = (sreg & mask) ^ xor`, all of one length.
    Bitwise {
        sreg: Reg,
        dreg: Reg,
        mask: Vec<u8>,
        xor: Vec<u8>,
    },
    Immediate {
        dreg: Reg,
        data: Vec<u8>,
    },
    /// Goes on when the key is a member (or, negated, is none).
    Lookup {
        set: String,
        sreg: Reg,
        negate: bool,
    },
    /// Goes on with the value in `dreg` when the key is in the map.
    MapLookup {
        map: String,
        sreg: Reg,
        dreg: Reg,
    },
    /// Decides by the verdict under the key, if there is one.
    VerdictMap {
        map: String,
        sreg: Reg,
    },
    /// A number from 0 to `modulus - 1`, host order. Incremental ones count per rule.
    Numgen {
        dreg: Reg,
        modulus: u32,
        random: bool,
    },
    /// Jenkins hash of `len` bytes from `sreg`, modulo `modulus`, host order.
    Jhash {
        sreg: Reg,
        len: u32,
        dreg: Reg,
        modulus: u32,
        seed: u32,
    },
    Nat {
        kind: NatKind,
        ipv6: bool,
        to: NatRange,
    },
    Masquerade,
    Verdict(Verdict),
    /// Adds to a named counter of the table.
    Counter(String),
    Notrack,
    Reject(Reject),
    /// Goes on up to `rate` times in a unit (or, negated, only above it).
    Limit {
        rate: u64,
        unit: LimitUnit,
        burst: u32,
        over: bool,
    },
    /// To the kernel log, with this prefix.
    Log {
        prefix: String,
    },
}

impl Expr {
    /// The map or set this instruction reads.
    pub fn map(&self) -> Option<&str> {
        match self {
            Self::Lookup { set: map, .. }
            | Self::MapLookup { map, .. }
            | Self::VerdictMap { map, .. } => Some(map),
            _ => None,
        }
    }

    /// The chain it may lead to.
    pub fn chain(&self) -> Option<&str> {
        match self {
            Self::Verdict(verdict) => verdict.chain(),
            _ => None,
        }
    }

    /// The named counter it adds to.
    pub fn counter(&self) -> Option<&str> {
        match self {
            Self::Counter(name) => Some(name),
            _ => None,
        }
    }
}
