//! Files that hold secrets: one envelope for all of them.
//!
//! ```text
//! file   = header (36 bytes) | content | crc32c of all before
//! header = magic 8 | version u16 | sealing u8 | 0 | key u32 | nonce 12 | length of the content u64
//! ```
//! Numbers are little-endian. `sealing` 0: the content is plain. 1: ChaCha20-Poly1305 with the key of that number and a random nonce,
//! the header authenticated with it; each kind of file has a key of its own, derived from the one that is given. The checksum is over
//! the bytes as they lie on the disk: damage is found without any key, and told from a wrong key.
//!
//! Pure but for the random nonce: no files here.

use crate::error::PkiError;
use crate::secret_key::{InvalidUnlockKey, NONCE_LEN, SecretKey, TAG_LEN, UnlockKey};

const HEADER_LEN: usize = 36;
const CRC_LEN: usize = 4;
const PLAIN: u8 = 0;
const CHACHA20_POLY1305: u8 = 1;
/// Number of the operator's key in a header.
const UNLOCK_KEY_NUMBER: u32 = 0;

/// What a file holds, and the version this build writes.
#[derive(Debug, Clone, Copy)]
pub struct Kind {
    pub magic: &'static [u8; 8],
    /// As errors call it.
    pub name: &'static str,
    pub version: u16,
}

/// Why the bytes of a file are refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SealedError {
    #[error("not a {what}")]
    Magic { what: &'static str },
    #[error("{what} format version {found}, this build knows up to {known}")]
    UnknownVersion { what: &'static str, found: u16, known: u16 },
    #[error("the {what} is encrypted in a way this build does not know ({found})")]
    Sealing { what: &'static str, found: u8 },
    #[error("the {what} has {found} bytes, its head says {expected}")]
    Length { what: &'static str, expected: u64, found: u64 },
    #[error("the {what} does not match its checksum")]
    Checksum { what: &'static str },
    #[error("the {what} is encrypted")]
    Locked { what: &'static str },
    /// The bytes are as they were written, and were not written with this key.
    #[error("the {what} does not open with this key")]
    Key { what: &'static str },
}

/// Why a file that may be locked with the operator's key is not opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnlockError {
    #[error(transparent)]
    Damaged(#[from] SealedError),
    #[error("the operator's key is needed")]
    NoKey,
    #[error(transparent)]
    WrongKey(#[from] InvalidUnlockKey),
}

/// The bytes of a sound file, its content still sealed, if it is.
#[derive(Debug, Clone, Copy)]
pub struct Sealed<'a> {
    kind: Kind,
    header: &'a [u8],
    content: &'a [u8],
}

/// A file with plain content.
pub fn plain(kind: Kind, content: &[u8]) -> Vec<u8> {
    let header = header(kind, (PLAIN, 0), [0; NONCE_LEN], content.len());
    closed(header, content)
}

/// A file sealed with the key of that number.
///
/// # Errors
/// [`PkiError::Random`].
pub fn seal(
    kind: Kind,
    (number, key): (u32, &SecretKey),
    content: &[u8],
) -> Result<Vec<u8>, PkiError> {
    let nonce = crate::random_bytes()?;
    let len = content.len() + TAG_LEN;
    let header = header(kind, (CHACHA20_POLY1305, number), nonce, len);
    let mut text = Vec::with_capacity(len);
    text.extend_from_slice(content);
    let tag = key.derive(&[kind.magic]).seal(nonce, &header, &mut text);
    text.extend_from_slice(&tag);
    Ok(closed(header, &text))
}

/// A file locked with the operator's key, if there is one.
///
/// # Errors
/// [`PkiError::Random`].
pub fn lock(kind: Kind, key: Option<&UnlockKey>, content: &[u8]) -> Result<Vec<u8>, PkiError> {
    match key {
        None => Ok(plain(kind, content)),
        Some(key) => seal(kind, (UNLOCK_KEY_NUMBER, key.secret()), content),
    }
}

/// The content of what [`lock`] made, and the key that it is locked with.
///
/// # Errors
/// See [`UnlockError`].
pub fn unlock<'k>(
    kind: Kind,
    key: Option<&'k UnlockKey>,
    file: &[u8],
) -> Result<(Vec<u8>, Option<&'k UnlockKey>), UnlockError> {
    let sealed = Sealed::parse(kind, file)?;
    if sealed.key().is_none() {
        return Ok((sealed.plain()?.to_vec(), None));
    }
    let key = key.ok_or(UnlockError::NoKey)?;
    let content = sealed.open(key.secret()).map_err(|_| InvalidUnlockKey)?;
    Ok((content, Some(key)))
}

fn header(kind: Kind, (sealing, key): (u8, u32), nonce: [u8; NONCE_LEN], len: usize) -> Vec<u8> {
    let mut header = Vec::with_capacity(HEADER_LEN + len + CRC_LEN);
    header.extend_from_slice(kind.magic);
    header.extend_from_slice(&kind.version.to_le_bytes());
    header.extend_from_slice(&[sealing, 0]);
    header.extend_from_slice(&key.to_le_bytes());
    header.extend_from_slice(&nonce);
    header.extend_from_slice(&(len as u64).to_le_bytes());
    header
}

fn closed(mut file: Vec<u8>, content: &[u8]) -> Vec<u8> {
    file.extend_from_slice(content);
    let crc = crc32c::crc32c(&file);
    file.extend_from_slice(&crc.to_le_bytes());
    file
}

// === impl Sealed ===

impl<'a> Sealed<'a> {
    /// Checks all that can be checked without a key.
    ///
    /// # Errors
    /// All of [`SealedError`] but the last two.
    pub fn parse(kind: Kind, bytes: &'a [u8]) -> Result<Self, SealedError> {
        let what = kind.name;
        let (header, rest) =
            bytes.split_at_checked(HEADER_LEN).ok_or(SealedError::Magic { what })?;
        if header[..8] != *kind.magic {
            return Err(SealedError::Magic { what });
        }
        // Before the checksum: a newer format may have another one.
        let found = u16::from_le_bytes([header[8], header[9]]);
        if found > kind.version {
            return Err(SealedError::UnknownVersion { what, found, known: kind.version });
        }
        let len = u64::from_le_bytes(header[28..].try_into().expect("eight bytes"));
        let expected = len.saturating_add((HEADER_LEN + CRC_LEN) as u64);
        if expected != bytes.len() as u64 {
            return Err(SealedError::Length { what, expected, found: bytes.len() as u64 });
        }
        let (content, crc) = rest.split_at(rest.len() - CRC_LEN);
        if crc32c::crc32c(&bytes[..bytes.len() - CRC_LEN]).to_le_bytes() != *crc {
            return Err(SealedError::Checksum { what });
        }
        match header[10] {
            PLAIN | CHACHA20_POLY1305 => Ok(Self { kind, header, content }),
            found => Err(SealedError::Sealing { what, found }),
        }
    }

    /// The number of the key it is sealed with; `None`: it is plain.
    pub fn key(&self) -> Option<u32> {
        let number = u32::from_le_bytes(self.header[12..16].try_into().expect("four bytes"));
        (self.header[10] == CHACHA20_POLY1305).then_some(number)
    }

    /// The content of a plain file.
    ///
    /// # Errors
    /// [`SealedError::Locked`].
    pub fn plain(&self) -> Result<&'a [u8], SealedError> {
        match self.key() {
            None => Ok(self.content),
            Some(_) => Err(SealedError::Locked { what: self.kind.name }),
        }
    }

    /// The content, by the key that sealed it. A plain file is of no key.
    ///
    /// # Errors
    /// [`SealedError::Key`].
    pub fn open(&self, key: &SecretKey) -> Result<Vec<u8>, SealedError> {
        let nonce = self.header[16..28].try_into().expect("twelve bytes");
        let opened = self.key().and_then(|_| {
            key.derive(&[self.kind.magic]).open(nonce, self.header, self.content.to_vec())
        });
        opened.ok_or(SealedError::Key { what: self.kind.name })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIND: Kind = Kind { magic: b"TESTTST\n", name: "test", version: 1 };

    #[test]
    fn content_is_read_as_it_was_written() {
        let key = SecretKey::from_bytes([1; 32]);
        let file = plain(KIND, b"content");
        let read = Sealed::parse(KIND, &file).expect("sound");
        assert_eq!((read.key(), read.plain()), (None, Ok(&b"content"[..])));
        assert_eq!(read.open(&key), Err(SealedError::Key { what: "test" }), "it is of no key");
        let file = seal(KIND, (9, &key), b"content").expect("random");
        assert!(!file.windows(7).any(|w| w == b"content"));
        let read = Sealed::parse(KIND, &file).expect("sound");
        assert_eq!((read.key(), read.open(&key).as_deref()), (Some(9), Ok(&b"content"[..])));
        assert_eq!(read.plain(), Err(SealedError::Locked { what: "test" }));
        let other = SecretKey::from_bytes([2; 32]);
        assert_eq!(read.open(&other), Err(SealedError::Key { what: "test" }));
    }

    #[test]
    fn any_flipped_bit_and_any_cut_is_found_without_a_key() {
        let whole = seal(KIND, (1, &SecretKey::from_bytes([1; 32])), b"content").expect("random");
        for bit in 0..whole.len() * 8 {
            let mut damaged = whole.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(Sealed::parse(KIND, &damaged).is_err(), "bit {bit}");
        }
        for cut in 0..whole.len() {
            assert!(Sealed::parse(KIND, &whole[..cut]).is_err(), "cut at {cut}");
        }
        let mut newer = whole;
        newer[8] = 2;
        let err = Sealed::parse(KIND, &newer).expect_err("newer").to_string();
        assert_eq!(err, "test format version 2, this build knows up to 1");
    }

    /// Who can write the disk, and its checksums, still cannot make another file of this one.
    #[test]
    fn an_altered_header_does_not_open() {
        let key = SecretKey::from_bytes([1; 32]);
        let mut file = seal(KIND, (1, &key), b"content").expect("random");
        file[12] = 2;
        let end = file.len() - CRC_LEN;
        let crc = crc32c::crc32c(&file[..end]).to_le_bytes();
        file[end..].copy_from_slice(&crc);
        let read = Sealed::parse(KIND, &file).expect("sound");
        assert_eq!(read.open(&key), Err(SealedError::Key { what: "test" }));
    }
}
