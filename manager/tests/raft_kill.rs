//! `kill -9` in a loop: what a manager acknowledged must be there when it starts again.
//!
//! The test starts itself as a child that runs one Raft node with small segments and frequent snapshots, writes with several
//! writers at once, and prints each acknowledgement. The parent kills it at a random moment, starts it again, and compares what the
//! child finds with what was acknowledged. (The page cache survives SIGKILL: this shows recovery from any point of our own code, not
//! from a loss of power.)

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use swarmnet_manager::raft::{Keyring, ProposeError, RaftConfig, RaftNode};
use swarmnet_runtime::Supervisor;
use tempfile::TempDir;
use tonic::transport::Endpoint;

#[path = "support/commands.rs"]
mod commands;

const ROUNDS: usize = 25;
const WRITERS: usize = 8;
/// A child that acknowledges nothing for so long is broken.
const PATIENCE: Duration = Duration::from_secs(30);

fn main() -> ExitCode {
    let mut flags = std::env::args().skip(1);
    // A test runner asks for the names first, in libtest's words.
    if flags.any(|flag| flag == "--list") {
        if !std::env::args().any(|flag| flag == "--ignored") {
            println!("kills: test");
        }
        return ExitCode::SUCCESS;
    }
    let done = match std::env::args().nth(1).as_deref() {
        Some("child") => child(&std::env::args().nth(2).map(PathBuf::from).unwrap_or_default()),
        _ => parent(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(err) => {
            eprintln!("raft_kill: {err:#}");
            ExitCode::FAILURE
        }
    }
}

fn parent() -> Result<()> {
    let dir = TempDir::new()?;
    // Writer → the last number that was acknowledged to it.
    let mut acknowledged = BTreeMap::<usize, u64>::new();
    let mut writes = 0;
    for round in 0..ROUNDS {
        let before = acknowledged.clone();
        writes += one_life(dir.path(), &before, &mut acknowledged)
            .with_context(|| format!("round {round} of {ROUNDS}"))?;
    }
    println!("raft_kill: {ROUNDS} kills, {writes} acknowledged writes, none lost");
    Ok(())
}

/// One child from start to SIGKILL; returns how many writes it acknowledged.
fn one_life(
    dir: &Path,
    before: &BTreeMap<usize, u64>,
    acknowledged: &mut BTreeMap<usize, u64>,
) -> Result<usize> {
    let mut child = Command::new(std::env::current_exe()?)
        .arg("child")
        .arg(dir)
        .stdout(Stdio::piped())
        .spawn()?;
    let mut lines = BufReader::new(child.stdout.take().context("piped")?);
    let started = Instant::now();
    let mut kill_at = None;
    let (mut count, mut found, mut line) = (0, 0, String::new());
    // After the kill, what is left in the pipe was still acknowledged.
    while lines.read_line(&mut line)? > 0 && line.ends_with('\n') {
        match line.split_whitespace().collect::<Vec<_>>()[..] {
            ["found", writer, number] => {
                let (writer, number) = (writer.parse()?, number.parse::<u64>()?);
                let promised = before.get(&writer).copied().unwrap_or(0);
                ensure!(number >= promised, "writer {writer}: {number}, acknowledged {promised}");
                found += 1;
            }
            ["ack", writer, number] => {
                acknowledged.insert(writer.parse()?, number.parse()?);
                count += 1;
            }
            _ => bail!("the child says {line:?}"),
        }
        let random = Duration::from_millis(20 + u64::from(rand::random::<u8>()));
        if *kill_at.get_or_insert(started.elapsed() + random) < started.elapsed() {
            // An error means that it is dead already, which the checks below notice.
            drop(child.kill());
        }
        ensure!(started.elapsed() < PATIENCE, "the child does not die");
        line.clear();
    }
    let status = child.wait()?;
    ensure!(status.code().is_none(), "the child ended by itself: {status}");
    ensure!(found == WRITERS && count > 0, "found {found} writers, {count} writes");
    Ok(count)
}

#[tokio::main(worker_threads = 2)]
async fn child(dir: &Path) -> Result<()> {
    let supervisor = Supervisor::new("child");
    let config = RaftConfig {
        segment_bytes: 1 << 15,
        snapshot_every: 60,
        snapshot_keep: 7,
        ..RaftConfig::new(dir.to_owned(), 1)
    };
    let connector = Arc::new(|_, addr: &str| {
        let endpoint = Endpoint::from_shared(format!("http://{addr}"));
        endpoint.expect("the one address is valid").connect_lazy()
    });
    let keyring = Keyring::open(dir, None)?;
    let hook = Box::new(|_: &_, _| {});
    let node = RaftNode::start(config, keyring, connector, hook, &supervisor).await?;
    if !node.is_initialized().await? {
        node.bootstrap([(1, "127.0.0.1:1".to_owned())].into()).await?;
    }
    node.barrier().await?;
    // A child may have been killed between the bootstrap and this.
    match node.propose(commands::init()).await {
        Ok(_) | Err(ProposeError::Rejected(_)) => {}
        Err(err) => return Err(err.into()),
    }
    let last = |writer: usize| {
        let key = format!("writer-{writer}");
        node.state().read(|state| commands::get(state, &key).map_or(Ok(0), str::parse::<u64>))
    };
    let mut starts = Vec::new();
    for writer in 0..WRITERS {
        starts.push((writer, last(writer)?));
        say(format_args!("found {writer} {}", last(writer)?))?;
    }
    let writers = starts.into_iter().map(|(writer, from)| write(&node, writer, from + 1));
    futures_util::future::try_join_all(writers).await?;
    Ok(())
}

/// Counts up, until the process is killed.
async fn write(node: &RaftNode, writer: usize, from: u64) -> Result<()> {
    let key = format!("writer-{writer}");
    for number in from.. {
        node.propose(commands::put(&key, &number.to_string())).await?;
        say(format_args!("ack {writer} {number}"))?;
    }
    Ok(())
}

fn say(line: std::fmt::Arguments<'_>) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}
