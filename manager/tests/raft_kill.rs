//! `kill -9` in a loop: what a manager acknowledged must be there when it starts again, and nothing may be there twice.
//!
//! The test starts itself as a child that runs one Raft node with small segments, frequent snapshots and a change of the data key every
//! moment, writes with several writers at once, and prints each acknowledgement. The parent kills it at a random moment, starts it
//! again, and compares what the child finds with what was acknowledged. A write is two commands: one counts, and is tried again with
//! its request id by the next life; one notes the writer's number. So the count must be the sum of the numbers, neither more nor less.
//! `SWARMNET_KILL_ROUNDS` says how often. (The page cache survives SIGKILL: this shows recovery from any point of our own code, not
//! from a loss of power.)

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use swarmnet_manager::raft::{Keyring, Lock, ProposeError, RaftConfig, RaftNode};
use swarmnet_manager_core::{Command as Change, Proposal, State};
use swarmnet_runtime::Supervisor;
use tempfile::TempDir;
use tonic::transport::Endpoint;

#[path = "support/commands.rs"]
mod commands;

/// Names the number of kills.
const ROUNDS: &str = "SWARMNET_KILL_ROUNDS";
const ROUNDS_DEFAULT: usize = 25;
/// Between two changes of the data key.
const RESEAL_EVERY: Duration = Duration::from_millis(30);
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
    let rounds = match std::env::var(ROUNDS) {
        Ok(text) => text.parse().with_context(|| format!("{ROUNDS}={text}"))?,
        Err(_) => ROUNDS_DEFAULT,
    };
    let dir = TempDir::new()?;
    // Writer → the last number that was acknowledged to it.
    let mut acknowledged = BTreeMap::<usize, u64>::new();
    let mut writes = 0;
    for round in 0..rounds {
        let before = acknowledged.clone();
        writes += one_life(dir.path(), &before, &mut acknowledged)
            .with_context(|| format!("round {round} of {rounds}"))?;
    }
    println!(
        "raft_kill: {rounds} kills, {writes} acknowledged writes, none lost, none there twice"
    );
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
    let (mut acks, mut found, mut sum, mut line) = (0, 0, 0, String::new());
    let mut counted = None;
    // After the kill, what is left in the pipe was still acknowledged.
    while lines.read_line(&mut line)? > 0 && line.ends_with('\n') {
        match line.split_whitespace().collect::<Vec<_>>()[..] {
            ["found", writer, number] => {
                let (writer, number) = (writer.parse()?, number.parse::<u64>()?);
                let promised = before.get(&writer).copied().unwrap_or(0);
                ensure!(number >= promised, "writer {writer}: {number}, acknowledged {promised}");
                found += 1;
                // With the one that is tried again.
                sum += number + 1;
            }
            ["counted", number] => {
                let number = number.parse::<u64>()?;
                ensure!(number == sum, "{number} writes counted, {sum} made");
                counted = Some(number);
            }
            ["ack", writer, number] => {
                acknowledged.insert(writer.parse()?, number.parse()?);
                acks += 1;
            }
            _ => bail!("the child says {line:?}"),
        }
        let random = Duration::from_millis(20 + u64::from(rand::random::<u8>()));
        // Not before the first write: a start takes as long as the machine is busy.
        if acks > 0 && *kill_at.get_or_insert(started.elapsed() + random) < started.elapsed() {
            // An error means that it is dead already, which the checks below notice.
            drop(child.kill());
        }
        ensure!(started.elapsed() < PATIENCE, "the child does not die");
        line.clear();
    }
    let status = child.wait()?;
    ensure!(status.code().is_none(), "the child ended by itself: {status}");
    ensure!(found == WRITERS && acks > 0, "found {found} writers, {acks} writes");
    ensure!(counted.is_some(), "nothing was counted");
    Ok(acks)
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
    let node = RaftNode::start(config, keyring.clone(), connector, hook, &supervisor).await?;
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
        starts.push((writer, last(writer)? + 1));
        say(format_args!("found {writer} {}", last(writer)?))?;
    }
    for (writer, next) in &starts {
        node.propose(count(*writer, *next)).await?;
    }
    say(format_args!("counted {}", node.state().read(counted)))?;
    let writers = starts.into_iter().map(|(writer, from)| write(&node, writer, from));
    let writing = futures_util::future::try_join_all(writers);
    futures_util::future::try_join(writing, change_keys(&node, &keyring)).await?;
    Ok(())
}

/// Gives log and snapshots another data key, until the process is killed.
async fn change_keys(node: &RaftNode, keyring: &Keyring) -> Result<()> {
    for version in keyring.lock().version + 1.. {
        tokio::time::sleep(RESEAL_EVERY).await;
        keyring.set_lock(Lock { version, key: None })?;
        node.reseal().await?;
    }
    Ok(())
}

/// Counts up, until the process is killed.
async fn write(node: &RaftNode, writer: usize, from: u64) -> Result<()> {
    let key = format!("writer-{writer}");
    for number in from.. {
        node.propose(count(writer, number)).await?;
        node.propose(commands::put(&key, &number.to_string())).await?;
        say(format_args!("ack {writer} {number}"))?;
    }
    Ok(())
}

/// Counts one more, once for each writer and number however often it is tried.
fn count(writer: usize, number: u64) -> Proposal {
    let mut request_id = [1; 16];
    request_id[..8].copy_from_slice(&number.to_le_bytes());
    request_id[15] = u8::try_from(writer).expect("a few writers");
    Proposal { request_id, ..commands::proposal(Change::RotateGossipKey { secret: [3; 32] }) }
}

/// What [`count`] has counted.
fn counted(state: &State) -> u64 {
    let keys = state.cluster().map(|cluster| &cluster.gossip_keys);
    keys.and_then(|keys| keys.last()).map_or(0, |key| u64::from(key.id) - 1)
}

fn say(line: std::fmt::Arguments<'_>) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}
