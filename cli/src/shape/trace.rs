//! A trace as JSON. Docker has no such thing: the names are ours.

use serde_json::{Value, json};
use swarmnet_proto::v1;

use crate::cmd::hex;

fn hop(hop: &v1::TraceHop) -> Value {
    json!({
        "Kind": hop.kind,
        "Subject": hop.subject,
        "Found": hop.found,
        "State": if hop.broken { "broken" } else { "ok" },
        "Why": hop.why,
        "Remedy": hop.remedy,
    })
}

/// The whole trace; `Broken` is the hop where it breaks, or `null`.
pub(crate) fn inspect(trace: &v1::TraceResponse) -> Value {
    json!({
        "SandboxID": hex(&trace.sandbox),
        "Sandbox": trace.sandbox_name,
        "Node": trace.node,
        "Address": trace.address,
        "Chosen": trace.chosen,
        "Hops": trace.hops.iter().map(hop).collect::<Vec<_>>(),
        "Broken": trace.hops.iter().find(|h| h.broken).map(hop),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_broken_hop_is_told_apart() {
        let good = v1::TraceHop { kind: "name".to_owned(), ..Default::default() };
        let broken =
            |kind: &str| v1::TraceHop { kind: kind.to_owned(), broken: true, ..Default::default() };
        let mut trace = v1::TraceResponse {
            address: "10.0.0.2".to_owned(),
            hops: vec![good, broken("fdb"), broken("probe")],
            ..Default::default()
        };
        let value = inspect(&trace);
        assert_eq!(value["Address"], "10.0.0.2");
        assert_eq!(value["Broken"]["Kind"], "fdb");
        assert_eq!(value["Hops"][0]["State"], "ok");
        trace.hops.truncate(1);
        assert_eq!(inspect(&trace)["Broken"], Value::Null);
    }
}
