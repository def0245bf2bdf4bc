//! What a crash or a reboot left, put right at the start of the daemon.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Sandboxes, blocking};
use crate::local::error::{LocalError, chain};
use crate::local::files;
use crate::local::host::Host;
use crate::local::objects::{SandboxRecord, SandboxState};
use crate::paths::SandboxPaths;

impl Sandboxes {
    /// Removes what was never finished and finishes what was being removed. Answers the sandboxes whose namespace is gone: the
    /// machine was started anew, and their endpoints and processes went with it. Those are still recorded.
    ///
    /// Runs beside the reconcilers; calls from users may come in meanwhile.
    ///
    /// # Errors
    /// The state folder cannot be read. What cannot be removed is logged and tried again at the next start.
    pub async fn heal(&self) -> Result<Vec<Arc<SandboxRecord>>, LocalError> {
        let objects = self.means.store.current();
        let recorded: Vec<PathBuf> =
            objects.sandboxes.keys().map(|id| self.means.paths.sandbox(*id).dir).collect();
        let netns: Vec<PathBuf> = objects.sandboxes.values().map(|s| s.netns.clone()).collect();
        let (host, paths) = (Arc::clone(&self.means.host), self.means.paths.clone());
        blocking(move || {
            for dir in files::list(&paths.sandboxes())? {
                if !recorded.contains(&dir) {
                    log(&dir, drop_unfinished(&*host, &SandboxPaths::at(&dir)));
                }
            }
            for path in files::list(&paths.netns_dir())? {
                if !netns.contains(&path) {
                    log(&path, host.remove_netns(&path).map_err(Into::into));
                }
            }
            Ok(())
        })
        .await?;
        let mut lost = Vec::new();
        for record in objects.sandboxes.values() {
            if record.comes_back {
                lost.push(Arc::clone(record));
            } else if record.state == SandboxState::Ready {
                let (host, path) = (Arc::clone(&self.means.host), record.netns.clone());
                let there = record.shares_host_stack()
                    || blocking(move || Ok(host.has_netns(&path))).await?;
                if !there {
                    lost.push(Arc::clone(record));
                    continue;
                }
                self.write_files(record).await?;
            } else {
                tracing::info!(sandbox = %record.name, state = ?record.state, "unfinished: removed");
                log(&record.netns, self.detach(record.id).await);
            }
        }
        Ok(lost)
    }
}

fn log(what: &Path, result: Result<(), LocalError>) {
    if let Err(err) = result {
        tracing::warn!(what = %what.display(), err = %chain(&err), "left-over not removed");
    }
}

/// Removes the namespace that a folder names, and the folder.
pub(super) fn drop_unfinished(host: &dyn Host, paths: &SandboxPaths) -> Result<(), LocalError> {
    let note = paths.netns_note();
    match std::fs::read_to_string(&note) {
        Ok(path) => host.remove_netns(Path::new(path.trim()))?,
        Err(err) if err.kind() == std::io::ErrorKind::NotFound => {}
        Err(err) => return Err(LocalError::File { path: note, err }),
    }
    files::remove_dir(paths.dir())
}
