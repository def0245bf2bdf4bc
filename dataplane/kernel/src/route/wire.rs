//! What more than one kind of object needs of `rtnetlink`'s types.

use std::net::IpAddr;

use rtnetlink::packet_core::{DecodeError, Emitable, NlaBuffer, NlasIterator};
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::route::RouteAddress;

pub(super) const fn family(ipv6: bool) -> AddressFamily {
    if ipv6 { AddressFamily::Inet6 } else { AddressFamily::Inet }
}

pub(super) fn route_ip(addr: &RouteAddress) -> Option<IpAddr> {
    match addr {
        RouteAddress::Inet(v4) => Some((*v4).into()),
        RouteAddress::Inet6(v6) => Some((*v6).into()),
        _ => None,
    }
}

/// The attributes after `header`, one by one: the library reads a message whole or not at all, and an attribute that it cannot read
/// (of another's device, or of a kernel newer than it) must not hide the object.
pub(super) fn attributes<'a, A>(
    body: &'a [u8],
    header: &impl Emitable,
    parse: impl Fn(&NlaBuffer<&'a [u8]>) -> Result<A, DecodeError>,
) -> impl Iterator<Item = A> {
    let attributes = body.get(header.buffer_len()..).unwrap_or_default();
    NlasIterator::new(attributes).filter_map(move |attribute| parse(&attribute.ok()?).ok())
}

#[cfg(test)]
mod tests {
    use rtnetlink::packet_core::{Parseable, ParseableParametrized};
    use rtnetlink::packet_route::link::{LinkAttribute, LinkHeader, LinkMessage};

    use super::*;

    #[test]
    fn an_attribute_that_cannot_be_read_hides_no_other() {
        let header = LinkHeader { index: 7, ..LinkHeader::default() };
        let mut body = vec![0; header.buffer_len()];
        header.emit(&mut body);
        // IFLA_MTU of two bytes, then IFLA_IFNAME.
        body.extend([6, 0, 4, 0, 1, 2, 0, 0, 7, 0, 3, 0, b'l', b'o', 0, 0]);
        assert!(LinkMessage::parse(&body).is_err(), "else this is not needed any more");
        let parse =
            |attribute: &_| LinkAttribute::parse_with_param(attribute, AddressFamily::Unspec);
        let read: Vec<_> = attributes(&body, &header, parse).collect();
        assert_eq!(read, [LinkAttribute::IfName("lo".to_owned())]);
    }
}
