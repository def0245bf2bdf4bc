//! The cache by the clock, and its bounds.

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query as Question};
use hickory_proto::rr::rdata::{A, NULL};
use hickory_proto::rr::{Name, RData, Record, RecordType};

use super::*;

fn asked(name: &str, edit: impl FnOnce(&mut Message)) -> (Vec<u8>, Query) {
    let mut message = Message::new(1, MessageType::Query, OpCode::Query);
    message.add_query(Question::query(Name::from_ascii(name).unwrap(), RecordType::A));
    edit(&mut message);
    let bytes = message.to_vec().unwrap();
    let query = Query::parse(&bytes).unwrap();
    (bytes, query)
}

/// An answer that holds for `ttl_s` and is longer than `bytes`.
fn entry(name: &str, ttl_s: u32, bytes: usize) -> (Key, Arc<Response>) {
    let (question, query) = asked(name, |_| {});
    let mut message = Message::from_vec(&question).unwrap();
    message.metadata.message_type = MessageType::Response;
    let owner = Name::from_ascii(name).unwrap();
    let address = RData::A(A([192, 0, 2, 1].into()));
    message.add_answer(Record::from_rdata(owner.clone(), ttl_s, address));
    let filling = RData::NULL(NULL::with(vec![0; bytes.max(1)]));
    message.add_additional(Record::from_rdata(owner, ttl_s, filling));
    let response = Response::check(message.to_vec().unwrap(), &question, &query).unwrap();
    (Key::of(&query).unwrap(), Arc::new(response))
}

#[test]
fn an_entry_is_fresh_then_stale_then_gone() {
    let (mut cache, start) = (Cache::default(), Instant::now());
    let (key, response) = entry("a.example.", 60, 0);
    assert_eq!(cache.get(&key, start), Found::Nothing);
    cache.put(&key, &response, start);
    let at = |cache: &Cache, seconds| cache.get(&key, start + Duration::from_secs(seconds));
    let fresh = |elapsed_s| Found::Fresh { response: Arc::clone(&response), elapsed_s };
    let stale = |held| Found::Stale { response: Arc::clone(&response), held };
    assert_eq!(at(&cache, 0), fresh(0));
    assert_eq!(at(&cache, 59), fresh(59));
    assert_eq!(at(&cache, 60), stale(false));
    cache.hold(&key, start + Duration::from_mins(1));
    assert_eq!(at(&cache, 69), stale(true));
    assert_eq!(at(&cache, 70), stale(false));
    assert_eq!(at(&cache, 60 + 24 * 3600), Found::Nothing);
    // A renewed entry is fresh again and no longer held.
    cache.hold(&key, start + Duration::from_secs(70));
    cache.put(&key, &response, start + Duration::from_secs(71));
    assert_eq!(at(&cache, 72), fresh(1));
}

#[test]
fn what_says_zero_or_is_too_large_is_not_kept() {
    let (mut cache, now) = (Cache::default(), Instant::now());
    for (key, response) in [entry("a.example.", 0, 0), entry("a.example.", 60, ENTRY_BYTES_MAX)] {
        cache.put(&key, &response, now);
        assert_eq!(cache.get(&key, now), Found::Nothing);
    }
}

#[test]
fn the_oldest_makes_room_by_count_and_by_bytes() {
    let now = Instant::now();
    for (bytes, kept_max) in [(0, ENTRIES_MAX), (8000, BYTES_MAX / 8000)] {
        let mut cache = Cache::default();
        for i in 0..=kept_max {
            let (key, response) = entry(&format!("n{i}.example."), 60, bytes);
            cache.put(&key, &response, now);
            // Renewing one does not count twice.
            cache.put(&key, &response, now);
        }
        assert!(cache.entries.len() <= kept_max && cache.entries.len() > kept_max * 9 / 10);
        assert_eq!(cache.order.len(), cache.entries.len());
        assert!(cache.bytes <= BYTES_MAX);
        let (oldest, _) = entry("n0.example.", 60, 0);
        let (newest, _) = entry(&format!("n{kept_max}.example."), 60, 0);
        assert_eq!(cache.get(&oldest, now), Found::Nothing);
        assert_ne!(cache.get(&newest, now), Found::Nothing);
    }
}

#[test]
fn what_an_answer_may_depend_on_is_in_the_key() {
    let key = |edit: fn(&mut Message)| Key::of(&asked("a.example.", edit).1);
    let plain = key(|_| {});
    assert_eq!(plain, Key::of(&asked("A.Example.", |_| {}).1));
    let with_edns = key(|m| m.edns = Some(Edns::new()));
    let with_do = key(|m| {
        let mut edns = Edns::new();
        edns.set_dnssec_ok(true);
        m.edns = Some(edns);
    });
    let unchecked = key(|m| m.metadata.checking_disabled = true);
    let all = [plain, with_edns, with_do, unchecked];
    for (i, one) in all.iter().enumerate() {
        assert!(one.is_some() && !all[..i].contains(one), "{one:?}");
    }
}
