//! `swarmnet trace FROM TO`: the way of a packet, hop by hop, and where it breaks.

use std::net::IpAddr;

use clap::Args;
use serde_json::Value;
use swarmnet_proto::v1;

use crate::client::Daemon;
use crate::error::{CliError, check_template};
use crate::format::{Columns, ListFormat, print_inspect, print_list};
use crate::shape::trace;

#[derive(Debug, Args)]
pub(crate) struct TraceArgs {
    /// Sandbox of this node: its name, id, or the beginning of its id
    from: String,
    /// Name, service, virtual or other address, also of a node; with a port: NAME:80, 10.0.0.2:80, [fd00::2]:80
    #[arg(value_name = "TO[:PORT]")]
    to: String,
    /// What the probe is: `tcp` or `udp` (without a port an echo is sent)
    #[arg(long, value_name = "PROTOCOL")]
    protocol: Option<String>,
    /// Only by IPv4
    #[arg(short = '4', long, conflicts_with = "ipv6")]
    ipv4: bool,
    /// Only by IPv6
    #[arg(short = '6', long)]
    ipv6: bool,
    /// Seconds that the resolver and the probe may take, each, such as 2 or 0.5
    #[arg(long, default_value = "2", value_name = "SECONDS")]
    timeout: String,
    /// `table`, `json`, or a template such as '{{range .Hops}}{{.Kind}} {{.Found}}\n{{end}}'
    #[arg(short, long, value_name = "FORMAT")]
    format: Option<String>,
}

const COLUMNS: Columns = Columns(&[
    ("HOP", "{{.Kind}}"),
    ("LOOKED AT", "{{.Subject}}"),
    ("FOUND", "{{.Found}}"),
    ("STATE", "{{.State}}"),
]);
/// A probe that takes longer is answered by nobody.
const TIMEOUT_S_MAX: f64 = 60.0;

pub(crate) async fn run(args: TraceArgs, mut daemon: Daemon) -> Result<(), CliError> {
    let format = args.format.clone().filter(|f| f != "table");
    check_template(format.as_deref())?;
    let request = request(args)?;
    let answer = daemon.node.trace(request).await?.into_inner();
    let value = trace::inspect(&answer);
    if let Some(format) = format {
        print_inspect(&[value], Some(&format))?;
    } else {
        let rows: &[Value] = value["Hops"].as_array().map_or(&[], Vec::as_slice);
        print_list(rows, COLUMNS, &ListFormat::default())?;
    }
    match answer.hops.iter().find(|hop| hop.broken) {
        None => Ok(()),
        Some(hop) => Err(CliError::failure(format!(
            "broken at {} {}: {}: {}",
            hop.kind, hop.subject, hop.why, hop.remedy
        ))),
    }
}

fn request(args: TraceArgs) -> Result<v1::TraceRequest, CliError> {
    let (to, port) = target(&args.to)?;
    let protocol = match args.protocol.as_deref() {
        None | Some("tcp") => v1::Protocol::Tcp,
        Some("udp") => v1::Protocol::Udp,
        Some(other) => {
            return Err(CliError::usage(format!("invalid protocol `{other}`: want tcp or udp")));
        }
    };
    if args.protocol.is_some() && port.is_none() {
        return Err(CliError::usage(format!(
            "--protocol needs a port: `{}` has none, want {}:PORT",
            args.to, args.to
        )));
    }
    let family = match (args.ipv4, args.ipv6) {
        (true, _) => 4,
        (false, true) => 6,
        (false, false) => 0,
    };
    let addr = to.parse::<IpAddr>().ok().map(|addr| addr.to_canonical());
    if addr.is_some_and(|a| family == if a.is_ipv6() { 4 } else { 6 }) {
        return Err(CliError::usage(format!("`{to}` is no address of IPv{family}")));
    }
    Ok(v1::TraceRequest {
        sandbox: args.from,
        to,
        port: port.unwrap_or_default().into(),
        protocol: protocol.into(),
        family,
        timeout_ms: timeout_ms(&args.timeout)?,
    })
}

fn timeout_ms(text: &str) -> Result<u32, CliError> {
    let seconds = text.strip_suffix('s').unwrap_or(text).parse::<f64>().ok();
    let seconds = seconds.filter(|s| (0.001..=TIMEOUT_S_MAX).contains(s)).ok_or_else(|| {
        CliError::usage(format!("invalid timeout `{text}`: want seconds, 0.001 to {TIMEOUT_S_MAX}"))
    })?;
    Ok(std::time::Duration::from_secs_f64(seconds).as_millis() as u32)
}

/// `NAME`, `ADDRESS`, each with `:PORT`; an IPv6 address with a port is in brackets.
fn target(text: &str) -> Result<(String, Option<u16>), CliError> {
    if text.parse::<IpAddr>().is_ok() {
        return Ok((text.to_owned(), None));
    }
    let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, "")) => (host, None),
        // Without a colon behind the bracket it is nothing.
        Some((host, rest)) => match rest.strip_prefix(':') {
            Some(port) => (host, Some(port)),
            None => ("", None),
        },
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let no_address = text.starts_with('[') && host.parse::<std::net::Ipv6Addr>().is_err();
    if host.is_empty() || no_address || text.contains(char::is_control) {
        return Err(CliError::usage(format!(
            "invalid target `{text}`: want NAME[:PORT], ADDRESS[:PORT] or [IPv6]:PORT"
        )));
    }
    let number = |port: &str| port.parse().ok().filter(|port: &u16| *port != 0);
    match port {
        None => Ok((host.to_owned(), None)),
        Some(port) => match number(port) {
            Some(port) => Ok((host.to_owned(), Some(port))),
            None => {
                Err(CliError::usage(format!("invalid port `{port}` in `{text}`: want 1 to 65535")))
            }
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_names_or_addresses_with_or_without_a_port() {
        for (text, host, port) in [
            ("web", "web", None),
            ("tasks.web:80", "tasks.web", Some(80)),
            ("10.0.0.2", "10.0.0.2", None),
            ("10.0.0.2:80", "10.0.0.2", Some(80)),
            ("fd00::2", "fd00::2", None),
            ("[fd00::2]", "fd00::2", None),
            ("[fd00::2]:443", "fd00::2", Some(443)),
        ] {
            assert_eq!(target(text).expect(text), (host.to_owned(), port));
        }
        for bad in [
            "",
            ":80",
            "web:",
            "web:0",
            "web:70000",
            "web:http",
            "[web]:80",
            "[]:80",
            "a:b:1",
            "[fd00::2]80",
            "a\u{1b}[31m",
            "a\nb:80",
        ] {
            assert_eq!(target(bad).expect_err(bad).exit_status(), 2, "{bad}");
        }
    }

    #[test]
    fn timeouts_are_seconds_within_reason() {
        for (text, ms) in [("2", 2_000), ("0.5", 500), ("3s", 3_000), ("60", 60_000)] {
            assert_eq!(timeout_ms(text).expect(text), ms);
        }
        for bad in ["", "0", "-1", "61", "soon", "nan"] {
            assert_eq!(timeout_ms(bad).expect_err(bad).exit_status(), 2, "{bad}");
        }
    }
}
