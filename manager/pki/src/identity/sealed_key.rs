//! The text of a sealed `node.key`: one PEM section around a sealed file (`crate::sealed`) that holds the PEM of the key.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::error::PkiError;
use crate::sealed::{self, Kind, Sealed};
use crate::secret_key::SecretKey;

const KIND: Kind = Kind { magic: b"SNETNKY\n", name: "node key", version: 1 };
const BEGIN: &str = "-----BEGIN SWARMNET SEALED PRIVATE KEY-----";
const END: &str = "-----END SWARMNET SEALED PRIVATE KEY-----";
/// The one key of its purpose.
const NUMBER: u32 = 0;

pub(super) fn is_sealed(text: &str) -> bool {
    text.trim_start().starts_with(BEGIN)
}

pub(super) fn seal(pem: &str, key: &SecretKey) -> Result<String, PkiError> {
    let sealed = sealed::seal(KIND, (NUMBER, key), pem.as_bytes())?;
    Ok(format!("{BEGIN}\n{}\n{END}\n", STANDARD.encode(sealed)))
}

/// The key's PEM. A plain text is taken as it is: a crash may have come between the locking of the two files.
pub(super) fn open(text: String, key: Option<&SecretKey>) -> Result<String, PkiError> {
    if !is_sealed(&text) {
        return Ok(text);
    }
    let what = "sealed private key";
    let body = text.trim().strip_prefix(BEGIN).and_then(|rest| rest.strip_suffix(END));
    let body = body.ok_or(PkiError::NoPem { what })?;
    let bytes = STANDARD.decode(body.trim()).map_err(|_| PkiError::NoPem { what })?;
    let file = Sealed::parse(KIND, &bytes)?;
    let key = key.ok_or(sealed::SealedError::Locked { what: KIND.name })?;
    String::from_utf8(file.open(key)?).map_err(|_| PkiError::NoPem { what })
}
