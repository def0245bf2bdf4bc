//! Writing one message: header, fixed part, attributes. Those of the route family come whole from `rtnetlink`'s types.
//!
//! Lengths are patched when a nest closes and when the message is finished; sequence numbers are the socket's business.

use rtnetlink::packet_core::{NLA_F_NESTED, NLM_F_REQUEST, NetlinkMessage};
use rtnetlink::packet_route::RouteNetlinkMessage;

const HEADER_LEN: usize = 16;

/// A message under construction. `REQUEST` is always set.
#[derive(Debug, Clone)]
pub(crate) struct Message(Vec<u8>);

impl Message {
    /// `fixed` is the family's own header (`ifinfomsg`, `nfgenmsg`, …).
    pub(crate) fn new(kind: u16, flags: u16, fixed: &[u8]) -> Self {
        let mut buf = Vec::with_capacity(128);
        buf.extend([0; 4]);
        buf.extend(kind.to_ne_bytes());
        buf.extend((flags | NLM_F_REQUEST).to_ne_bytes());
        buf.extend([0; 8]);
        debug_assert_eq!(buf.len(), HEADER_LEN);
        buf.extend(fixed);
        let mut message = Self(buf);
        message.pad();
        message
    }

    /// A message of the route family.
    pub(crate) fn route(flags: u16, body: RouteNetlinkMessage) -> Self {
        let mut message = NetlinkMessage::from(body);
        message.header.flags = flags | NLM_F_REQUEST;
        message.finalize();
        let mut buf = vec![0; message.buffer_len()];
        message.serialize(&mut buf);
        Self(buf)
    }

    fn pad(&mut self) {
        self.0.resize(self.0.len().next_multiple_of(4), 0);
    }

    /// Bytes so far; used to split long lists.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Adds flags after the fact.
    pub(crate) fn add_flags(&mut self, flags: u16) {
        let now = u16::from_ne_bytes([self.0[6], self.0[7]]);
        self.0[6..8].copy_from_slice(&(now | flags).to_ne_bytes());
    }

    pub(crate) fn bytes(&mut self, kind: u16, value: &[u8]) -> &mut Self {
        let len = u16::try_from(value.len() + 4).expect("an attribute of ours is far below 64 KiB");
        self.0.extend(len.to_ne_bytes());
        self.0.extend(kind.to_ne_bytes());
        self.0.extend(value);
        self.pad();
        self
    }

    pub(crate) fn u8(&mut self, kind: u16, value: u8) -> &mut Self {
        self.bytes(kind, &[value])
    }

    pub(crate) fn u32(&mut self, kind: u16, value: u32) -> &mut Self {
        self.bytes(kind, &value.to_ne_bytes())
    }

    pub(crate) fn be16(&mut self, kind: u16, value: u16) -> &mut Self {
        self.bytes(kind, &value.to_be_bytes())
    }

    pub(crate) fn be32(&mut self, kind: u16, value: u32) -> &mut Self {
        self.bytes(kind, &value.to_be_bytes())
    }

    pub(crate) fn be64(&mut self, kind: u16, value: u64) -> &mut Self {
        self.bytes(kind, &value.to_be_bytes())
    }

    /// Text with a terminating zero.
    pub(crate) fn text(&mut self, kind: u16, value: &str) -> &mut Self {
        let mut bytes = value.as_bytes().to_vec();
        bytes.push(0);
        self.bytes(kind, &bytes)
    }

    /// Attributes inside an attribute. Long lists are split by the caller before 64 KiB.
    pub(crate) fn nest(&mut self, kind: u16, fill: impl FnOnce(&mut Self)) -> &mut Self {
        let at = self.0.len();
        self.0.extend([0, 0]);
        self.0.extend((kind | NLA_F_NESTED).to_ne_bytes());
        fill(self);
        let len = u16::try_from(self.0.len() - at).expect("lists are split below 64 KiB");
        self.0[at..at + 2].copy_from_slice(&len.to_ne_bytes());
        self
    }

    /// The finished bytes with their sequence number.
    pub(crate) fn finish(mut self, sequence: u32) -> Vec<u8> {
        let len = u32::try_from(self.0.len()).expect("a message is far below 4 GiB");
        self.0[..4].copy_from_slice(&len.to_ne_bytes());
        self.0[8..12].copy_from_slice(&sequence.to_ne_bytes());
        self.0
    }
}

#[cfg(test)]
mod tests {
    use rtnetlink::packet_core::{NLM_F_ACK, NLM_F_CREATE};

    use super::super::Attrs;
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let mut m = Message::new(16, NLM_F_ACK, &[1, 2, 3, 4]);
        m.text(3, "eth0").nest(18, |m| {
            m.u32(1, 7).u8(2, 9).be16(3, 0x0102);
        });
        m.add_flags(NLM_F_CREATE);
        let bytes = m.finish(9);
        assert_eq!(bytes.len() % 4, 0);
        assert_eq!(bytes[6..8], (NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE).to_ne_bytes());
        let attrs = Attrs(&bytes[20..]);
        assert_eq!(attrs.text(3).as_deref(), Some("eth0"));
        assert_eq!(attrs.nested(18).u32(1), Some(7));
        assert_eq!(attrs.nested(18).get(2), Some(&[9][..]));
        assert_eq!(attrs.nested(18).get(3), Some(&[1, 2][..]));
    }
}
