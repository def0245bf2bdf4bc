//! What earlier versions have written and sent, kept in `tests/fixtures`: one folder for each subject, in it one for each recording.
//!
//! A recording of a version that was released is never changed: a later one has to understand it. New ones are
//! made by the ignored tests whose names begin with `record_`, when a format has changed.

use std::fs;
use std::path::{Path, PathBuf};

/// The folder of one recording.
pub(crate) fn folder(subject: &str, recording: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(subject).join(recording)
}

/// All recordings of a subject.
pub(crate) fn all(subject: &str) -> Vec<PathBuf> {
    let dir = folder(subject, "");
    let entries = fs::read_dir(&dir).unwrap_or_else(|err| panic!("{}: {err}", dir.display()));
    let mut all: Vec<_> = entries.map(|entry| entry.expect("listed").path()).collect();
    all.sort();
    assert!(!all.is_empty(), "{} has recordings", dir.display());
    all
}

/// A new recording, which must not be there yet.
pub(crate) fn begin(subject: &str, recording: &str) -> PathBuf {
    let dir = folder(subject, recording);
    assert!(!dir.exists(), "{} is recorded: give the new one another name", dir.display());
    fs::create_dir_all(&dir).expect("created");
    dir
}
