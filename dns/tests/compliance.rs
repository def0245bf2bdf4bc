//! Malformed and rare queries, byte by byte, and the answer that each gets: by UDP and by TCP the same.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use support::*;
use swarmnet_dns::Order;

const ID: [u8; 2] = [0x12, 0x34];
const NO_ERROR: u16 = 0;
const FORMAT: u16 = 1;
const NOT_IMPLEMENTED: u16 = 4;
const REFUSED: u16 = 5;
const BAD_VERSION: u16 = 16;

/// A message with these flags and counts, and what is behind the header.
fn message(flags: u16, counts: [u16; 4], body: &[u8]) -> Vec<u8> {
    let words = [flags].into_iter().chain(counts).flat_map(u16::to_be_bytes);
    ID.into_iter().chain(words).chain(body.iter().copied()).collect()
}

/// The usual query with another body.
fn query(body: &[u8]) -> Vec<u8> {
    message(0x0100, [1, 0, 0, 0], body)
}

/// The usual query with `extra` records behind the question.
fn query_with(extra: u16, body: &[&[u8]]) -> Vec<u8> {
    message(0x0100, [1, 0, 0, extra], &body.concat())
}

fn name(labels: &[&[u8]]) -> Vec<u8> {
    let labels = labels.iter().flat_map(|label| [&[label.len() as u8][..], label].concat());
    labels.chain([0]).collect()
}

fn asked(name: &[u8], kind: u16, class: u16) -> Vec<u8> {
    [name, &kind.to_be_bytes(), &class.to_be_bytes()].concat()
}

fn web(kind: u16, class: u16) -> Vec<u8> {
    asked(&name(&[b"web"]), kind, class)
}

fn opt(payload_bytes: u16, version: u8, options: &[u8]) -> Vec<u8> {
    let [high, low] = payload_bytes.to_be_bytes();
    let len = (options.len() as u16).to_be_bytes();
    [&[0, 0, 41, high, low, 0, version, 0, 0][..], &len, options].concat()
}

/// What matters of an answer; `None`: there is none.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    /// With the high bits that OPT holds.
    rcode: u16,
    answers: u16,
    /// How many OPT records.
    opts: u16,
}

const fn seen(rcode: u16, answers: u16, opts: u16) -> Seen {
    Seen { rcode, answers, opts }
}

fn word(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

/// Every answer is for the id, is a response, and says that recursion is available.
fn look(answer: &[u8]) -> Seen {
    assert_eq!(answer[..2], ID);
    assert_eq!(word(answer, 2) & 0x8080, 0x8080, "{answer:02x?}");
    assert_eq!(word(answer, 8), 0, "no authority section");
    let opts = word(answer, 10);
    let mut rcode = word(answer, 2) & 0x0f;
    if opts > 0 {
        // Ours has no options and comes last.
        let opt = &answer[answer.len() - 11..];
        assert_eq!((opt[..3].to_vec(), opt[6]), (vec![0, 0, 41], 0), "an OPT of version 0");
        rcode |= u16::from(opt[5]) << 4;
    }
    Seen { rcode, answers: word(answer, 6), opts }
}

/// Silence is seen by waiting.
fn over_udp(served: &Served, bytes: &[u8]) -> Option<Vec<u8>> {
    exchange_udp_within(served.addr, bytes, Duration::from_millis(700))
}

/// By TCP silence is a closed connection.
fn over_tcp(served: &Served, bytes: &[u8]) -> Option<Vec<u8>> {
    let mut stream = TcpStream::connect(served.addr).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    stream.write_all(&framed(bytes)).unwrap();
    match read_framed(&mut stream) {
        Ok(answer) => Some(answer),
        Err(err) => {
            assert_ne!(err.kind(), std::io::ErrorKind::WouldBlock, "closed, not left open");
            None
        }
    }
}

type Case = (&'static str, Vec<u8>, Option<Seen>);

fn headers() -> Vec<Case> {
    let web = web(1, 1);
    let twice = [&web[..], &web].concat();
    let flagged = |flags| message(flags, [1, 0, 0, 0], &web);
    vec![
        ("the usual query", query(&web), Some(seen(NO_ERROR, 1, 0))),
        ("nothing", vec![], None),
        ("a scrap", ID.to_vec(), None),
        ("a header cut by one", query(&[])[..11].to_vec(), None),
        ("a response", flagged(0x8100), None),
        ("a response without a question", message(0x8000, [0; 4], &[]), None),
        ("inverse query", flagged(0x0900), Some(seen(NOT_IMPLEMENTED, 0, 0))),
        ("status", flagged(0x1100), Some(seen(NOT_IMPLEMENTED, 0, 0))),
        ("notify", flagged(0x2100), Some(seen(NOT_IMPLEMENTED, 0, 0))),
        ("update", flagged(0x2900), Some(seen(NOT_IMPLEMENTED, 0, 0))),
        ("an opcode of nobody's", flagged(0x7900), Some(seen(NOT_IMPLEMENTED, 0, 0))),
        ("a reserved bit", flagged(0x0140), Some(seen(NO_ERROR, 1, 0))),
        ("marked as cut", flagged(0x0300), Some(seen(NO_ERROR, 1, 0))),
        ("recursion not desired", flagged(0), Some(seen(NO_ERROR, 1, 0))),
        ("no question", message(0x0100, [0; 4], &[]), Some(seen(FORMAT, 0, 0))),
        (
            "no question, OPT",
            message(0x0100, [0, 0, 0, 1], &opt(1232, 0, &[])),
            Some(seen(FORMAT, 0, 1)),
        ),
        ("two questions", message(0x0100, [2, 0, 0, 0], &twice), Some(seen(FORMAT, 0, 0))),
        (
            "65535 questions claimed",
            message(0x0100, [65535, 0, 0, 0], &web),
            Some(seen(FORMAT, 0, 0)),
        ),
        ("an answer claimed", message(0x0100, [1, 1, 0, 0], &web), Some(seen(FORMAT, 0, 0))),
        ("an authority claimed", message(0x0100, [1, 0, 1, 0], &web), Some(seen(FORMAT, 0, 0))),
        ("a further record claimed", message(0x0100, [1, 0, 0, 1], &web), Some(seen(FORMAT, 0, 0))),
    ]
}

fn names() -> Vec<Case> {
    let a = |name: &[u8]| query(&asked(name, 1, 1));
    let full = [b'x'; 63];
    let labels = |last: usize| name(&[&full, &full, &full, &full[..last]]);
    vec![
        ("upper case", a(&name(&[b"WeB", b"OVERnet"])), Some(seen(NO_ERROR, 1, 0))),
        ("a label of 63", a(&name(&[&full])), Some(seen(REFUSED, 0, 0))),
        ("a label of 64", a(&[&[64][..], &[b'x'; 64], &[0]].concat()), Some(seen(FORMAT, 0, 0))),
        ("a label type of nobody's", a(&[0x80, b'x', 0]), Some(seen(FORMAT, 0, 0))),
        ("a name of 255", a(&labels(61)), Some(seen(REFUSED, 0, 0))),
        ("a name of 256", a(&labels(62)), Some(seen(FORMAT, 0, 0))),
        ("the root", a(&[0]), Some(seen(REFUSED, 0, 0))),
        ("a zero in a label", a(&name(&[b"we\0b"])), Some(seen(REFUSED, 0, 0))),
        ("a dot in a label", a(&name(&[b"web.overnet"])), Some(seen(REFUSED, 0, 0))),
        ("points at itself", a(&[0xc0, 12]), Some(seen(FORMAT, 0, 0))),
        ("two that point at each other", a(&[0xc0, 14, 0xc0, 12]), Some(seen(FORMAT, 0, 0))),
        ("a label that leads back", a(&[3, b'w', b'e', b'b', 0xc0, 12]), Some(seen(FORMAT, 0, 0))),
        ("points into the header", a(&[0xc0, 4]), Some(seen(FORMAT, 0, 0))),
        ("points forward", a(&[0xc0, 18]), Some(seen(FORMAT, 0, 0))),
        ("points behind the end", a(&[0xff, 0xff]), Some(seen(FORMAT, 0, 0))),
        ("ends in a label", query(&[3, b'w', b'e']), Some(seen(FORMAT, 0, 0))),
        ("ends behind the name", query(&name(&[b"web"])), Some(seen(FORMAT, 0, 0))),
        ("ends in the class", query(&web(1, 1)[..8]), Some(seen(FORMAT, 0, 0))),
        ("a byte too much", query(&[&web(1, 1)[..], &[0]].concat()), Some(seen(FORMAT, 0, 0))),
    ]
}

fn kinds() -> Vec<Case> {
    let of = |kind, class| query(&web(kind, class));
    vec![
        ("AAAA", of(28, 1), Some(seen(NO_ERROR, 1, 0))),
        ("MX", of(15, 1), Some(seen(NO_ERROR, 0, 0))),
        ("a type of nobody's", of(65_280, 1), Some(seen(NO_ERROR, 0, 0))),
        ("type 0", of(0, 1), Some(seen(NO_ERROR, 0, 0))),
        ("ANY", of(255, 1), Some(seen(NO_ERROR, 0, 0))),
        ("AXFR", of(252, 1), Some(seen(NO_ERROR, 0, 0))),
        ("IXFR", of(251, 1), Some(seen(NO_ERROR, 0, 0))),
        ("OPT asked for", of(41, 1), Some(seen(NO_ERROR, 0, 0))),
        ("class CH", of(1, 3), Some(seen(REFUSED, 0, 0))),
        ("class HS", of(1, 4), Some(seen(REFUSED, 0, 0))),
        ("class ANY", of(1, 255), Some(seen(REFUSED, 0, 0))),
        ("class 0", of(1, 0), Some(seen(REFUSED, 0, 0))),
        (
            "version.bind",
            query(&asked(&name(&[b"version", b"bind"]), 16, 3)),
            Some(seen(REFUSED, 0, 0)),
        ),
    ]
}

fn edns() -> Vec<Case> {
    let (web, plain) = (web(1, 1), opt(1232, 0, &[]));
    let with = |opt: &[u8]| query_with(1, &[&web, opt]);
    // An option's code and length, then its bytes: a cookie, padding, one that is nobody's.
    let cookie = [&[0, 10, 0, 8][..], b"12345678"].concat();
    let padding = [&[0, 12, 0, 100][..], &[0; 100]].concat();
    let nobodys = [0xfd, 0xe9, 0, 1, 7];
    let huge = opt(1232, 0, &[&[0, 12, 0x08, 0][..], &[0; 2048]].concat());
    let mut named = plain.clone();
    named.splice(..1, name(&[b"x"]));
    let record = [&name(&[b"web"])[..], &[0, 1, 0, 1, 0, 0, 0, 9, 0, 4, 1, 2, 3, 4]].concat();
    vec![
        ("OPT", with(&plain), Some(seen(NO_ERROR, 1, 1))),
        ("OPT of size 0", with(&opt(0, 0, &[])), Some(seen(NO_ERROR, 1, 1))),
        ("OPT with a cookie", with(&opt(1232, 0, &cookie)), Some(seen(NO_ERROR, 1, 1))),
        ("OPT with padding", with(&opt(1232, 0, &padding)), Some(seen(NO_ERROR, 1, 1))),
        (
            "OPT with an option of nobody's",
            with(&opt(1232, 0, &nobodys)),
            Some(seen(NO_ERROR, 1, 1)),
        ),
        ("EDNS version 1", with(&opt(1232, 1, &[])), Some(seen(BAD_VERSION, 0, 1))),
        ("EDNS version 255", with(&opt(1232, 255, &[])), Some(seen(BAD_VERSION, 0, 1))),
        (
            "EDNS version 1 with options",
            with(&opt(1232, 1, &cookie)),
            Some(seen(BAD_VERSION, 0, 1)),
        ),
        (
            "EDNS version 1 for a name that is not ours",
            query_with(1, &[&asked(&name(&[b"x", b"example"]), 1, 1), &opt(1232, 1, &[])]),
            Some(seen(BAD_VERSION, 0, 1)),
        ),
        (
            "EDNS version 1 in class CH",
            query_with(1, &[&self::web(1, 3), &opt(1232, 1, &[])]),
            Some(seen(BAD_VERSION, 0, 1)),
        ),
        ("two OPTs", query_with(2, &[&web, &plain, &plain]), Some(seen(FORMAT, 0, 0))),
        ("OPT cut", with(&plain[..10]), Some(seen(FORMAT, 0, 0))),
        ("OPT without its type", with(&plain[..2]), Some(seen(FORMAT, 0, 0))),
        ("an option cut", with(&opt(1232, 0, &cookie[..7])), Some(seen(FORMAT, 0, 0))),
        ("OPT with a name", with(&named), Some(seen(FORMAT, 0, 0))),
        (
            "OPT among the answers",
            message(0x0100, [1, 1, 0, 0], &[&web[..], &plain].concat()),
            Some(seen(FORMAT, 0, 0)),
        ),
        (
            "OPT in the authority section",
            message(0x0100, [1, 0, 1, 0], &[&web[..], &plain].concat()),
            Some(seen(FORMAT, 0, 0)),
        ),
        ("a byte behind OPT", with(&[&plain[..], &[0]].concat()), Some(seen(FORMAT, 0, 0))),
        ("longer than any query", with(&huge), Some(seen(FORMAT, 0, 0))),
        ("a further record", query_with(1, &[&web, &record]), Some(seen(NO_ERROR, 1, 0))),
    ]
}

#[test]
fn each_query_gets_its_answer_by_udp_and_by_tcp_the_same() {
    let served = serve(internal());
    let mut wrong = Vec::new();
    for (what, bytes, want) in [headers(), names(), kinds(), edns()].into_iter().flatten() {
        for (way, answer) in
            [("udp", over_udp(&served, &bytes)), ("tcp", over_tcp(&served, &bytes))]
        {
            let got = answer.as_deref().map(look);
            if got != want {
                wrong.push(format!("{what} by {way}: want {want:?}, got {got:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What a sandbox that may ask outside passes on, and what it does not.
#[test]
fn no_odd_query_is_forwarded() {
    let upstream = Upstream::start(|query, _| Some(answer(query, 60, &[])));
    let served = serve(forwarding(vec![upstream.addr], Order::Ordered));
    let outside = |kind, class| asked(&name(&[b"x", b"example"]), kind, class);
    let odd = [
        query(&outside(252, 1)),
        query(&outside(251, 1)),
        query(&outside(1, 3)),
        message(0x2900, [1, 0, 0, 0], &outside(1, 1)),
        query_with(1, &[&outside(1, 1), &opt(1232, 1, &[])]),
        query_with(2, &[&outside(1, 1), &opt(1232, 0, &[]), &opt(1232, 0, &[])]),
        query(&[&outside(1, 1)[..], &[0]].concat()),
    ];
    for bytes in odd {
        for answer in [over_udp(&served, &bytes), over_tcp(&served, &bytes)] {
            assert_ne!(look(&answer.unwrap()).rcode, NO_ERROR, "{bytes:02x?}");
        }
    }
    assert_eq!((upstream.count(), upstream.count_by_tcp()), (0, 0));
    assert_eq!(look(&over_udp(&served, &query(&outside(1, 1))).unwrap()).rcode, NO_ERROR);
    assert_eq!(upstream.count(), 1);
}

#[test]
fn answers_by_udp_are_as_long_as_edns_allows() {
    let served = serve(internal());
    let many = asked(&name(&[b"many"]), 1, 1);
    // An OPT counts too: 200 records of 16 bytes, a header of 12, a question of 10.
    for (payload_bytes, most) in
        [(0, 512), (511, 512), (512, 512), (1232, 1232), (4096, 4096), (65535, 4096)]
    {
        let answer =
            over_udp(&served, &query_with(1, &[&many, &opt(payload_bytes, 0, &[])])).unwrap();
        let fit = (most - 12 - 10 - 11) / 16;
        assert_eq!(look(&answer), seen(NO_ERROR, fit.min(200), 1), "{payload_bytes}");
        assert_eq!(word(&answer, 2) & 0x0200 != 0, fit < 200, "{payload_bytes}: TC");
    }
    let plain = over_udp(&served, &query(&many)).unwrap();
    assert_eq!(look(&plain), seen(NO_ERROR, (512 - 12 - 10) / 16, 0));
    let whole = over_tcp(&served, &query_with(1, &[&many, &opt(512, 0, &[])])).unwrap();
    assert_eq!(look(&whole), seen(NO_ERROR, 200, 1));
    assert_eq!(word(&whole, 2) & 0x0200, 0);
}

#[test]
fn the_question_comes_back_as_it_was_written() {
    let served = serve(internal());
    for labels in [&[&b"WeB"[..]][..], &[b"wEb", b"OverNet"], &[b"NoSuch"]] {
        let body = asked(&name(labels), 1, 1);
        for answer in [over_udp(&served, &query(&body)), over_tcp(&served, &query(&body))] {
            assert_eq!(answer.unwrap()[12..12 + body.len()], body);
        }
    }
}

#[test]
fn a_query_may_come_in_pieces_and_several_in_one() {
    let served = serve(internal());
    let bytes = framed(&query(&web(1, 1)));
    let mut stream = TcpStream::connect(served.addr).unwrap();
    stream.set_nodelay(true).unwrap();
    // The prefix itself in two segments, then byte by byte.
    for byte in &bytes {
        stream.write_all(&[*byte]).unwrap();
        std::thread::sleep(Duration::from_millis(2));
    }
    assert_eq!(look(&read_framed(&mut stream).unwrap()), seen(NO_ERROR, 1, 0));
    // Two and a half in one segment.
    let half = bytes.len() / 2;
    stream.write_all(&[&bytes[..], &bytes, &bytes[..half]].concat()).unwrap();
    for _ in 0..2 {
        assert_eq!(look(&read_framed(&mut stream).unwrap()), seen(NO_ERROR, 1, 0));
    }
    stream.write_all(&bytes[half..]).unwrap();
    assert_eq!(look(&read_framed(&mut stream).unwrap()), seen(NO_ERROR, 1, 0));
}

/// Also those that have to be asked for outside, while nothing but the answer is left to do.
#[test]
fn a_half_closed_client_gets_all_its_answers() {
    let upstream = Upstream::start(|query, _| {
        std::thread::sleep(Duration::from_millis(50));
        Some(answer(query, 60, &[]))
    });
    let served = serve(forwarding(vec![upstream.addr], Order::Ordered));
    let outside = query(&asked(&name(&[b"x", b"example"]), 1, 1));
    let mut stream = TcpStream::connect(served.addr).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let three = [framed(&outside), framed(&query(&web(1, 1))), framed(&outside)].concat();
    stream.write_all(&three).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut answers: Vec<_> =
        (0..3).map(|_| look(&read_framed(&mut stream).unwrap()).answers).collect();
    answers.sort_unstable();
    assert_eq!(answers, [0, 0, 1]);
    assert_eq!(stream.read(&mut [0]).unwrap(), 0, "then the server closes too");
}
