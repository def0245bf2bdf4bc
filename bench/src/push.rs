//! C13: the push to a thousand agents. Three real managers; the agents are the product's own sessions over mTLS, each with a node of
//! its own that joined by token, and acknowledge what they were sent at once: no kernel, no gossip.
//!
//! Times end when the last agent has taken a revision in and acknowledges it. All agents are on one network, so that every change of
//! an endpoint concerns all of them.

mod agents;

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use swarmnet_proto::v1;
use swarmnet_proto::v1::dispatcher_client::DispatcherClient;
use swarmnet_types::SandboxId;
use tokio::time::{sleep, timeout};

use crate::api::run_in;
use crate::lab::{Lab, NETWORK, NODES};
use crate::process::{cpu_seconds, memory_mib};
use crate::report::{Goal, Measurement};
use crate::tasks;
use agents::{Agents, Seen};

const AGENTS: usize = 1_000;
/// Attachments under way at once in the mass attachment.
const PARALLEL: usize = 64;
/// Longer than any of it should take.
const PATIENCE: Duration = Duration::from_mins(2);
/// What the last change leaves to do.
const SETTLE: Duration = Duration::from_secs(5);
const IDLE: Duration = Duration::from_secs(10);

pub(crate) fn run(changes: u32) -> Result<()> {
    let lab = Lab::up(3, 0)?;
    lab.wide_overlay()?;
    let netns = lab.netns("c1")?;
    let (agents, joining) = agents::join(&lab, AGENTS)?;
    Measurement::of("C13", "agents joined one after another", "1/s", [("joins", joining)].into())
        .print();
    run_in(&netns, async || {
        let opened = agents.open();
        timeout(PATIENCE, agents.all_have(1)).await.context("not every agent has a view")?;
        let all = opened.elapsed().as_secs_f64();
        let what = format!("{AGENTS} agents come at once: each has its view");
        Measurement::of("C13", &what, "s", [("all", all)].into()).print();
        let spread = agents.served();
        let most = spread.values().max().copied().unwrap_or(0);
        #[expect(clippy::cast_precision_loss, reason = "a thousand at most")]
        let share = most as f64 / AGENTS as f64;
        let what = "sessions at the manager that has most of them";
        Measurement::of("C13", what, "of all", [("share", share)].into()).print();
        let endpoint = attach_all(&agents).await?;
        single_changes(&lab, &agents, &endpoint, changes).await?;
        idle(&lab).await?;
        death(&lab, &agents).await?;
        single_changes(&lab, &agents, &endpoint, changes / 5 + 1).await
    })
}

/// Every agent attaches a task. One endpoint of the first one's.
async fn attach_all(agents: &Agents) -> Result<Bytes> {
    agents.record();
    let calls: Vec<(Instant, u64, Bytes)> = stream::iter(0..AGENTS)
        .map(|at| async move {
            let begun = Instant::now();
            let request = v1::AttachRequest {
                sandbox: Bytes::copy_from_slice(SandboxId::from_bytes(rand::random()).as_bytes()),
                name: format!("t{at:05}"),
                hostname: format!("t{at:05}"),
                attachments: vec![v1::AttachmentSpec {
                    network: NETWORK.to_owned(),
                    ..Default::default()
                }],
                ..Default::default()
            };
            let mut manager = DispatcherClient::new(agents.channel(at)?);
            let answer = manager.attach(request).await?.into_inner();
            let endpoint = answer.endpoints.into_iter().next().context("no endpoint")?.id;
            Ok::<_, anyhow::Error>((begun, answer.revision, endpoint))
        })
        .buffered(PARALLEL)
        .try_collect()
        .await?;
    let last = calls.iter().map(|(_, revision, _)| *revision).max().context("no agents")?;
    timeout(PATIENCE, agents.all_have(last)).await.context("agents lack the last attachment")?;
    // Only from its own attachment on does an agent hear of the network: before, nothing of it concerns it.
    let seen = agents.recorded();
    let times: Vec<f64> = calls
        .iter()
        .filter_map(|(begun, revision, _)| last_to_know(&seen, *begun, *revision))
        .collect();
    let what = format!("{AGENTS} agents attach a task each: call to the last agent that has it");
    Measurement::spread("C13", &what, "ms", &times).goal("p99", Goal::Below(3_000.0)).print();
    Ok(calls.into_iter().next().context("no agents")?.2)
}

/// Milliseconds until every agent had the revision or a later one.
fn last_to_know(seen: &[Vec<Seen>], begun: Instant, revision: u64) -> Option<f64> {
    let first = |of: &Vec<Seen>| of.iter().find(|seen| seen.revision >= revision).map(|s| s.at);
    let last = seen.iter().filter_map(first).max()?;
    Some(last.saturating_duration_since(begun).as_secs_f64() * 1e3)
}

/// One endpoint leaves balancing and comes back, over and over.
async fn single_changes(lab: &Lab, agents: &Agents, endpoint: &Bytes, count: u32) -> Result<()> {
    let alive: Vec<u32> = NODES.iter().filter_map(|node| running(lab, node)).collect();
    let cpu = || alive.iter().map(|pid| cpu_seconds(*pid)).sum::<Result<f64>>();
    sleep(SETTLE).await;
    let (mut times, before) = (Vec::new(), cpu()?);
    for condition in
        [v1::Condition::Draining, v1::Condition::Ready].into_iter().cycle().take(count as usize)
    {
        let begun = Instant::now();
        let one = std::slice::from_ref(endpoint);
        let revision = tasks::report(agents.channel(0)?, one, condition).await?;
        timeout(PATIENCE, agents.all_have(revision)).await.context("agents lack a change")?;
        times.push(begun.elapsed().as_secs_f64() * 1e3);
    }
    let managers = alive.len();
    let what = format!("one endpoint's change, {managers} managers: call to the last of {AGENTS}");
    Measurement::spread("C13", &what, "ms", &times).goal("p99", Goal::Below(500.0)).print();
    let each = (cpu()? - before) / f64::from(count) * 1e3;
    let what = format!("processor time of {managers} managers for one change");
    Measurement::of("C13", &what, "ms", [("each", each)].into()).print();
    Ok(())
}

/// The process of a node's daemon, if it runs.
fn running(lab: &Lab, node: &str) -> Option<u32> {
    lab.daemon(node).ok().filter(|pid| cpu_seconds(*pid).is_ok())
}

/// What a thousand sessions cost managers while nothing happens.
async fn idle(lab: &Lab) -> Result<()> {
    let pids = NODES.iter().map(|node| lab.daemon(node)).collect::<Result<Vec<_>>>()?;
    let cpu = || pids.iter().map(|pid| cpu_seconds(*pid)).collect::<Result<Vec<_>>>();
    let (begun, before) = (Instant::now(), cpu()?);
    // The agents' sessions go on meanwhile.
    sleep(IDLE).await;
    let (after, took) = (cpu()?, begun.elapsed().as_secs_f64());
    for (at, node) in NODES.iter().enumerate() {
        let share = (after[at] - before[at]) / took * 100.0;
        let figures = [("rss_mib", memory_mib(pids[at], "VmRSS")?), ("cpu_percent", share)];
        let what = format!("{node} among {AGENTS} agents, idle");
        Measurement::of("C13", &what, "", figures.into()).print();
    }
    Ok(())
}

/// The leader dies; its agents go to the others.
async fn death(lab: &Lab, agents: &Agents) -> Result<()> {
    let leader = lab.leader()?;
    let addr = lab.address(&leader)?;
    let orphans = agents.of(&addr);
    if orphans.is_empty() {
        bail!("no agent is served by {leader}");
    }
    let begun = Instant::now();
    lab.kill(&leader)?;
    let moved = timeout(PATIENCE, agents.moved(&orphans, &addr)).await;
    let moved = moved.with_context(|| format!("agents of {leader} found no other manager"))?;
    let times: Vec<f64> =
        moved.iter().map(|at| at.saturating_duration_since(begun).as_secs_f64() * 1e3).collect();
    let what = format!("the leader dies: its {} agents have a session elsewhere", orphans.len());
    Measurement::spread("C13", &what, "ms", &times).goal("max", Goal::Below(3_000.0)).print();
    Ok(())
}
