//! Operations to one batch: begin, messages, end, in one `sendmsg`.
//!
//! The kernel works inside that call, so errors are queued when it returns and one drain without waiting tells the result. No
//! acknowledgements are asked for: silence is success.

use rtnetlink::packet_core::{NLM_F_APPEND, NLM_F_CREATE, NLM_F_EXCL};
use swarmnet_dataplane::nft::{
    Datatype, Elem, ElemData, Elems, Hook, MapData, MapSpec, NftOp, Policy, Ranges, Rule, TableId,
};

use super::Generation;
use super::expr;
use super::wire::{self, LIST_ELEM, chain, elem, msg, object, rule, set, table};
use crate::error::KernelError;
use crate::netlink::{Message, Socket, frames, refusal};

/// Bytes of elements in one message: an attribute holds at most 64 KiB.
const ELEMS_BYTES_MAX: usize = 60_000;
/// `NFT_MAX_TYPE_SHIFT`: how nft packs the field types of a concatenation into one number.
const CONCAT_TYPE_BITS: u32 = 6;
/// libnftnl's limit of a comment with its zero is 128; longer text would be refused by `nft` when it lists.
const COMMENT_LEN_MAX: usize = 127;

/// Messages of one transaction, with what each is for.
pub(super) struct Batch<'a> {
    table: &'a TableId,
    messages: Vec<(String, Message)>,
    /// Sets are numbered within a batch.
    set_id: u32,
}

impl<'a> Batch<'a> {
    pub(super) fn encode(
        table: &'a TableId,
        ops: &[NftOp],
        generation: Option<Generation>,
    ) -> Self {
        let mut batch = Self::begin(table, generation);
        for op in ops {
            batch.op(op);
        }
        batch
    }

    pub(super) fn begin(table: &'a TableId, generation: Option<Generation>) -> Self {
        let mut begin = Message::new(wire::BATCH_BEGIN, 0, &wire::nfgenmsg_batch());
        if let Some(Generation(id)) = generation {
            begin.be32(wire::BATCH_GENID, id);
        }
        Self { table, messages: vec![("nftables batch".to_owned(), begin)], set_id: 0 }
    }

    /// Sends the batch and reads the result.
    pub(super) fn commit(mut self, socket: &mut Socket) -> Result<(), KernelError> {
        let end = Message::new(wire::BATCH_END, 0, &wire::nfgenmsg_batch());
        self.messages.push(("nftables batch end".to_owned(), end));
        let mut bytes = Vec::new();
        let mut names = Vec::with_capacity(self.messages.len());
        let mut first = None;
        for (name, message) in self.messages {
            let sequence = socket.next_sequence();
            first.get_or_insert(sequence);
            bytes.extend(message.finish(sequence));
            names.push(name);
        }
        socket.send(&bytes)?;
        result(socket, first.unwrap_or_default(), &names)
    }

    /// A message about the table.
    pub(super) fn push(
        &mut self,
        what: &impl ToString,
        message: u16,
        flags: u16,
        fill: impl FnOnce(&mut Message),
    ) {
        let header = wire::nfgenmsg(wire::family(self.table.family));
        let mut encoded = Message::new(wire::kind(message), flags, &header);
        fill(&mut encoded);
        self.messages.push((format!("{}: {}", self.table, what.to_string()), encoded));
    }

    fn op(&mut self, op: &NftOp) {
        // EXCL: what exists already means that our view was stale, and must not be taken for success.
        const NEW: u16 = NLM_F_CREATE | NLM_F_EXCL;
        let name_of_table = &self.table.name;
        match op {
            NftOp::AddTable => self.push(op, msg::NEWTABLE, NEW, |m| {
                m.text(table::NAME, name_of_table).be32(table::FLAGS, 0);
            }),
            NftOp::DelTable => self.push(op, msg::DELTABLE, 0, |m| {
                m.text(table::NAME, name_of_table);
            }),
            NftOp::AddCounter { name } => self.push(op, msg::NEWOBJ, NEW, |m| {
                m.text(object::TABLE, name_of_table).text(object::NAME, name);
                m.be32(object::TYPE, object::TYPE_COUNTER).nest(object::DATA, |m| {
                    m.be64(object::COUNTER_BYTES, 0).be64(object::COUNTER_PACKETS, 0);
                });
            }),
            NftOp::DelCounter { name } => self.push(op, msg::DELOBJ, 0, |m| {
                m.text(object::TABLE, name_of_table).text(object::NAME, name);
                m.be32(object::TYPE, object::TYPE_COUNTER);
            }),
            NftOp::AddMap { name, spec } => self.add_map(op, name, spec),
            NftOp::DelMap { name } => self.push(op, msg::DELSET, 0, |m| {
                m.text(set::TABLE, name_of_table).text(set::NAME, name);
            }),
            NftOp::AddElems { map, ranges, elems } => {
                self.elems(op, (msg::NEWSETELEM, NEW), (map, *ranges), elems);
            }
            NftOp::DelElems { map, ranges, elems } => {
                self.elems(op, (msg::DELSETELEM, 0), (map, *ranges), elems);
            }
            NftOp::AddChain { name, hook } => self.push(op, msg::NEWCHAIN, NEW, |m| {
                m.text(chain::TABLE, name_of_table).text(chain::NAME, name);
                if let Some(hook) = hook {
                    encode_hook(m, hook);
                }
            }),
            NftOp::DelChain { name } => self.push(op, msg::DELCHAIN, 0, |m| {
                m.text(chain::TABLE, name_of_table).text(chain::NAME, name);
            }),
            // No handle: all rules of the chain.
            NftOp::FlushChain { name } => self.push(op, msg::DELRULE, 0, |m| {
                m.text(rule::TABLE, name_of_table).text(rule::CHAIN, name);
            }),
            NftOp::AddRule { chain, rule } => {
                self.add_rule(op, chain, rule, NLM_F_CREATE | NLM_F_APPEND);
            }
        }
    }

    /// Without `APPEND` the rule goes to the head of its chain.
    pub(super) fn add_rule(&mut self, what: &impl ToString, chain: &str, rule: &Rule, flags: u16) {
        let table = &self.table.name;
        self.push(what, msg::NEWRULE, flags, |m| {
            m.text(rule::TABLE, table).text(rule::CHAIN, chain);
            m.nest(rule::EXPRESSIONS, |m| rule.exprs().iter().for_each(|e| expr::encode(m, e)));
            m.bytes(rule::USERDATA, &rule_userdata(rule));
        });
    }

    fn add_map(&mut self, op: &NftOp, name: &str, spec: &MapSpec) {
        self.set_id += 1;
        let (table, id) = (&self.table.name, self.set_id);
        self.push(op, msg::NEWSET, NLM_F_CREATE | NLM_F_EXCL, |m| {
            m.text(set::TABLE, table).text(set::NAME, name).be32(set::FLAGS, set_flags(spec));
            m.be32(set::KEY_TYPE, nft_type(&spec.key)).be32(set::KEY_LEN, spec.key_len() as u32);
            match &spec.data {
                MapData::None => {}
                MapData::Verdict => {
                    m.be32(set::DATA_TYPE, set::TYPE_VERDICT);
                }
                MapData::Value(fields) => {
                    m.be32(set::DATA_TYPE, nft_type(fields));
                    m.be32(set::DATA_LEN, spec.data.value_len() as u32);
                }
            }
            if spec.ranges() == Ranges::Concat {
                encode_fields(m, &spec.key);
            }
            m.be32(set::ID, id).bytes(set::USERDATA, &set_userdata(spec));
        });
    }

    fn elems(
        &mut self,
        op: &NftOp,
        (message, flags): (u16, u16),
        (map, ranges): (&str, Ranges),
        elems: &Elems,
    ) {
        let table = &self.table.name;
        let mut rest = elems.iter().peekable();
        while rest.peek().is_some() {
            self.push(op, message, flags, |m| {
                m.text(elem::LIST_TABLE, table).text(elem::LIST_SET, map);
                m.nest(elem::LIST_ELEMENTS, |m| {
                    let start = m.len();
                    while m.len() - start < ELEMS_BYTES_MAX {
                        let Some((key, elem)) = rest.next() else { break };
                        encode_elem(m, ranges, key, elem);
                    }
                });
            });
        }
    }
}

/// The first refusal, if there is one.
fn result(socket: &Socket, first: u32, names: &[String]) -> Result<(), KernelError> {
    let mut refused = None;
    while let Some(data) = socket.recv(false)? {
        for frame in frames(&data) {
            let index = frame.sequence_number().wrapping_sub(first) as usize;
            if let (Some(refusal), Some(what)) = (refusal(&frame), names.get(index)) {
                let what = what.clone();
                refused.get_or_insert(KernelError::Refused { what, refusal });
            }
        }
    }
    refused.map_or(Ok(()), Err)
}

fn encode_hook(m: &mut Message, hook: &Hook) {
    m.nest(chain::HOOK, |m| {
        m.be32(chain::HOOK_NUM, hook.point.number());
        m.be32(chain::HOOK_PRIORITY, hook.priority.cast_unsigned());
        if let Some(device) = &hook.device {
            m.text(chain::HOOK_DEV, device);
        }
    });
    m.be32(chain::POLICY, u32::from(hook.policy == Policy::Accept));
    m.text(chain::TYPE, hook.kind.as_str());
}

fn set_flags(spec: &MapSpec) -> u32 {
    let map = if spec.data == MapData::None { 0 } else { set::FLAG_MAP };
    let interval = if spec.interval { set::FLAG_INTERVAL } else { 0 };
    let concat = if spec.ranges() == Ranges::Concat { set::FLAG_CONCAT } else { 0 };
    map | interval | concat
}

fn nft_type(fields: &[Datatype]) -> u32 {
    fields.iter().fold(0, |packed, field| packed << CONCAT_TYPE_BITS | field.nft_type())
}

fn encode_fields(m: &mut Message, fields: &[Datatype]) {
    m.nest(set::DESC, |m| {
        m.nest(set::DESC_CONCAT, |m| {
            for field in fields {
                m.nest(LIST_ELEM, |m| {
                    m.be32(set::FIELD_LEN, field.bytes() as u32);
                });
            }
        });
    });
}

fn encode_elem(m: &mut Message, ranges: Ranges, key: &[u8], element: &Elem) {
    m.nest(LIST_ELEM, |m| {
        expr::value(m, elem::KEY, key);
        if let (Ranges::Concat, Some(end)) = (ranges, &element.end) {
            expr::value(m, elem::KEY_END, end);
        }
        match &element.data {
            ElemData::None => {}
            ElemData::Value(value) => expr::value(m, elem::DATA, value),
            ElemData::Verdict(verdict) => expr::encode_verdict(m, elem::DATA, verdict),
        }
    });
    if let (Ranges::Single, Some(end)) = (ranges, &element.end)
        && let Some(after) = successor(end)
    {
        m.nest(LIST_ELEM, |m| {
            expr::value(m, elem::KEY, &after);
            m.be32(elem::FLAGS, elem::FLAG_INTERVAL_END);
        });
    }
}

/// The next value, read as a big-endian number; `None` after the last, where a range needs no end element.
fn successor(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut next = bytes.to_vec();
    for byte in next.iter_mut().rev() {
        let (value, carry) = byte.overflowing_add(1);
        *byte = value;
        if !carry {
            return Some(next);
        }
    }
    None
}

/// The value before, for reading ranges back.
pub(super) fn predecessor(bytes: &[u8]) -> Vec<u8> {
    let mut before = bytes.to_vec();
    for byte in before.iter_mut().rev() {
        let (value, borrow) = byte.overflowing_sub(1);
        *byte = value;
        if !borrow {
            break;
        }
    }
    before
}

fn tlv(out: &mut Vec<u8>, kind: u8, value: &[u8]) {
    out.push(kind);
    out.push(value.len() as u8);
    out.extend(value);
}

/// A comment that `nft list` shows, and the rule's identity.
fn rule_userdata(rule: &Rule) -> Vec<u8> {
    let mut data = Vec::new();
    let mut comment = rule.comment().as_bytes().to_vec();
    comment.truncate(COMMENT_LEN_MAX);
    comment.push(0);
    tlv(&mut data, rule::UDATA_COMMENT, &comment);
    tlv(&mut data, rule::UDATA_ID, &rule.id().0.to_be_bytes());
    data
}

/// One byte for each field of the key, a separator, one for each of the data: the definition as we know it.
pub(super) fn set_userdata(spec: &MapSpec) -> Vec<u8> {
    const SEPARATOR: u8 = 0xff;
    let mut fields: Vec<u8> = spec.key.iter().map(|f| *f as u8).collect();
    fields.push(SEPARATOR);
    match &spec.data {
        MapData::None => {}
        MapData::Verdict => fields.push(SEPARATOR),
        MapData::Value(data) => fields.extend(data.iter().map(|f| *f as u8)),
    }
    let mut out = Vec::new();
    tlv(&mut out, set::UDATA_FIELDS, &fields);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn successor_carries_and_ends() {
        assert_eq!(successor(&[0, 255]), Some(vec![1, 0]));
        assert_eq!(successor(&[255, 255]), None);
        assert_eq!(predecessor(&[1, 0]), [0, 255]);
    }

    #[test]
    fn concatenated_types_are_packed_as_nft_does() {
        assert_eq!(nft_type(&[Datatype::L4Proto, Datatype::Port]), 0xc << 6 | 0xd);
    }
}
