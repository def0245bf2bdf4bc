//! Networks, their wishes, endpoints and attachments.

use swarmnet_types::{
    AttachmentSpec, Condition, Endpoint, Mac, Name, Network, NetworkSpec, Revision, Scope,
    SubnetSpec, Vni,
};

use super::{
    Malformed, dual_stack, each, id, id_bytes, ip, ip_bytes, mac, opt_ip, opt_v4, opt_v6, parsed,
};
use crate::v1;

impl From<&SubnetSpec> for v1::SubnetSpec {
    fn from(s: &SubnetSpec) -> Self {
        Self {
            subnet: s.subnet.to_string(),
            ip_range: s.ip_range.map(|r| r.to_string()).unwrap_or_default(),
            gateway: s.gateway.map(ip_bytes).unwrap_or_default(),
            aux_addresses: s.aux_addresses.iter().map(|(k, v)| (k.clone(), ip_bytes(*v))).collect(),
        }
    }
}

impl TryFrom<v1::SubnetSpec> for SubnetSpec {
    type Error = Malformed;

    fn try_from(m: v1::SubnetSpec) -> Result<Self, Malformed> {
        let ip_range = match m.ip_range.as_str() {
            "" => None,
            text => Some(parsed("ip_range", text)?),
        };
        let aux = m.aux_addresses.into_iter().map(|(k, v)| Ok((k, ip("aux_addresses", &v)?)));
        Ok(Self {
            subnet: parsed("subnet", &m.subnet)?,
            ip_range,
            gateway: opt_ip("gateway", &m.gateway)?,
            aux_addresses: aux.collect::<Result<_, Malformed>>()?,
        })
    }
}

impl From<Scope> for v1::Scope {
    fn from(scope: Scope) -> Self {
        match scope {
            Scope::Local => Self::Local,
            Scope::Cluster => Self::Cluster,
        }
    }
}

impl From<&NetworkSpec> for v1::NetworkSpec {
    fn from(s: &NetworkSpec) -> Self {
        Self {
            name: s.name.to_string(),
            driver: s.driver.to_string(),
            scope: v1::Scope::from(s.scope).into(),
            subnets: s.subnets.iter().map(Into::into).collect(),
            ipv4: s.ipv4,
            ipv6: s.ipv6,
            internal: s.internal,
            attachable: s.attachable,
            ingress: s.ingress,
            options: s.options.clone().into_iter().collect(),
            labels: s.labels.clone().into_iter().collect(),
        }
    }
}

impl TryFrom<v1::NetworkSpec> for NetworkSpec {
    type Error = Malformed;

    fn try_from(m: v1::NetworkSpec) -> Result<Self, Malformed> {
        let scope = m.scope();
        let driver: swarmnet_types::Driver = parsed("driver", &m.driver)?;
        Ok(Self {
            name: parsed::<Name>("name", &m.name)?,
            driver,
            scope: match scope {
                v1::Scope::Unspecified => driver.default_scope(),
                v1::Scope::Local => Scope::Local,
                v1::Scope::Cluster => Scope::Cluster,
            },
            subnets: each(m.subnets, SubnetSpec::try_from)?,
            ipv4: m.ipv4,
            ipv6: m.ipv6,
            internal: m.internal,
            attachable: m.attachable,
            ingress: m.ingress,
            options: m.options.into_iter().collect(),
            labels: m.labels.into_iter().collect(),
        })
    }
}

impl From<&Network> for v1::Network {
    fn from(n: &Network) -> Self {
        Self {
            id: id_bytes(n.id.as_bytes()),
            spec: Some((&n.spec).into()),
            subnets: n.subnets.iter().map(Into::into).collect(),
            vni: n.vni.map_or(0, Vni::get),
            created_ms: n.created_ms,
            created: n.created.0,
            changed: n.changed.0,
        }
    }
}

impl TryFrom<v1::Network> for Network {
    type Error = Malformed;

    fn try_from(m: v1::Network) -> Result<Self, Malformed> {
        let vni = match m.vni {
            0 => None,
            vni => Some(Vni::new(vni).map_err(|e| Malformed::new("vni", e))?),
        };
        Ok(Self {
            id: id("network id", &m.id)?,
            spec: m.spec.ok_or_else(|| Malformed::missing("network spec"))?.try_into()?,
            subnets: each(m.subnets, SubnetSpec::try_from)?,
            vni,
            created_ms: m.created_ms,
            created: Revision(m.created),
            changed: Revision(m.changed),
        })
    }
}

impl From<Condition> for v1::Condition {
    fn from(condition: Condition) -> Self {
        match condition {
            Condition::Starting => Self::Starting,
            Condition::Ready => Self::Ready,
            Condition::Unhealthy => Self::Unhealthy,
            Condition::Draining => Self::Draining,
        }
    }
}

impl TryFrom<v1::Condition> for Condition {
    type Error = Malformed;

    fn try_from(m: v1::Condition) -> Result<Self, Malformed> {
        match m {
            v1::Condition::Unspecified => Err(Malformed::missing("condition")),
            v1::Condition::Starting => Ok(Self::Starting),
            v1::Condition::Ready => Ok(Self::Ready),
            v1::Condition::Unhealthy => Ok(Self::Unhealthy),
            v1::Condition::Draining => Ok(Self::Draining),
        }
    }
}

impl From<&Endpoint> for v1::Endpoint {
    fn from(e: &Endpoint) -> Self {
        Self {
            id: id_bytes(e.id.as_bytes()),
            network: id_bytes(e.network.as_bytes()),
            node: id_bytes(e.node.as_bytes()),
            sandbox: id_bytes(e.sandbox.as_bytes()),
            name: e.name.to_string(),
            hostname: e.hostname.clone(),
            aliases: e.aliases.iter().map(ToString::to_string).collect(),
            addrs: Some((&e.addrs).into()),
            mac: e.mac.0.to_vec().into(),
            service: e.service.map(|s| id_bytes(s.as_bytes())).unwrap_or_default(),
            slot: e.slot.unwrap_or(0),
            condition: v1::Condition::from(e.condition).into(),
            created_ms: e.created_ms,
            created: e.created.0,
            changed: e.changed.0,
        }
    }
}

impl TryFrom<v1::Endpoint> for Endpoint {
    type Error = Malformed;

    fn try_from(m: v1::Endpoint) -> Result<Self, Malformed> {
        let condition = m.condition().try_into()?;
        let service = if m.service.is_empty() { None } else { Some(id("service", &m.service)?) };
        Ok(Self {
            id: id("endpoint id", &m.id)?,
            network: id("network", &m.network)?,
            node: id("node", &m.node)?,
            sandbox: id("sandbox", &m.sandbox)?,
            name: parsed("endpoint name", &m.name)?,
            hostname: m.hostname,
            aliases: each(m.aliases, |a| parsed("alias", &a))?,
            addrs: dual_stack(m.addrs)?,
            mac: mac("mac", &m.mac)?,
            service,
            slot: Some(m.slot).filter(|s| *s != 0),
            condition,
            created_ms: m.created_ms,
            created: Revision(m.created),
            changed: Revision(m.changed),
        })
    }
}

impl From<&AttachmentSpec> for v1::AttachmentSpec {
    fn from(a: &AttachmentSpec) -> Self {
        Self {
            network: a.network.clone(),
            ipv4: a.ipv4.map(|ip| ip_bytes(ip.into())).unwrap_or_default(),
            ipv6: a.ipv6.map(|ip| ip_bytes(ip.into())).unwrap_or_default(),
            mac: a.mac.map(|Mac(m)| m.to_vec().into()).unwrap_or_default(),
            aliases: a.aliases.iter().map(ToString::to_string).collect(),
            gw_priority: a.gw_priority,
            driver_opts: a.driver_opts.clone().into_iter().collect(),
        }
    }
}

impl TryFrom<v1::AttachmentSpec> for AttachmentSpec {
    type Error = Malformed;

    fn try_from(m: v1::AttachmentSpec) -> Result<Self, Malformed> {
        Ok(Self {
            network: m.network,
            ipv4: opt_v4("ipv4", &m.ipv4)?,
            ipv6: opt_v6("ipv6", &m.ipv6)?,
            mac: if m.mac.is_empty() { None } else { Some(mac("mac", &m.mac)?) },
            aliases: each(m.aliases, |a| parsed("alias", &a))?,
            gw_priority: m.gw_priority,
            driver_opts: m.driver_opts.into_iter().collect(),
        })
    }
}
