//! Ids that one namespace has for others: by them a socket is told where a notice comes from. The kernel forgets an id with its
//! namespace.

use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::nsid::{NsidAttribute, NsidMessage};

use super::Route;
use crate::error::KernelError;
use crate::netlink::{Attrs, Message};
use crate::netns::Netns;

/// Length of `struct rtgenmsg`, padded.
const RTGENMSG_LEN: usize = 4;
const NETNSA_NSID: u16 = 1;
/// In a request: whichever is free. In an answer: none.
const NOT_ASSIGNED: i32 = -1;

impl Route {
    /// The id that this handle's namespace has for `netns`; it gets one when it has none.
    pub fn nsid_of(&mut self, netns: &Netns) -> Result<i32, KernelError> {
        if let Some(id) = self.known_nsid(netns)? {
            return Ok(id);
        }
        let mut new = message(netns);
        new.attributes.push(NsidAttribute::Id(NOT_ASSIGNED));
        match self.request("give a namespace an id", 0, RouteNetlinkMessage::NewNsId(new)) {
            // Somebody else was faster.
            Err(err) if err.is_stale() => {}
            other => other?,
        }
        let gone = || KernelError::NetnsEnter { err: std::io::ErrorKind::NotFound.into() };
        self.known_nsid(netns)?.ok_or_else(gone)
    }

    fn known_nsid(&mut self, netns: &Netns) -> Result<Option<i32>, KernelError> {
        let get = RouteNetlinkMessage::GetNsId(message(netns));
        let body = self.socket.get("get a namespace's id", Message::route(0, get))?;
        let id = Attrs(body.get(RTGENMSG_LEN..).unwrap_or_default()).u32(NETNSA_NSID);
        Ok(id.map(u32::cast_signed).filter(|id| *id != NOT_ASSIGNED))
    }
}

fn message(netns: &Netns) -> NsidMessage {
    let mut message = NsidMessage::default();
    message.attributes.push(NsidAttribute::Fd(netns.raw_fd().cast_unsigned()));
    message
}
