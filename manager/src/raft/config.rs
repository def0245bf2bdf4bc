//! Settings of a Raft node, each with how to choose it.

use std::path::PathBuf;
use std::time::Duration;

use openraft::SnapshotPolicy;

use super::error::RaftError;

/// One chunk of a snapshot on its way to a follower.
const SNAPSHOT_CHUNK_BYTES: u64 = 1 << 20;
/// For one chunk, and for writing and reading a whole snapshot at its end: 10 MB on a slow disk.
const SNAPSHOT_TIMEOUT_MS: u64 = 10_000;

/// How a node keeps its log and how fast it reacts. [`RaftConfig::new`] gives the defaults.
#[derive(Debug, Clone)]
pub struct RaftConfig {
    /// Folder of this node's log and snapshots; made if it is not there, locked while the node runs.
    pub dir: PathBuf,
    /// This node's index: its identity in Raft for life.
    pub me: u64,
    /// How often a leader shows itself. Also the time a follower has to answer an append, so it must be well above one flush of
    /// the slowest disk. Default 100 ms.
    pub heartbeat: Duration,
    /// A follower waits `election_max` plus a random time between these two before it stands for election: together they bound the
    /// time without a leader. Defaults 300 ms and 600 ms: writes resume about a second after a leader died.
    pub election_min: Duration,
    pub election_max: Duration,
    /// Length of a full-grown log segment. Default 64 MiB; the first ones are shorter.
    pub segment_bytes: u64,
    /// Entries between two snapshots. More: less disk traffic, longer restart. Default 10,000.
    pub snapshot_every: u64,
    /// A snapshot is made earlier when the log in memory exceeds this. Default 64 MiB.
    pub snapshot_bytes: usize,
    /// Entries kept behind a snapshot for followers that lag a little. Default 500.
    pub snapshot_keep: u64,
    /// How long a proposal may wait for a majority, and a caller for a leader, before quorum counts as lost. Longer than an
    /// election. Default 3 s.
    pub quorum_timeout: Duration,
}

// === impl RaftConfig ===

impl RaftConfig {
    /// The defaults for a node.
    pub fn new(dir: PathBuf, me: u64) -> Self {
        Self {
            dir,
            me,
            heartbeat: Duration::from_millis(100),
            election_min: Duration::from_millis(300),
            election_max: Duration::from_millis(600),
            segment_bytes: 64 << 20,
            snapshot_every: 10_000,
            snapshot_bytes: 64 << 20,
            snapshot_keep: 500,
            quorum_timeout: Duration::from_secs(3),
        }
    }

    pub(super) fn openraft(&self) -> Result<openraft::Config, RaftError> {
        let config = openraft::Config {
            cluster_name: "swarmnet".into(),
            heartbeat_interval: millis(self.heartbeat),
            election_timeout_min: millis(self.election_min),
            election_timeout_max: millis(self.election_max),
            install_snapshot_timeout: SNAPSHOT_TIMEOUT_MS,
            snapshot_max_chunk_size: SNAPSHOT_CHUNK_BYTES,
            snapshot_policy: SnapshotPolicy::LogsSinceLast(self.snapshot_every),
            max_in_snapshot_log_to_keep: self.snapshot_keep,
            // Below the snapshot's distance, a snapshot would leave the follower lagging and be sent again.
            replication_lag_threshold: self.snapshot_every.saturating_mul(2),
            ..openraft::Config::default()
        };
        config.validate().map_err(|source| RaftError::Config { source: Box::new(source) })
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
