//! A name server on loopback, a client, and an upstream resolver whose behaviour each test decides.
#![allow(dead_code, reason = "each test binary uses its own part")]
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::{A, SOA};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use swarmnet_dns::{
    Config, Forward, Forwarder, Handle, NameServer, NodeSockets, Order, SandboxNames, Upstreams,
    Zone, ZoneBuilder,
};
use swarmnet_types::{DualStack, SandboxId};

pub(crate) const KEY: SandboxId = SandboxId::from_bytes([7; 16]);
const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) struct Served {
    pub(crate) handle: Handle,
    pub(crate) addr: SocketAddr,
}

/// Serves `names` on loopback.
pub(crate) fn serve(names: SandboxNames) -> Served {
    serve_with(names, &Config::default())
}

pub(crate) fn serve_with(names: SandboxNames, config: &Config) -> Served {
    let handle = NameServer::start(config).unwrap();
    let (udp, tcp) = bound();
    let addr = udp.local_addr().unwrap();
    handle.serve(KEY, udp, tcp, Arc::new(names)).unwrap();
    Served { handle, addr }
}

/// UDP and TCP at one free port.
pub(crate) fn bound() -> (UdpSocket, TcpListener) {
    loop {
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        if let Ok(tcp) = TcpListener::bind(udp.local_addr().unwrap()) {
            return (udp, tcp);
        }
    }
}

/// `web` with one address, `many` with 200, `old` without IPv6.
pub(crate) fn zone() -> Arc<Zone> {
    let subnets = ["10.0.0.0/24".parse().unwrap(), "fd00::/64".parse().unwrap()];
    let mut builder = ZoneBuilder::new("overnet", &subnets).unwrap();
    let both =
        |i: u8| DualStack::new(Some([10, 0, 0, i].into()), format!("fd00::{i:x}").parse().ok());
    builder.primary("web", both(250)).unwrap();
    builder.primary("old", DualStack::new(Some([10, 0, 0, 251].into()), None)).unwrap();
    for i in 0..200 {
        builder.further("many", both(i)).unwrap();
    }
    Arc::new(builder.build())
}

pub(crate) fn internal() -> SandboxNames {
    SandboxNames::new(vec![zone()], Forward::Never)
}

pub(crate) fn forwarding(servers: Vec<SocketAddr>, order: Order) -> SandboxNames {
    let upstreams = Upstreams { servers, order, sockets: Arc::new(NodeSockets) };
    SandboxNames::new(vec![zone()], Forward::To(Arc::new(Forwarder::new(upstreams))))
}

pub(crate) fn question(name: &str, kind: RecordType) -> Message {
    let mut message = Message::new(rand::random(), MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
    message
}

pub(crate) fn with_edns(mut message: Message, payload_bytes: u16) -> Message {
    let mut edns = Edns::new();
    edns.set_max_payload(payload_bytes).set_dnssec_ok(true);
    message.edns = Some(edns);
    message
}

pub(crate) fn by_udp(addr: SocketAddr, message: &Message) -> Message {
    let bytes = exchange_udp(addr, &message.to_vec().unwrap()).expect("an answer");
    let answer = Message::from_vec(&bytes).unwrap();
    assert_eq!(answer.metadata.id, message.metadata.id);
    answer
}

pub(crate) fn exchange_udp(addr: SocketAddr, bytes: &[u8]) -> Option<Vec<u8>> {
    exchange_udp_within(addr, bytes, PATIENCE)
}

pub(crate) fn exchange_udp_within(
    addr: SocketAddr,
    bytes: &[u8],
    patience: Duration,
) -> Option<Vec<u8>> {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(patience)).unwrap();
    socket.send_to(bytes, addr).unwrap();
    let mut room = vec![0; 65536];
    let len = socket.recv(&mut room).ok()?;
    room.truncate(len);
    Some(room)
}

pub(crate) fn ask(served: &Served, name: &str, kind: RecordType) -> Message {
    by_udp(served.addr, &question(name, kind))
}

pub(crate) fn by_tcp(stream: &mut TcpStream, message: &Message) -> Message {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(&framed(&message.to_vec().unwrap())).unwrap();
    Message::from_vec(&read_framed(stream).unwrap()).unwrap()
}

pub(crate) fn framed(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u16).to_be_bytes(), bytes].concat()
}

pub(crate) fn read_framed(stream: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let mut len = [0; 2];
    stream.read_exact(&mut len)?;
    let mut bytes = vec![0; usize::from(u16::from_be_bytes(len))];
    stream.read_exact(&mut bytes)?;
    Ok(bytes)
}

pub(crate) fn addrs(message: &Message) -> Vec<IpAddr> {
    let addr = |record: &Record| match &record.data {
        RData::A(a) => Some(a.0.into()),
        RData::AAAA(aaaa) => Some(aaaa.0.into()),
        _ => None,
    };
    message.answers.iter().filter_map(addr).collect()
}

/// How an upstream answers one query; `true` in the call: it came by TCP. `None`: silence.
pub(crate) type Behaviour = dyn FnMut(&Message, bool) -> Option<Message> + Send;

pub(crate) struct Upstream {
    pub(crate) addr: SocketAddr,
    pub(crate) asked: Arc<AtomicUsize>,
    pub(crate) asked_by_tcp: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
}

impl Upstream {
    pub(crate) fn start(
        behaviour: impl FnMut(&Message, bool) -> Option<Message> + Send + 'static,
    ) -> Self {
        let (udp, tcp) = bound();
        let upstream = Self {
            addr: udp.local_addr().unwrap(),
            asked: Arc::default(),
            asked_by_tcp: Arc::default(),
            stop: Arc::default(),
        };
        let behaviour: Arc<Mutex<Behaviour>> = Arc::new(Mutex::new(behaviour));
        let (asked, stop, shared) =
            (Arc::clone(&upstream.asked), Arc::clone(&upstream.stop), Arc::clone(&behaviour));
        udp.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        std::thread::spawn(move || {
            let mut room = [0; 4096];
            while !stop.load(Ordering::Relaxed) {
                let Ok((len, peer)) = udp.recv_from(&mut room) else { continue };
                asked.fetch_add(1, Ordering::SeqCst);
                let query = Message::from_vec(&room[..len]).unwrap();
                let answer = shared.lock().unwrap()(&query, false);
                if let Some(answer) = answer {
                    udp.send_to(&answer.to_vec().unwrap(), peer).unwrap();
                }
            }
        });
        let (asked_by_tcp, stop) = (Arc::clone(&upstream.asked_by_tcp), Arc::clone(&upstream.stop));
        std::thread::spawn(move || {
            tcp.set_nonblocking(true).unwrap();
            while !stop.load(Ordering::Relaxed) {
                let Ok((mut stream, _)) = tcp.accept() else {
                    std::thread::sleep(Duration::from_millis(5));
                    continue;
                };
                stream.set_nonblocking(false).unwrap();
                asked_by_tcp.fetch_add(1, Ordering::SeqCst);
                let query = Message::from_vec(&read_framed(&mut stream).unwrap()).unwrap();
                if let Some(answer) = behaviour.lock().unwrap()(&query, true) {
                    stream.write_all(&framed(&answer.to_vec().unwrap())).unwrap();
                }
            }
        });
        upstream
    }

    pub(crate) fn count(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    pub(crate) fn count_by_tcp(&self) -> usize {
        self.asked_by_tcp.load(Ordering::SeqCst)
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// An answer with these addresses, by the TTL in seconds.
pub(crate) fn answer(query: &Message, ttl_s: u32, addrs: &[Ipv4Addr]) -> Message {
    let mut message = failure(query, ResponseCode::NoError);
    let name = query.queries[0].name().clone();
    for addr in addrs {
        message.add_answer(Record::from_rdata(name.clone(), ttl_s, RData::A(A(*addr))));
    }
    message
}

pub(crate) fn failure(query: &Message, rcode: ResponseCode) -> Message {
    let mut message = query.clone();
    message.metadata.message_type = MessageType::Response;
    message.metadata.recursion_available = true;
    message.metadata.response_code = rcode;
    message
}

/// "No such name" that may be kept for so long.
pub(crate) fn no_such_name(query: &Message, minimum_s: u32) -> Message {
    let mut message = failure(query, ResponseCode::NXDomain);
    let zone = Name::from_ascii("example.").unwrap();
    let soa = SOA::new(zone.clone(), zone.clone(), 1, 2, 3, 4, minimum_s);
    message.add_authority(Record::from_rdata(zone, 3600, RData::SOA(soa)));
    message
}
