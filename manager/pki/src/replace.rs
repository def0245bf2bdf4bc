//! Files that are replaced whole: after a crash there is the old content or the new one, never a mixture.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

/// Puts `content` in place of the file, with this mode (less the umask); on the disk when this returns. Its folder must be there.
///
/// # Errors
/// Of the disk; the old file is then still whole.
pub fn replace(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let beside = path.with_added_extension("tmp");
    // Left by a crash; with create_new below nobody else's file or link is ever written through.
    match fs::remove_file(&beside) {
        Err(err) if err.kind() != io::ErrorKind::NotFound => return Err(err),
        _ => {}
    }
    let mut file = File::options().write(true).create_new(true).mode(mode).open(&beside)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&beside, path)?;
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty());
    File::open(dir.unwrap_or(Path::new(".")))?.sync_all()
}
