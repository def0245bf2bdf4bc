//! One question and its answer as bytes, for those who ask a resolver of ours whether it says what it should.
//!
//! Pure; the caller owns the socket.

use std::net::IpAddr;

use crate::names::RecordKind;
use crate::wire::{self, CLASS_IN, Section, WireName, flag, kind};

/// What a resolver said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// 0: no error; 2: server failure; 3: no such name; 5: refused (RFC 1035 §4.1.1).
    pub code: u16,
    /// There are more addresses, which did not fit.
    pub truncated: bool,
    /// In the order of the answer, whatever names lead to them.
    pub addrs: Vec<IpAddr>,
}

/// A query for addresses of one family.
pub fn query(id: u16, name: &WireName, ipv6: bool) -> Vec<u8> {
    let kind = if ipv6 { kind::AAAA } else { kind::A };
    let mut message = Vec::with_capacity(wire::HEADER_LEN + name.as_bytes().len() + 5);
    message.extend_from_slice(&id.to_be_bytes());
    message.extend_from_slice(&flag::RECURSION_DESIRED.to_be_bytes());
    message.extend_from_slice(&[0, 1, 0, 0, 0, 0, 0, 0]);
    message.extend_from_slice(name.as_bytes());
    message.push(0);
    message.extend_from_slice(&kind.to_be_bytes());
    message.extend_from_slice(&CLASS_IN.to_be_bytes());
    message
}

/// The answer to the query with this id; `None` when the message is none.
pub fn reply(id: u16, message: &[u8]) -> Option<Reply> {
    let is_response = wire::u16_at(message, 2)? & flag::RESPONSE != 0;
    if wire::u16_at(message, 0)? != id || !is_response {
        return None;
    }
    let code = wire::rcode(message)?;
    let records = wire::records(message)?;
    let answers = records.iter().filter(|r| r.section == Section::Answer);
    let addrs = answers.filter_map(|record| {
        let data = message.get(record.data_at..record.data_at + record.data_bytes)?;
        match RecordKind::from_wire(record.kind) {
            RecordKind::A => <[u8; 4]>::try_from(data).map(IpAddr::from).ok(),
            RecordKind::Aaaa => <[u8; 16]>::try_from(data).map(IpAddr::from).ok(),
            RecordKind::Ptr | RecordKind::Other => None,
        }
    });
    Some(Reply { code, truncated: wire::is_truncated(message), addrs: addrs.collect() })
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::sync::Arc;

    use swarmnet_types::DualStack;

    use super::*;
    use crate::handler::{Arrival, Decision, decide};
    use crate::{Forward, SandboxNames, ZoneBuilder};

    fn ask(name: &str, ipv6: bool) -> Reply {
        let mut zone = ZoneBuilder::new("overnet", &[]).expect("a name");
        for last in [2, 3] {
            let v4 = DualStack::new(Some([10, 0, 0, last].into()), None);
            zone.further("tasks.web", v4).expect("a name");
        }
        let names = SandboxNames::new(vec![Arc::new(zone.build())], Forward::Never);
        let name = WireName::from_text(name).expect("a name");
        let peer = SocketAddr::from(([127, 0, 0, 1], 1));
        let Decision::Reply { reply: bytes, .. } =
            decide(&query(7, &name, ipv6), peer, Arrival::Udp, &names)
        else {
            panic!("answered here")
        };
        assert_eq!(reply(8, &bytes), None, "the answer to another query");
        for len in 0..bytes.len() {
            assert_eq!(reply(7, &bytes[..len]), None, "cut to {len}");
        }
        reply(7, &bytes).expect("an answer")
    }

    #[test]
    fn our_own_server_understands_and_is_understood() {
        let mut found = ask("tasks.web", false);
        found.addrs.sort();
        let addrs = [2, 3].map(|last| IpAddr::from([10, 0, 0, last])).to_vec();
        let said = |code, addrs| Reply { code, truncated: false, addrs };
        assert_eq!(found, said(0, addrs));
        assert_eq!(ask("tasks.web", true), said(0, vec![]));
        assert_eq!(ask("example.com", false), said(5, vec![]));
    }

    #[test]
    fn a_query_is_no_reply() {
        let name = WireName::from_text("web").expect("a name");
        assert_eq!(reply(7, &query(7, &name, false)), None);
    }
}
