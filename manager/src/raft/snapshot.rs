//! Snapshots of the state: one file each, whole and checked, or not there.
//!
//! ```text
//! travels = header (28 bytes) | meta | state | crc32c of all before
//! header  = "SNETSNP\n" | version u16 | 0 × 2 | length of meta u32 | length of state u64 | format of the state u32
//! file    = what travels, in an envelope (swarmnet_pki::sealed, "SNETSNF\n"), sealed with the data key
//! ```
//! Numbers are little-endian, meta and state are postcard. To followers the inner bytes travel, in chunks: each manager has data keys of
//! its own. A file is written under a temporary name, flushed, renamed, and the folder flushed; then older ones are removed.
//!
//! Inputs: a folder of its own. It never removes the newest snapshot, and changes nothing while opening a damaged one.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use swarmnet_manager_core::FORMAT as STATE_FORMAT;
use swarmnet_pki::sealed::{self, Kind, Sealed, SealedError};

use super::disk::AtRest;
use super::error::RaftError;
use super::types::{SnapshotMeta, State};

const MAGIC: &[u8; 8] = b"SNETSNP\n";
const VERSION: u16 = 1;
const FILE: Kind = Kind { magic: b"SNETSNF\n", name: "snapshot", version: 1 };
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
    /// The file around it.
    #[error(transparent)]
    File(#[from] SealedError),
    #[error("the snapshot is sealed with data key {key}, which the key file does not hold")]
    NoKey { key: u32 },
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

/// What a folder of snapshots held.
#[derive(Debug)]
pub(super) struct Newest {
    pub(super) meta: SnapshotMeta,
    pub(super) state: State,
    /// Number of the data key it is sealed with.
    pub(super) key: u32,
}

/// The folder of snapshots; the newest is the one in use.
#[derive(Debug)]
pub(super) struct SnapshotDir {
    dir: PathBuf,
    at_rest: AtRest,
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
    bytes.extend_from_slice(&[0, 0]);
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
    let found = u32::from_le_bytes(header[24..28].try_into().expect("four bytes"));
    if found > STATE_FORMAT {
        return Err(SnapshotDamage::UnknownState { found });
    }
    let (meta, state) = content[HEADER_LEN..].split_at(meta_len as usize);
    Ok((postcard::from_bytes(meta)?, postcard::from_bytes(state)?))
}

/// Takes the inner bytes out of a file; with the number of the key that it is sealed with.
fn open_file(at_rest: &AtRest, bytes: &[u8]) -> Result<(Vec<u8>, u32), SnapshotDamage> {
    let file = Sealed::parse(FILE, bytes)?;
    let key = file.key().ok_or(SealedError::Key { what: FILE.name })?;
    let data_key = at_rest.keyring.get(key).ok_or(SnapshotDamage::NoKey { key })?;
    Ok((file.open(&data_key)?, key))
}

// === impl SnapshotDir ===

impl SnapshotDir {
    /// Opens the folder, made if it is not there, and reads the newest snapshot. Leftovers of a crash are removed once that
    /// succeeded.
    pub(super) fn open(dir: &Path, at_rest: &AtRest) -> Result<(Self, Option<Newest>), RaftError> {
        let io = |action| move |source| RaftError::Io { action, path: dir.to_owned(), source };
        fs::create_dir_all(dir).map_err(io("create"))?;
        let (snapshots, temporary) = list(dir).map_err(io("list"))?;
        let newest = match snapshots.last() {
            Some(file) => {
                let bytes = at_rest.disk.read(file).map_err(|source| RaftError::Io {
                    action: "read",
                    path: file.clone(),
                    source,
                })?;
                let damaged = |damage| RaftError::Snapshot { file: file.clone(), damage };
                let (bytes, key) = open_file(at_rest, &bytes).map_err(damaged)?;
                let (meta, state) = decode(&bytes).map_err(damaged)?;
                Some((file.clone(), Newest { meta, state, key }))
            }
            None => None,
        };
        let old = snapshots.iter().rev().skip(1);
        old.chain(&temporary)
            .try_for_each(|file| at_rest.disk.remove(file))
            .map_err(io("clean up"))?;
        let current = newest.as_ref().map(|(file, newest)| (newest.meta.clone(), file.clone()));
        let (dir, at_rest) = (dir.to_owned(), at_rest.clone());
        let dir = Self { dir, at_rest, current: Mutex::new(current) };
        Ok((dir, newest.map(|(_, newest)| newest)))
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
        let (number, key) = self.at_rest.keyring.current();
        let sealed = sealed::seal(FILE, (number, &key), bytes).map_err(io::Error::other)?;
        let disk = &self.at_rest.disk;
        let file = disk.create(&temporary)?;
        disk.write_at(&file, &temporary, &sealed, 0)?;
        disk.sync(&file, &temporary)?;
        disk.rename(&temporary, &path)?;
        disk.sync_dir(&self.dir)?;
        let old = current.replace((meta.clone(), path.clone()));
        if let Some((_, old)) = old.filter(|(_, old)| *old != path)
            && let Err(err) = disk.remove(&old)
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
        let sealed = self.at_rest.disk.read(file)?;
        let (bytes, _) = open_file(&self.at_rest, &sealed).map_err(io::Error::other)?;
        Ok(Some((meta.clone(), bytes)))
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
