//! Files of the state folder: a JSON envelope with format, version and checksum, written so that a crash leaves the old or the new
//! content, never a mixture.
//!
//! A damaged file or one of a newer version is an error that names it; nothing here repairs or removes one.

use std::fs;
use std::io;
use std::path::Path;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::error::LocalError;

const MODE: u32 = 0o644;

/// What a file holds and in which version of that.
#[derive(Debug, Clone, Copy)]
pub struct Format {
    pub name: &'static str,
    pub version: u32,
}

#[derive(Serialize, Deserialize)]
struct Envelope<'a> {
    format: &'a str,
    version: u32,
    /// CRC-32C of the text of `value`.
    crc32c: u32,
    #[serde(borrow)]
    value: &'a RawValue,
}

fn fail(path: &Path) -> impl Fn(io::Error) -> LocalError {
    |err| LocalError::File { path: path.to_owned(), err }
}

/// Reads a file that [`write()`] wrote; `None` when there is none.
///
/// # Errors
/// [`LocalError::File`], [`LocalError::Corrupt`], [`LocalError::Newer`].
pub fn read<T: DeserializeOwned>(path: &Path, format: Format) -> Result<Option<T>, LocalError> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(err) => return Err(fail(path)(err)),
    };
    let corrupt = |why: String| LocalError::Corrupt { path: path.to_owned(), why };
    let envelope: Envelope<'_> = serde_json::from_str(&text).map_err(|e| corrupt(e.to_string()))?;
    if envelope.format != format.name {
        return Err(corrupt(format!("it holds `{}`, not `{}`", envelope.format, format.name)));
    }
    if envelope.version > format.version {
        let (found, known) = (envelope.version, format.version);
        return Err(LocalError::Newer { path: path.to_owned(), found, known });
    }
    let value = envelope.value.get();
    if crc32c::crc32c(value.as_bytes()) != envelope.crc32c {
        return Err(corrupt("its checksum is wrong".to_owned()));
    }
    serde_json::from_str(value).map(Some).map_err(|e| corrupt(e.to_string()))
}

/// Replaces the file; it is on the disk when this returns.
pub fn write<T: Serialize>(path: &Path, format: Format, value: &T) -> Result<(), LocalError> {
    let value = serde_json::value::to_raw_value(value).map_err(|e| fail(path)(e.into()))?;
    let envelope = Envelope {
        format: format.name,
        version: format.version,
        crc32c: crc32c::crc32c(value.get().as_bytes()),
        value: &value,
    };
    let text = serde_json::to_vec(&envelope).map_err(|e| fail(path)(e.into()))?;
    let dir = path.parent().ok_or_else(|| fail(path)(io::ErrorKind::InvalidInput.into()))?;
    let made = fs::create_dir_all(dir);
    made.and_then(|()| swarmnet_pki::replace(path, &text, MODE)).map_err(fail(path))
}

/// Removes a file or does nothing when it is not there.
pub fn remove(path: &Path) -> Result<(), LocalError> {
    match fs::remove_file(path) {
        Err(err) if err.kind() != io::ErrorKind::NotFound => Err(fail(path)(err)),
        _ => Ok(()),
    }
}

/// Removes a folder with all that is in it, or does nothing when it is not there.
pub fn remove_dir(path: &Path) -> Result<(), LocalError> {
    match fs::remove_dir_all(path) {
        Err(err) if err.kind() != io::ErrorKind::NotFound => Err(fail(path)(err)),
        _ => Ok(()),
    }
}

/// Writes over the content of a file and keeps its inode: it may be mounted over another one. Not flushed: such files are made
/// anew when the daemon starts.
pub fn overwrite(path: &Path, content: &str) -> Result<(), LocalError> {
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir).map_err(fail(path))?;
    }
    fs::write(path, content).map_err(fail(path))
}

/// Entries of a folder, sorted; none when there is no folder.
pub fn list(dir: &Path) -> Result<Vec<std::path::PathBuf>, LocalError> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(err) => return Err(fail(dir)(err)),
    };
    let mut paths = entries
        .map(|entry| entry.map(|e| e.path()))
        .collect::<io::Result<Vec<_>>>()
        .map_err(fail(dir))?;
    paths.sort();
    Ok(paths)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FORMAT: Format = Format { name: "test", version: 2 };

    #[test]
    fn what_was_written_is_read() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("deep/x.json");
        assert!(read::<Vec<u8>>(&path, FORMAT).expect("absent is no error").is_none());
        write(&path, FORMAT, &vec![1, 2]).expect("written");
        assert_eq!(read::<Vec<u8>>(&path, FORMAT).expect("read"), Some(vec![1, 2]));
        assert_eq!(list(path.parent().expect("it has one")).expect("listed"), [path]);
    }

    #[test]
    fn damage_and_newer_versions_are_named_and_left_alone() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("x.json");
        write(&path, FORMAT, &"hello").expect("written");
        let good = fs::read_to_string(&path).expect("text");
        for bad in [good.replace("hello", "hellp"), good[..20].to_owned(), String::new()] {
            fs::write(&path, &bad).expect("written");
            let err = read::<String>(&path, FORMAT).expect_err("damaged");
            assert!(matches!(err, LocalError::Corrupt { .. }), "{err}");
            assert!(err.to_string().contains("x.json"), "{err}");
            assert_eq!(fs::read_to_string(&path).expect("text"), bad);
        }
        fs::write(&path, &good).expect("written");
        let err = read::<String>(&path, Format { version: 1, ..FORMAT }).expect_err("newer");
        assert!(matches!(err, LocalError::Newer { found: 2, known: 1, .. }), "{err}");
    }
}
