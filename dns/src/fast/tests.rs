//! The fast answers, read back by hickory and held against what hickory itself would answer.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{Name, RData, RecordType};
use proptest::prelude::*;
use swarmnet_types::DualStack;

use super::*;
use crate::handler::{Arrival, Decision, decide};
use crate::names::{Forward, SandboxNames};
use crate::{NodeSockets, Order, Upstreams, ZoneBuilder};

fn names(many: u8) -> SandboxNames {
    let subnets = ["10.0.0.0/24".parse().unwrap(), "fd00::/64".parse().unwrap()];
    let mut builder = ZoneBuilder::new("overnet", &subnets).unwrap();
    let addrs =
        |i: u8| DualStack::new(Some([10, 0, 0, i].into()), format!("fd00::{i:x}").parse().ok());
    builder.primary("web", addrs(250)).unwrap();
    builder.primary("old", DualStack::new(Some([10, 0, 0, 251].into()), None)).unwrap();
    for i in 0..many {
        builder.further("many", addrs(i)).unwrap();
    }
    SandboxNames::new(vec![Arc::new(builder.build())], Forward::Never)
}

fn answerer() -> Answerer {
    Answerer::new(SmallRng::seed_from_u64(1))
}

fn query(name: &str, kind: RecordType, payload_bytes: Option<u16>) -> Vec<u8> {
    let mut message = Message::new(0x1234, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.metadata.checking_disabled = true;
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
    if let Some(payload_bytes) = payload_bytes {
        let mut edns = Edns::new();
        edns.set_max_payload(payload_bytes).set_dnssec_ok(true);
        message.edns = Some(edns);
    }
    message.to_vec().unwrap()
}

fn answered(asked: &[u8], names: &SandboxNames) -> (Message, usize) {
    let mut out = Vec::new();
    assert_eq!(answerer().answer(asked, names, &mut out), Verdict::Answered);
    (Message::from_vec(&out).unwrap(), out.len())
}

fn addrs(message: &Message) -> Vec<IpAddr> {
    message
        .answers
        .iter()
        .filter_map(|record| match &record.data {
            RData::A(a) => Some(a.0.into()),
            RData::AAAA(aaaa) => Some(aaaa.0.into()),
            _ => None,
        })
        .collect()
}

#[test]
fn an_address_is_answered_with_the_questions_case_and_flags() {
    let asked = query("WeB.oVerNet.", RecordType::A, Some(1232));
    let (answer, _) = answered(&asked, &names(0));
    assert_eq!(addrs(&answer), ["10.0.0.250".parse::<IpAddr>().unwrap()]);
    assert_eq!(answer.answers[0].ttl, 5);
    assert_eq!(answer.queries[0].name().to_ascii(), "WeB.oVerNet.");
    assert_eq!(answer.answers[0].name.to_ascii(), "WeB.oVerNet.");
    let meta = answer.metadata;
    assert_eq!((meta.id, meta.message_type), (0x1234, MessageType::Response));
    assert!(meta.authoritative && meta.recursion_desired && meta.recursion_available);
    assert!(meta.checking_disabled && !meta.authentic_data && !meta.truncation);
    assert!(answer.edns.unwrap().flags().dnssec_ok);
    assert!(answered(&query("web.", RecordType::A, None), &names(0)).0.edns.is_none());
}

#[test]
fn what_is_not_there_is_empty_or_no_such_name() {
    let names = names(0);
    for (name, kind, rcode) in [
        ("old.", RecordType::AAAA, ResponseCode::NoError),
        ("web.", RecordType::MX, ResponseCode::NoError),
        ("web.overnet.", RecordType::HTTPS, ResponseCode::NoError),
        ("web.", RecordType::ANY, ResponseCode::NoError),
        ("9.0.0.10.in-addr.arpa.", RecordType::PTR, ResponseCode::NXDomain),
    ] {
        let (answer, _) = answered(&query(name, kind, None), &names);
        assert_eq!(answer.metadata.response_code, rcode, "{name} {kind}");
        assert!(answer.answers.is_empty() && answer.authorities.is_empty());
    }
    let asked = query("250.0.0.10.in-addr.arpa.", RecordType::PTR, None);
    let (answer, _) = answered(&asked, &names);
    assert_eq!(answer.answers[0].data.to_string(), "web.overnet.");
}

#[test]
fn two_hundred_addresses_are_cut_to_what_the_client_takes() {
    let names = names(200);
    for (offered, limit, count) in
        [(None, 512, 30), (Some(100), 512, 29), (Some(1232), 1232, 74), (Some(65535), 4096, 200)]
    {
        let (answer, len) = answered(&query("many.", RecordType::A, offered), &names);
        assert!(len <= limit, "{len} for {offered:?}");
        assert_eq!(answer.answers.len(), count, "{offered:?}");
        assert_eq!(answer.metadata.truncation, count < 200);
        assert_eq!(answer.edns.is_some(), offered.is_some());
        let distinct: BTreeSet<_> = addrs(&answer).into_iter().collect();
        assert_eq!(distinct.len(), count);
    }
}

#[test]
fn every_address_comes_first_sometimes() {
    let (names, mut answerer, mut out) = (names(4), answerer(), Vec::new());
    let asked = query("many.", RecordType::AAAA, None);
    let mut first = std::collections::BTreeMap::<IpAddr, u32>::new();
    for _ in 0..1000 {
        assert_eq!(answerer.answer(&asked, &names, &mut out), Verdict::Answered);
        *first.entry(addrs(&Message::from_vec(&out).unwrap())[0]).or_default() += 1;
    }
    assert_eq!(first.len(), 4);
    assert!(first.values().all(|&n| (150..350).contains(&n)), "{first:?}");
}

#[test]
fn the_rest_is_for_the_slow_path_or_nobody() {
    let (names, mut answerer, mut out) = (names(0), answerer(), Vec::new());
    let mut verdict = |message: &[u8]| answerer.answer(message, &names, &mut out);
    assert_eq!(verdict(&query("example.com.", RecordType::A, None)), Verdict::Slow);
    let mut chaos = query("web.", RecordType::A, None);
    *chaos.last_mut().unwrap() = 3;
    assert_eq!(verdict(&chaos), Verdict::Slow);
    let mut response = query("web.", RecordType::A, None);
    response[2] |= 0x80;
    assert_eq!(verdict(&response), Verdict::Drop);
    assert_eq!(verdict(b""), Verdict::Drop);
}

fn decided(message: &[u8], names: &SandboxNames) -> Decision {
    decide(message, SocketAddr::from(([127, 0, 0, 1], 9)), Arrival::Udp, names)
}

proptest! {
    #[test]
    fn both_paths_give_the_same_answer(
        name in prop_oneof![
            Just("web."), Just("Web.OVERNET."), Just("old."), Just("many."),
            Just("250.0.0.10.in-addr.arpa."), Just("9.0.0.10.in-addr.arpa."),
        ],
        kind in prop_oneof![
            Just(RecordType::A), Just(RecordType::AAAA), Just(RecordType::PTR), Just(RecordType::TXT),
        ],
        payload_bytes in proptest::option::of(0_u16..5000),
    ) {
        let (names, asked) = (names(90), query(name, kind, payload_bytes));
        let (mut fast, _) = answered(&asked, &names);
        let Decision::Reply { reply, truncated, .. } = decided(&asked, &names) else {
            panic!("a local name");
        };
        let mut slow = Message::from_vec(&reply).unwrap();
        if truncated {
            // hickory finds no room for a record that fits to the byte.
            prop_assert!(fast.answers.len() - slow.answers.len() <= 1);
            prop_assert!(fast.metadata.truncation || fast.answers.len() == 90);
            fast.metadata.truncation = true;
            fast.answers.clear();
            slow.answers.clear();
        }
        fast.answers.sort_by_key(|record| record.data.to_string());
        slow.answers.sort_by_key(|record| record.data.to_string());
        prop_assert_eq!(fast, slow);
    }

    #[test]
    fn garbage_harms_neither_path(
        damage in proptest::collection::vec((0_usize..60, any::<u8>()), 0..6),
        tail in proptest::collection::vec(any::<u8>(), 0..80),
        len in 0_usize..120,
    ) {
        let mut message = query("web.overnet.", RecordType::A, Some(1232));
        for (at, byte) in damage {
            let at = at % message.len();
            message[at] = byte;
        }
        message.extend(tail);
        message.truncate(len);
        let mut out = Vec::new();
        let sockets = Arc::new(NodeSockets);
        let upstreams = Upstreams { servers: Vec::new(), order: Order::Ordered, sockets };
        let mut names = names(200);
        names.forward = Forward::To(Arc::new(crate::Forwarder::new(upstreams)));
        if answerer().answer(&message, &names, &mut out) == Verdict::Answered {
            prop_assert!(Message::from_vec(&out).is_ok());
            prop_assert_eq!(&out[..2], &message[..2]);
        }
        match decided(&message, &names) {
            Decision::Reply { reply, .. } => {
                prop_assert!(Message::from_vec(&reply).is_ok());
                prop_assert_eq!(&reply[..2], &message[..2]);
            }
            Decision::Forward { query, .. } => prop_assert!(query.question_end <= message.len()),
            Decision::Silent => prop_assert!(message.len() < 12 || message[2] & 0x80 != 0),
        }
    }

    /// Records of any type and content where none belong: hickory reads them all, and a panic would end the agent.
    #[test]
    fn no_record_in_a_query_harms_the_slow_path(
        records in proptest::collection::vec(
            (any::<bool>(), 0_u16..270, proptest::collection::vec(any::<u8>(), 0..40), 0_u16..3), 1..4,
        ),
        counts in proptest::collection::vec(0_u8..4, 3),
    ) {
        let mut message = query("web.", RecordType::A, None);
        for (section, count) in counts.iter().enumerate() {
            message[7 + 2 * section] = *count;
        }
        for (compressed, kind, data, skew) in records {
            message.extend_from_slice(if compressed { &[0xc0, 12] } else { &[0] });
            message.extend(kind.to_be_bytes());
            message.extend([0, 1, 0, 0, 0, 5]);
            message.extend((data.len() as u16).saturating_sub(skew).to_be_bytes());
            message.extend(data);
        }
        match decided(&message, &names(1)) {
            Decision::Reply { reply, .. } => prop_assert_eq!(&reply[..2], &message[..2]),
            other => prop_assert!(false, "a local name or an error: {:?}", other),
        }
    }
}
