//! The name server over real sockets: local names, scope, bad input, many clients, removal.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::collections::BTreeSet;
use std::io::Write;
use std::net::{IpAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};

use hickory_proto::op::{Edns, Message, OpCode, Query, ResponseCode};
use hickory_proto::rr::{DNSClass, RecordType};
use support::*;
use swarmnet_dns::{Config, Forward, NameServerError, Order, SandboxNames, ZoneBuilder};
use swarmnet_types::{DualStack, SandboxId};

fn one(addr: &str) -> Vec<IpAddr> {
    vec![addr.parse().unwrap()]
}

#[test]
fn local_names_are_answered_by_udp_and_tcp() {
    let served = serve(internal());
    let mut stream = TcpStream::connect(served.addr).unwrap();
    for (name, kind, want) in [
        ("web.", RecordType::A, one("10.0.0.250")),
        ("web.overnet.", RecordType::AAAA, one("fd00::fa")),
        ("old.", RecordType::AAAA, vec![]),
        ("old.", RecordType::MX, vec![]),
    ] {
        let asked = question(name, kind);
        for answer in [by_udp(served.addr, &asked), by_tcp(&mut stream, &asked)] {
            assert_eq!(answer.metadata.response_code, ResponseCode::NoError);
            assert_eq!(addrs(&answer), want);
        }
    }
    eventually(|| {
        let stats = served.handle.stats();
        (stats.local, stats.nodata, stats.forwarded) == (4, 4, 0)
    });
}

#[test]
fn ipv6_sockets_are_served_too() {
    let served = serve(internal());
    let (udp, tcp) = (UdpSocket::bind("[::1]:0").unwrap(), TcpListener::bind("[::1]:0").unwrap());
    let (by_udp_at, by_tcp_at) = (udp.local_addr().unwrap(), tcp.local_addr().unwrap());
    let other = SandboxId::from_bytes([8; 16]);
    served.handle.serve(other, udp, tcp, Arc::new(internal())).unwrap();
    let asked = question("web.", RecordType::AAAA);
    let client = UdpSocket::bind("[::1]:0").unwrap();
    client.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let mut room = [0; 512];
    for _ in 0..100 {
        client.send_to(&asked.to_vec().unwrap(), by_udp_at).unwrap();
        let len = client.recv(&mut room).unwrap();
        assert_eq!(addrs(&Message::from_vec(&room[..len]).unwrap()), one("fd00::fa"));
        assert_eq!(addrs(&by_udp(served.addr, &asked)), one("fd00::fa"));
    }
    let mut stream = TcpStream::connect(by_tcp_at).unwrap();
    assert_eq!(addrs(&by_tcp(&mut stream, &asked)), one("fd00::fa"));
}

#[test]
fn two_hundred_addresses_are_cut_by_udp_with_opt_and_whole_by_tcp() {
    let served = serve(internal());
    let asked = with_edns(question("many.", RecordType::A), 1232);
    let cut = by_udp(served.addr, &asked);
    assert!(cut.metadata.truncation && cut.edns.is_some());
    eventually(|| served.handle.stats().truncated == 1);
    let whole = by_tcp(&mut TcpStream::connect(served.addr).unwrap(), &asked);
    assert!(!whole.metadata.truncation && whole.edns.is_some());
    let distinct: BTreeSet<_> = addrs(&whole).into_iter().collect();
    assert_eq!(distinct.len(), 200);
}

#[test]
fn an_internal_sandbox_never_forwards() {
    let upstream = Upstream::start(|query, _| Some(answer(query, 60, &[])));
    let served = serve(forwarding(vec![upstream.addr], Order::Ordered));
    let _ = ask(&served, "x.example.", RecordType::A);
    assert_eq!(upstream.count(), 1, "the upstream works");
    served.handle.update(KEY, Arc::new(internal())).unwrap();
    for (name, kind) in [
        ("y.example.", RecordType::A),
        ("nosuch.", RecordType::A),
        ("1.2.0.192.in-addr.arpa.", RecordType::PTR),
        ("y.example.", RecordType::TXT),
    ] {
        let asked = question(name, kind);
        let mut stream = TcpStream::connect(served.addr).unwrap();
        for answer in [by_udp(served.addr, &asked), by_tcp(&mut stream, &asked)] {
            assert_eq!(answer.metadata.response_code, ResponseCode::Refused, "{name} {kind}");
        }
    }
    assert_eq!((upstream.count(), upstream.count_by_tcp()), (1, 0));
}

#[test]
fn local_names_are_never_forwarded_whatever_the_type() {
    let upstream = Upstream::start(|query, _| Some(answer(query, 60, &[])));
    let served = serve(forwarding(vec![upstream.addr], Order::Ordered));
    for kind in
        [RecordType::AAAA, RecordType::TXT, RecordType::ANY, RecordType::HTTPS, RecordType::SRV]
    {
        let answer = ask(&served, "old.overnet.", kind);
        assert_eq!(answer.metadata.response_code, ResponseCode::NoError);
        assert!(answer.answers.is_empty());
    }
    let pointer = ask(&served, "9.0.0.10.in-addr.arpa.", RecordType::PTR);
    assert_eq!(pointer.metadata.response_code, ResponseCode::NXDomain);
    assert_eq!(upstream.count(), 0);
}

#[test]
fn an_update_is_seen_by_the_next_query() {
    let served = serve(internal());
    for i in 1..100 {
        let mut builder = ZoneBuilder::new("overnet", &[]).unwrap();
        let addr = [10, 0, 1, i].into();
        builder.primary("web", DualStack::new(Some(addr), None)).unwrap();
        let names = SandboxNames::new(vec![Arc::new(builder.build())], Forward::Never);
        served.handle.update(KEY, Arc::new(names)).unwrap();
        assert_eq!(addrs(&ask(&served, "web.", RecordType::A)), [IpAddr::from(addr)]);
    }
}

#[test]
fn each_sandbox_sees_its_own_names_and_removal_closes_its_sockets() {
    let served = serve(internal());
    let other = SandboxId::from_bytes([8; 16]);
    let (udp, tcp) = bound();
    let addr = udp.local_addr().unwrap();
    let nothing = Arc::new(SandboxNames::new(vec![], Forward::Never));
    served.handle.serve(other, udp, tcp, Arc::clone(&nothing)).unwrap();
    let (udp, tcp) = bound();
    let again = served.handle.serve(other, udp, tcp, Arc::clone(&nothing));
    assert!(matches!(again, Err(NameServerError::Served { .. })));

    let asked = question("web.", RecordType::A);
    assert_eq!(by_udp(addr, &asked).metadata.response_code, ResponseCode::Refused);
    assert_eq!(addrs(&by_udp(served.addr, &asked)), one("10.0.0.250"));

    // A client in the middle of a query, too, must not keep a socket.
    let mut stream = TcpStream::connect(addr).unwrap();
    stream.write_all(&[0]).unwrap();
    let _ = by_tcp(&mut TcpStream::connect(addr).unwrap(), &asked);
    served.handle.remove(other).unwrap();
    assert!(UdpSocket::bind(addr).is_ok(), "the port is free at once");
    assert!(TcpStream::connect(addr).is_err());
    assert!(read_framed(&mut stream).is_err());
    assert_eq!(served.handle.served(), [KEY]);
    served.handle.remove(other).unwrap();
    assert!(matches!(served.handle.update(other, nothing), Err(NameServerError::NotServed { .. })));
    assert_eq!(addrs(&by_udp(served.addr, &asked)), one("10.0.0.250"));
}

#[test]
fn dropping_the_handle_closes_everything() {
    let Served { handle, addr } = serve(internal());
    let _stream = TcpStream::connect(addr).unwrap();
    drop(handle);
    assert!(UdpSocket::bind(addr).is_ok());
    assert!(TcpStream::connect(addr).is_err());
}

fn newer(mut edns: Edns) -> Edns {
    edns.set_version(1);
    edns
}

fn chaos(query: &Query) -> Query {
    let mut query = query.clone();
    query.set_query_class(DNSClass::CH);
    query
}

/// The fast path counts after it has answered.
fn eventually(condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < Duration::from_secs(5), "in time");
        std::thread::yield_now();
    }
}

#[test]
fn odd_queries_get_the_error_that_fits() {
    let served = serve(internal());
    let rcode = |edit: fn(&mut Message)| {
        let mut asked = with_edns(question("web.", RecordType::A), 1232);
        edit(&mut asked);
        let answer = by_udp(served.addr, &asked);
        assert!(answer.edns.is_some());
        u16::from(answer.metadata.response_code)
    };
    let notify = |m: &mut Message| m.metadata.op_code = OpCode::Notify;
    assert_eq!(rcode(notify), ResponseCode::NotImp.into());
    assert_eq!(rcode(|m| m.edns = m.edns.take().map(newer)), ResponseCode::BADVERS.into());
    assert_eq!(rcode(|m| m.queries[0] = chaos(&m.queries[0])), ResponseCode::Refused.into());
    assert_eq!(rcode(|m| m.queries.push(m.queries[0].clone())), ResponseCode::FormErr.into());
    assert_eq!(rcode(|m| m.queries.clear()), ResponseCode::FormErr.into());
    assert_eq!(served.handle.stats().malformed, 4);
}

#[test]
fn garbage_does_not_stop_the_server() {
    let served = serve(internal());
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let good = question("web.", RecordType::A).to_vec().unwrap();
    for i in 0_u32..2000 {
        let mut bytes = good.clone();
        let (at, byte) = (i as usize % bytes.len(), (i * 7 % 256) as u8);
        bytes[at] ^= byte;
        bytes.truncate(bytes.len() - i as usize % 20);
        socket.send_to(&bytes, served.addr).unwrap();
    }
    socket.send_to(&[], served.addr).unwrap();
    socket.send_to(&[0xc0; 9000], served.addr).unwrap();
    // Responses are never answered, or two servers could talk for ever.
    let mut response = good.clone();
    response[2] |= 0x80;
    assert_eq!(exchange_udp_within(served.addr, &response, Duration::from_millis(200)), None);
    // A name that points at itself.
    let mut looped = good[..12].to_vec();
    looped.extend([0xc0, 12, 0, 1, 0, 1]);
    let answer = exchange_udp(served.addr, &looped).unwrap();
    assert_eq!(answer[3] & 0x0f, 1, "FORMERR");
    // 64 KiB of nothing by TCP gets "malformed", and the next query on the connection its answer.
    let mut stream = TcpStream::connect(served.addr).unwrap();
    stream.write_all(&framed(&vec![0; 65535])).unwrap();
    let refused = read_framed(&mut stream).unwrap();
    assert_eq!(refused[3] & 0x0f, 1, "FORMERR");
    assert_eq!(addrs(&by_tcp(&mut stream, &question("web.", RecordType::A))), one("10.0.0.250"));
    assert_eq!(addrs(&ask(&served, "web.", RecordType::A)), one("10.0.0.250"));
}

#[test]
fn a_thousand_idle_tcp_clients_stop_nobody() {
    let served = serve(internal());
    let mut idle = Vec::new();
    for i in 0..1000 {
        let mut stream = TcpStream::connect(served.addr).unwrap();
        if i % 2 == 0 {
            stream.write_all(&[0]).unwrap();
        }
        idle.push(stream);
    }
    for _ in 0..20 {
        let start = Instant::now();
        let mut stream = TcpStream::connect(served.addr).unwrap();
        assert_eq!(by_tcp(&mut stream, &question("web.", RecordType::A)).answers.len(), 1);
        assert_eq!(ask(&served, "web.", RecordType::A).answers.len(), 1);
        assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
    }
}

#[test]
fn silent_tcp_clients_are_cut_off() {
    let config = Config { tcp_idle: Duration::from_millis(100), ..Config::default() };
    let served = serve_with(internal(), &config);
    let mut silent = TcpStream::connect(served.addr).unwrap();
    let mut half = TcpStream::connect(served.addr).unwrap();
    half.write_all(&[0, 40, 1, 2]).unwrap();
    for stream in [&mut silent, &mut half] {
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let err = read_framed(stream).unwrap_err();
        assert_ne!(err.kind(), std::io::ErrorKind::WouldBlock, "closed by the server");
    }
}

#[test]
fn queries_on_one_connection_need_not_wait_for_each_other() {
    let served = serve(internal());
    let mut stream = TcpStream::connect(served.addr).unwrap();
    let mut bytes = Vec::new();
    let mut ids = BTreeSet::new();
    for _ in 0..100 {
        let asked = question("web.", RecordType::A);
        ids.insert(asked.metadata.id);
        bytes.extend(framed(&asked.to_vec().unwrap()));
    }
    stream.write_all(&bytes).unwrap();
    // Half-closed: what was asked is still answered.
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut answered = BTreeSet::new();
    for _ in 0..100 {
        let answer = read_framed(&mut stream).unwrap();
        answered.insert(u16::from_be_bytes([answer[0], answer[1]]));
    }
    assert_eq!(answered, ids);
}
