//! Files out and in: whole replacement, format line, private modes. Each error names its file.
//!
//! The first line of a file is `# swarmnet file format <n>`; PEM readers skip it. A file without the line counts as
//! format 1, so that an operator may put plain PEM there.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::Path;

use super::KEY_FILE;
use crate::error::PkiError;
use crate::replace::replace;

const FORMAT: u32 = 1;
const FORMAT_LINE: &str = "# swarmnet file format ";
const DIR_MODE: u32 = 0o700;
const PRIVATE_MODE: u32 = 0o600;
/// Group and all others: read, write, execute.
const OTHERS: u32 = 0o077;
const PUBLIC_MODE: u32 = 0o644;

/// Replaces `dir/name`, and makes `dir` when there is none.
///
/// # Errors
/// [`PkiError::File`]; the old file is then still whole.
pub(super) fn write(dir: &Path, name: &str, text: &str) -> Result<(), PkiError> {
    let path = dir.join(name);
    let mode = if name == KEY_FILE { PRIVATE_MODE } else { PUBLIC_MODE };
    let content = format!("{FORMAT_LINE}{FORMAT}\n{text}");
    let made = fs::DirBuilder::new().recursive(true).mode(DIR_MODE).create(dir);
    made.and_then(|()| replace(&path, content.as_bytes(), mode))
        .map_err(|err| PkiError::File { path, err })
}

/// The text of `dir/name` without its format line; `None` when there is no such file.
///
/// # Errors
/// [`PkiError::File`], [`PkiError::FileVersion`], [`PkiError::FileMode`].
pub(super) fn read(dir: &Path, name: &str) -> Result<Option<String>, PkiError> {
    let path = dir.join(name);
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(err) => return Err(PkiError::File { path, err }),
    };
    if name == KEY_FILE {
        refuse_shared(&path)?;
    }
    let Some(rest) = text.strip_prefix(FORMAT_LINE) else { return Ok(Some(text)) };
    let (number, body) = rest.split_once('\n').unwrap_or((rest, ""));
    match number.trim().parse() {
        Ok(FORMAT) => Ok(Some(body.to_owned())),
        Ok(found) => Err(PkiError::FileVersion { path, found, known: FORMAT }),
        Err(_) => Err(content(dir, name, PkiError::NoPem { what: "format number" })),
    }
}

pub(super) fn content(dir: &Path, name: &str, err: PkiError) -> PkiError {
    PkiError::FileContent { path: dir.join(name), err: Box::new(err) }
}

pub(super) fn missing(dir: &Path, name: &str) -> PkiError {
    PkiError::File { path: dir.join(name), err: io::ErrorKind::NotFound.into() }
}

fn refuse_shared(path: &Path) -> Result<(), PkiError> {
    let metadata =
        fs::metadata(path).map_err(|err| PkiError::File { path: path.to_owned(), err })?;
    let mode = metadata.permissions().mode() & 0o7777;
    if mode & OTHERS == 0 {
        Ok(())
    } else {
        Err(PkiError::FileMode { path: path.to_owned(), mode })
    }
}
