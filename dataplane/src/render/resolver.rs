//! The way to a sandbox's resolver: a `netdev` table at the ingress of its loopback.
//!
//! The daemon's sockets inside the sandbox listen at a high port of 127.0.0.11, so that a workload may bind port 53 itself (a DNS
//! server in a sandbox). Docker's resolver answers at 127.0.0.11:53 (D1). The ports are rewritten packet by packet, both ways,
//! where loopback receives them: nothing else of the sandbox's traffic meets a rule, and no connection is tracked. A redirect
//! in a nat table would do the same at the price of tracking every connection of the sandbox.
//!
//! Scale: per sandbox 1 base chain of 2 rules, 1 chain of 4.

use std::net::{IpAddr, Ipv4Addr};

use crate::desired::Sandbox;
use crate::names;
use crate::nft::{Family, Hook, HookPoint, Load, PortEnd, Rule, Table, key};

const RESOLVER: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 11));
const DNS: u16 = 53;
const PORTS: &str = "ports";

/// The table; `None` for a sandbox without resolver.
pub(crate) fn render(sandbox: &Sandbox) -> Option<Table> {
    let port = sandbox.dns_port?;
    let mut table = Table::new(Family::Netdev, names::TABLE);
    let with = |field| {
        Rule::netdev_builder("resolver").matches(&field, key::ip(RESOLVER)).goto(PORTS).build()
    };
    let dispatch = vec![with(Load::IpDaddr), with(Load::IpSaddr)];
    let rewritten = [key::UDP, key::TCP].into_iter().flat_map(|proto| rewrites(proto, port));
    table.chain(PORTS, rewritten.collect());
    table.base_chain("resolver", Hook::device(HookPoint::Ingress, "lo", 0), dispatch);
    Some(table)
}

fn rewrites(proto: u8, port: u16) -> [Rule; 2] {
    let rule = |what, field, from| {
        Rule::netdev_builder(what).l4proto(proto).matches(&field, key::port(from))
    };
    [
        rule("query", Load::Dport, DNS).set_port(PortEnd::Destination, proto, port).build(),
        rule("answer", Load::Sport, port).set_port(PortEnd::Source, proto, DNS).build(),
    ]
}
