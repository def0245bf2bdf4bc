//! Dumped messages to the model: rules by their identity, maps by the definition in their user data.
//!
//! Whatever is not ours decodes to something that equals nothing of ours, so a difference removes it from our tables.

use std::collections::BTreeSet;

use swarmnet_dataplane::nft::{
    Chain, ChainKind, Datatype, Elem, ElemData, Elems, Family, Hook, HookPoint, Map, MapData,
    MapSpec, Policy, Rule, RuleId, Verdict,
};

use super::batch::predecessor;
use super::wire::{
    DATA_VALUE, DATA_VERDICT, VERDICT_CHAIN, VERDICT_CODE, chain, elem, rule, set, verdict,
};
use crate::netlink::{Attrs, be32};

/// One byte of type, one of length, value.
pub(super) fn userdata(mut data: &[u8], kind: u8) -> Option<&[u8]> {
    while let [k, len, rest @ ..] = data {
        let value = rest.get(..usize::from(*len))?;
        if *k == kind {
            return Some(value);
        }
        data = &rest[value.len()..];
    }
    None
}

pub(super) fn decode_rule(attrs: Attrs<'_>) -> Rule {
    let data = attrs.get(rule::USERDATA).unwrap_or_default();
    let id = userdata(data, rule::UDATA_ID)
        .and_then(|bytes| bytes.try_into().ok())
        .map_or(RuleId::FOREIGN, |bytes| RuleId(u64::from_be_bytes(bytes)));
    Rule::observed(id, comment(data))
}

pub(super) fn comment(userdata_bytes: &[u8]) -> String {
    let bytes = userdata(userdata_bytes, rule::UDATA_COMMENT).unwrap_or_default();
    String::from_utf8_lossy(bytes.strip_suffix(&[0]).unwrap_or(bytes)).into_owned()
}

/// Name and hook.
pub(super) fn decode_chain(family: Family, attrs: Attrs<'_>) -> Option<(String, Chain)> {
    let name = attrs.text(chain::NAME)?;
    let hook = attrs.get(chain::HOOK).and_then(|_| decode_hook(family, attrs));
    Some((name, Chain { hook, rules: Vec::new() }))
}

pub(super) fn decode_hook(family: Family, attrs: Attrs<'_>) -> Option<Hook> {
    let hook = attrs.nested(chain::HOOK);
    let device = hook.text(chain::HOOK_DEV).or_else(|| {
        hook.get(chain::HOOK_DEVS).and_then(|list| Attrs(list).text(chain::DEVICE_NAME))
    });
    let point = match (family, hook.be32(chain::HOOK_NUM)?) {
        (Family::Netdev, 0) => HookPoint::Ingress,
        (Family::Netdev, _) => HookPoint::Egress,
        (_, 0) => HookPoint::Prerouting,
        (_, 1) => HookPoint::Input,
        (_, 2) => HookPoint::Forward,
        (_, 3) => HookPoint::Output,
        _ => HookPoint::Postrouting,
    };
    let kind = match attrs.text(chain::TYPE)?.as_str() {
        "nat" => ChainKind::Nat,
        "route" => ChainKind::Route,
        _ => ChainKind::Filter,
    };
    let policy = if attrs.be32(chain::POLICY) == Some(0) { Policy::Drop } else { Policy::Accept };
    let priority = hook.be32(chain::HOOK_PRIORITY)?.cast_signed();
    Some(Hook { kind, point, priority, device, policy })
}

/// Name and definition; `None` for anonymous sets, which belong to a rule.
pub(super) fn decode_map(attrs: Attrs<'_>) -> Option<(String, Map)> {
    let flags = attrs.be32(set::FLAGS).unwrap_or_default();
    if flags & set::FLAG_ANONYMOUS != 0 {
        return None;
    }
    let spec = attrs
        .get(set::USERDATA)
        .and_then(|data| decode_spec(data, flags & set::FLAG_INTERVAL != 0))
        .filter(|spec| Some(spec.key_len() as u32) == attrs.be32(set::KEY_LEN))
        .unwrap_or(MapSpec { key: Vec::new(), data: MapData::None, interval: false });
    Some((attrs.text(set::NAME)?, Map { spec, elements: Elems::new() }))
}

fn decode_spec(data: &[u8], interval: bool) -> Option<MapSpec> {
    const SEPARATOR: u8 = 0xff;
    let fields = userdata(data, set::UDATA_FIELDS)?;
    let split = fields.iter().position(|b| *b == SEPARATOR)?;
    let key = decode_fields(&fields[..split])?;
    let data = match &fields[split + 1..] {
        [] => MapData::None,
        [SEPARATOR] => MapData::Verdict,
        data => MapData::Value(decode_fields(data)?),
    };
    Some(MapSpec { key, data, interval })
}

fn decode_fields(bytes: &[u8]) -> Option<Vec<Datatype>> {
    const ALL: [Datatype; 8] = [
        Datatype::Ipv4,
        Datatype::Ipv6,
        Datatype::Ether,
        Datatype::L4Proto,
        Datatype::Port,
        Datatype::Mark,
        Datatype::IfName,
        Datatype::Be32,
    ];
    bytes.iter().map(|b| ALL.into_iter().find(|f| *f as u8 == *b)).collect()
}

/// Elements of one message of a dump, added to those before.
pub(super) fn decode_elems(list: &[u8], raw: &mut Vec<RawElem>) {
    raw.extend(Attrs(list).iter().filter_map(|(_, element)| RawElem::decode(Attrs(element))));
}

/// An element as the kernel lists it; of a range of one field these are two.
#[derive(Debug)]
pub(super) struct RawElem {
    key: Vec<u8>,
    end: Option<Vec<u8>>,
    data: ElemData,
    interval_end: bool,
}

impl RawElem {
    fn decode(attrs: Attrs<'_>) -> Option<Self> {
        let value = |kind| attrs.nested(kind).get(DATA_VALUE).map(<[u8]>::to_vec);
        let data = attrs.nested(elem::DATA);
        let data = match (data.get(DATA_VALUE), data.get(DATA_VERDICT)) {
            (Some(value), _) => ElemData::Value(value.to_vec()),
            (None, Some(verdict)) => ElemData::Verdict(decode_verdict(Attrs(verdict))?),
            (None, None) => ElemData::None,
        };
        let flags = attrs.be32(elem::FLAGS).unwrap_or_default();
        let interval_end = flags & elem::FLAG_INTERVAL_END != 0;
        Some(Self { key: value(elem::KEY)?, end: value(elem::KEY_END), data, interval_end })
    }
}

fn decode_verdict(attrs: Attrs<'_>) -> Option<Verdict> {
    let chain = || attrs.text(VERDICT_CHAIN).unwrap_or_default();
    Some(match attrs.be32(VERDICT_CODE)?.cast_signed() {
        verdict::ACCEPT => Verdict::Accept,
        verdict::DROP => Verdict::Drop,
        verdict::RETURN => Verdict::Return,
        verdict::JUMP => Verdict::Jump(chain()),
        verdict::GOTO => Verdict::Goto(chain()),
        _ => return None,
    })
}

/// Puts ranges of one field together again.
pub(super) fn assemble(spec: &MapSpec, raw: Vec<RawElem>) -> Elems {
    let single_ranges = spec.interval && spec.key.len() == 1;
    let mut ends: BTreeSet<Vec<u8>> = BTreeSet::new();
    let mut starts = Vec::new();
    for element in raw {
        if element.interval_end {
            ends.insert(element.key);
        } else {
            starts.push(element);
        }
    }
    let range_end = |key: &[u8]| {
        let after = (std::ops::Bound::Excluded(key), std::ops::Bound::Unbounded);
        let end = ends.range::<[u8], _>(after).next();
        end.map_or_else(|| vec![0xff; key.len()], |after| predecessor(after))
    };
    starts
        .into_iter()
        .map(|element| {
            let end = if single_ranges { Some(range_end(&element.key)) } else { element.end };
            (element.key, Elem { end, data: element.data })
        })
        .collect()
}

/// `NFTA_OBJ_DATA` of a counter: packets, bytes.
pub(super) fn decode_counter(data: &[u8], packets: u16, bytes: u16) -> (u64, u64) {
    let attrs = Attrs(data);
    (attrs.be64(packets).unwrap_or_default(), attrs.be64(bytes).unwrap_or_default())
}

/// Family number of a message.
pub(super) fn family_of(body: &[u8]) -> Option<u8> {
    body.first().copied()
}

/// `NFTA_GEN_ID`.
pub(super) fn decode_generation(body: &[u8]) -> Option<u32> {
    Attrs(body.get(4..)?).get(1).and_then(be32)
}
