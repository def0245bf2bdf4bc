//! Snapshots of the state: one file each, whole and checked, or not there.
//!
//! ```text
//! file   = header (28 bytes) | meta | state | crc32c of all before
//! header = "SNETSNP\n" | version u16 | sealing u8 | 0 | length of meta u32 | length of state u64 | format of the state u32
//! ```
//! Numbers are little-endian, meta and state are postcard. The same bytes travel to followers, in chunks. A file is written under a
//! temporary name, flushed, renamed, and the folder flushed; then older ones are removed. `sealing` 0 is plain: the place for
//! encryption at rest, as in the log.
//!
//! Inputs: a folder of its own. It never removes the newest snapshot, and changes nothing while opening a damaged one.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use swarmnet_manager_core::FORMAT as STATE_FORMAT;

use super::error::RaftError;
use super::types::{SnapshotMeta, State};

const MAGIC: &[u8; 8] = b"SNETSNP\n";
const VERSION: u16 = 1;
const SEALING_PLAIN: u8 = 0;
const HEADER_LEN: usize = 28;
const CRC_LEN: usize = 4;

/// Why the bytes of a snapshot are refused.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotDamage {
    #[error("not a snapshot")]
    Magic,
    #[error("snapshot format version {found}, this build knows up to {VERSION}")]
    UnknownVersion { found: u16 },
    #[error("cluster state of format {found}, this build knows up to {STATE_FORMAT}")]
    UnknownState { found: u32 },
    #[error("the snapshot is encrypted in a way this build does not know ({found})")]
    Sealing { found: u8 },
    #[error("the snapshot has {found} bytes, its head says {expected}")]
    Length { expected: u64, found: u64 },
    #[error("the snapshot does not match its checksum")]
    Checksum,
    #[error("the snapshot does not decode: {source}")]
    Decode {
        #[from]
        source: postcard::Error,
    },
}

/// The folder of snapshots; the newest is the one in use.
#[derive(Debug)]
pub(super) struct SnapshotDir {
    dir: PathBuf,
    /// Held while a file is written, so that a slow build cannot replace a newer installed one.
    current: Mutex<Option<(SnapshotMeta, PathBuf)>>,
}

/// The bytes of one snapshot.
///
/// # Errors
/// Only if a type of the state cannot be encoded, which is a fault of ours.
pub(super) fn encode(meta: &SnapshotMeta, state: &State) -> Result<Vec<u8>, postcard::Error> {
    let meta = postcard::to_stdvec(meta)?;
    let mut bytes = Vec::with_capacity(HEADER_LEN + meta.len());
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    bytes.extend_from_slice(&[SEALING_PLAIN, 0]);
    let meta_len =
        u32::try_from(meta.len()).expect("the meta of a snapshot is a few hundred bytes");
    bytes.extend_from_slice(&meta_len.to_le_bytes());
    bytes.extend_from_slice(&[0; 8]);
    bytes.extend_from_slice(&STATE_FORMAT.to_le_bytes());
    bytes.extend_from_slice(&meta);
    let mut bytes = postcard::to_extend(state, bytes)?;
    let state_len = (bytes.len() - HEADER_LEN - meta.len()) as u64;
    bytes[16..24].copy_from_slice(&state_len.to_le_bytes());
    let crc = crc32c::crc32c(&bytes);
    bytes.extend_from_slice(&crc.to_le_bytes());
    Ok(bytes)
}

/// Checks and reads the bytes of one snapshot.
pub(super) fn decode(bytes: &[u8]) -> Result<(SnapshotMeta, State), SnapshotDamage> {
    let (header, _) = bytes.split_first_chunk::<HEADER_LEN>().ok_or(SnapshotDamage::Magic)?;
    if &header[..8] != MAGIC {
        return Err(SnapshotDamage::Magic);
    }
    let version = u16::from_le_bytes([header[8], header[9]]);
    if version > VERSION {
        return Err(SnapshotDamage::UnknownVersion { found: version });
    }
    let meta_len = u32::from_le_bytes(header[12..16].try_into().expect("four bytes"));
    let state_len = u64::from_le_bytes(header[16..24].try_into().expect("eight bytes"));
    let expected = state_len.saturating_add(u64::from(meta_len));
    let expected = expected.saturating_add((HEADER_LEN + CRC_LEN) as u64);
    if expected != bytes.len() as u64 {
        return Err(SnapshotDamage::Length { expected, found: bytes.len() as u64 });
    }
    let (content, crc) = bytes.split_last_chunk().expect("the length was checked");
    if crc32c::crc32c(content) != u32::from_le_bytes(*crc) {
        return Err(SnapshotDamage::Checksum);
    }
    if header[10] != SEALING_PLAIN {
        return Err(SnapshotDamage::Sealing { found: header[10] });
    }
    let found = u32::from_le_bytes(header[24..28].try_into().expect("four bytes"));
    if found > STATE_FORMAT {
        return Err(SnapshotDamage::UnknownState { found });
    }
    let (meta, state) = content[HEADER_LEN..].split_at(meta_len as usize);
    Ok((postcard::from_bytes(meta)?, postcard::from_bytes(state)?))
}

// === impl SnapshotDir ===

impl SnapshotDir {
    /// Opens the folder, made if it is not there, and reads the newest snapshot. Leftovers of a crash are removed once that
    /// succeeded.
    pub(super) fn open(dir: &Path) -> Result<(Self, Option<(SnapshotMeta, State)>), RaftError> {
        let io = |action| move |source| RaftError::Io { action, path: dir.to_owned(), source };
        fs::create_dir_all(dir).map_err(io("create"))?;
        let (snapshots, temporary) = list(dir).map_err(io("list"))?;
        let newest = match snapshots.last() {
            Some(file) => {
                let bytes = fs::read(file).map_err(|source| RaftError::Io {
                    action: "read",
                    path: file.clone(),
                    source,
                })?;
                let damaged = |damage| RaftError::Snapshot { file: file.clone(), damage };
                Some((file.clone(), decode(&bytes).map_err(damaged)?))
            }
            None => None,
        };
        let old = snapshots.iter().rev().skip(1);
        old.chain(&temporary).try_for_each(fs::remove_file).map_err(io("clean up"))?;
        let current = newest.as_ref().map(|(file, (meta, _))| (meta.clone(), file.clone()));
        let dir = Self { dir: dir.to_owned(), current: Mutex::new(current) };
        Ok((dir, newest.map(|(_, snapshot)| snapshot)))
    }

    /// Writes a snapshot and makes it the current one, unless the current one is newer. Blocks on the disk.
    pub(super) fn save(&self, meta: &SnapshotMeta, bytes: &[u8]) -> io::Result<()> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((newer, _)) = current.as_ref()
            && newer.last_log_id > meta.last_log_id
        {
            return Ok(());
        }
        let index = meta.last_log_id.map_or(0, |id| id.index);
        let path = self.dir.join(format!("{index:020}.snapshot"));
        let temporary = path.with_extension("tmp");
        let mut file = File::create(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, &path)?;
        File::open(&self.dir)?.sync_all()?;
        let old = current.replace((meta.clone(), path.clone()));
        if let Some((_, old)) = old.filter(|(_, old)| *old != path)
            && let Err(err) = fs::remove_file(&old)
        {
            // It costs space only; the next start tries again.
            tracing::warn!(file = %old.display(), %err, "cannot remove an old snapshot");
        }
        Ok(())
    }

    /// The current snapshot. Blocks on the disk.
    pub(super) fn load(&self) -> io::Result<Option<(SnapshotMeta, Vec<u8>)>> {
        let current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((meta, file)) = current.as_ref() else { return Ok(None) };
        Ok(Some((meta.clone(), fs::read(file)?)))
    }
}

/// Snapshots by age, and files that were never finished.
fn list(dir: &Path) -> io::Result<(Vec<PathBuf>, Vec<PathBuf>)> {
    let (mut snapshots, mut temporary) = (Vec::new(), Vec::new());
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("snapshot") => snapshots.push(path),
            Some("tmp") => temporary.push(path),
            _ => {}
        }
    }
    snapshots.sort_unstable();
    Ok((snapshots, temporary))
}
