//! Forwarding over real sockets: transparency, failover, TCP, the cache, coalescing.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::RecordType;
use support::*;
use swarmnet_dns::Order;
use swarmnet_types::SandboxId;

const OUTSIDE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

/// A server that takes queries and never answers.
fn silent() -> (UdpSocket, SocketAddr) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let addr = socket.local_addr().unwrap();
    (socket, addr)
}

#[test]
fn queries_pass_as_they_are_and_answers_too() {
    let seen = Arc::new(Mutex::new(None));
    let upstream = Upstream::start({
        let seen = Arc::clone(&seen);
        move |query, _| {
            *seen.lock().unwrap() = Some(query.clone());
            let mut reply = answer(query, 60, &[OUTSIDE]);
            reply.metadata.authentic_data = true;
            Some(reply)
        }
    });
    let served = serve(forwarding(vec![upstream.addr], Order::Ordered));
    let asked = with_edns(question("WWW.Example.", RecordType::A), 1400);
    let reply = by_udp(served.addr, &asked);
    assert_eq!(addrs(&reply), [OUTSIDE]);
    assert!(reply.metadata.authentic_data && reply.edns.as_ref().unwrap().flags().dnssec_ok);
    let sent = seen.lock().unwrap().take().unwrap();
    assert_ne!(sent.metadata.id, asked.metadata.id, "ids are drawn anew");
    assert_eq!(sent.queries, asked.queries);
    assert_eq!(sent.edns, asked.edns);
    // From the cache, with the other client's case.
    let again = by_udp(served.addr, &with_edns(question("www.eXample.", RecordType::A), 1400));
    assert_eq!(again.queries[0].name().to_ascii(), "www.eXample.");
    assert_eq!((addrs(&again), upstream.count()), (vec![OUTSIDE.into()], 1));
    // Without DO it is another question.
    let _ = by_udp(served.addr, &question("www.example.", RecordType::A));
    assert_eq!(upstream.count(), 2);
    let stats = served.handle.stats();
    assert_eq!((stats.forwarded, stats.cache_hits), (3, 1));
}

#[test]
fn a_cut_answer_is_fetched_by_tcp_and_cut_again_for_the_client() {
    let many: Vec<Ipv4Addr> = (0..100).map(|i| Ipv4Addr::new(192, 0, 2, i)).collect();
    let upstream = Upstream::start(move |query, by_tcp| {
        let mut reply = answer(query, 60, if by_tcp { &many } else { &[] });
        reply.metadata.truncation = !by_tcp;
        Some(reply)
    });
    let served = serve(forwarding(vec![upstream.addr], Order::Ordered));
    let whole = by_udp(served.addr, &with_edns(question("big.example.", RecordType::A), 4096));
    assert_eq!((addrs(&whole).len(), whole.metadata.truncation), (100, false));
    let cut = by_udp(served.addr, &with_edns(question("big.example.", RecordType::A), 1232));
    assert!(cut.metadata.truncation && cut.edns.is_some());
    assert!((30..100).contains(&cut.answers.len()), "as many as fit: {}", cut.answers.len());
    let mut stream = TcpStream::connect(served.addr).unwrap();
    let asked = with_edns(question("big.example.", RecordType::A), 1232);
    assert_eq!(addrs(&by_tcp(&mut stream, &asked)).len(), 100);
    assert_eq!((upstream.count(), upstream.count_by_tcp()), (1, 1), "the rest from the cache");
}

#[test]
fn servers_that_fail_are_passed_over_and_then_asked_last() {
    for rcode in [ResponseCode::ServFail, ResponseCode::Refused] {
        let bad = Upstream::start(move |query, _| Some(failure(query, rcode)));
        let good = Upstream::start(|query, _| Some(answer(query, 60, &[OUTSIDE])));
        let served = serve(forwarding(vec![bad.addr, good.addr], Order::Ordered));
        assert_eq!(addrs(&ask(&served, "a.example.", RecordType::A)), [OUTSIDE]);
        assert_eq!((bad.count(), good.count()), (1, 1));
    }
    let (_socket, deaf) = silent();
    let closed = silent().1;
    let good = Upstream::start(|query, _| Some(answer(query, 60, &[OUTSIDE])));
    for first in [deaf, closed] {
        let served = serve(forwarding(vec![first, good.addr], Order::Ordered));
        let start = Instant::now();
        assert_eq!(addrs(&ask(&served, "a.example.", RecordType::A)), [OUTSIDE]);
        assert!(start.elapsed() < Duration::from_secs(4), "before the client gives up");
    }
    let served = serve(forwarding(vec![closed, good.addr], Order::Ordered));
    let _ = ask(&served, "a.example.", RecordType::A);
    let start = Instant::now();
    assert_eq!(addrs(&ask(&served, "b.example.", RecordType::A)), [OUTSIDE]);
    assert!(start.elapsed() < Duration::from_secs(1));
}

#[test]
fn in_parallel_the_first_good_answer_wins() {
    let (_socket, deaf) = silent();
    let bad = Upstream::start(|query, _| Some(failure(query, ResponseCode::ServFail)));
    let good = Upstream::start(|query, _| Some(answer(query, 60, &[OUTSIDE])));
    let served = serve(forwarding(vec![deaf, bad.addr, good.addr], Order::Parallel));
    let start = Instant::now();
    assert_eq!(addrs(&ask(&served, "a.example.", RecordType::A)), [OUTSIDE]);
    assert!(start.elapsed() < Duration::from_secs(1));
}

#[test]
fn no_such_name_is_passed_on_and_kept_by_its_soa() {
    let upstream = Upstream::start(|query, _| Some(no_such_name(query, 1)));
    let other = Upstream::start(|query, _| Some(answer(query, 60, &[OUTSIDE])));
    let served = serve(forwarding(vec![upstream.addr, other.addr], Order::Ordered));
    for _ in 0..2 {
        let reply = ask(&served, "no.example.", RecordType::A);
        assert_eq!(reply.metadata.response_code, ResponseCode::NXDomain);
    }
    assert_eq!((upstream.count(), other.count()), (1, 0));
    std::thread::sleep(Duration::from_millis(1100));
    let _ = ask(&served, "no.example.", RecordType::A);
    assert_eq!(upstream.count(), 2);
}

#[test]
fn when_all_fail_the_last_answer_or_their_failure_is_given() {
    let broken = Arc::new(AtomicBool::new(false));
    let upstream = Upstream::start({
        let broken = Arc::clone(&broken);
        move |query, _| {
            Some(if broken.load(Ordering::SeqCst) {
                failure(query, ResponseCode::ServFail)
            } else {
                answer(query, 1, &[OUTSIDE])
            })
        }
    });
    let served = serve(forwarding(vec![upstream.addr], Order::Ordered));
    let _ = ask(&served, "a.example.", RecordType::A);
    broken.store(true, Ordering::SeqCst);
    std::thread::sleep(Duration::from_millis(1100));
    for _ in 0..3 {
        let reply = ask(&served, "a.example.", RecordType::A);
        assert_eq!((addrs(&reply), reply.answers[0].ttl), (vec![OUTSIDE.into()], 30));
    }
    assert_eq!(upstream.count(), 2, "asked once more, then left alone for a while");
    assert_eq!(served.handle.stats().stale, 3);
    let never_seen = ask(&served, "b.example.", RecordType::A);
    assert_eq!(never_seen.metadata.response_code, ResponseCode::ServFail);
    // Nobody to ask at all.
    let alone = serve(forwarding(vec![], Order::Ordered));
    let reply = ask(&alone, "b.example.", RecordType::A);
    assert_eq!(reply.metadata.response_code, ResponseCode::ServFail);
    assert_eq!(alone.handle.stats().servfail, 1);
}

#[test]
fn equal_queries_at_a_time_are_asked_once() {
    let upstream = Upstream::start(|query, _| {
        std::thread::sleep(Duration::from_millis(300));
        Some(answer(query, 0, &[OUTSIDE]))
    });
    let served = serve(forwarding(vec![upstream.addr], Order::Ordered));
    std::thread::scope(|scope| {
        for _ in 0..50 {
            scope.spawn(|| {
                assert_eq!(addrs(&ask(&served, "a.example.", RecordType::A)), [OUTSIDE]);
            });
        }
    });
    assert_eq!(upstream.count(), 1);
    // TTL 0 is not kept.
    let _ = ask(&served, "a.example.", RecordType::A);
    assert_eq!(upstream.count(), 2);
}

#[test]
fn answers_to_other_questions_are_not_believed() {
    let calls = AtomicUsize::new(0);
    let upstream = Upstream::start(move |query, _| {
        let mut reply = answer(query, 60, &[OUTSIDE]);
        if calls.fetch_add(1, Ordering::SeqCst) == 0 {
            reply.metadata.id ^= 1;
        } else {
            reply.queries = question("evil.example.", RecordType::A).queries;
        }
        Some(reply)
    });
    let served = serve(forwarding(vec![upstream.addr], Order::Ordered));
    for name in ["a.example.", "b.example."] {
        let reply: Message = ask(&served, name, RecordType::A);
        assert_eq!(reply.metadata.response_code, ResponseCode::ServFail);
    }
}

#[test]
fn a_thousand_names_at_once_all_get_their_answer() {
    let upstream = Upstream::start(|query, _| Some(answer(query, 60, &[OUTSIDE])));
    let served = serve(forwarding(vec![upstream.addr], Order::Ordered));
    std::thread::scope(|scope| {
        for client in 0..20 {
            let served = &served;
            scope.spawn(move || {
                for i in 0..50 {
                    let name = format!("n{i}.c{client}.example.");
                    assert_eq!(addrs(&ask(served, &name, RecordType::A)), [OUTSIDE]);
                }
            });
        }
    });
    assert_eq!(served.handle.stats().forwarded, 1000);
}

#[test]
fn a_sandbox_that_goes_while_it_waits_does_not_hold_up_its_removal() {
    let (_socket, deaf) = silent();
    let served = serve(forwarding(vec![deaf], Order::Ordered));
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let asked = question("a.example.", RecordType::A).to_vec().unwrap();
    socket.send_to(&asked, served.addr).unwrap();
    let start = Instant::now();
    served.handle.remove(KEY).unwrap();
    assert!(start.elapsed() < Duration::from_secs(1));
    assert!(UdpSocket::bind(served.addr).is_ok());
}

#[test]
fn who_waits_for_anothers_query_gets_an_answer_when_the_other_goes() {
    let upstream = Upstream::start(|query, _| {
        std::thread::sleep(Duration::from_millis(500));
        Some(answer(query, 60, &[OUTSIDE]))
    });
    let names = forwarding(vec![upstream.addr], Order::Ordered);
    let served = serve(names.clone());
    let first = SandboxId::from_bytes([9; 16]);
    let (udp, tcp) = bound();
    let addr = udp.local_addr().unwrap();
    served.handle.serve(first, udp, tcp, Arc::new(names)).unwrap();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let asked = question("a.example.", RecordType::A).to_vec().unwrap();
    socket.send_to(&asked, addr).unwrap();
    std::thread::scope(|scope| {
        let second = scope.spawn(|| ask(&served, "a.example.", RecordType::A));
        std::thread::sleep(Duration::from_millis(200));
        served.handle.remove(first).unwrap();
        assert_eq!(addrs(&second.join().unwrap()), [OUTSIDE]);
    });
    assert_eq!(upstream.count(), 2);
}
