//! Symmetric keys: of data at rest, and the one that only the operator has.
//!
//! [`SecretKey`] seals with ChaCha20-Poly1305 (RFC 8439). [`UnlockKey`] is one as people copy it: `SWMKEY-1-` and 43 characters of
//! base64, as Docker's. Neither is ever shown by a debug print.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use ring::hkdf::{HKDF_SHA256, Salt};

use crate::error::PkiError;

pub const KEY_LEN: usize = 32;
pub const NONCE_LEN: usize = 12;
pub const TAG_LEN: usize = 16;

const UNLOCK_PREFIX: &str = "SWMKEY-1-";
/// Keys derived here serve nothing else.
const DERIVE_SALT: &[u8] = b"swarmnet at rest 1";

/// A 256-bit key.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretKey([u8; KEY_LEN]);

/// The key that unlocks managers: wraps what they need to read their own disk.
#[derive(Clone, PartialEq, Eq)]
pub struct UnlockKey(SecretKey);

/// Not an unlock key, or not the right one: Swarm's sentence for both (`sw:M5`). Nothing was changed, and another try may follow at
/// once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("swarm could not be unlocked: invalid key provided")]
pub struct InvalidUnlockKey;

// === impl SecretKey ===

impl SecretKey {
    /// A new random key.
    ///
    /// # Errors
    /// [`PkiError::Random`].
    pub fn generate() -> Result<Self, PkiError> {
        crate::random_bytes().map(Self)
    }

    pub const fn from_bytes(bytes: [u8; KEY_LEN]) -> Self {
        Self(bytes)
    }

    pub const fn expose(&self) -> &[u8; KEY_LEN] {
        &self.0
    }

    /// A key for one purpose (HKDF-SHA256, RFC 5869): what is sealed for one purpose does not open for another.
    #[must_use]
    pub fn derive(&self, purpose: &[&[u8]]) -> Self {
        let mut bytes = [0; KEY_LEN];
        let pseudorandom = Salt::new(HKDF_SHA256, DERIVE_SALT).extract(&self.0);
        pseudorandom
            .expand(purpose, HKDF_SHA256)
            .and_then(|okm| okm.fill(&mut bytes))
            .expect("one block of output is always there");
        Self(bytes)
    }

    /// Encrypts in place. A nonce must never come twice with one key.
    pub fn seal(&self, nonce: [u8; NONCE_LEN], about: &[u8], text: &mut [u8]) -> [u8; TAG_LEN] {
        let nonce = Nonce::assume_unique_for_key(nonce);
        let tag = self
            .aead()
            .seal_in_place_separate_tag(nonce, Aad::from(about), text)
            .expect("far shorter than the cipher's 256 GiB");
        tag.as_ref().try_into().expect("a tag of Poly1305 has 16 bytes")
    }

    /// Decrypts what [`Self::seal`] made, its tag at the end; `None` when it is not of this key, nonce and circumstance.
    pub fn open(&self, nonce: [u8; NONCE_LEN], about: &[u8], mut text: Vec<u8>) -> Option<Vec<u8>> {
        let nonce = Nonce::assume_unique_for_key(nonce);
        let len = self.aead().open_in_place(nonce, Aad::from(about), &mut text).ok()?.len();
        text.truncate(len);
        Some(text)
    }

    fn aead(&self) -> LessSafeKey {
        let key = UnboundKey::new(&CHACHA20_POLY1305, &self.0).expect("the key has 32 bytes");
        LessSafeKey::new(key)
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretKey(…)")
    }
}

// === impl UnlockKey ===

impl UnlockKey {
    /// A new random key.
    ///
    /// # Errors
    /// [`PkiError::Random`].
    pub fn generate() -> Result<Self, PkiError> {
        SecretKey::generate().map(Self)
    }

    pub const fn from_bytes(bytes: [u8; KEY_LEN]) -> Self {
        Self(SecretKey::from_bytes(bytes))
    }

    pub const fn secret(&self) -> &SecretKey {
        &self.0
    }
}

/// The key itself, for the operator: not for logs.
impl fmt::Display for UnlockKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{UNLOCK_PREFIX}{}", STANDARD_NO_PAD.encode(self.0.expose()))
    }
}

impl fmt::Debug for UnlockKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("UnlockKey(…)")
    }
}

impl FromStr for UnlockKey {
    type Err = InvalidUnlockKey;

    fn from_str(text: &str) -> Result<Self, InvalidUnlockKey> {
        let digits = text.trim().strip_prefix(UNLOCK_PREFIX).ok_or(InvalidUnlockKey)?;
        let bytes = STANDARD_NO_PAD.decode(digits).map_err(|_| InvalidUnlockKey)?;
        bytes.try_into().map(Self::from_bytes).map_err(|_| InvalidUnlockKey)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unlock_key_is_read_as_it_was_printed() {
        let key = UnlockKey::generate().expect("random");
        let text = key.to_string();
        assert_eq!(text.len(), "SWMKEY-1-".len() + 43);
        assert_eq!(text.parse(), Ok(key.clone()));
        assert_eq!(format!(" {text}\n").parse(), Ok(key.clone()));
        for wrong in ["", "SWMKEY-1-", "SWMKEY-2-", &text[..51], &format!("{text}A"), &text[9..]] {
            assert_eq!(wrong.parse::<UnlockKey>(), Err(InvalidUnlockKey), "{wrong}");
        }
        assert!(!format!("{key:?}").contains(&text[9..]), "a debug print shows nothing");
    }

    #[test]
    fn what_is_sealed_opens_where_it_was_sealed_only() {
        let key = SecretKey::from_bytes([7; 32]);
        let mut text = b"secret".to_vec();
        let tag = key.seal([1; 12], b"here", &mut text);
        text.extend(tag);
        assert_eq!(key.open([1; 12], b"here", text.clone()).as_deref(), Some(&b"secret"[..]));
        assert_eq!(key.open([2; 12], b"here", text.clone()), None);
        assert_eq!(key.open([1; 12], b"there", text.clone()), None);
        assert_eq!(key.derive(&[b"other"]).open([1; 12], b"here", text.clone()), None);
        for at in 0..text.len() {
            let mut altered = text.clone();
            altered[at] ^= 1;
            assert_eq!(key.open([1; 12], b"here", altered), None);
        }
    }
}
