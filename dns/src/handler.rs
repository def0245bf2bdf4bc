//! The one file that knows hickory: it reads queries of any shape, answers what is ours or wrong, and says what is to be
//! forwarded. TCP queries and everything odd come through here.
//!
//! Pure but for the random order of addresses. hickory loses the OPT record of an answer that it cuts, so OPT is kept out of
//! its encoder and appended here (RFC 6891 §7: an answer to a query with OPT has one).

use std::net::SocketAddr;
use std::sync::Arc;

use hickory_server::net::xfer::Protocol;
use hickory_server::proto::op::{LowerQuery, Metadata, OpCode, ResponseCode};
use hickory_server::proto::rr::rdata::{A, AAAA, PTR};
use hickory_server::proto::rr::{DNSClass, Name, RData, Record};
use hickory_server::proto::serialize::binary::BinEncoder;
use hickory_server::server::Request;
use hickory_server::zone_handler::MessageResponseBuilder;
use rand::seq::SliceRandom;

use crate::forward::Forwarder;
use crate::names::{Forward, Lookup, RecordKind, SandboxNames};
use crate::wire::{
    self, HEADER_LEN, OPT_LEN, QUERY_MAX_BYTES, Query, UDP_EDNS_MAX_BYTES, WireName, code, flag,
};

/// How a query came, which decides how long its answer may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Arrival {
    Udp,
    Tcp,
}

/// What a query that was answered here ended as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    Local,
    NoData,
    NoName,
    Refused,
    Malformed,
    /// Should have been answered, but no answer could be written.
    Failed,
}

#[derive(Debug)]
pub(crate) enum Decision {
    Reply {
        reply: Vec<u8>,
        ending: Ending,
        truncated: bool,
    },
    Forward {
        query: Box<Query>,
        forwarder: Arc<Forwarder>,
    },
    /// A response or a scrap: not to be answered.
    Silent,
}

/// Decides about one message.
pub(crate) fn decide(
    message: &[u8],
    peer: SocketAddr,
    arrival: Arrival,
    names: &SandboxNames,
) -> Decision {
    let is_query = wire::u16_at(message, 2).is_some_and(|flags| flags & flag::RESPONSE == 0);
    if message.len() < HEADER_LEN || !is_query {
        return Decision::Silent;
    }
    let protocol = match arrival {
        Arrival::Udp => Protocol::Udp,
        Arrival::Tcp => Protocol::Tcp,
    };
    let malformed = || Decision::Reply {
        reply: header_only(message, code::FORMAT),
        ending: Ending::Malformed,
        truncated: false,
    };
    // Its end is missing.
    if message.len() >= QUERY_MAX_BYTES {
        return malformed();
    }
    let Ok(request) = Request::from_bytes(message.to_vec(), peer, protocol) else {
        return malformed();
    };
    let answering = Answering { request: &request, arrival, names };
    if request.metadata.op_code != OpCode::Query {
        return answering.error(ResponseCode::NotImp, Ending::Malformed);
    }
    if request.version() != 0 {
        return answering.error(ResponseCode::BADVERS, Ending::Malformed);
    }
    let [query] = request.queries.queries() else {
        return answering.error(ResponseCode::FormErr, Ending::Malformed);
    };
    // hickory reads over what lies behind the last record.
    if wire::records(message).is_none() {
        return malformed();
    }
    answering.decide(message, query)
}

struct Answering<'r> {
    request: &'r Request,
    arrival: Arrival,
    names: &'r SandboxNames,
}

impl Answering<'_> {
    fn decide(&self, message: &[u8], query: &LowerQuery) -> Decision {
        // CHAOS and its like ask about the server itself, which is nobody's business.
        let name = WireName::from_labels(query.name().iter());
        let (DNSClass::IN, Some(name)) = (query.query_class(), name) else {
            return self.error(ResponseCode::Refused, Ending::Refused);
        };
        let kind = RecordKind::from_wire(query.query_type().into());
        let owner = query.original().name();
        let ttl_s = self.names.ttl_s;
        let record = |data| Record::from_rdata(owner.clone(), ttl_s, data);
        let mut records: Vec<Record> = match self.names.lookup(&name, kind) {
            Lookup::V4(addrs) => addrs.iter().map(|&a| record(RData::A(A(a)))).collect(),
            Lookup::V6(addrs) => addrs.iter().map(|&a| record(RData::AAAA(AAAA(a)))).collect(),
            Lookup::Pointer(name) => pointer(name).map(record).into_iter().collect(),
            Lookup::NoData => Vec::new(),
            Lookup::NoName => return self.error(ResponseCode::NXDomain, Ending::NoName),
            Lookup::NotOurs => return self.foreign(message),
        };
        records.shuffle(&mut rand::rng());
        let ending = if records.is_empty() { Ending::NoData } else { Ending::Local };
        self.reply(ResponseCode::NoError, &records, ending)
    }

    /// A name that is not ours: forwarded when the sandbox may and the query is one that a forwarder can pass on. Zone
    /// transfers are answers of many messages, and further records (TSIG) are between the client and its server.
    fn foreign(&self, message: &[u8]) -> Decision {
        let Forward::To(forwarder) = &self.names.forward else {
            return self.error(ResponseCode::Refused, Ending::Refused);
        };
        match Query::parse(message) {
            Ok(query) if !matches!(query.kind, wire::kind::AXFR | wire::kind::IXFR) => {
                Decision::Forward { query: query.into(), forwarder: Arc::clone(forwarder) }
            }
            _ => self.error(ResponseCode::Refused, Ending::Refused),
        }
    }

    fn error(&self, rcode: ResponseCode, ending: Ending) -> Decision {
        self.reply(rcode, &[], ending)
    }

    fn reply(&self, rcode: ResponseCode, records: &[Record], ending: Ending) -> Decision {
        let mut metadata = Metadata::response_from_request(&self.request.metadata);
        metadata.response_code = rcode;
        metadata.recursion_available = true;
        metadata.authoritative = matches!(ending, Ending::Local | Ending::NoData | Ending::NoName);
        let Some(reply) = self.encode(metadata, records) else {
            let reply = header_only(self.request.as_slice(), code::SERVER_FAILURE);
            return Decision::Reply { reply, ending: Ending::Failed, truncated: false };
        };
        let truncated = wire::is_truncated(&reply);
        Decision::Reply { reply, ending, truncated }
    }

    /// `None` when hickory cannot; the one who counts says so, within limits: it may happen with every packet.
    fn encode(&self, metadata: Metadata, records: &[Record]) -> Option<Vec<u8>> {
        let limit_bytes = match self.arrival {
            Arrival::Udp => usize::from(self.request.max_payload()).min(UDP_EDNS_MAX_BYTES),
            Arrival::Tcp => usize::from(u16::MAX),
        };
        let opt =
            self.request.edns.as_ref().map(|edns| {
                wire::opt_record(edns.flags().dnssec_ok, metadata.response_code.high())
            });
        let body_bytes = limit_bytes - if opt.is_some() { OPT_LEN } else { 0 };
        let mut reply = Vec::with_capacity(512);
        let mut encoder = BinEncoder::new(&mut reply);
        encoder.set_max_size(body_bytes as u16);
        let response = MessageResponseBuilder::new(&self.request.queries, None).build(
            metadata,
            records,
            [],
            [],
            [],
        );
        let emitted = response.destructive_emit(&mut encoder);
        // A record that did not fit is rolled back, but its bytes stay behind the message's end.
        let end = encoder.offset();
        if let Err(err) = emitted {
            tracing::debug!(%err, "cannot encode an answer");
            return None;
        }
        reply.truncate(end);
        if let Some(opt) = opt {
            reply.extend_from_slice(&opt);
            // ARCOUNT, which hickory left at 0.
            reply[11] = 1;
        }
        Some(reply)
    }
}

/// The name of a pointer record; the tables hold only names that can be read back.
fn pointer(wire: &[u8]) -> Option<RData> {
    let (name, _) = WireName::read(wire, 0)?;
    Name::from_labels(name.labels()).ok().map(|name| RData::PTR(PTR(name)))
}

/// An answer of a header alone, to a message of which no more could be read or need be.
pub(crate) fn header_only(message: &[u8], rcode: u16) -> Vec<u8> {
    let asked = wire::u16_at(message, 2).unwrap_or_default();
    let kept = asked & (flag::OPCODE | flag::RECURSION_DESIRED);
    let flags = flag::RESPONSE | flag::RECURSION_AVAILABLE | kept | rcode;
    let mut reply = vec![0; HEADER_LEN];
    reply[..2].copy_from_slice(&wire::u16_at(message, 0).unwrap_or_default().to_be_bytes());
    reply[2..4].copy_from_slice(&flags.to_be_bytes());
    reply
}
