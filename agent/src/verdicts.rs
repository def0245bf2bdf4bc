//! The nodes this one holds for dead, on the disk: a daemon that starts again begins with what the last one knew.
//!
//! Without it a node that is long dead would count as alive until the gossip has found it out once more, and for good when so many
//! are dead that this node would think itself cut off. Input: the `watch` of the liveness; output: one file, replaced whole whenever
//! the dead are others. A verdict takes effect at once and is written right after: a crash between the two costs a death, which the
//! gossip then finds again, and never brings one about that was not.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use swarmnet_gossip::{Condition, Liveness, NodeState};
use swarmnet_types::NodeId;
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use crate::local::LocalError;
use crate::local::error::chain;
use crate::local::files::{self, Format};

const FORMAT: Format = Format { name: "swarmnet-verdicts", version: 1 };
/// Between two attempts to write what could not be written.
const RETRY: Duration = Duration::from_secs(5);

/// One node that is dead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Death {
    /// Unix time in ms.
    since_ms: u64,
    vtep: IpAddr,
}

type Dead = BTreeMap<NodeId, Death>;

/// What the last daemon knew of the dead; of the others nothing is known yet.
///
/// # Errors
/// A damaged or newer file, with its name.
pub fn read(path: &Path) -> Result<Liveness, LocalError> {
    let dead: Dead = files::read(path, FORMAT)?.unwrap_or_default();
    Ok(verdicts(dead))
}

/// What of the verdicts the next daemon knows.
pub fn remembered(liveness: &Liveness) -> Liveness {
    verdicts(dead(liveness))
}

fn verdicts(dead: Dead) -> Liveness {
    let state = |death: Death| NodeState {
        condition: Condition::Dead,
        since_ms: death.since_ms,
        incarnation: 0,
        addr: death.vtep,
    };
    dead.into_iter().map(|(node, death)| (node, state(death))).collect()
}

fn dead(liveness: &Liveness) -> Dead {
    let dead = liveness.iter().filter(|(_, state)| state.condition == Condition::Dead);
    dead.map(|(node, s)| (*node, Death { since_ms: s.since_ms, vtep: s.addr })).collect()
}

/// Keeps the file as the verdicts are; when nobody is dead there is none. At the time of the call they agree.
pub(crate) fn keep(
    mut verdicts: watch::Receiver<Arc<Liveness>>,
    path: PathBuf,
) -> impl Future<Output = ()> {
    let mut kept = dead(&verdicts.borrow_and_update());
    async move {
        loop {
            let wanted = dead(&verdicts.borrow_and_update());
            if wanted != kept {
                match spawn_blocking(writing(path.clone(), wanted.clone())).await {
                    Ok(Ok(())) => kept.clone_from(&wanted),
                    Ok(Err(err)) => {
                        tracing::warn!(err = %chain(&err), "the deaths of nodes are not on the disk");
                    }
                    // The runtime is going down.
                    Err(_) => return,
                }
            }
            // What could not be written is tried again; else only another verdict gives cause.
            let patience = if wanted == kept { Duration::MAX } else { RETRY };
            if let Ok(Err(_closed)) = timeout(patience, verdicts.changed()).await {
                return;
            }
        }
    }
}

fn writing(path: PathBuf, dead: Dead) -> impl FnOnce() -> Result<(), LocalError> {
    move || if dead.is_empty() { files::remove(&path) } else { files::write(&path, FORMAT, &dead) }
}

#[cfg(test)]
mod tests {
    use swarmnet_runtime::Supervisor;

    use super::*;

    fn liveness(states: &[(u8, Condition)]) -> Liveness {
        let addr = |n| IpAddr::from([192, 0, 2, n]);
        let state = |n: u8, condition| NodeState {
            condition,
            since_ms: n.into(),
            incarnation: 0,
            addr: addr(n),
        };
        states.iter().map(|(n, c)| (NodeId::from_bytes([*n; 16]), state(*n, *c))).collect()
    }

    /// Waits until the file holds exactly these dead.
    async fn until(path: &Path, wanted: &Liveness) {
        let holds = async {
            while read(path).expect("never half a file") != *wanted {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        timeout(Duration::from_secs(10), holds).await.expect("the file follows the verdicts");
    }

    #[tokio::test]
    async fn only_the_dead_are_kept_and_forgotten_when_they_return() {
        use Condition::{AgentLost, Alive, Dead};
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("state/verdicts.json");
        assert_eq!(read(&path).expect("absent is no error"), Liveness::new());
        let (verdicts, followed) = watch::channel(Arc::new(Liveness::new()));
        let keeper = Supervisor::new("test");
        keeper.spawn_transient("keep verdicts", keep(followed, path.clone()));
        verdicts.send_replace(Arc::new(liveness(&[(1, Alive), (2, Dead), (3, AgentLost)])));
        until(&path, &liveness(&[(2, Dead)])).await;
        verdicts.send_replace(Arc::new(liveness(&[(1, Dead), (2, Dead), (3, Alive)])));
        until(&path, &liveness(&[(1, Dead), (2, Dead)])).await;
        verdicts.send_replace(Arc::new(liveness(&[(1, Alive), (2, Alive), (3, Alive)])));
        until(&path, &Liveness::new()).await;
        assert!(!path.exists(), "nothing to remember leaves no file");
        drop(verdicts);
        assert!(
            keeper.shutdown(Duration::from_secs(10)).await.is_clean(),
            "it ends with its input"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn what_cannot_be_written_is_tried_again() {
        let dir = tempfile::tempdir().expect("a folder");
        let state = dir.path().join("state");
        std::fs::write(&state, "in the way").expect("written");
        let path = state.join("verdicts.json");
        let (verdicts, followed) = watch::channel(Arc::new(Liveness::new()));
        let keeper = Supervisor::new("test");
        keeper.spawn_transient("keep verdicts", keep(followed, path.clone()));
        let wanted = liveness(&[(2, Condition::Dead)]);
        verdicts.send_replace(Arc::new(wanted.clone()));
        tokio::time::sleep(Duration::from_millis(1)).await;
        std::fs::remove_file(&state).expect("out of the way");
        let holds = async {
            while !path.exists() {
                tokio::time::sleep(RETRY / 2).await;
            }
        };
        timeout(RETRY * 4, holds).await.expect("it is written without another verdict");
        assert_eq!(read(&path).expect("read"), wanted);
        drop(verdicts);
        assert!(keeper.shutdown(RETRY * 4).await.is_clean(), "it ends with its input");
    }

    #[test]
    fn a_damaged_or_newer_file_is_named_and_left_alone() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("verdicts.json");
        let newer = Format { version: FORMAT.version + 1, ..FORMAT };
        files::write(&path, newer, &Dead::new()).expect("written");
        let text = std::fs::read(&path).expect("bytes");
        let err = read(&path).expect_err("newer").to_string();
        assert!(err.contains("verdicts.json") && err.contains("newer"), "{err}");
        assert_eq!(std::fs::read(&path).expect("bytes"), text);
        std::fs::write(&path, &text[..text.len() / 2]).expect("written");
        let err = read(&path).expect_err("damaged").to_string();
        assert!(err.contains("verdicts.json"), "{err}");
        assert_eq!(std::fs::read(&path).expect("bytes"), text[..text.len() / 2]);
    }
}
