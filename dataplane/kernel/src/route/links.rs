//! All links of a namespace, as seen at one moment.

use std::collections::BTreeMap;

use rtnetlink::packet_core::{Nla as _, ParseableParametrized};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::link::{
    AfSpecInet6, AfSpecUnspec, In6AddrGenMode, InfoBridge, InfoBridgePort, InfoData, InfoKind,
    InfoPortData, InfoVxlan, LinkAttribute, LinkExtentMask, LinkFlags, LinkHeader, LinkInfo,
    LinkProtoInfoBridge,
};
use rtnetlink::{LinkMessageBuilder, LinkUnspec};
use swarmnet_dataplane::{Link, LinkKind, LinkName, PortFlags, Vxlan};
use swarmnet_types::{Mac, Vni};

use super::Route;
use super::wire::attributes;
use crate::error::KernelError;

/// One link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkSeen {
    pub name: LinkName,
    pub link: Link,
    /// Bytes; every link has one.
    pub mtu_bytes: u32,
}

/// By interface index, valid for this one observation.
#[derive(Debug, Clone, Default)]
pub struct Links(BTreeMap<u32, LinkSeen>);

impl Links {
    pub fn name(&self, index: u32) -> Option<&LinkName> {
        self.0.get(&index).map(|seen| &seen.name)
    }

    pub fn get(&self, index: u32) -> Option<&LinkSeen> {
        self.0.get(&index)
    }

    pub fn iter(&self) -> impl Iterator<Item = &LinkSeen> {
        self.0.values()
    }
}

impl Route {
    pub fn links(&mut self) -> Result<Links, KernelError> {
        // Counters are most of a link's message.
        let mask = LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]);
        let list = LinkMessageBuilder::<LinkUnspec>::new().append_extra_attribute(mask).build();
        let raw = self.list("list links", RouteNetlinkMessage::GetLink(list), decode)?;
        let names: BTreeMap<u32, LinkName> =
            raw.iter().map(|(index, seen, _)| (*index, seen.name.clone())).collect();
        let resolve = |(index, mut seen, master): (u32, LinkSeen, Option<u32>)| {
            seen.link.master = master.and_then(|m| names.get(&m).cloned());
            (index, seen)
        };
        Ok(Links(raw.into_iter().map(resolve).collect()))
    }
}

/// Index, link without its master's name, and the master's index.
pub(super) fn decode(body: &[u8]) -> Option<(u32, LinkSeen, Option<u32>)> {
    let header = LinkHeader::parse(body).ok()?;
    let family = header.interface_family;
    let mut link = Link {
        kind: LinkKind::Other,
        mac: None,
        mtu_bytes: None,
        up: header.flags.contains(LinkFlags::Up),
        master: None,
        port: None,
        // Without IPv6 on the link there is none to generate.
        no_link_local: true,
        alias: String::new(),
    };
    let (mut name, mut master) = (None, None);
    for attribute in attributes(body, &header, |a| LinkAttribute::parse_with_param(a, family)) {
        match attribute {
            LinkAttribute::IfName(text) => name = LinkName::new(text),
            LinkAttribute::Address(mac) => link.mac = mac.try_into().ok().map(Mac),
            LinkAttribute::Mtu(mtu) => link.mtu_bytes = Some(mtu),
            LinkAttribute::IfAlias(alias) => link.alias = alias,
            LinkAttribute::Controller(index) => master = Some(index),
            // In a bridge's own notices.
            LinkAttribute::ProtoInfoBridge(infos) => link.port = Some(port_told(&infos)),
            LinkAttribute::LinkInfo(infos) => infos.iter().for_each(|i| learn(&mut link, i)),
            LinkAttribute::AfSpecUnspec(specs) => link.no_link_local = !generates(&specs),
            _ => {}
        }
    }
    if header.flags.contains(LinkFlags::Loopback) {
        link.kind = LinkKind::Loopback;
    }
    let (name, mtu_bytes) = (name?, link.mtu_bytes?);
    Some((header.index, LinkSeen { name, link, mtu_bytes }, master))
}

/// Whether the link makes itself an IPv6 address.
fn generates(specs: &[AfSpecUnspec]) -> bool {
    let none = AfSpecInet6::AddrGenMode(In6AddrGenMode::None);
    specs.iter().any(|spec| match spec {
        AfSpecUnspec::Inet6(spec) => !spec.contains(&none),
        _ => false,
    })
}

fn learn(link: &mut Link, info: &LinkInfo) {
    match info {
        LinkInfo::Kind(InfoKind::Veth) => link.kind = LinkKind::Veth,
        LinkInfo::Data(InfoData::Bridge(data)) => {
            link.kind = LinkKind::Bridge { ageing: !data.contains(&InfoBridge::AgeingTime(0)) };
        }
        LinkInfo::Data(InfoData::Vxlan(data)) => {
            link.kind = vxlan(data).map_or(LinkKind::Other, LinkKind::Vxlan);
        }
        LinkInfo::PortData(InfoPortData::BridgePort(data)) => link.port = Some(port(data)),
        _ => {}
    }
}

fn vxlan(data: &[InfoVxlan]) -> Option<Vxlan> {
    let (mut vni, mut local, mut port) = (None, None, None);
    for info in data {
        match info {
            InfoVxlan::Id(id) => vni = Vni::new(*id).ok(),
            InfoVxlan::Local(addr) => local = Some((*addr).into()),
            InfoVxlan::Local6(addr) => local = Some((*addr).into()),
            InfoVxlan::Port(number) => port = Some(*number),
            _ => {}
        }
    }
    // Else somebody else's: ours never learn.
    data.contains(&InfoVxlan::Learning(false)).then_some(())?;
    let proxy = data.contains(&InfoVxlan::Proxy(true));
    Some(Vxlan { vni: vni?, local: local?, port: port?, proxy })
}

/// In a bridge's own notices the library leaves the flags unread (`IFLA_BRPORT_*`).
fn port_told(data: &[LinkProtoInfoBridge]) -> PortFlags {
    let is_set = |kind: u16| {
        data.iter().filter(|info| info.kind() == kind).any(|info| {
            let mut value = vec![0; info.value_len()];
            info.emit_value(&mut value);
            value == [1]
        })
    };
    PortFlags {
        learning: is_set(8),
        flood: is_set(9),
        mcast_flood: is_set(27),
        bcast_flood: is_set(30),
        isolated: is_set(33),
        hairpin: is_set(4),
    }
}

fn port(data: &[InfoBridgePort]) -> PortFlags {
    PortFlags {
        learning: data.contains(&InfoBridgePort::Learning(true)),
        flood: data.contains(&InfoBridgePort::UnicastFlood(true)),
        mcast_flood: data.contains(&InfoBridgePort::MulticastFlood(true)),
        bcast_flood: data.contains(&InfoBridgePort::BroadcastFlood(true)),
        isolated: data.contains(&InfoBridgePort::Isolated(true)),
        hairpin: data.contains(&InfoBridgePort::HairpinMode(true)),
    }
}
