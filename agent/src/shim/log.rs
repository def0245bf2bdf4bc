//! A workload's output in Docker's `json-file` format, rotated: `log.json`, then `log.json.1`.

use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader, Read, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// A file beyond this is moved aside, and the one moved aside before it is gone.
const FILE_BYTES_MAX: u64 = 10 << 20;
/// A longer line is cut into several, as Docker does.
const LINE_BYTES_MAX: u64 = 16 << 10;

/// Clones write to the same file.
#[derive(Debug, Clone)]
pub(super) struct Log(Arc<Mutex<Open>>);

#[derive(Debug)]
struct Open {
    path: PathBuf,
    file: File,
    bytes: u64,
}

impl Log {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let file = File::options().create(true).append(true).open(path)?;
        let bytes = file.metadata()?.len();
        Ok(Self(Arc::new(Mutex::new(Open { path: path.to_owned(), file, bytes }))))
    }

    /// Copies lines until the pipe's end. A log that cannot be written loses lines; the program must not block on that.
    pub(super) fn copy(&self, pipe: impl Read, stream: &str) {
        let mut reader = BufReader::new(pipe);
        let mut line = Vec::new();
        loop {
            line.clear();
            match reader.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line) {
                Ok(0) | Err(_) => return,
                Ok(_) => drop(self.write(&String::from_utf8_lossy(&line), stream)),
            }
        }
    }

    fn write(&self, line: &str, stream: &str) -> io::Result<()> {
        let time = OffsetDateTime::now_utc().format(&Rfc3339).unwrap_or_default();
        let entry = serde_json::json!({ "log": line, "stream": stream, "time": time });
        let text = format!("{entry}\n");
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if open.bytes > FILE_BYTES_MAX {
            fs::rename(&open.path, open.path.with_extension("json.1"))?;
            open.file = File::options().create(true).append(true).open(&open.path)?;
            open.bytes = 0;
        }
        open.bytes += text.len() as u64;
        open.file.write_all(text.as_bytes())
    }
}
