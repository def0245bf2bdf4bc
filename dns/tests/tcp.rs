//! Many TCP clients of one sandbox's resolver: all are heard, silent ones make room, lengths come in pieces.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::sync::Barrier;
use std::time::{Duration, Instant};

use hickory_proto::rr::RecordType;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use support::*;
use swarmnet_dns::Config;

/// Client and server are one process here.
fn may_open_many_files() {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).unwrap();
    let now = getrlimit(Resource::Nofile).current;
    assert!(now.is_none_or(|files| files >= 16_384), "needs 16384 files, has {now:?}");
}

/// `count` clients that connect at once, ask at once and leave; the longest that one took.
fn ask_at_once(addr: SocketAddr, count: usize) -> Duration {
    let start_together = Barrier::new(count);
    let client = || {
        start_together.wait();
        let start = Instant::now();
        let mut stream = TcpStream::connect(addr).unwrap();
        let answer = by_tcp(&mut stream, &question("web.", RecordType::A));
        assert_eq!(answer.answers.len(), 1);
        start.elapsed()
    };
    std::thread::scope(|scope| {
        let small = || std::thread::Builder::new().stack_size(256 << 10);
        let clients: Vec<_> =
            (0..count).map(|_| small().spawn_scoped(scope, client).unwrap()).collect();
        clients.into_iter().map(|client| client.join().unwrap()).max().unwrap()
    })
}

#[test]
fn a_thousand_clients_that_ask_at_the_same_time_are_all_answered() {
    may_open_many_files();
    let served = serve(internal());
    // Connected all before the first one asks.
    let mut streams: Vec<_> = (0..1000).map(|_| TcpStream::connect(served.addr).unwrap()).collect();
    let asked = question("web.", RecordType::A);
    for stream in &mut streams {
        stream.write_all(&framed(&asked.to_vec().unwrap())).unwrap();
    }
    for stream in &mut streams {
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        assert_eq!(read_framed(stream).unwrap()[..2], asked.metadata.id.to_be_bytes());
    }
    // They stay, and are silent: a thousand others are answered in their stead.
    ask_at_once(served.addr, 1000);
    let stats = served.handle.stats();
    assert_eq!((stats.local, stats.overloaded, stats.dropped), (2000, 0, 0));
}

#[test]
fn two_thousand_silent_holders_do_not_lock_out_two_hundred_that_ask() {
    may_open_many_files();
    let served = serve(internal());
    let holders: Vec<_> = (0..2000)
        .map(|i| {
            let mut stream = TcpStream::connect(served.addr).unwrap();
            // Half a length, a length alone, or nothing at all.
            stream.write_all([&[][..], &[0], &[255, 255]][i % 3]).unwrap();
            stream
        })
        .collect();
    let longest = ask_at_once(served.addr, 200);
    // Two times the grace, and the machine may be busy.
    assert!(longest < Duration::from_secs(4), "{longest:?}");
    assert_eq!(served.handle.stats().local, 200);
    drop(holders);
}

#[test]
fn the_limit_over_all_sandboxes_holds_and_the_emptier_one_is_heard() {
    let config = Config { tcp_connections_total_max: 8, ..Config::default() };
    let served = serve_with(internal(), &config);
    let (udp, tcp) = bound();
    let addr = udp.local_addr().unwrap();
    let other = swarmnet_types::SandboxId::from_bytes([8; 16]);
    served.handle.serve(other, udp, tcp, std::sync::Arc::new(internal())).unwrap();
    let mut greedy: Vec<_> = (0..8).map(|_| TcpStream::connect(served.addr).unwrap()).collect();
    let mut quiet = TcpStream::connect(addr).unwrap();
    assert_eq!(by_tcp(&mut quiet, &question("web.", RecordType::A)).answers.len(), 1);
    // The first of the eight made room; the last is still heard.
    assert!(read_framed(&mut greedy[0]).is_err());
    let answer = by_tcp(&mut greedy[7], &question("web.", RecordType::A));
    assert_eq!(answer.answers.len(), 1);
}
