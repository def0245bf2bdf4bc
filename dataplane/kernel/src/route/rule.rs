//! Rules of the routing policy database.

use ipnet::IpNet;
use rtnetlink::packet_core::{NLM_F_CREATE, NLM_F_EXCL, Parseable};
use rtnetlink::packet_route::rule::{RuleAction, RuleAttribute, RuleHeader, RuleMessage};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};
use swarmnet_dataplane::RouteRule;
use swarmnet_dataplane::names::ROUTE_PROTOCOL;

use super::Route;
use super::wire::{attributes, family};
use crate::error::KernelError;

impl Route {
    /// # Errors
    /// EEXIST ([`KernelError::is_stale`]) when an equal rule is there.
    pub fn add_rule(&mut self, rule: &RouteRule) -> Result<(), KernelError> {
        let add = RouteNetlinkMessage::NewRule(message(rule));
        self.request(&format!("add rule {rule}"), NLM_F_CREATE | NLM_F_EXCL, add)
    }

    pub fn del_rule(&mut self, rule: &RouteRule) -> Result<(), KernelError> {
        let del = RouteNetlinkMessage::DelRule(message(rule));
        self.request(&format!("delete rule {rule}"), 0, del)
    }

    /// Our rules, both families.
    pub fn rules(&mut self) -> Result<Vec<RouteRule>, KernelError> {
        let list = |family| {
            let mut list = RuleMessage::default();
            list.header.family = family;
            RouteNetlinkMessage::GetRule(list)
        };
        self.list_families("list rules", list, decode)
    }
}

fn message(rule: &RouteRule) -> RuleMessage {
    let mut message = RuleMessage::default();
    message.header.family = family(rule.ipv6);
    message.header.action = RuleAction::ToTable;
    message.attributes = vec![
        RuleAttribute::Priority(rule.pref),
        RuleAttribute::Table(rule.table),
        RuleAttribute::Protocol(ROUTE_PROTOCOL.into()),
    ];
    if let Some((value, mask)) = rule.fwmark {
        message.attributes.extend([RuleAttribute::FwMark(value), RuleAttribute::FwMask(mask)]);
    }
    if let Some(from) = rule.from {
        message.header.src_len = from.prefix_len();
        message.attributes.push(RuleAttribute::Source(from.network()));
    }
    message
}

/// A rule of ours.
pub(super) fn decode(body: &[u8]) -> Option<RouteRule> {
    let header = RuleHeader::parse(body).ok()?;
    let mut rule = RouteRule {
        ipv6: header.family == AddressFamily::Inet6,
        pref: 0,
        fwmark: None,
        from: None,
        table: header.table.into(),
    };
    let (mut ours, mut mask) = (false, u32::MAX);
    for attribute in attributes(body, &header, RuleAttribute::parse) {
        match attribute {
            RuleAttribute::Protocol(protocol) => ours = u8::from(protocol) == ROUTE_PROTOCOL,
            RuleAttribute::Priority(pref) => rule.pref = pref,
            RuleAttribute::FwMark(value) => rule.fwmark = Some((value, u32::MAX)),
            RuleAttribute::FwMask(value) => mask = value,
            RuleAttribute::Source(addr) => rule.from = IpNet::new(addr, header.src_len).ok(),
            RuleAttribute::Table(table) => rule.table = table,
            _ => {}
        }
    }
    rule.fwmark = rule.fwmark.map(|(value, _)| (value, mask));
    ours.then_some(rule)
}
