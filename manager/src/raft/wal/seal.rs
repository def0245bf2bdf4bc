//! What a record's payload is on the disk: encrypted, and bound to the place where it stands.
//!
//! ```text
//! payload = start 8 | ciphertext | tag 16
//! ```
//! ChaCha20-Poly1305. Key: derived from the data key for one segment. Nonce: `start`, drawn at random whenever the log is opened and for
//! each segment, then the record's offset / 8 as u32. Within one opening no offset is written twice (after a failed write the log
//! stops), and what a crash cut off and the next opening writes anew has another `start`: no nonce comes twice, and no counter has to
//! survive. Authenticated with it: segment, offset and tag, so that an intact record at another place is none.

use swarmnet_pki::secret_key::{NONCE_LEN, TAG_LEN};
use swarmnet_pki::{PkiError, SecretKey};

use super::format::{ALIGN, Place, Tag};

/// Bytes that a payload grows by.
pub(super) const OVERHEAD: usize = START_LEN + TAG_LEN;

const START_LEN: usize = 8;

/// Reads the records of one segment.
#[derive(Debug, Clone)]
pub(super) struct SegmentKey {
    segment: u64,
    key: SecretKey,
}

/// Writes the records of one segment, within one opening.
#[derive(Debug, Clone)]
pub(super) struct Sealer {
    segment: SegmentKey,
    start: [u8; START_LEN],
}

// === impl SegmentKey ===

impl SegmentKey {
    pub(super) fn new(data_key: &SecretKey, segment: u64) -> Self {
        let key = data_key.derive(&[b"log segment", &segment.to_le_bytes()]);
        Self { segment, key }
    }

    /// The text of a payload; `None` when it was not written at this place with this key.
    pub(super) fn open(&self, offset: usize, tag: Tag, payload: &[u8]) -> Option<Vec<u8>> {
        let (start, text) = payload.split_first_chunk()?;
        self.key.open(nonce(*start, offset), &self.about(offset, tag), text.to_vec())
    }

    fn about(&self, offset: usize, tag: Tag) -> [u8; 17] {
        let mut about = [tag as u8; 17];
        about[1..9].copy_from_slice(&self.segment.to_le_bytes());
        about[9..].copy_from_slice(&(offset as u64).to_le_bytes());
        about
    }
}

// === impl Sealer ===

impl Sealer {
    /// # Errors
    /// [`PkiError::Random`].
    pub(super) fn new(segment: SegmentKey) -> Result<Self, PkiError> {
        Ok(Self { segment, start: swarmnet_pki::random_bytes()? })
    }

    /// Appends the payload for a text that is given in parts.
    pub(super) fn seal(&self, out: &mut Vec<u8>, place: Place, tag: Tag, text: &[&[u8]]) {
        out.extend_from_slice(&self.start);
        let from = out.len();
        for part in text {
            out.extend_from_slice(part);
        }
        let about = self.segment.about(place.offset, tag);
        let tag = self.segment.key.seal(nonce(self.start, place.offset), &about, &mut out[from..]);
        out.extend_from_slice(&tag);
    }
}

fn nonce(start: [u8; START_LEN], offset: usize) -> [u8; NONCE_LEN] {
    let place = u32::try_from(offset / ALIGN).expect("a segment is shorter than 4 GiB");
    let mut nonce = [0; NONCE_LEN];
    nonce[..START_LEN].copy_from_slice(&start);
    nonce[START_LEN..].copy_from_slice(&place.to_le_bytes());
    nonce
}
