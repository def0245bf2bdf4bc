//! The way to a sandbox's resolver: a `netdev` table at the ingress of its loopback.
//!
//! The daemon's sockets inside the sandbox listen at a high port of 127.0.0.11, so that a workload may bind port 53 itself (a DNS
//! server in a sandbox). Docker's resolver answers at 127.0.0.11:53 (D1). The ports are rewritten packet by packet, both ways,
//! where loopback receives them: nothing else of the sandbox's traffic meets a rule, and no connection is tracked. A redirect
//! in a nat table would do the same at the price of tracking every connection of the sandbox.
//!
//! A client may ask from port 53 itself (`dig -b 0.0.0.0#53`), even from 127.0.0.11:53, and then the answer goes to port 53. So
//! what comes from the high port, which only the daemon has, is an answer and never a query, wherever it goes; only what is
//! no answer may be a query.
//!
//! Scale: per sandbox 1 base chain of 2 rules, 2 chains of 2.

use std::net::{IpAddr, Ipv4Addr};

use crate::desired::Sandbox;
use crate::names;
use crate::nft::{Family, Hook, HookPoint, Load, PortEnd, Rule, Table, key};

const RESOLVER: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 11));
const DNS: u16 = 53;
const ANSWERS: &str = "answers";
const QUERIES: &str = "queries";

/// The table; `None` for a sandbox without resolver.
pub(crate) fn render(sandbox: &Sandbox) -> Option<Table> {
    let port = sandbox.dns_port?;
    let mut table = Table::new(Family::Netdev, names::TABLE);
    let of_resolver = |field| Rule::netdev_builder("resolver").matches(&field, key::ip(RESOLVER));
    table.chain(ANSWERS, [key::UDP, key::TCP].map(|proto| answer(proto, port)).into());
    table.chain(QUERIES, [key::UDP, key::TCP].map(|proto| query(proto, port)).into());
    let dispatch = vec![
        of_resolver(Load::IpSaddr).jump(ANSWERS).build(),
        of_resolver(Load::IpDaddr).goto(QUERIES).build(),
    ];
    table.base_chain("resolver", Hook::device(HookPoint::Ingress, "lo", 0), dispatch);
    Some(table)
}

fn query(proto: u8, port: u16) -> Rule {
    let rule = Rule::netdev_builder("query").l4proto(proto).matches(&Load::Dport, key::port(DNS));
    rule.set_port(PortEnd::Destination, proto, port).build()
}

fn answer(proto: u8, port: u16) -> Rule {
    let rule = Rule::netdev_builder("answer").l4proto(proto).matches(&Load::Sport, key::port(port));
    rule.set_port(PortEnd::Source, proto, DNS).accept().build()
}
