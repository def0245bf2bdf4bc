//! The last view on the disk: what an agent works from when no manager answers.
//!
//! One file: magic, format version, CRC-32C, then the view in postcard. Replaced whole (write, flush, rename), and readable by root
//! only, because the gossip keys are in it. A damaged file is as good as none: the node then waits for a manager before it changes
//! anything. One of a newer version refuses the start.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use swarmnet_types::NodeView;

const MAGIC: &[u8; 6] = b"SWVIEW";
const VERSION: u16 = 1;
/// Magic, version (2 bytes, little endian), CRC (4).
const HEAD_LEN: usize = MAGIC.len() + 2 + 4;
const MODE: u32 = 0o600;

/// The file cannot be used, and nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum ViewFileError {
    #[error("{}: {err}", path.display())]
    File {
        path: PathBuf,
        #[source]
        err: io::Error,
    },
    #[error(
        "{} was written by a newer version (format {found}, this one knows {VERSION}). Nothing was changed; run the newer version",
        path.display()
    )]
    Newer { path: PathBuf, found: u16 },
    #[error("the view cannot be written as bytes")]
    Encode {
        #[source]
        err: postcard::Error,
    },
}

/// The view in the file; `None` when there is none, or none that can be trusted.
///
/// # Errors
/// [`ViewFileError::File`], [`ViewFileError::Newer`].
pub fn read(path: &Path) -> Result<Option<NodeView>, ViewFileError> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(err) => return Err(ViewFileError::File { path: path.to_owned(), err }),
    };
    match decode(&bytes) {
        Ok(view) => Ok(Some(view)),
        Err(Fault::Newer(found)) => Err(ViewFileError::Newer { path: path.to_owned(), found }),
        Err(Fault::Damaged) => {
            tracing::error!(
                path = %path.display(),
                "the last view is damaged: nothing is changed before a manager sends a new one"
            );
            Ok(None)
        }
    }
}

/// Replaces the file; it is on the disk when this returns.
///
/// # Errors
/// [`ViewFileError::Encode`], [`ViewFileError::File`]; the old file is then still whole.
pub fn write(path: &Path, view: &NodeView) -> Result<(), ViewFileError> {
    let bytes = encode(view).map_err(|err| ViewFileError::Encode { err })?;
    let file = |err| ViewFileError::File { path: path.to_owned(), err };
    let dir = path.parent().ok_or_else(|| file(io::ErrorKind::InvalidInput.into()))?;
    fs::create_dir_all(dir).and_then(|()| swarmnet_pki::replace(path, &bytes, MODE)).map_err(file)
}

/// Removes the file or does nothing when it is not there.
///
/// # Errors
/// [`ViewFileError::File`].
pub fn remove(path: &Path) -> Result<(), ViewFileError> {
    match fs::remove_file(path) {
        Err(err) if err.kind() != io::ErrorKind::NotFound => {
            Err(ViewFileError::File { path: path.to_owned(), err })
        }
        _ => Ok(()),
    }
}

enum Fault {
    Damaged,
    Newer(u16),
}

fn decode(bytes: &[u8]) -> Result<NodeView, Fault> {
    let (head, body) = bytes.split_at_checked(HEAD_LEN).ok_or(Fault::Damaged)?;
    let rest = head.strip_prefix(MAGIC).ok_or(Fault::Damaged)?;
    let version = u16::from_le_bytes([rest[0], rest[1]]);
    if version > VERSION {
        return Err(Fault::Newer(version));
    }
    let crc = u32::from_le_bytes([rest[2], rest[3], rest[4], rest[5]]);
    if version != VERSION || crc != crc32c::crc32c(body) {
        return Err(Fault::Damaged);
    }
    postcard::from_bytes(body).map_err(|_| Fault::Damaged)
}

fn encode(view: &NodeView) -> postcard::Result<Vec<u8>> {
    let body = postcard::to_stdvec(view)?;
    let mut bytes = Vec::with_capacity(HEAD_LEN + body.len());
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    bytes.extend_from_slice(&crc32c::crc32c(&body).to_le_bytes());
    bytes.extend_from_slice(&body);
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::desired::fixture;

    #[test]
    fn what_was_written_is_read_and_only_root_may() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("state/view");
        assert!(read(&path).expect("absent is no error").is_none());
        let view = fixture::view();
        write(&path, &view).expect("written");
        assert_eq!(read(&path).expect("read"), Some(view));
        let mode = fs::metadata(&path).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, MODE);
        remove(&path).expect("removed");
        remove(&path).expect("gone is done");
    }

    #[test]
    fn damage_is_as_good_as_no_file_and_a_newer_version_refuses() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("view");
        write(&path, &fixture::view()).expect("written");
        let good = fs::read(&path).expect("bytes");
        for cut in [0, 5, HEAD_LEN, good.len() / 2, good.len() - 1] {
            fs::write(&path, &good[..cut]).expect("written");
            assert!(read(&path).expect("no error").is_none(), "cut at {cut}");
        }
        let mut flipped = good.clone();
        flipped[HEAD_LEN + 3] ^= 1;
        fs::write(&path, &flipped).expect("written");
        assert!(read(&path).expect("no error").is_none());
        let mut newer = good;
        newer[6] = 2;
        fs::write(&path, &newer).expect("written");
        let err = read(&path).expect_err("newer");
        assert!(err.to_string().contains("view was written by a newer version (format 2"), "{err}");
    }
}
