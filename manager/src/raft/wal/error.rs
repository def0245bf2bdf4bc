//! What can be wrong with the log on disk.

use std::io;
use std::path::PathBuf;

/// Opening or writing the log failed.
///
/// Errors of opening leave every file as it was. An error of writing is final: the log takes nothing more until the process is
/// started again, because after a failed flush nobody knows what the disk holds.
#[derive(Debug, thiserror::Error)]
pub enum WalError {
    /// Another process has the folder open. Retry when it has ended.
    #[error("{} is in use by another process", dir.display())]
    Locked { dir: PathBuf },
    /// The operating system refused; a retry may help, after the cause is removed.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        action: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// The file was written by a newer version; start that version instead.
    #[error("{} has format version {found}, this build knows up to {known}", file.display())]
    UnknownVersion { file: PathBuf, found: u32, known: u32 },
    /// The file is damaged: restore the folder from a backup, or remove the folder and join the cluster again.
    #[error("{} is damaged at byte {offset}: {damage}", file.display())]
    Corrupt { file: PathBuf, offset: u64, damage: Damage },
    /// A file between others is not there.
    #[error("{} is missing", file.display())]
    Missing { file: PathBuf },
    /// The file is sealed with a data key that the key file does not hold: one of the two is of another time or machine.
    #[error("{} is sealed with data key {key}, which {} does not hold", file.display(), keys.display())]
    NoKey { file: PathBuf, key: u32, keys: PathBuf },
    /// An earlier write failed, and with it the log.
    #[error("the log stopped after an error: {cause}")]
    Stopped { cause: String },
    /// `Wal::close` was called.
    #[error("the log is closed")]
    Closed,
}

/// What about the bytes is wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    #[error("the head of the file is not that of a log segment")]
    SegmentHeader,
    #[error("format version {found} is unknown")]
    FileVersion { found: u16 },
    #[error("kind of encryption {found} is unknown")]
    Sealing { found: u8 },
    #[error("the head of a record does not match its checksum")]
    RecordHeader,
    #[error("a record is longer than the file")]
    RecordLength,
    #[error("a record does not match its checksum")]
    Checksum,
    #[error("record version {found} is unknown")]
    RecordVersion { found: u8 },
    #[error("record tag {found} is unknown")]
    RecordTag { found: u8 },
    #[error("a record does not open with the data key: it was altered, or was not written here")]
    Seal,
    #[error("the number of the newest segment does not match its checksum")]
    Newest,
    #[error("the record does not decode")]
    Payload,
    #[error("records are missing, though later ones are intact")]
    Hole,
    #[error("the first record is not a checkpoint")]
    NoCheckpoint,
    #[error("the segment has no end, though a later segment exists")]
    NoSeal,
    #[error("entry {found} follows where entry {expected} should")]
    Sequence { expected: u64, found: u64 },
}
