//! Writing one message: header, fixed part, attributes.
//!
//! Lengths are patched when a nest closes and when the message is finished; sequence numbers are the socket's business.

/// `NLM_F_*`.
pub(crate) mod flag {
    pub(crate) const REQUEST: u16 = 1;
    pub(crate) const ACK: u16 = 4;
    pub(crate) const REPLACE: u16 = 0x100;
    pub(crate) const EXCL: u16 = 0x200;
    pub(crate) const DUMP: u16 = 0x300;
    pub(crate) const CREATE: u16 = 0x400;
    pub(crate) const APPEND: u16 = 0x800;
    /// Answers: the dump was overtaken by a change.
    pub(crate) const DUMP_INTR: u16 = 0x10;
}

const NESTED: u16 = 0x8000;
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
        buf.extend((flags | flag::REQUEST).to_ne_bytes());
        buf.extend([0; 8]);
        debug_assert_eq!(buf.len(), HEADER_LEN);
        buf.extend(fixed);
        let mut message = Self(buf);
        message.pad();
        message
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

    /// Fixed bytes inside a nest, such as the `ifinfomsg` of a veth's peer.
    pub(crate) fn raw(&mut self, value: &[u8]) -> &mut Self {
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
        self.0.extend((kind | NESTED).to_ne_bytes());
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
    use super::super::Attrs;
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let mut m = Message::new(16, flag::ACK, &[1, 2, 3, 4]);
        m.text(3, "eth0").nest(18, |m| {
            m.u32(1, 7).be16(2, 0x0102);
        });
        m.add_flags(flag::CREATE);
        let bytes = m.finish(9);
        assert_eq!(bytes.len() % 4, 0);
        assert_eq!(bytes[6..8], (flag::REQUEST | flag::ACK | flag::CREATE).to_ne_bytes());
        let attrs = Attrs(&bytes[20..]);
        assert_eq!(attrs.text(3).as_deref(), Some("eth0"));
        assert_eq!(attrs.nested(18).u32(1), Some(7));
        assert_eq!(attrs.nested(18).get(2), Some(&[1, 2][..]));
    }
}
