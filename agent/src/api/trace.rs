//! Traces between messages and our own types.

use std::time::Duration;

use bytes::Bytes;
use swarmnet_proto::{Malformed, v1};
use swarmnet_types::Protocol;

use super::message::bad;
use crate::local::SandboxRecord;
use crate::trace::{Hop, Question, To, Trace, Verdict};

/// The longest that resolver and probe may take, each.
const TIMEOUT_MS_MAX: u32 = 60_000;

/// The sandbox, and what is asked.
pub(super) fn asked(request: v1::TraceRequest) -> Result<(String, Question), Malformed> {
    let protocol = Protocol::from(request.protocol());
    if protocol == Protocol::Sctp {
        return Err(bad("protocol", "want tcp or udp"));
    }
    let port = u16::try_from(request.port)
        .map_err(|_| bad("port", format!("{} is no port", request.port)))?;
    let ipv6 = match request.family {
        0 => None,
        4 => Some(false),
        6 => Some(true),
        other => return Err(bad("family", format!("{other} is neither 4 nor 6"))),
    };
    if !(1..=TIMEOUT_MS_MAX).contains(&request.timeout_ms) {
        return Err(bad("timeout", format!("want 1 to {TIMEOUT_MS_MAX} ms")));
    }
    let to = request.to.parse().map_or(To::Name(request.to), To::Addr);
    let question = Question {
        to,
        port: Some(port).filter(|port| *port != 0),
        protocol,
        ipv6,
        timeout: Duration::from_millis(request.timeout_ms.into()),
    };
    Ok((request.sandbox, question))
}

fn hop(hop: Hop) -> v1::TraceHop {
    let (broken, why, remedy) = match hop.verdict {
        Verdict::Good => (false, String::new(), String::new()),
        Verdict::Broken { why, remedy } => (true, why, remedy),
    };
    let kind = hop.kind.to_string();
    v1::TraceHop { kind, subject: hop.subject, found: hop.found, broken, why, remedy }
}

/// What was found.
pub(super) fn found(record: &SandboxRecord, node: &str, trace: Trace) -> v1::TraceResponse {
    v1::TraceResponse {
        sandbox: Bytes::copy_from_slice(record.id.as_bytes()),
        sandbox_name: record.name.to_string(),
        node: node.to_owned(),
        address: trace.addr.map(|addr| addr.to_string()).unwrap_or_default(),
        chosen: trace.chosen.unwrap_or_default(),
        hops: trace.hops.into_iter().map(hop).collect(),
    }
}
