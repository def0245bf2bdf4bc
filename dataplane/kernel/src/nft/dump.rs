//! Reading a table: its chains, rules, maps, elements, counters.

use std::time::Duration;

use swarmnet_dataplane::nft::{Elems, Family, Map, MapSpec, Table, TableId};

use super::Generation;
use super::decode;
use super::wire::{self, chain, elem, msg, object, rule, set, table};
use crate::error::KernelError;
use crate::netlink::{Attrs, Message, Socket};

/// Length of `struct nfgenmsg` before the attributes.
const HEADER_LEN: usize = 4;

/// A named counter's value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CounterValue {
    pub name: String,
    pub packets: u64,
    pub bytes: u64,
}

pub(super) fn attrs(body: &[u8]) -> Attrs<'_> {
    Attrs(body.get(HEADER_LEN..).unwrap_or_default())
}

fn request(table: &TableId, message: u16) -> Message {
    Message::new(wire::kind(message), 0, &wire::nfgenmsg(wire::family(table.family)))
}

/// `None` when there is no such table.
pub(super) fn table(socket: &mut Socket, id: &TableId) -> Result<Option<Table>, KernelError> {
    let mut get = request(id, msg::GETTABLE);
    get.text(table::NAME, &id.name);
    match socket.get("get table", get) {
        Err(err) if err.is_gone() => return Ok(None),
        other => other?,
    };
    let mut seen = Table::new(id.family, id.name.clone());
    chains(socket, &mut seen)?;
    rules(socket, &mut seen)?;
    seen.counters = counters(socket, id)?.into_iter().map(|c| c.name).collect();
    let mut list = request(id, msg::GETSET);
    list.text(set::TABLE, &id.name);
    let maps: Vec<(String, Map)> = socket.dump("list maps", &list, |maps: &mut Vec<_>, body| {
        if attrs(body).text(set::TABLE).as_deref() == Some(&id.name) {
            maps.extend(decode::decode_map(attrs(body)));
        }
    })?;
    for (name, mut map) in maps {
        map.elements = elements(socket, id, &name, &map.spec)?;
        seen.maps.insert(name, map);
    }
    Ok(Some(seen))
}

pub(super) fn tables_named(socket: &mut Socket, name: &str) -> Result<Vec<TableId>, KernelError> {
    let mut all = Vec::new();
    for family in [Family::Inet, Family::Ip, Family::Ip6, Family::Netdev] {
        let header = wire::nfgenmsg(wire::family(family));
        let list = Message::new(wire::kind(msg::GETTABLE), 0, &header);
        let found: Vec<TableId> =
            socket.dump("list tables", &list, |found: &mut Vec<_>, body| {
                if attrs(body).text(table::NAME).as_deref() == Some(name)
                    && body.first() == Some(&wire::family(family))
                {
                    found.push(TableId { family, name: name.to_owned() });
                }
            })?;
        all.extend(found);
    }
    Ok(all)
}

fn chains(socket: &mut Socket, seen: &mut Table) -> Result<(), KernelError> {
    let list = request(&seen.id, msg::GETCHAIN);
    let (family, name) = (seen.id.family, seen.id.name.clone());
    let chains: Vec<_> = socket.dump("list chains", &list, |chains: &mut Vec<_>, body| {
        if attrs(body).text(chain::TABLE).as_deref() == Some(&name) {
            chains.extend(decode::decode_chain(family, attrs(body)));
        }
    })?;
    seen.chains = chains.into_iter().collect();
    Ok(())
}

fn rules(socket: &mut Socket, seen: &mut Table) -> Result<(), KernelError> {
    let mut list = request(&seen.id, msg::GETRULE);
    list.text(rule::TABLE, &seen.id.name);
    let name = seen.id.name.clone();
    let rules: Vec<_> = socket.dump("list rules", &list, |rules: &mut Vec<_>, body| {
        let attrs = attrs(body);
        if attrs.text(rule::TABLE).as_deref() == Some(&name)
            && let Some(chain) = attrs.text(rule::CHAIN)
        {
            rules.push((chain, decode::decode_rule(attrs)));
        }
    })?;
    for (chain, rule) in rules {
        // A chain that appeared between the two dumps: the next round sees it whole.
        if let Some(chain) = seen.chains.get_mut(&chain) {
            chain.rules.push(rule);
        }
    }
    Ok(())
}

/// All elements of a map.
///
/// A hash set that has just grown is rehashed in the background, and a dump of several messages then misses elements without
/// any sign (seen on 6.18: some hundred of 30,000, right after they were loaded). So the number is compared with what the kernel
/// says the set holds, or, where it does not say (before 6.16), with a second dump.
fn elements(
    socket: &mut Socket,
    id: &TableId,
    map: &str,
    spec: &MapSpec,
) -> Result<Elems, KernelError> {
    const ATTEMPTS: u32 = 12;
    const PAUSE: Duration = Duration::from_millis(2);
    let mut before = None;
    for attempt in 0..ATTEMPTS {
        let (messages, raw) = elements_once(socket, id, map)?;
        let seen = raw.len();
        let elems = decode::assemble(spec, raw);
        let whole = match size(socket, id, map)?.filter(|_| !spec.interval) {
            Some(size) => size as usize == elems.len(),
            None => messages <= 1 || before == Some(seen),
        };
        if whole || attempt + 1 == ATTEMPTS {
            return Ok(elems);
        }
        before = Some(seen);
        // 4 s altogether; the rehash of 30,000 elements was over within the first few.
        std::thread::sleep(PAUSE * (1 << attempt));
    }
    unreachable!("the loop returns at its last attempt")
}

/// Number of messages, and what they listed.
fn elements_once(
    socket: &mut Socket,
    id: &TableId,
    map: &str,
) -> Result<(usize, Vec<decode::RawElem>), KernelError> {
    let mut list = request(id, msg::GETSETELEM);
    list.text(elem::LIST_TABLE, &id.name).text(elem::LIST_SET, map);
    let what = format!("list elements of {map}");
    socket.dump(&what, &list, |(messages, raw): &mut (usize, Vec<_>), body| {
        *messages += 1;
        decode::decode_elems(attrs(body).get(elem::LIST_ELEMENTS).unwrap_or_default(), raw);
    })
}

/// How many elements the kernel says a set holds.
fn size(socket: &mut Socket, id: &TableId, map: &str) -> Result<Option<u32>, KernelError> {
    let mut get = request(id, msg::GETSET);
    get.text(set::TABLE, &id.name).text(set::NAME, map);
    let body = socket.get(&format!("get map {map}"), get)?;
    Ok(attrs(&body).be32(set::COUNT))
}

pub(super) fn counters(
    socket: &mut Socket,
    id: &TableId,
) -> Result<Vec<CounterValue>, KernelError> {
    let mut list = request(id, msg::GETOBJ);
    list.text(object::TABLE, &id.name).be32(object::TYPE, object::TYPE_COUNTER);
    socket.dump("list counters", &list, |counters: &mut Vec<CounterValue>, body| {
        let attrs = attrs(body);
        let (Some(table), Some(name)) = (attrs.text(object::TABLE), attrs.text(object::NAME))
        else {
            return;
        };
        if table == id.name && attrs.be32(object::TYPE) == Some(object::TYPE_COUNTER) {
            let data = attrs.get(object::DATA).unwrap_or_default();
            let (packets, bytes) =
                decode::decode_counter(data, object::COUNTER_PACKETS, object::COUNTER_BYTES);
            counters.push(CounterValue { name, packets, bytes });
        }
    })
}

pub(super) fn generation(socket: &mut Socket) -> Result<Generation, KernelError> {
    let get = Message::new(wire::kind(msg::GETGEN), 0, &wire::nfgenmsg(0));
    let body = socket.get("get generation", get)?;
    Ok(Generation(decode::decode_generation(&body).unwrap_or_default()))
}
