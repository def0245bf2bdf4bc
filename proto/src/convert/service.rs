//! Services and publications.

use swarmnet_types::publish::NodeSelector;
use swarmnet_types::service::ExternalBackend;
use swarmnet_types::{
    Algorithm, DualStack, EndpointMode, NetworkId, Protocol, Publication, PublishMode, PublishSpec,
    Revision, Service, ServiceSpec,
};

use super::{Malformed, dual_stack, each, id, id_bytes, ip, ip_bytes, opt_ip, parsed, port};
use crate::v1;

impl From<EndpointMode> for v1::EndpointMode {
    fn from(mode: EndpointMode) -> Self {
        match mode {
            EndpointMode::Vip => Self::Vip,
            EndpointMode::Dnsrr => Self::Dnsrr,
        }
    }
}

/// `None`: the sender said nothing.
impl From<v1::EndpointMode> for Option<EndpointMode> {
    fn from(m: v1::EndpointMode) -> Self {
        match m {
            v1::EndpointMode::Unspecified => None,
            v1::EndpointMode::Vip => Some(EndpointMode::Vip),
            v1::EndpointMode::Dnsrr => Some(EndpointMode::Dnsrr),
        }
    }
}

impl From<Algorithm> for v1::Algorithm {
    fn from(algorithm: Algorithm) -> Self {
        match algorithm {
            Algorithm::Random => Self::Random,
            Algorithm::Rr => Self::Rr,
            Algorithm::Sh => Self::Sh,
        }
    }
}

/// `None`: the sender said nothing.
impl From<v1::Algorithm> for Option<Algorithm> {
    fn from(m: v1::Algorithm) -> Self {
        match m {
            v1::Algorithm::Unspecified => None,
            v1::Algorithm::Random => Some(Algorithm::Random),
            v1::Algorithm::Rr => Some(Algorithm::Rr),
            v1::Algorithm::Sh => Some(Algorithm::Sh),
        }
    }
}

impl From<Protocol> for v1::Protocol {
    fn from(protocol: Protocol) -> Self {
        match protocol {
            Protocol::Tcp => Self::Tcp,
            Protocol::Udp => Self::Udp,
            Protocol::Sctp => Self::Sctp,
        }
    }
}

/// Unspecified means TCP, as in Docker.
impl From<v1::Protocol> for Protocol {
    fn from(m: v1::Protocol) -> Self {
        match m {
            v1::Protocol::Unspecified | v1::Protocol::Tcp => Self::Tcp,
            v1::Protocol::Udp => Self::Udp,
            v1::Protocol::Sctp => Self::Sctp,
        }
    }
}

impl From<PublishMode> for v1::PublishMode {
    fn from(mode: PublishMode) -> Self {
        match mode {
            PublishMode::Ingress => Self::Ingress,
            PublishMode::Host => Self::Host,
        }
    }
}

/// Unspecified means ingress, as in Docker.
impl From<v1::PublishMode> for PublishMode {
    fn from(m: v1::PublishMode) -> Self {
        match m {
            v1::PublishMode::Unspecified | v1::PublishMode::Ingress => Self::Ingress,
            v1::PublishMode::Host => Self::Host,
        }
    }
}

impl From<&PublishSpec> for v1::Publication {
    fn from(p: &PublishSpec) -> Self {
        let (node_label, node_value) =
            p.nodes.clone().map(|s| (s.label, s.value)).unwrap_or_default();
        Self {
            published: p.published.map_or(0, u32::from),
            target: p.target.into(),
            protocol: v1::Protocol::from(p.protocol).into(),
            mode: v1::PublishMode::from(p.mode).into(),
            ip: p.ip.map(ip_bytes).unwrap_or_default(),
            node_label,
            node_value,
            allow_from: p.allow_from.iter().map(ToString::to_string).collect(),
        }
    }
}

impl TryFrom<v1::Publication> for PublishSpec {
    type Error = Malformed;

    fn try_from(m: v1::Publication) -> Result<Self, Malformed> {
        let (protocol, mode) = (m.protocol().into(), m.mode().into());
        let target = port("target", m.target)?;
        if target == 0 {
            return Err(Malformed::missing("target"));
        }
        let selector = NodeSelector { label: m.node_label, value: m.node_value };
        let nodes = Some(selector).filter(|s| !s.label.is_empty());
        Ok(Self {
            published: Some(port("published", m.published)?).filter(|p| *p != 0),
            target,
            protocol,
            mode,
            ip: opt_ip("ip", &m.ip)?,
            nodes,
            allow_from: each(m.allow_from, |net| parsed("allow_from", &net))?,
        })
    }
}

impl From<&Publication> for v1::Publication {
    fn from(p: &Publication) -> Self {
        (&PublishSpec {
            published: Some(p.published),
            target: p.target,
            protocol: p.protocol,
            mode: p.mode,
            ip: p.ip,
            nodes: p.nodes.clone(),
            allow_from: p.allow_from.clone(),
        })
            .into()
    }
}

impl TryFrom<v1::Publication> for Publication {
    type Error = Malformed;

    fn try_from(m: v1::Publication) -> Result<Self, Malformed> {
        let spec = PublishSpec::try_from(m)?;
        Ok(Self {
            published: spec.published.ok_or_else(|| Malformed::missing("published"))?,
            target: spec.target,
            protocol: spec.protocol,
            mode: spec.mode,
            ip: spec.ip,
            nodes: spec.nodes,
            allow_from: spec.allow_from,
        })
    }
}

impl From<&ServiceSpec> for v1::ServiceSpec {
    fn from(s: &ServiceSpec) -> Self {
        Self {
            name: s.name.to_string(),
            networks: s.networks.clone(),
            endpoint_mode: v1::EndpointMode::from(s.endpoint_mode).into(),
            algorithm: v1::Algorithm::from(s.algorithm).into(),
            vip: Some((&s.vip).into()),
            publish: s.publish.iter().map(Into::into).collect(),
            labels: s.labels.clone().into_iter().collect(),
        }
    }
}

impl TryFrom<v1::ServiceSpec> for ServiceSpec {
    type Error = Malformed;

    fn try_from(m: v1::ServiceSpec) -> Result<Self, Malformed> {
        let endpoint_mode = Option::from(m.endpoint_mode()).unwrap_or_default();
        let algorithm = Option::from(m.algorithm()).unwrap_or_default();
        Ok(Self {
            name: parsed("service name", &m.name)?,
            networks: m.networks,
            endpoint_mode,
            algorithm,
            vip: dual_stack(m.vip)?,
            publish: each(m.publish, PublishSpec::try_from)?,
            labels: m.labels.into_iter().collect(),
        })
    }
}

impl From<&ExternalBackend> for v1::ExternalBackend {
    fn from(b: &ExternalBackend) -> Self {
        Self { name: b.name.to_string(), addr: ip_bytes(b.addr) }
    }
}

impl TryFrom<v1::ExternalBackend> for ExternalBackend {
    type Error = Malformed;

    fn try_from(m: v1::ExternalBackend) -> Result<Self, Malformed> {
        Ok(Self { name: parsed("backend name", &m.name)?, addr: ip("backend address", &m.addr)? })
    }
}

impl From<(&NetworkId, &DualStack)> for v1::NetworkVip {
    fn from((network, vip): (&NetworkId, &DualStack)) -> Self {
        Self { network: id_bytes(network.as_bytes()), vip: Some(vip.into()) }
    }
}

impl TryFrom<v1::NetworkVip> for (NetworkId, DualStack) {
    type Error = Malformed;

    fn try_from(m: v1::NetworkVip) -> Result<Self, Malformed> {
        Ok((id("vip network", &m.network)?, dual_stack(m.vip)?))
    }
}

impl From<&Service> for v1::Service {
    fn from(s: &Service) -> Self {
        Self {
            id: id_bytes(s.id.as_bytes()),
            name: s.name.to_string(),
            endpoint_mode: v1::EndpointMode::from(s.endpoint_mode).into(),
            algorithm: v1::Algorithm::from(s.algorithm).into(),
            labels: s.labels.clone().into_iter().collect(),
            vips: s.vips.iter().map(Into::into).collect(),
            publications: s.publications.iter().map(Into::into).collect(),
            externals: s.externals.iter().map(Into::into).collect(),
            created_ms: s.created_ms,
            created: s.created.0,
            changed: s.changed.0,
        }
    }
}

impl TryFrom<v1::Service> for Service {
    type Error = Malformed;

    fn try_from(m: v1::Service) -> Result<Self, Malformed> {
        let endpoint_mode =
            Option::from(m.endpoint_mode()).ok_or_else(|| Malformed::missing("endpoint mode"))?;
        let algorithm =
            Option::from(m.algorithm()).ok_or_else(|| Malformed::missing("algorithm"))?;
        Ok(Self {
            id: id("service id", &m.id)?,
            name: parsed("service name", &m.name)?,
            endpoint_mode,
            algorithm,
            labels: m.labels.into_iter().collect(),
            vips: each(m.vips, TryInto::try_into)?.into_iter().collect(),
            publications: each(m.publications, Publication::try_from)?,
            externals: each(m.externals, ExternalBackend::try_from)?,
            created_ms: m.created_ms,
            created: Revision(m.created),
            changed: Revision(m.changed),
        })
    }
}
