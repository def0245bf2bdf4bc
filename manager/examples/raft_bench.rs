//! Committed writes per second of a single manager in one process, against the floor of the disk.
//!
//! Arms, in one run on one disk: a bare loop of `pwrite` and `fdatasync` into a zero-filled file, then the whole path (proposer,
//! openraft, log, apply) with 1, 64 and 256 clients that each wait for their answer. Every write changes replicated state, which stays
//! small: the cost of a large state is not the log's.
//!
//! `cargo run --release -p swarmnet-manager --example raft_bench -- [seconds per arm] [folder]`

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use swarmnet_manager::raft::{RaftConfig, RaftNode};
use swarmnet_runtime::Supervisor;
use tonic::transport::Endpoint;

#[path = "../tests/support/commands.rs"]
#[allow(dead_code, reason = "measurements only write")]
mod commands;

/// The clients share so many labels.
const KEYS: usize = 8;
const RECORD_BYTES: usize = 256;
const FILE_BYTES: u64 = 64 << 20;

/// Latencies of one arm.
struct Arm {
    name: String,
    took: Duration,
    latencies: Vec<Duration>,
    /// Log entries, so flushes.
    entries: Option<u64>,
}

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let seconds = args.next().map_or(Ok(5), |text| text.parse()).context("seconds per arm")?;
    let span = Duration::from_secs(seconds);
    let dir = args.next().map_or_else(|| PathBuf::from("raft-bench.tmp"), PathBuf::from);
    std::fs::create_dir_all(&dir)?;
    let measured = floor(&dir, span).and_then(|floor| {
        floor.print();
        raft(&dir, span)
    });
    std::fs::remove_dir_all(&dir)?;
    measured
}

/// What the disk gives to one writer that flushes each record.
fn floor(dir: &Path, span: Duration) -> Result<Arm> {
    let mut file = File::create(dir.join("floor"))?;
    let zeros = vec![0; 1 << 20];
    for _ in 0..FILE_BYTES / zeros.len() as u64 {
        file.write_all(&zeros)?;
    }
    file.sync_all()?;
    let (started, mut latencies, mut at) = (Instant::now(), Vec::new(), 0);
    while started.elapsed() < span {
        let begun = Instant::now();
        file.write_all_at(&[1; RECORD_BYTES], at)?;
        file.sync_data()?;
        latencies.push(begun.elapsed());
        at = (at + RECORD_BYTES as u64) % FILE_BYTES;
    }
    Ok(Arm { name: "pwrite + fdatasync".into(), took: started.elapsed(), latencies, entries: None })
}

#[tokio::main]
async fn raft(dir: &Path, span: Duration) -> Result<()> {
    let supervisor = Supervisor::new("bench");
    let config = RaftConfig::new(dir.join("raft"), 1);
    let connector = Arc::new(|_, addr: &str| {
        let endpoint = Endpoint::from_shared(format!("http://{addr}"));
        endpoint.expect("the one address is valid").connect_lazy()
    });
    let node = RaftNode::start(config, connector, Box::new(|_, _| {}), &supervisor).await?;
    node.bootstrap([(1, "127.0.0.1:1".to_owned())].into()).await?;
    node.propose(commands::init()).await?;
    for clients in [1, 64, 256] {
        let before = node.status().last_log;
        let started = Instant::now();
        let load = (0..clients).map(|client| {
            let node = node.clone();
            let name = format!("client {client}");
            supervisor.spawn_scoped(&name, async move { client_load(&node, client, span).await })
        });
        let mut latencies = Vec::new();
        for client in load.collect::<Vec<_>>() {
            latencies.extend(client.join().await.context("a client died")??);
        }
        let arm = Arm {
            name: format!("raft, {clients} clients"),
            took: started.elapsed(),
            latencies,
            entries: Some(node.status().last_log - before),
        };
        arm.print();
    }
    node.shutdown().await;
    Ok(())
}

async fn client_load(node: &RaftNode, client: usize, span: Duration) -> Result<Vec<Duration>> {
    let key = format!("key-{}", client % KEYS);
    let (started, mut latencies) = (Instant::now(), Vec::new());
    while started.elapsed() < span {
        let begun = Instant::now();
        node.propose(commands::put(&key, &latencies.len().to_string())).await?;
        latencies.push(begun.elapsed());
    }
    Ok(latencies)
}

// === impl Arm ===

impl Arm {
    fn print(mut self) {
        self.latencies.sort_unstable();
        let at = |percent: usize| {
            let index = self.latencies.len() * percent / 100;
            self.latencies.get(index).copied().unwrap_or_default()
        };
        let per_second = |count: u64| u128::from(count) * 1000 / self.took.as_millis();
        let flushes = self
            .entries
            .map_or_else(String::new, |entries| format!(", {} entries/s", per_second(entries)));
        println!(
            "{:22} {:>8} writes/s, p50 {:?}, p99 {:?}{flushes}",
            self.name,
            per_second(self.latencies.len() as u64),
            at(50),
            at(99),
        );
    }
}
