//! Gossip can never add a node: what speaks for or about an unknown node is cut out before foca sees it.
//!
//! The layout is foca's: header, count (u16, big-endian), that many members; nothing after them, because we send no custom
//! broadcasts. A datagram *from* an unknown node, or asking us to reach one, is refused whole; *updates* about unknown nodes are cut
//! out, because a peer may know of a new node a moment before we do.

use std::borrow::Cow;

use foca::{Header, Message};
use swarmnet_types::NodeId;

use crate::identity::Identity;
use crate::stats::Refusal;

type Update = foca::Member<Identity>;

/// The identity that sent it, and the bytes that foca may read. `is_known` must hold for the receiver too, or it could not
/// refute what is said of it.
///
/// # Errors
/// [`Refusal::Malformed`], [`Refusal::UnknownNode`].
pub(crate) fn admit(
    gossip: &[u8],
    is_known: impl Fn(&NodeId) -> bool,
) -> Result<(Identity, Cow<'_, [u8]>), Refusal> {
    let malformed = |_: postcard::Error| Refusal::Malformed;
    let (header, body) =
        postcard::take_from_bytes::<Header<Identity>>(gossip).map_err(malformed)?;
    let known = |identity: &Identity| is_known(&identity.node);
    if !known(&header.src) || third_party(&header.message).is_some_and(|other| !known(other)) {
        return Err(Refusal::UnknownNode);
    }
    let Some((count, mut rest)) = body.split_first_chunk::<2>() else {
        // foca refuses a single trailing byte itself.
        return Ok((header.src, Cow::Borrowed(gossip)));
    };
    let mut kept = Vec::new();
    let count = u16::from_be_bytes(*count);
    for _ in 0..count {
        let (update, after) = postcard::take_from_bytes::<Update>(rest).map_err(malformed)?;
        if known(update.id()) {
            kept.push(&rest[..rest.len() - after.len()]);
        }
        rest = after;
    }
    if !rest.is_empty() {
        return Err(Refusal::Malformed);
    }
    if kept.len() == usize::from(count) {
        return Ok((header.src, Cow::Borrowed(gossip)));
    }
    let mut out = gossip[..gossip.len() - body.len()].to_vec();
    let kept_count = u16::try_from(kept.len()).expect("fewer than the count read");
    out.extend_from_slice(&kept_count.to_be_bytes());
    out.extend(kept.into_iter().flatten());
    Ok((header.src, Cow::Owned(out)))
}

/// The node beside sender and receiver that a message makes us write to.
fn third_party(message: &Message<Identity>) -> Option<&Identity> {
    match message {
        Message::PingReq { target, .. } | Message::IndirectAck { target, .. } => Some(target),
        Message::IndirectPing { origin, .. } | Message::ForwardedAck { origin, .. } => Some(origin),
        Message::Ping(_)
        | Message::Ack(_)
        | Message::Announce
        | Message::Feed
        | Message::Gossip
        | Message::Broadcast
        | Message::TurnUndead => None,
    }
}

#[cfg(test)]
mod tests {
    use foca::Member as Update;

    use super::*;

    fn identity(n: u8) -> Identity {
        let addr = std::net::SocketAddr::from(([192, 0, 2, n], 7946));
        Identity::new(NodeId::from_bytes([n; 16]), 1, addr, addr.ip())
    }

    fn members(nodes: &[u8]) -> impl Fn(&NodeId) -> bool {
        move |node| nodes.contains(&node.as_bytes()[0])
    }

    fn datagram(message: Message<Identity>, updates: &[u8]) -> Vec<u8> {
        let header = Header { src: identity(1), src_incarnation: 0, dst: identity(9), message };
        let mut out = postcard::to_stdvec(&header).unwrap();
        out.extend_from_slice(&u16::try_from(updates.len()).unwrap().to_be_bytes());
        for n in updates {
            out.extend(postcard::to_stdvec(&Update::alive(identity(*n))).unwrap());
        }
        out
    }

    #[test]
    fn known_nodes_pass_untouched() {
        let bytes = datagram(Message::Gossip, &[2, 3]);
        let (src, admitted) = admit(&bytes, members(&[1, 2, 3])).unwrap();
        assert_eq!((src, &*admitted), (identity(1), &*bytes));
    }

    #[test]
    fn updates_about_unknown_nodes_are_cut_out() {
        let bytes = datagram(Message::Gossip, &[2, 3, 4]);
        let (_, admitted) = admit(&bytes, members(&[1, 3])).unwrap();
        assert_eq!(*admitted, datagram(Message::Gossip, &[3]));
    }

    #[test]
    fn an_unknown_sender_or_target_is_refused_whole() {
        let bytes = datagram(Message::Gossip, &[2]);
        assert_eq!(admit(&bytes, members(&[2])), Err(Refusal::UnknownNode));
        let ask = Message::PingReq { target: identity(5), probe_number: 0 };
        assert_eq!(admit(&datagram(ask, &[]), members(&[1])), Err(Refusal::UnknownNode));
    }

    #[test]
    fn truncated_or_longer_than_said_is_malformed() {
        let bytes = datagram(Message::Gossip, &[2, 3]);
        let all = || members(&[1, 2, 3]);
        assert_eq!(admit(&bytes[..bytes.len() - 1], all()), Err(Refusal::Malformed));
        assert_eq!(admit(&[&bytes[..], b"x"].concat(), all()), Err(Refusal::Malformed));
        assert_eq!(admit(b"", all()), Err(Refusal::Malformed));
    }
}
