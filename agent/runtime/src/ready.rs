//! Readiness by ownership: a daemon is ready when every part that had to start has dropped its guard.
//!
//! Input: [`Ready::register_task`] before the parts start. Output: [`Ready::wait`], [`Ready::waiting_for`]. Guards registered later
//! make the daemon unready again. A part that fails to start keeps its guard, so its name is what the operator sees.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::watch;

/// Clones share one state.
#[derive(Debug, Clone)]
pub struct Ready {
    /// Serial number → name of each part still starting.
    pending: Arc<watch::Sender<Pending>>,
}

#[derive(Debug, Default)]
struct Pending {
    names: BTreeMap<u64, String>,
    next_serial: u64,
}

/// Holds readiness back until dropped.
#[derive(Debug)]
#[must_use = "readiness waits until this is dropped"]
pub struct BlockReady {
    serial: u64,
    owner: Ready,
}

impl Default for Ready {
    fn default() -> Self {
        Self::new()
    }
}

impl Ready {
    /// Ready at once, until something registers.
    pub fn new() -> Self {
        Self { pending: Arc::new(watch::Sender::new(Pending::default())) }
    }

    /// Holds readiness back for the part `name`.
    pub fn register_task(&self, name: &str) -> BlockReady {
        let mut serial = 0;
        self.pending.send_modify(|pending| {
            serial = pending.next_serial;
            pending.next_serial += 1;
            pending.names.insert(serial, name.to_owned());
        });
        BlockReady { serial, owner: self.clone() }
    }

    pub fn is_ready(&self) -> bool {
        self.pending.borrow().names.is_empty()
    }

    /// Names of the parts still starting, in the order of their registration.
    pub fn waiting_for(&self) -> Vec<String> {
        self.pending.borrow().names.values().cloned().collect()
    }

    /// Resolves when nothing is waited for. Cancel-safe.
    pub async fn wait(&self) {
        let mut rx = self.pending.subscribe();
        rx.wait_for(|pending| pending.names.is_empty())
            .await
            .expect("self holds the sender for the length of this call");
    }
}

impl Drop for BlockReady {
    fn drop(&mut self) {
        let mut name = None;
        self.owner.pending.send_modify(|pending| name = pending.names.remove(&self.serial));
        let waiting_for = self.owner.waiting_for();
        if waiting_for.is_empty() {
            tracing::info!(part = name, "ready");
        } else {
            tracing::info!(part = name, ?waiting_for, "part is ready");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn ready_when_the_last_guard_is_dropped() {
        let ready = Ready::new();
        assert!(ready.is_ready());
        let (a, b) = (ready.register_task("names"), ready.register_task("gossip"));
        assert_eq!(ready.waiting_for(), ["names", "gossip"]);
        drop(a);
        assert_eq!(ready.waiting_for(), ["gossip"]);
        let early = tokio::time::timeout(Duration::from_secs(9), ready.wait()).await;
        assert!(early.is_err());
        drop(b);
        ready.wait().await;
        assert!(ready.is_ready());
    }

    #[tokio::test]
    async fn two_parts_of_one_name_both_count() {
        let ready = Ready::new();
        let (a, _b) = (ready.register_task("dns"), ready.register_task("dns"));
        drop(a);
        assert!(!ready.is_ready());
    }
}
