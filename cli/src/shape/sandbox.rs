//! Sandboxes and their processes in Docker's JSON of containers.

use serde_json::{Map, Value, json};
use swarmnet_proto::v1;

use super::stamp::{ago, now_ms, rfc3339};
use crate::cmd::hex;

/// One row of `sandbox ls` and `ps`.
pub(crate) fn row(s: &v1::Sandbox) -> Value {
    let spec = s.spec.clone().unwrap_or_default();
    let process = s.process.clone().unwrap_or_default();
    let networks: Vec<_> = s.endpoints.iter().map(|e| e.network_name.as_str()).collect();
    let addrs: Vec<_> = s.endpoints.iter().flat_map(|e| e.addrs.iter().map(|a| bare(a))).collect();
    let pid = if process.pid == 0 { String::new() } else { process.pid.to_string() };
    json!({
        "ID": hex(&s.id),
        "Names": spec.name,
        "Command": process.argv.join(" "),
        "CreatedAt": rfc3339(s.created_ms),
        "RunningFor": ago(s.created_ms, now_ms()),
        "State": state(s),
        "Status": status(s),
        "PID": pid,
        "Networks": networks.join(","),
        "Addresses": addrs.join(", "),
        "Service": spec.service,
        "Ports": s.ports.iter().map(port).collect::<Vec<_>>().join(", "),
    })
}

fn bare(addr: &str) -> &str {
    addr.split('/').next().unwrap_or(addr)
}

fn state(s: &v1::Sandbox) -> &str {
    match &s.process {
        Some(process) => &process.state,
        None => "created",
    }
}

/// In Docker's words: `Up 3 minutes`, `Exited (1) 2 hours ago`.
fn status(s: &v1::Sandbox) -> String {
    let Some(p) = &s.process else { return "Ready".to_owned() };
    match p.state.as_str() {
        "running" => {
            format!("Up {}", ago(p.started_ms, now_ms()).trim_end_matches(" ago").to_lowercase())
        }
        "exited" => format!("Exited ({}) {}", p.exit_code, ago(p.finished_ms, now_ms())),
        other => other.to_owned(),
    }
}

/// `0.0.0.0:5000->80/tcp`.
fn port(p: &v1::PortMap) -> String {
    format!("{}:{}->{}/{}", host_ip(p), p.host_port, p.port, protocol(p))
}

fn host_ip(p: &v1::PortMap) -> String {
    match <[u8; 4]>::try_from(&p.host_ip[..]) {
        Ok(octets) => std::net::Ipv4Addr::from(octets).to_string(),
        Err(_) => match <[u8; 16]>::try_from(&p.host_ip[..]) {
            Ok(octets) => format!("[{}]", std::net::Ipv6Addr::from(octets)),
            Err(_) => "0.0.0.0".to_owned(),
        },
    }
}

fn protocol(p: &v1::PortMap) -> String {
    swarmnet_types::Protocol::from(p.protocol()).to_string()
}

/// `sandbox inspect`, with the fields of `docker inspect` that a sandbox has.
pub(crate) fn inspect(s: &v1::Sandbox) -> Value {
    let spec = s.spec.clone().unwrap_or_default();
    let process = s.process.clone().unwrap_or_default();
    let ports: Map<String, Value> = s.ports.iter().fold(Map::new(), |mut map, p| {
        let key = format!("{}/{}", p.port, protocol(p));
        let binding = json!({"HostIp": host_ip(p), "HostPort": p.host_port.to_string()});
        let entry = map.entry(key).or_insert_with(|| json!([]));
        entry.as_array_mut().expect("made an array").push(binding);
        map
    });
    json!({
        "Id": hex(&s.id),
        "Created": rfc3339(s.created_ms),
        "Name": spec.name,
        "Path": process.argv.first(),
        "Args": process.argv.get(1..).unwrap_or_default(),
        "State": {
            "Status": state(s),
            "Running": state(s) == "running",
            "Pid": process.pid,
            "ShimPid": process.shim_pid,
            "ExitCode": process.exit_code,
            "StartedAt": rfc3339(process.started_ms),
            "FinishedAt": rfc3339(process.finished_ms),
        },
        "RestartCount": process.restarts,
        "LogPath": process.log_path,
        "ResolvConfPath": s.resolv_conf,
        "HostsPath": s.hosts,
        "Service": spec.service,
        "Config": {"Hostname": spec.hostname, "Labels": spec.labels.clone()},
        "HostConfig": {
            "Dns": spec.dns, "DnsSearch": spec.dns_search, "DnsOptions": spec.dns_options,
            "ExtraHosts": spec.extra_hosts,
        },
        "NetworkSettings": {
            "SandboxID": hex(&s.id),
            "SandboxKey": s.netns_path,
            "Ports": ports,
            "Networks": s.endpoints.iter().map(|e| (e.network_name.clone(), endpoint(e))).collect::<Map<_, _>>(),
        },
    })
}

fn endpoint(e: &v1::SandboxEndpoint) -> Value {
    let of = |v6: bool| e.addrs.iter().find(|a| a.contains(':') == v6);
    let split = |addr: Option<&String>| match addr.and_then(|a| a.split_once('/')) {
        Some((ip, len)) => (ip.to_owned(), len.parse::<u8>().unwrap_or(0)),
        None => (String::new(), 0),
    };
    let (v4, v4_len) = split(of(false));
    let (v6, v6_len) = split(of(true));
    let gateway = |v6: bool| e.gateways.iter().find(|g| g.contains(':') == v6).cloned();
    json!({
        "NetworkID": hex(&e.network),
        "EndpointID": hex(&e.id),
        "Driver": e.driver,
        "Interface": e.ifname,
        "IPAddress": v4,
        "IPPrefixLen": v4_len,
        "Gateway": gateway(false).unwrap_or_default(),
        "GlobalIPv6Address": v6,
        "GlobalIPv6PrefixLen": v6_len,
        "IPv6Gateway": gateway(true).unwrap_or_default(),
        "MacAddress": mac(&e.mac),
        "Aliases": e.aliases,
        "GwPriority": e.gw_priority,
    })
}

fn mac(bytes: &[u8]) -> String {
    <[u8; 6]>::try_from(bytes).map(|m| swarmnet_types::Mac(m).to_string()).unwrap_or_default()
}
