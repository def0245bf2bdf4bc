//! All links of a namespace, as seen at one moment.

use std::collections::BTreeMap;

use swarmnet_dataplane::{Link, LinkName};
use swarmnet_types::Mac;

use super::Route;
use super::link::{decode_header, decode_kind, decode_port, ifla};
use super::wire::{AF_UNSPEC, GETLINK, IFINFO_LEN, family, ifinfomsg};
use crate::error::KernelError;
use crate::netlink::{Attrs, Message};

const IFF_UP: u32 = 1;
const IFF_LOOPBACK: u32 = 8;
/// `RTEXT_FILTER_SKIP_STATS`: counters are most of a link's message.
const SKIP_STATS: u32 = 8;

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
        let mut list = Message::new(GETLINK, 0, &ifinfomsg(AF_UNSPEC, 0, 0, 0));
        list.u32(ifla::EXT_MASK, SKIP_STATS);
        let raw: BTreeMap<u32, (LinkSeen, Option<u32>)> =
            self.socket.dump("list links", &list, |links: &mut BTreeMap<_, _>, _, body| {
                links.extend(decode(body));
            })?;
        let names: BTreeMap<u32, LinkName> =
            raw.iter().map(|(index, (seen, _))| (*index, seen.name.clone())).collect();
        let resolve = |(index, (mut seen, master)): (u32, (LinkSeen, Option<u32>))| {
            seen.link.master = master.and_then(|m| names.get(&m).cloned());
            (index, seen)
        };
        Ok(Links(raw.into_iter().map(resolve).collect()))
    }
}

/// Index, link without its master's name, and the master's index.
fn decode(body: &[u8]) -> Option<(u32, (LinkSeen, Option<u32>))> {
    let (index, flags) = decode_header(body)?;
    let attrs = Attrs(&body[IFINFO_LEN..]);
    let info = attrs.nested(ifla::LINKINFO);
    let inet6 = attrs.nested(ifla::AF_SPEC).nested(u16::from(family(true)));
    let gen_mode = inet6.u8(ifla::INET6_ADDR_GEN_MODE);
    let mtu_bytes = attrs.u32(ifla::MTU)?;
    let link = Link {
        kind: decode_kind(info, flags & IFF_LOOPBACK != 0),
        mac: attrs.get(ifla::ADDRESS).and_then(|b| b.try_into().ok()).map(Mac),
        mtu_bytes: Some(mtu_bytes),
        up: flags & IFF_UP != 0,
        master: None,
        port: decode_port(info),
        // Without IPv6 on the link there is none to generate.
        no_link_local: gen_mode.is_none_or(|mode| mode == ifla::ADDR_GEN_NONE),
        alias: attrs.text(ifla::IFALIAS).unwrap_or_default(),
    };
    let name = LinkName::new(attrs.text(ifla::IFNAME)?)?;
    Some((index, (LinkSeen { name, link, mtu_bytes }, attrs.u32(ifla::MASTER))))
}
