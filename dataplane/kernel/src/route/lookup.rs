//! The routing decision for one destination, as the kernel takes it.

use std::net::IpAddr;

use super::Route;
use super::wire::{GETROUTE, RTM_LEN, family, ip, octets};
use crate::error::KernelError;
use crate::netlink::{Attrs, Message};

const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_PREFSRC: u16 = 7;
const RTA_METRICS: u16 = 8;
const RTAX_MTU: u16 = 2;

/// The answer to a lookup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Found {
    /// Outgoing device.
    pub(crate) index: u32,
    pub(crate) source: Option<IpAddr>,
    /// When the route or a learned path MTU says so.
    pub(crate) mtu_bytes: Option<u32>,
}

impl Route {
    /// `None` when there is no route, or one that refuses.
    pub(crate) fn lookup(&mut self, to: IpAddr) -> Result<Option<Found>, KernelError> {
        let bytes = octets(to);
        let mut header = [0; RTM_LEN];
        header[0] = family(to.is_ipv6());
        header[1] = (bytes.len() * 8) as u8;
        let mut get = Message::new(GETROUTE, 0, &header);
        get.bytes(RTA_DST, &bytes);
        let body = match self.socket.get(&format!("route to {to}"), get) {
            Ok((_, body)) => body,
            Err(err)
                if matches!(
                    err.errno(),
                    Some(libc::ENETUNREACH | libc::EHOSTUNREACH | libc::EACCES | libc::EINVAL)
                ) =>
            {
                return Ok(None);
            }
            Err(err) => return Err(err),
        };
        let attrs = Attrs(body.get(RTM_LEN..).unwrap_or_default());
        Ok(attrs.u32(RTA_OIF).map(|index| Found {
            index,
            source: attrs.get(RTA_PREFSRC).and_then(ip),
            mtu_bytes: attrs.nested(RTA_METRICS).u32(RTAX_MTU).filter(|mtu| *mtu > 0),
        }))
    }
}
