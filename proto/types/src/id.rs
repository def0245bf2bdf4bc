//! Identifiers: 128 random bits written as 32 hex digits, one newtype for each kind of object, and the small numbers that
//! stand for a node on the wire.
//!
//! Randomness is not drawn here: callers hand in the bytes, so that the same command gives the same identifier everywhere.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A text that is no identifier of the wanted kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not an id: want 32 hex digits")]
pub struct IdError {
    text: String,
}

/// How many hex digits lists show, as Docker does.
pub const SHORT_LEN: usize = 12;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name([u8; 16]);

        impl $name {
            /// An identifier of these 128 bits, which the caller drew at random.
            pub const fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(bytes)
            }

            pub const fn as_bytes(&self) -> &[u8; 16] {
                &self.0
            }

            /// The first 12 hex digits, for lists.
            pub fn short(&self) -> String {
                let mut text = self.to_string();
                text.truncate(SHORT_LEN);
                text
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), self.short())
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                parse_hex(text).map(Self)
            }
        }

        impl TryFrom<&[u8]> for $name {
            type Error = IdError;

            fn try_from(bytes: &[u8]) -> Result<Self, IdError> {
                let bytes = bytes.try_into().map_err(|_| IdError { text: format!("{bytes:02x?}") })?;
                Ok(Self(bytes))
            }
        }

        /// Text in human-readable formats, 16 bytes in binary ones.
        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                if s.is_human_readable() { s.collect_str(self) } else { self.0.serialize(s) }
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                if d.is_human_readable() {
                    String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
                } else {
                    <[u8; 16]>::deserialize(d).map(Self)
                }
            }
        }
    };
}

id!(
    /// One cluster; the organisation in its certificates.
    ClusterId
);
id!(
    /// One node, for life; the common name of its certificate.
    NodeId
);
id!(
    /// One network (CNM).
    NetworkId
);
id!(
    /// One endpoint (CNM): joins one sandbox to one network.
    EndpointId
);
id!(
    /// One sandbox (CNM): a network stack on one node.
    SandboxId
);
id!(
    /// One service.
    ServiceId
);
id!(
    /// One join token of those made beside the standing two; not its secret.
    TokenId
);

fn parse_hex(text: &str) -> Result<[u8; 16], IdError> {
    let err = || IdError { text: text.to_owned() };
    if text.len() != 32 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(err());
    }
    let mut bytes = [0; 16];
    for (i, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * i..2 * i + 2], 16).map_err(|_| err())?;
    }
    Ok(bytes)
}

/// The small number of a node: its Raft id when it is a manager, and the last 24 bits of its fabric MAC
/// (`02:53:53:xx:yy:zz`). Given once, never reused while the cluster lives. 1 to 2^24 - 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NodeIndex(u32);

impl NodeIndex {
    pub const FIRST: Self = Self(1);
    pub const MAX: u32 = (1 << 24) - 1;

    /// `None` when out of range.
    pub const fn new(index: u32) -> Option<Self> {
        if index == 0 || index > Self::MAX { None } else { Some(Self(index)) }
    }

    pub const fn get(self) -> u32 {
        self.0
    }
}

impl fmt::Display for NodeIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A point in the history of the replicated state: the index in the Raft log. 0 is before everything.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub struct Revision(pub u64);

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_round_trips() {
        let id = NodeId::from_bytes([0xab; 16]);
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!(id.short(), "abababababab");
    }

    #[test]
    fn bad_text_is_refused() {
        for text in ["", "ab", &"g".repeat(32), &"é".repeat(16), &"+a".repeat(16)] {
            assert!(text.parse::<NodeId>().is_err(), "{text}");
        }
    }

    #[test]
    fn node_index_is_24_bits_and_not_zero() {
        assert!(NodeIndex::new(0).is_none());
        assert!(NodeIndex::new(1 << 24).is_none());
        assert_eq!(NodeIndex::new(NodeIndex::MAX).map(NodeIndex::get), Some(NodeIndex::MAX));
    }
}
