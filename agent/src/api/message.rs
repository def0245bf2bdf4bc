//! Sandboxes and their wishes between messages and our own types.

use std::net::IpAddr;
use std::str::FromStr;

use bytes::Bytes;
use swarmnet_proto::{Malformed, v1};
use swarmnet_types::{AttachmentSpec, HostError, Name, Protocol};

use crate::local::GossipStatus;
use crate::local::objects::{Attachment, DnsSettings, PortMap, SandboxRecord};
use crate::local::sandboxes::SandboxWish;
use crate::paths::SandboxPaths;
use crate::shim::status::{State, Status};

pub(super) fn bad(field: &'static str, problem: impl std::fmt::Display) -> Malformed {
    Malformed::new(field, problem)
}

fn ip_bytes(ip: Option<IpAddr>) -> Bytes {
    match ip {
        None => Bytes::new(),
        Some(IpAddr::V4(ip)) => Bytes::copy_from_slice(&ip.octets()),
        Some(IpAddr::V6(ip)) => Bytes::copy_from_slice(&ip.octets()),
    }
}

fn ip(bytes: &Bytes) -> Result<Option<IpAddr>, Malformed> {
    if bytes.is_empty() {
        return Ok(None);
    }
    let v4 = <[u8; 4]>::try_from(&bytes[..]).map(IpAddr::from);
    let any = v4.or_else(|_| <[u8; 16]>::try_from(&bytes[..]).map(IpAddr::from));
    any.map(Some).map_err(|_| bad("host ip", "want 4 or 16 bytes"))
}

fn port_map(m: &v1::PortMap) -> Result<PortMap, Malformed> {
    let port = |n: u32| u16::try_from(n).map_err(|_| bad("port", format!("{n} is no port")));
    Ok(PortMap {
        host_ip: ip(&m.host_ip)?,
        host_port: port(m.host_port)?,
        port: port(m.port)?,
        protocol: Protocol::from(m.protocol()),
    })
}

fn port_message(p: &PortMap) -> v1::PortMap {
    v1::PortMap {
        host_ip: ip_bytes(p.host_ip),
        host_port: p.host_port.into(),
        port: p.port.into(),
        protocol: v1::Protocol::from(p.protocol).into(),
    }
}

fn name(field: &'static str, text: String) -> Result<Option<Name>, Malformed> {
    match text.as_str() {
        "" => Ok(None),
        _ => Name::new(text).map(Some).map_err(|err| bad(field, err)),
    }
}

fn checked<T: FromStr<Err = HostError>>(field: &'static str, text: &str) -> Result<T, Malformed> {
    text.parse().map_err(|err| bad(field, err))
}

fn all_checked<T: FromStr<Err = HostError>>(
    field: &'static str,
    texts: &[String],
) -> Result<Vec<T>, Malformed> {
    texts.iter().map(|text| checked(field, text)).collect()
}

/// What a user wishes, without what only one kind of call has.
pub(super) fn wish(spec: Option<v1::SandboxSpec>) -> Result<SandboxWish, Malformed> {
    let spec = spec.ok_or_else(|| bad("spec", "missing"))?;
    let servers = spec.dns.iter().map(|s| s.parse().map_err(|_| bad("dns", s)));
    let hosts = spec.extra_hosts.iter().map(|word| {
        let (name, ip) = word.split_once(':').ok_or_else(|| bad("extra host", word))?;
        Ok((checked("extra host", name)?, ip.parse().map_err(|_| bad("extra host", word))?))
    });
    let dns = DnsSettings {
        servers: servers.collect::<Result<_, Malformed>>()?,
        search: all_checked("search domain", &spec.dns_search)?,
        options: all_checked("resolver option", &spec.dns_options)?,
        extra_hosts: hosts.collect::<Result<_, Malformed>>()?,
    };
    let attachments = spec.attachments.into_iter().map(AttachmentSpec::try_from);
    Ok(SandboxWish {
        name: name("name", spec.name)?,
        hostname: match spec.hostname.as_str() {
            "" => None,
            text => Some(checked("hostname", text)?),
        },
        attachments: attachments.collect::<Result<_, Malformed>>()?,
        service: name("service", spec.service)?,
        dns,
        ports: spec.ports.iter().map(port_map).collect::<Result<_, Malformed>>()?,
        labels: spec.labels.into_iter().collect(),
        named: false,
        owner_pid: None,
        process: None,
    })
}

fn endpoint(a: &Attachment) -> v1::SandboxEndpoint {
    let addrs = a.endpoint.addrs.iter().map(|addr| {
        let subnet = a.network.subnet_of(addr);
        subnet.map_or_else(|| addr.to_string(), |s| s.subnet.with_host(addr).to_string())
    });
    let gateways = a.network.subnets.iter().filter_map(|s| s.gateway).map(|g| g.to_string());
    v1::SandboxEndpoint {
        id: Bytes::copy_from_slice(a.endpoint.id.as_bytes()),
        network: Bytes::copy_from_slice(a.network.id.as_bytes()),
        network_name: a.network.spec.name.to_string(),
        driver: a.network.spec.driver.to_string(),
        ifname: a.ifname.clone(),
        addrs: addrs.collect(),
        mac: Bytes::copy_from_slice(&a.endpoint.mac.0),
        gateways: gateways.collect(),
        aliases: a.endpoint.aliases.iter().map(ToString::to_string).collect(),
        gw_priority: a.spec.gw_priority,
    }
}

fn process(
    record: &SandboxRecord,
    paths: &SandboxPaths,
    status: Option<Status>,
) -> Option<v1::Process> {
    let spec = &record.process.as_ref()?.spec;
    let log_path = paths.log().to_string_lossy().into_owned();
    let argv = spec.argv.clone();
    let Some(status) = status else {
        let state = "created".to_owned();
        return Some(v1::Process { state, argv, log_path, ..v1::Process::default() });
    };
    let alive = status.is_supervised();
    let state = match status.state {
        State::Running | State::Starting if alive => "running",
        State::Restarting if alive => "restarting",
        State::Exited | State::Failed => "exited",
        State::Running | State::Starting | State::Restarting => "lost",
    };
    let running = state == "running";
    Some(v1::Process {
        pid: status.process.filter(|_| running).map_or(0, |p| p.pid),
        shim_pid: if alive { status.shim.pid } else { 0 },
        state: state.to_owned(),
        exit_code: status.exit_code,
        started_ms: status.started_ms,
        finished_ms: status.finished_ms,
        argv,
        restarts: status.restarts,
        log_path,
    })
}

/// A sandbox as it is.
pub(super) fn sandbox(
    record: &SandboxRecord,
    paths: &SandboxPaths,
    status: Option<Status>,
) -> v1::Sandbox {
    let dns = &record.dns;
    let spec = v1::SandboxSpec {
        name: record.name.to_string(),
        hostname: record.hostname.to_string(),
        attachments: record.attachments.iter().map(|a| (&a.spec).into()).collect(),
        service: record.service_name.as_ref().map(ToString::to_string).unwrap_or_default(),
        dns: dns.servers.iter().map(ToString::to_string).collect(),
        dns_search: dns.search.iter().map(ToString::to_string).collect(),
        dns_options: dns.options.iter().map(ToString::to_string).collect(),
        extra_hosts: dns.extra_hosts.iter().map(|(n, ip)| format!("{n}:{ip}")).collect(),
        ports: record.ports.iter().map(port_message).collect(),
        labels: record.labels.clone().into_iter().collect(),
    };
    // The daemon's own stack is wherever the daemon is now, not where the reader is.
    let netns_path = if record.shares_host_stack() {
        format!("/proc/{}/ns/net", std::process::id())
    } else {
        record.netns.to_string_lossy().into_owned()
    };
    v1::Sandbox {
        id: Bytes::copy_from_slice(record.id.as_bytes()),
        spec: Some(spec),
        netns_path,
        resolv_conf: paths.resolv_conf().to_string_lossy().into_owned(),
        hosts: paths.hosts().to_string_lossy().into_owned(),
        endpoints: record.attachments.iter().map(endpoint).collect(),
        process: process(record, paths, status),
        created_ms: record.created_ms,
        service: record.service.map(|s| Bytes::copy_from_slice(s.as_bytes())).unwrap_or_default(),
        ports: record.ports.iter().map(port_message).collect(),
    }
}

pub(super) fn gossip(status: GossipStatus) -> v1::GossipState {
    let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    v1::GossipState {
        alive: count(status.alive),
        agent_lost: count(status.agent_lost),
        dead: count(status.dead),
        suspected: count(status.suspected),
        cut_off: status.cut_off,
    }
}
