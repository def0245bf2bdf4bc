//! Rules of the routing policy database.

use ipnet::IpNet;
use swarmnet_dataplane::RouteRule;
use swarmnet_dataplane::names::ROUTE_PROTOCOL;

use super::Route;
use super::wire::{DELRULE, GETRULE, NEWRULE, RTM_LEN, family, ip, is_ipv6, octets};
use crate::error::KernelError;
use crate::netlink::{Attrs, Message, flag};

const FRA_SRC: u16 = 2;
const FRA_PRIORITY: u16 = 6;
const FRA_FWMARK: u16 = 10;
const FRA_TABLE: u16 = 15;
const FRA_FWMASK: u16 = 16;
const FRA_PROTOCOL: u16 = 21;
const FR_ACT_TO_TBL: u8 = 1;

impl Route {
    /// # Errors
    /// EEXIST ([`KernelError::is_stale`]) when an equal rule is there.
    pub fn add_rule(&mut self, rule: &RouteRule) -> Result<(), KernelError> {
        let add = message(NEWRULE, flag::CREATE | flag::EXCL, rule);
        self.socket.request(&format!("add rule {rule}"), add)
    }

    pub fn del_rule(&mut self, rule: &RouteRule) -> Result<(), KernelError> {
        self.socket.request(&format!("delete rule {rule}"), message(DELRULE, 0, rule))
    }

    /// Our rules, both families.
    pub fn rules(&mut self) -> Result<Vec<RouteRule>, KernelError> {
        let mut all = Vec::new();
        for ipv6 in [false, true] {
            let mut header = [0; RTM_LEN];
            header[0] = family(ipv6);
            let list = Message::new(GETRULE, 0, &header);
            let some: Vec<RouteRule> =
                self.socket.dump("list rules", &list, |rules: &mut Vec<_>, _, body| {
                    rules.extend(decode(body));
                })?;
            all.extend(some);
        }
        Ok(all)
    }
}

fn message(kind: u16, flags: u16, rule: &RouteRule) -> Message {
    let mut header = [0; RTM_LEN];
    header[0] = family(rule.ipv6);
    header[2] = rule.from.map_or(0, |from| from.prefix_len());
    header[7] = FR_ACT_TO_TBL;
    let mut message = Message::new(kind, flags, &header);
    message.u32(FRA_PRIORITY, rule.pref).u32(FRA_TABLE, rule.table);
    message.u8(FRA_PROTOCOL, ROUTE_PROTOCOL);
    if let Some((value, mask)) = rule.fwmark {
        message.u32(FRA_FWMARK, value).u32(FRA_FWMASK, mask);
    }
    if let Some(from) = rule.from {
        message.bytes(FRA_SRC, &octets(from.network()));
    }
    message
}

fn decode(body: &[u8]) -> Option<RouteRule> {
    let header = body.first_chunk::<RTM_LEN>()?;
    let attrs = Attrs(&body[RTM_LEN..]);
    if attrs.u8(FRA_PROTOCOL) != Some(ROUTE_PROTOCOL) {
        return None;
    }
    let from = attrs.get(FRA_SRC).and_then(ip).and_then(|ip| IpNet::new(ip, header[2]).ok());
    Some(RouteRule {
        ipv6: is_ipv6(header[0])?,
        pref: attrs.u32(FRA_PRIORITY).unwrap_or_default(),
        fwmark: attrs.u32(FRA_FWMARK).map(|v| (v, attrs.u32(FRA_FWMASK).unwrap_or(u32::MAX))),
        from,
        table: attrs.u32(FRA_TABLE).unwrap_or_else(|| u32::from(header[4])),
    })
}
