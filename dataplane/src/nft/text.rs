//! The canonical text of rules and tables: for logs, for tests, and as the input of a rule's hash.
//!
//! Every field of an expression appears in its text, so two rules with the same text do the same. The text of an expression must
//! not change lightly: a change makes every daemon rewrite its rules once after an upgrade (harmless, but seen in counters).

use std::fmt::{self, Display, Formatter};

use super::diff::NftOp;
use super::expr::{Expr, Reg, Verdict};
use super::rule::Rule;
use super::table::{Chain, Elem, ElemData, Family, Hook, Table, TableId};

struct Hex<'a>(&'a [u8]);

impl Display for Hex<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("0x")?;
        self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

impl Display for Reg {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "r{}", self.0)
    }
}

impl Display for Family {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Inet => "inet",
            Self::Ip => "ip",
            Self::Ip6 => "ip6",
            Self::Netdev => "netdev",
        })
    }
}

impl Display for TableId {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.family, self.name)
    }
}

impl Display for Verdict {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Accept => f.write_str("accept"),
            Self::Drop => f.write_str("drop"),
            Self::Return => f.write_str("return"),
            Self::Jump(chain) => write!(f, "jump {chain}"),
            Self::Goto(chain) => write!(f, "goto {chain}"),
        }
    }
}

fn opt(reg: Option<Reg>) -> String {
    reg.map_or_else(|| "-".to_owned(), |r| r.to_string())
}

impl Display for Expr {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Payload { base, offset, len, dreg } => {
                write!(f, "payload {base:?}+{offset},{len} => {dreg}")
            }
            Self::PayloadSet { base, offset, len, sreg, checksum } => {
                write!(f, "payload {base:?}+{offset},{len} <= {sreg}")?;
                checksum.map_or(Ok(()), |at| write!(f, " sum+{at}"))
            }
            Self::Meta { key, dreg } => write!(f, "meta {key:?} => {dreg}"),
            Self::MetaSet { key, sreg } => write!(f, "meta {key:?} <= {sreg}"),
            Self::Ct { key, direction, dreg } => match direction {
                Some(direction) => write!(f, "ct {direction:?} {key:?} => {dreg}"),
                None => write!(f, "ct {key:?} => {dreg}"),
            },
            Self::CtSet { key, sreg } => write!(f, "ct {key:?} <= {sreg}"),
            Self::Fib { key, result, dreg } => write!(f, "fib {key:?} {result:?} => {dreg}"),
            Self::Cmp { op, sreg, data } => write!(f, "cmp {sreg} {op:?} {}", Hex(data)),
            Self::Range { negate, sreg, from, to } => {
                let not = if *negate { "not " } else { "" };
                write!(f, "range {not}{sreg} {}-{}", Hex(from), Hex(to))
            }
            Self::Bitwise { sreg, dreg, mask, xor } => {
                write!(f, "bitwise {dreg} = {sreg} & {} ^ {}", Hex(mask), Hex(xor))
            }
            Self::Immediate { dreg, data } => write!(f, "immediate {dreg} = {}", Hex(data)),
            Self::Lookup { set, sreg, negate } => {
                let not = if *negate { "not " } else { "" };
                write!(f, "lookup {not}{sreg} @{set}")
            }
            Self::MapLookup { map, sreg, dreg } => write!(f, "map {sreg} @{map} => {dreg}"),
            Self::VerdictMap { map, sreg } => write!(f, "vmap {sreg} @{map}"),
            _ => self.fmt_statement(f),
        }
    }
}

impl Expr {
    fn fmt_statement(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Numgen { dreg, modulus, random } => {
                let kind = if *random { "random" } else { "inc" };
                write!(f, "numgen {kind} mod {modulus} => {dreg}")
            }
            Self::Jhash { sreg, len, dreg, modulus, seed } => {
                write!(f, "jhash {sreg},{len} seed {seed} mod {modulus} => {dreg}")
            }
            Self::Nat { kind, ipv6, to } => {
                let version = if *ipv6 { "ip6" } else { "ip" };
                write!(f, "nat {kind:?} {version} {}:{}", opt(to.addr), opt(to.port))
            }
            Self::Masquerade => f.write_str("masquerade"),
            Self::Verdict(verdict) => verdict.fmt(f),
            Self::Counter(name) => write!(f, "counter {name}"),
            Self::Notrack => f.write_str("notrack"),
            Self::Reject(reject) => write!(f, "reject {reject:?}"),
            Self::Limit { rate, unit, burst, over } => {
                let over = if *over { "over " } else { "" };
                write!(f, "limit {over}{rate}/{unit:?} burst {burst}")
            }
            Self::Log { prefix } => write!(f, "log {prefix:?}"),
            other => unreachable!("written by Display::fmt: {other:?}"),
        }
    }
}

impl Display for Rule {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for expr in self.exprs() {
            write!(f, "[{expr}] ")?;
        }
        write!(f, "\"{}\"", self.comment())
    }
}

impl Display for Elem {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if let Some(end) = &self.end {
            write!(f, "-{}", Hex(end))?;
        }
        match &self.data {
            ElemData::None => Ok(()),
            ElemData::Value(value) => write!(f, " : {}", Hex(value)),
            ElemData::Verdict(verdict) => write!(f, " : {verdict}"),
        }
    }
}

impl Display for Hook {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "type {} hook {:?}", self.kind.as_str(), self.point)?;
        if let Some(device) = &self.device {
            write!(f, " device {device}")?;
        }
        write!(f, " priority {} policy {:?}", self.priority, self.policy)
    }
}

fn fmt_chain(name: &str, chain: &Chain, f: &mut Formatter<'_>) -> fmt::Result {
    writeln!(f, "  chain {name} {{")?;
    if let Some(hook) = &chain.hook {
        writeln!(f, "    {hook}")?;
    }
    for rule in &chain.rules {
        writeln!(f, "    {rule}")?;
    }
    writeln!(f, "  }}")
}

impl Display for Table {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "table {} {{", self.id)?;
        for name in &self.counters {
            writeln!(f, "  counter {name}")?;
        }
        for (name, map) in &self.maps {
            writeln!(f, "  map {name} {:?} -> {:?} {{", map.spec.key, map.spec.data)?;
            for (key, elem) in &map.elements {
                writeln!(f, "    {}{elem}", Hex(key))?;
            }
            writeln!(f, "  }}")?;
        }
        for (name, chain) in &self.chains {
            fmt_chain(name, chain, f)?;
        }
        f.write_str("}")
    }
}

impl Display for NftOp {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::AddTable => f.write_str("add table"),
            Self::DelTable => f.write_str("delete table"),
            Self::AddCounter { name } => write!(f, "add counter {name}"),
            Self::DelCounter { name } => write!(f, "delete counter {name}"),
            Self::AddMap { name, .. } => write!(f, "add map {name}"),
            Self::DelMap { name } => write!(f, "delete map {name}"),
            Self::AddElems { map, elems, .. } => write!(f, "add {} elements to {map}", elems.len()),
            Self::DelElems { map, elems, .. } => {
                write!(f, "delete {} elements of {map}", elems.len())
            }
            Self::AddChain { name, .. } => write!(f, "add chain {name}"),
            Self::DelChain { name } => write!(f, "delete chain {name}"),
            Self::FlushChain { name } => write!(f, "flush chain {name}"),
            Self::AddRule { chain, rule } => write!(f, "add rule {chain} {rule}"),
        }
    }
}
