//! The readers against hickory as a second decoder, and against garbage.

use std::net::IpAddr;

use hickory_proto::op::{Edns as HickoryEdns, Message, MessageType, OpCode, Query as Question};
use hickory_proto::rr::rdata::{A, SOA, TXT};
use hickory_proto::rr::{Name, RData, Record as HickoryRecord, RecordType};
use proptest::prelude::*;

use super::name::strip_suffix;
use super::*;

fn message_for(name: &str, kind: RecordType, edns: Option<(u16, bool)>) -> Message {
    let mut message = Message::new(7, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Question::query(Name::from_ascii(name).unwrap(), kind));
    if let Some((payload_bytes, dnssec_ok)) = edns {
        let mut opt = HickoryEdns::new();
        opt.set_max_payload(payload_bytes).set_dnssec_ok(dnssec_ok);
        message.edns = Some(opt);
    }
    message
}

fn wire(name: &str) -> WireName {
    WireName::from_text(name).expect(name)
}

#[test]
fn query_reads_what_hickory_writes() {
    let bytes = message_for("Web.OverNet.", RecordType::AAAA, Some((1400, true))).to_vec().unwrap();
    let query = Query::parse(&bytes).unwrap();
    assert_eq!(query.name.to_string(), "web.overnet");
    assert_eq!((query.id, query.kind, query.class), (7, kind::AAAA, CLASS_IN));
    assert_eq!(query.flags, flag::RECURSION_DESIRED);
    assert_eq!(query.udp_limit_bytes(), 1400);
    let edns = query.edns.unwrap();
    assert!(edns.dnssec_ok && !edns.has_options && edns.version == 0);
}

#[test]
fn odd_queries_are_told_from_those_not_to_answer() {
    let good = message_for("web.", RecordType::A, None).to_vec().unwrap();
    let with = |at: usize, byte: u8| {
        let mut bytes = good.clone();
        bytes[at] = byte;
        Query::parse(&bytes).err()
    };
    assert_eq!(with(2, 0x81), Some(Reject::Silent), "a response");
    assert_eq!(Query::parse(&good[..11]).err(), Some(Reject::Silent), "a scrap");
    assert_eq!(with(2, 0x21), Some(Reject::Odd), "an update");
    assert_eq!(with(5, 2), Some(Reject::Odd), "two questions claimed");
    assert_eq!(with(7, 1), Some(Reject::Odd), "an answer claimed");
    assert_eq!(with(11, 1), Some(Reject::Odd), "an additional record claimed");
    assert_eq!(with(12, 64), Some(Reject::Odd), "a label of 64");
    assert_eq!(with(12, 0xc0), Some(Reject::Odd), "a compression pointer");
    assert_eq!(
        Query::parse(&[&good[..], &[0]].concat()).err(),
        Some(Reject::Odd),
        "a byte too much"
    );
    assert_eq!(Query::parse(&good[..good.len() - 1]).err(), Some(Reject::Odd), "a byte too few");
}

#[test]
fn names_have_their_limits() {
    let label = "x".repeat(63);
    let longest = [&label[..], &label, &label, &"x".repeat(61)].join(".");
    assert_eq!(longest.len(), 253);
    assert_eq!(wire(&longest).to_string(), longest);
    assert!(matches!(
        WireName::from_text(&format!("{longest}x")),
        Err(crate::ZoneNameError::TooLong { .. })
    ));
    assert!(WireName::from_text(&"x".repeat(64)).is_err());
    for empty in ["", ".", "a..b", ".a", "a.."] {
        assert!(WireName::from_text(empty).is_err(), "{empty:?}");
    }
    assert_eq!(wire("A.b.").to_string(), "a.b");
}

#[test]
fn a_suffix_is_cut_at_labels_only() {
    let cut = |name, suffix| {
        let (name, suffix) = (wire(name), wire(suffix));
        strip_suffix(name.as_bytes(), suffix.as_bytes()).map(<[u8]>::to_vec)
    };
    assert_eq!(cut("web.net", "net"), Some(b"\x03web".to_vec()));
    assert_eq!(cut("web.xnet", "net"), None);
    assert_eq!(cut("net", "net"), None);
    // The bytes of `\x03net` inside of a label.
    let sneaky = WireName::from_labels([b"ab\x03net".as_slice()]).unwrap();
    assert_eq!(strip_suffix(sneaky.as_bytes(), wire("net").as_bytes()), None);
}

#[test]
fn reverse_names_are_whole_addresses_only() {
    let addr = |name: &str| wire(name).reverse_addr();
    assert_eq!(addr("4.3.2.1.in-addr.arpa"), Some("1.2.3.4".parse().unwrap()));
    for other in [
        "3.2.1.in-addr.arpa",
        "5.4.3.2.1.in-addr.arpa",
        "256.3.2.1.in-addr.arpa",
        "04.3.2.1.in-addr.arpa",
        "+4.3.2.1.in-addr.arpa",
        "in-addr.arpa",
        "4.3.2.1.in-addr",
        "1.ip6.arpa",
    ] {
        assert_eq!(addr(other), None, "{other}");
    }
}

fn response() -> Message {
    let name = Name::from_ascii("web.example.").unwrap();
    let mut message = message_for("web.example.", RecordType::A, Some((1232, true)));
    message.metadata.message_type = MessageType::Response;
    let a = RData::A(A([192, 0, 2, 1].into()));
    message.add_answer(HickoryRecord::from_rdata(name.clone(), 300, a));
    let text = RData::TXT(TXT::new(vec!["more".to_owned()]));
    message.add_additional(HickoryRecord::from_rdata(name.clone(), 70, text));
    let soa = SOA::new(name.clone(), name.clone(), 1, 2, 3, 4, 55);
    message.add_authority(HickoryRecord::from_rdata(name, 90, RData::SOA(soa)));
    message
}

#[test]
fn records_lie_where_hickory_put_them() {
    let mut bytes = response().to_vec().unwrap();
    let found = records(&bytes).unwrap();
    let seen: Vec<_> = found.iter().map(|r| (r.section, r.kind, r.ttl_s)).collect();
    assert_eq!(seen[0], (Section::Answer, kind::A, 300));
    assert_eq!(seen[1], (Section::Authority, kind::SOA, 90));
    assert_eq!(seen[2], (Section::Additional, 16, 70));
    assert_eq!((seen[3].0, seen[3].1), (Section::Additional, kind::OPT));
    assert_eq!(soa_minimum_s(&bytes, &found[1]), Some(55));
    assert_eq!(soa_minimum_s(&bytes, &found[0]), None);

    age(&mut bytes, &found, 80, 0);
    let aged = Message::from_vec(&bytes).unwrap();
    assert_eq!(aged.answers[0].ttl, 220);
    assert_eq!(aged.authorities[0].ttl, 10);
    assert_eq!(aged.additionals[0].ttl, 0);
    assert!(aged.edns.unwrap().flags().dnssec_ok, "OPT has no TTL to age");
}

#[test]
fn a_cut_response_keeps_what_fits_and_its_opt_record() {
    let bytes = response().to_vec().unwrap();
    let found = records(&bytes).unwrap();
    let answer_end = found[0].data_at + found[0].data_bytes;
    for (limit, answers) in [(answer_end + OPT_LEN, 1), (answer_end + OPT_LEN - 1, 0), (0, 0)] {
        let cut = truncate(&bytes, &found, limit).unwrap();
        assert!(limit == 0 || cut.len() <= limit);
        let cut = Message::from_vec(&cut).unwrap();
        assert!(cut.metadata.truncation);
        assert_eq!(cut.answers, response().answers[..answers]);
        assert!(cut.authorities.is_empty() && cut.additionals.is_empty());
        assert_eq!(cut.queries, response().queries);
        assert!(cut.edns.unwrap().flags().dnssec_ok);
    }
}

proptest! {
    #[test]
    fn garbage_is_read_without_harm(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        let _ = Query::parse(&bytes);
        let _ = question_end(&bytes);
        if let Some(found) = records(&bytes) {
            let _ = truncate(&bytes, &found, 512);
            let _ = found.iter().map(|r| soa_minimum_s(&bytes, r)).max();
        }
    }

    #[test]
    fn damaged_responses_are_read_without_harm(
        damage in proptest::collection::vec((0_usize..200, any::<u8>()), 0..8), len in 0_usize..200,
    ) {
        let mut bytes = response().to_vec().unwrap();
        for (at, byte) in damage {
            let at = at % bytes.len();
            bytes[at] = byte;
        }
        bytes.truncate(len);
        if let Some(found) = records(&bytes) {
            let mut aged = bytes.clone();
            age(&mut aged, &found, 10, 0);
            prop_assert!(records(&aged).is_some());
            let cut = truncate(&bytes, &found, 60).unwrap();
            prop_assert!(records(&cut).is_some());
        }
    }

    #[test]
    fn every_whole_address_reads_back(v4 in any::<[u8; 4]>(), v6 in any::<[u8; 16]>()) {
        for addr in [IpAddr::from(v4), IpAddr::from(v6)] {
            prop_assert_eq!(wire(&Name::from(addr).to_ascii()).reverse_addr(), Some(addr));
        }
    }

    #[test]
    fn names_agree_with_hickory(name in "[a-zA-Z0-9_]{1,20}(\\.[a-z0-9]{1,63}){0,3}") {
        let bytes = message_for(&format!("{name}."), RecordType::A, None).to_vec().unwrap();
        let query = Query::parse(&bytes).unwrap();
        let same = wire(&name);
        prop_assert_eq!(query.name.as_bytes(), same.as_bytes());
        prop_assert_eq!(query.name.to_string(), name.to_lowercase());
        prop_assert_eq!(query.question_end, bytes.len());
    }
}
