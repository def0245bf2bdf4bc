//! Reading attributes: type, length, value, padded to four bytes.
//!
//! Input is what the kernel wrote. A malformed tail ends the iteration; it cannot panic or loop.

use rtnetlink::packet_core::{NLA_HEADER_SIZE, NlasIterator};

/// Attributes one after another.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Attrs<'a>(pub(crate) &'a [u8]);

impl<'a> Attrs<'a> {
    /// Types and values; types without the nested and byte-order bits.
    pub(crate) fn iter(self) -> impl Iterator<Item = (u16, &'a [u8])> {
        NlasIterator::new(self.0).map_while(Result::ok).map(|attr| {
            let (kind, end) = (attr.kind(), usize::from(attr.length()));
            (kind, &attr.into_inner()[NLA_HEADER_SIZE..end])
        })
    }

    /// The first attribute of this type.
    pub(crate) fn get(self, kind: u16) -> Option<&'a [u8]> {
        self.iter().find(|(k, _)| *k == kind).map(|(_, value)| value)
    }

    /// The attributes inside one of this type; empty when there is none.
    pub(crate) fn nested(self, kind: u16) -> Attrs<'a> {
        Attrs(self.get(kind).unwrap_or_default())
    }

    pub(crate) fn u8(self, kind: u16) -> Option<u8> {
        self.get(kind)?.first().copied()
    }

    /// Host order.
    pub(crate) fn u32(self, kind: u16) -> Option<u32> {
        ne32(self.get(kind)?)
    }

    /// Network order.
    pub(crate) fn be32(self, kind: u16) -> Option<u32> {
        be32(self.get(kind)?)
    }

    /// Network order.
    pub(crate) fn be64(self, kind: u16) -> Option<u64> {
        self.get(kind)?.first_chunk().copied().map(u64::from_be_bytes)
    }

    /// Text up to its terminating zero.
    pub(crate) fn text(self, kind: u16) -> Option<String> {
        let bytes = self.get(kind)?;
        let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
        Some(String::from_utf8_lossy(&bytes[..end]).into_owned())
    }
}

pub(crate) fn be16(bytes: &[u8]) -> Option<u16> {
    bytes.first_chunk().copied().map(u16::from_be_bytes)
}

pub(crate) fn ne32(bytes: &[u8]) -> Option<u32> {
    bytes.first_chunk().copied().map(u32::from_ne_bytes)
}

pub(crate) fn be32(bytes: &[u8]) -> Option<u32> {
    bytes.first_chunk().copied().map(u32::from_be_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn malformed_attributes_end_the_iteration() {
        for bad in [&[][..], &[4], &[3, 0, 1, 0], &[0, 0, 0, 0], &[9, 0, 1, 0, 1, 2, 3, 4]] {
            assert_eq!(Attrs(bad).iter().count(), 0, "{bad:?}");
        }
        // The second says it is longer than what is left.
        let one = [5, 0, 1, 0, 7, 0, 0, 0, 200, 0, 2, 0];
        assert_eq!(Attrs(&one).iter().collect::<Vec<_>>(), [(1, &[7][..])]);
        // The last one's padding may be missing.
        assert_eq!(Attrs(&one[..5]).u8(1), Some(7));
    }
}
