//! The seal of a datagram: ChaCha20-Poly1305 (RFC 8439) with a key all nodes of the cluster hold.
//!
//! ```text
//! version 1 | key id 1 | nonce 12 (random) | sealed { sender 16 | session 8 | sequence 8 | gossip … } | tag 16
//! ```
//! Version and key id are authenticated too. Numbers are big-endian. Two keys are accepted so that a rotation loses nothing: the
//! new one is first installed as [`Keys::other`], then made primary, then the old one is dropped. Nonces are random, so one key
//! must not seal more than 2^32 datagrams over the whole cluster (1,000 nodes: about 12 days at 4 datagrams/s each): rotate
//! daily. Sender, session and sequence serve `replay`.

use std::fmt;

use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use swarmnet_types::NodeId;

use crate::config::PLAINTEXT_BYTES_MAX;
use crate::stats::Refusal;

const VERSION: u8 = 1;
const HEADER_BYTES: usize = 2;
const NONCE_BYTES: usize = 12;
const STAMP_BYTES: usize = 16 + 8 + 8;
const TAG_BYTES: usize = 16;
/// 62 bytes in all.
pub(crate) const OVERHEAD_BYTES: usize = HEADER_BYTES + NONCE_BYTES + STAMP_BYTES + TAG_BYTES;
pub(crate) const DATAGRAM_BYTES_MAX: usize = OVERHEAD_BYTES + PLAINTEXT_BYTES_MAX;

/// One cluster key. The id tells keys apart on the wire and must differ between keys in use at once.
#[derive(Clone, PartialEq, Eq)]
pub struct Key {
    id: u8,
    secret: [u8; 32],
}

impl Key {
    pub const fn new(id: u8, secret: [u8; 32]) -> Self {
        Self { id, secret }
    }
}

/// Never shows the secret.
impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key").field("id", &self.id).finish_non_exhaustive()
    }
}

/// The keys of this moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keys {
    /// Seals, and opens.
    pub primary: Key,
    /// Opens only: the coming or the going key of a rotation.
    pub other: Option<Key>,
}

/// Who sent a datagram, and which of its datagrams it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub(crate) sender: NodeId,
    /// Unix ms at the start of the sender's worker.
    pub(crate) session: u64,
    /// Counts the datagrams of the session from 1.
    pub(crate) sequence: u64,
}

/// Keys made ready for use.
pub(crate) struct Sealer {
    primary: (u8, LessSafeKey),
    other: Option<(u8, LessSafeKey)>,
}

impl Sealer {
    pub(crate) fn new(keys: &Keys) -> Self {
        Self { primary: ready(&keys.primary), other: keys.other.as_ref().map(ready) }
    }

    /// The datagram for `gossip`. `nonce` must be drawn at random for each call.
    pub(crate) fn seal(&self, nonce: [u8; NONCE_BYTES], stamp: &Stamp, gossip: &[u8]) -> Vec<u8> {
        let (id, key) = &self.primary;
        let header = [VERSION, *id];
        let mut out = Vec::with_capacity(OVERHEAD_BYTES + gossip.len());
        out.extend_from_slice(&header);
        out.extend_from_slice(&nonce);
        let sealed_from = out.len();
        out.extend_from_slice(stamp.sender.as_bytes());
        out.extend_from_slice(&stamp.session.to_be_bytes());
        out.extend_from_slice(&stamp.sequence.to_be_bytes());
        out.extend_from_slice(gossip);
        let nonce = Nonce::assume_unique_for_key(nonce);
        let tag = key
            .seal_in_place_separate_tag(nonce, Aad::from(header), &mut out[sealed_from..])
            .expect("a datagram is far shorter than the cipher's 256 GiB");
        out.extend_from_slice(tag.as_ref());
        out
    }

    /// Opens a datagram in place.
    ///
    /// # Errors
    /// [`Refusal::Garbage`], [`Refusal::UnknownKey`], [`Refusal::Forged`]. The contents of `datagram` are undefined then.
    pub(crate) fn open<'a>(&self, datagram: &'a mut [u8]) -> Result<(Stamp, &'a [u8]), Refusal> {
        if !(OVERHEAD_BYTES..=DATAGRAM_BYTES_MAX).contains(&datagram.len()) {
            return Err(Refusal::Garbage);
        }
        let (&mut header, rest) = datagram.split_first_chunk_mut().ok_or(Refusal::Garbage)?;
        let [version, id] = header;
        if version != VERSION {
            return Err(Refusal::Garbage);
        }
        let key = self.key(id).ok_or(Refusal::UnknownKey)?;
        let (&mut nonce, sealed) = rest.split_first_chunk_mut().ok_or(Refusal::Garbage)?;
        let nonce = Nonce::assume_unique_for_key(nonce);
        let plain = key
            .open_in_place(nonce, Aad::from(header), sealed)
            .map_err(|ring::error::Unspecified| Refusal::Forged)?;
        parse_stamp(plain).ok_or(Refusal::Malformed)
    }

    fn key(&self, id: u8) -> Option<&LessSafeKey> {
        let all = std::iter::once(&self.primary).chain(&self.other);
        all.into_iter().find(|(have, _)| *have == id).map(|(_, key)| key)
    }
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sealer").field("primary", &self.primary.0).finish_non_exhaustive()
    }
}

fn ready(key: &Key) -> (u8, LessSafeKey) {
    let unbound =
        UnboundKey::new(&CHACHA20_POLY1305, &key.secret).expect("32 bytes fit the cipher");
    (key.id, LessSafeKey::new(unbound))
}

fn parse_stamp(plain: &[u8]) -> Option<(Stamp, &[u8])> {
    let (sender, rest) = plain.split_first_chunk::<16>()?;
    let (session, rest) = rest.split_first_chunk::<8>()?;
    let (sequence, gossip) = rest.split_first_chunk::<8>()?;
    let stamp = Stamp {
        sender: NodeId::from_bytes(*sender),
        session: u64::from_be_bytes(*session),
        sequence: u64::from_be_bytes(*sequence),
    };
    Some((stamp, gossip))
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAMP: Stamp = Stamp { sender: NodeId::from_bytes([7; 16]), session: 9, sequence: 3 };

    fn keys(primary: u8, other: Option<u8>) -> Sealer {
        let key = |id| Key::new(id, [id; 32]);
        Sealer::new(&Keys { primary: key(primary), other: other.map(key) })
    }

    #[test]
    fn what_was_sealed_opens_to_the_same() {
        let sealer = keys(1, None);
        let mut datagram = sealer.seal([5; 12], &STAMP, b"hello");
        assert_eq!(datagram.len(), OVERHEAD_BYTES + 5);
        assert_eq!(sealer.open(&mut datagram), Ok((STAMP, &b"hello"[..])));
    }

    #[test]
    fn every_flipped_bit_is_refused() {
        let sealer = keys(1, Some(2));
        let datagram = sealer.seal([5; 12], &STAMP, b"hello");
        for bit in 0..datagram.len() * 8 {
            let mut bad = datagram.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(sealer.open(&mut bad).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn every_truncation_and_what_is_too_long_is_refused() {
        let sealer = keys(1, None);
        let datagram = sealer.seal([5; 12], &STAMP, b"hello");
        for len in 0..datagram.len() {
            assert!(sealer.open(&mut datagram[..len].to_vec()).is_err(), "{len} bytes");
        }
        let mut long = sealer.seal([5; 12], &STAMP, &[0; PLAINTEXT_BYTES_MAX + 1]);
        assert_eq!(sealer.open(&mut long), Err(Refusal::Garbage));
    }

    #[test]
    fn a_rotation_loses_nothing() {
        // Old; new installed; new primary; old dropped. Neighbouring phases understand each other.
        let phases = [keys(1, None), keys(1, Some(2)), keys(2, Some(1)), keys(2, None)];
        for pair in phases.windows(2) {
            for (from, to) in [(&pair[0], &pair[1]), (&pair[1], &pair[0])] {
                let mut datagram = from.seal([5; 12], &STAMP, b"x");
                assert!(to.open(&mut datagram).is_ok());
            }
        }
        let mut old = phases[0].seal([5; 12], &STAMP, b"x");
        assert_eq!(phases[3].open(&mut old), Err(Refusal::UnknownKey));
    }

    #[test]
    fn same_id_other_secret_is_forged() {
        let foreign = Sealer::new(&Keys { primary: Key::new(1, [99; 32]), other: None });
        let mut datagram = foreign.seal([5; 12], &STAMP, b"x");
        assert_eq!(keys(1, None).open(&mut datagram), Err(Refusal::Forged));
    }

    #[test]
    fn debug_shows_no_secret() {
        assert_eq!(format!("{:?}", Key::new(3, [0xab; 32])), "Key { id: 3, .. }");
    }
}
