//! The one thing we touch in others' tables: where another program's forward chain drops by policy (Docker, ufw), an `accept` in
//! our own table cannot overrule it, so accept rules of ours go to the head of that chain.
//!
//! Ours are told by their user data (comment and identity), and what they accept is read back from their two instructions, a
//! comparison of an interface's name. That and a verdict is what iptables-nft writes itself, so `iptables -L` goes on working.
//! Nothing else of others is read beyond that, or changed.

use std::collections::{BTreeMap, BTreeSet};

use rtnetlink::packet_core::NLM_F_CREATE;
use swarmnet_dataplane::names::{FORWARD_COMMENT, TABLE};
use swarmnet_dataplane::nft::{Family, IfName, Rule, TableId};
use swarmnet_dataplane::{ForeignChain, ForwardMatch};

use super::batch::Batch;
use super::decode;
use super::dump::attrs;
use super::wire::{self, DATA_VALUE, LIST_ELEM, chain, msg, rule};
use crate::error::KernelError;
use crate::netlink::{Attrs, Message, Socket, be32};

/// `NF_INET_FORWARD`.
const HOOK_FORWARD: u32 = 2;
/// `NFT_META_IIFNAME`, `NFT_META_OIFNAME`.
const META_IIFNAME: u32 = 6;
const META_OIFNAME: u32 = 7;

/// Our rules in one chain.
#[derive(Debug, Default)]
struct Ours {
    matches: BTreeSet<ForwardMatch>,
    handles: Vec<u64>,
}

/// Foreign base chains on the forward hook that drop by policy, and any that hold rules of ours.
pub(super) fn observe(
    socket: &mut Socket,
) -> Result<BTreeMap<ForeignChain, BTreeSet<ForwardMatch>>, KernelError> {
    let mut found = BTreeMap::new();
    for family in [Family::Ip, Family::Ip6, Family::Inet] {
        for (chain, drops) in forward_chains(socket, family)? {
            let ours = our_rules(socket, &chain)?;
            if drops || !ours.handles.is_empty() {
                found.insert(chain, ours.matches);
            }
        }
    }
    Ok(found)
}

/// With whether their policy is drop.
fn forward_chains(
    socket: &mut Socket,
    family: Family,
) -> Result<Vec<(ForeignChain, bool)>, KernelError> {
    let list = Message::new(wire::kind(msg::GETCHAIN), 0, &wire::nfgenmsg(wire::family(family)));
    socket.dump("list forward chains", &list, |found: &mut Vec<_>, body| {
        let attrs = attrs(body);
        let hook = attrs.nested(chain::HOOK).be32(chain::HOOK_NUM);
        if decode::family_of(body) != Some(wire::family(family)) || hook != Some(HOOK_FORWARD) {
            return;
        }
        let (Some(name), Some(chain)) = (attrs.text(chain::TABLE), attrs.text(chain::NAME)) else {
            return;
        };
        if name != TABLE {
            let chain = ForeignChain { table: TableId { family, name }, chain };
            found.push((chain, attrs.be32(chain::POLICY) == Some(0)));
        }
    })
}

fn our_rules(socket: &mut Socket, at: &ForeignChain) -> Result<Ours, KernelError> {
    let header = wire::nfgenmsg(wire::family(at.table.family));
    let mut list = Message::new(wire::kind(msg::GETRULE), 0, &header);
    list.text(rule::TABLE, &at.table.name).text(rule::CHAIN, &at.chain);
    socket.dump("list forward rules", &list, |ours: &mut Ours, body| {
        let attrs = attrs(body);
        let here = attrs.text(rule::TABLE).as_ref() == Some(&at.table.name)
            && attrs.text(rule::CHAIN).as_ref() == Some(&at.chain);
        let data = attrs.get(rule::USERDATA).unwrap_or_default();
        if let (true, true, Some(handle)) =
            (here, decode::comment(data) == FORWARD_COMMENT, attrs.be64(rule::HANDLE))
        {
            ours.handles.push(handle);
            ours.matches.extend(decode_match(attrs.nested(rule::EXPRESSIONS)));
        }
    })
}

/// `meta iifname|oifname`, then `cmp` with all 16 bytes or with a prefix.
fn decode_match(exprs: Attrs<'_>) -> Option<ForwardMatch> {
    let mut exprs = exprs.iter().filter(|(kind, _)| *kind == LIST_ELEM);
    let mut data_of = |name: &str| {
        let expr = Attrs(exprs.next()?.1);
        (expr.text(1)? == name).then(|| expr.nested(2))
    };
    let key = data_of("meta")?.get(2).and_then(be32)?;
    let bytes = data_of("cmp")?.nested(3).get(DATA_VALUE)?;
    let text = String::from_utf8_lossy(bytes);
    let name = match text.find('\0') {
        Some(end) => text[..end].to_owned(),
        None => format!("{text}*"),
    };
    match key {
        META_IIFNAME => Some(ForwardMatch::In(name)),
        META_OIFNAME => Some(ForwardMatch::Out(name)),
        _ => None,
    }
}

fn accept_rule(accept: &ForwardMatch) -> Rule {
    let rule = Rule::builder(FORWARD_COMMENT);
    match accept {
        ForwardMatch::In(name) => rule.iif(IfName(name)).accept().build(),
        ForwardMatch::Out(name) => rule.oif(IfName(name)).accept().build(),
    }
}

/// Makes ours in the chain exactly these, in one transaction.
pub(super) fn set(
    socket: &mut Socket,
    at: &ForeignChain,
    matches: &BTreeSet<ForwardMatch>,
) -> Result<(), KernelError> {
    let ours = our_rules(socket, at)?;
    if ours.handles.is_empty() && matches.is_empty() {
        return Ok(());
    }
    let mut batch = Batch::begin(&at.table, None);
    for handle in ours.handles {
        let what = format!("remove our rule {handle} of {}", at.chain);
        batch.push(&what, msg::DELRULE, 0, |m| {
            m.text(rule::TABLE, &at.table.name).text(rule::CHAIN, &at.chain);
            m.be64(rule::HANDLE, handle);
        });
    }
    for accept in matches {
        // Without APPEND: to the head.
        let what = format!("accept {accept} in {}", at.chain);
        batch.add_rule(&what, &at.chain, &accept_rule(accept), NLM_F_CREATE);
    }
    batch.commit(socket)
}
