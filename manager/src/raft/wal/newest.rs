//! The number of the newest segment, beside the segments: without it the loss of the last one would look like a crash before it was made.
//!
//! File `newest`: number u64 | crc32c, little-endian; replaced whole, after the segment has its name and before anything in it is
//! answered. A crash between the two leaves it one behind.

use std::io;
use std::path::{Path, PathBuf};

use crate::raft::disk::Disk;

const FILE: &str = "newest";
const NUMBER_LEN: usize = 8;
const LEN: usize = NUMBER_LEN + 4;

/// What the file says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Newest {
    Segment(u64),
    /// There is none: no segment was ever finished.
    Absent,
    Damaged,
}

pub(super) fn path(dir: &Path) -> PathBuf {
    dir.join(FILE)
}

pub(super) fn read(disk: &dyn Disk, dir: &Path) -> io::Result<Newest> {
    let bytes = match disk.read(&path(dir)) {
        Ok(bytes) => bytes,
        Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(Newest::Absent),
        Err(err) => return Err(err),
    };
    let Some((number, crc)) = bytes.split_first_chunk::<NUMBER_LEN>() else {
        return Ok(Newest::Damaged);
    };
    let is_sound = crc == crc32c::crc32c(number).to_le_bytes();
    Ok(if is_sound { Newest::Segment(u64::from_le_bytes(*number)) } else { Newest::Damaged })
}

/// On the disk when this returns, with all names in the folder.
pub(super) fn write(disk: &dyn Disk, dir: &Path, number: u64) -> io::Result<()> {
    let mut bytes = [0; LEN];
    let (text, crc) = bytes.split_at_mut(NUMBER_LEN);
    text.copy_from_slice(&number.to_le_bytes());
    crc.copy_from_slice(&crc32c::crc32c(text).to_le_bytes());
    let (path, beside) = (path(dir), dir.join("newest.tmp"));
    let file = disk.create(&beside)?;
    disk.write_at(&file, &beside, &bytes, 0)?;
    disk.sync(&file, &beside)?;
    disk.rename(&beside, &path)?;
    disk.sync_dir(dir)
}
