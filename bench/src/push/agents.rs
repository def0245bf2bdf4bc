//! A thousand agents without a kernel: each a node that joined by token, with a session of the product's own.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result};
use bytes::Bytes;
use rand::seq::SliceRandom as _;
use swarmnet_agent::local::Standing;
use swarmnet_agent::managers::ManagerPool;
use swarmnet_agent::session::{self, Applied, SessionConfig};
use swarmnet_pki::{JoinToken, NodeIdentity, NodeKey, TlsStore};
use swarmnet_proto::v1;
use swarmnet_proto::v1::join_client::JoinClient;
use swarmnet_proto::wire::SPOKEN;
use swarmnet_runtime::Supervisor;
use swarmnet_types::{NodeDescription, NodeView};
use tokio::sync::watch;
use tonic::transport::Channel;

use crate::api::run_in;
use crate::lab::{Lab, output};

/// Managers grant one address a burst of so many joins, and one a second after that: the agents come from as many addresses as a rack has.
const JOINS_PER_ADDRESS: usize = 30;
/// Free in a lab: nodes are below 100, clients begin at 101.
const FIRST_SOURCE: usize = 130;
/// Addresses that the agents say they have; nobody is there.
const FIRST_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 66, 0, 1);
const PORT: u16 = 2377;

/// An agent took a revision in.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seen {
    pub(super) revision: u64,
    pub(super) at: Instant,
}

#[derive(Debug)]
struct Agent {
    pool: ManagerPool,
    tls: TlsStore,
    description: NodeDescription,
    served_by: watch::Sender<Option<String>>,
    view: watch::Sender<Option<Arc<NodeView>>>,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Agents {
    all: Vec<Agent>,
    progress: Arc<Progress>,
    supervisor: Supervisor,
}

/// Where each agent stands.
#[derive(Debug)]
struct Progress {
    rows: Mutex<Rows>,
    changed: watch::Sender<()>,
}

#[derive(Debug)]
struct Rows {
    revisions: Vec<u64>,
    /// Empty while nothing is recorded.
    seen: Vec<Vec<Seen>>,
}

/// Joins so many nodes by token; also how many a second.
pub(super) fn join(lab: &Lab, count: usize) -> Result<(Agents, f64)> {
    let token = output(lab.client("m1")?.args(["manager", "token", "worker", "-q"]))?;
    let token: JoinToken = token.trim().parse()?;
    let netns = lab.netns("c1")?;
    let (begun, mut all) = (Instant::now(), Vec::new());
    let numbers: Vec<usize> = (0..count).collect();
    for (rack, numbers) in numbers.chunks(JOINS_PER_ADDRESS).enumerate() {
        come_from(lab, FIRST_SOURCE + rack)?;
        all.extend(run_in(&netns, async || {
            let mut joined = Vec::new();
            // A connection for each rack: its source is the rack's address.
            let channel = swarmnet_pki::join_channel(*first(&token)?, token.ca_fingerprint);
            for number in numbers {
                joined.push(join_one(&channel, &token, *number).await?);
            }
            Ok(joined)
        })?);
    }
    #[expect(clippy::cast_precision_loss, reason = "a thousand at most")]
    let per_s = count as f64 / begun.elapsed().as_secs_f64();
    let rows = Rows { revisions: vec![0; count], seen: Vec::new() };
    let progress = Progress { rows: Mutex::new(rows), changed: watch::Sender::new(()) };
    let supervisor = Supervisor::new("agents");
    Ok((Agents { all, progress: Arc::new(progress), supervisor }, per_s))
}

fn first(token: &JoinToken) -> Result<&SocketAddr> {
    token.addrs.first().context("the token names no manager")
}

/// Connections of the outsider come from this address of the lab's network from now on.
fn come_from(lab: &Lab, last: usize) -> Result<()> {
    let ip = |words: &[&str]| output(lab.exec("c1").arg("ip").args(words)).map(drop);
    let own = lab.address("c1")?;
    let (net, _) = own.rsplit_once('.').context("not IPv4")?;
    let device = device(lab.exec("c1").args(["ip", "-o", "-4", "addr", "show", "to", &own]))?;
    let source = format!("{net}.{last}");
    ip(&["addr", "add", &format!("{source}/32"), "dev", &device])?;
    ip(&["route", "replace", &format!("{net}.0/24"), "dev", &device, "src", &source])
}

fn device(show: &mut Command) -> Result<String> {
    let told = output(show)?;
    Ok(told.split_whitespace().nth(1).context("no such address")?.to_owned())
}

async fn join_one(channel: &Channel, token: &JoinToken, number: usize) -> Result<Agent> {
    let offset = u32::try_from(number).context("too many agents")?;
    let addr = Ipv4Addr::from_bits(FIRST_ADDRESS.to_bits() + offset);
    let description = NodeDescription {
        name: format!("agent-{number:04}"),
        addr: (addr, PORT).into(),
        data_path: addr.into(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
    };
    let key = NodeKey::generate()?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
    let request = v1::JoinRequest {
        secret: Bytes::copy_from_slice(token.secret.as_bytes()),
        csr_der: key.csr()?.into(),
        availability: v1::Availability::Active.into(),
        description: Some((&description).into()),
        now_ms: u64::try_from(now.as_millis())?,
        wire: Some(SPOKEN.into()),
    };
    let answer = JoinClient::new(channel.clone()).join(request).await?.into_inner();
    let identity = NodeIdentity::new(key, &answer.certificate_pem, &answer.ca_pem)?;
    let standing =
        Standing { node: identity.node_id(), cluster: identity.cluster(), role: identity.role() };
    let mut managers: Vec<SocketAddr> =
        answer.managers.iter().map(|addr| addr.parse()).collect::<Result<_, _>>()?;
    // As an agent does when it enters a cluster.
    managers.shuffle(&mut rand::rng());
    let pool = ManagerPool::default();
    let tls = TlsStore::new(identity)?;
    pool.enter(standing, tls.clone(), managers);
    let (served_by, view) = (watch::Sender::default(), watch::Sender::default());
    Ok(Agent { pool, tls, description, served_by, view })
}

impl Agents {
    /// Opens all sessions at once.
    pub(super) fn open(&self) -> Instant {
        let begun = Instant::now();
        for (at, agent) in self.all.iter().enumerate() {
            let (applied_tx, applied) = watch::channel(Applied::default());
            let config = SessionConfig {
                pool: agent.pool.clone(),
                description: watch::channel(agent.description.clone()).1,
                view: agent.view.clone(),
                applied,
                served_by: agent.served_by.clone(),
                tls: agent.tls.clone(),
                // Nobody renews: a run is over long before a certificate is.
                trust: watch::Sender::default(),
            };
            let stop = self.supervisor.token().clone();
            self.supervisor.spawn_transient("session", session::run(config, stop));
            let follow = follow(at, agent.view.subscribe(), applied_tx, Arc::clone(&self.progress));
            self.supervisor.spawn_transient("apply", follow);
        }
        begun
    }

    /// How many agents each manager serves.
    pub(super) fn served(&self) -> BTreeMap<String, usize> {
        let mut count = BTreeMap::new();
        for by in self.all.iter().filter_map(|agent| agent.served_by.borrow().clone()) {
            *count.entry(by).or_default() += 1;
        }
        count
    }

    /// The agents that the manager at this address serves.
    pub(super) fn of(&self, manager: &str) -> Vec<usize> {
        let is_its = |at: &usize| self.serves(*at, manager);
        (0..self.all.len()).filter(is_its).collect()
    }

    fn serves(&self, at: usize, manager: &str) -> bool {
        let by = self.all[at].served_by.borrow();
        by.as_ref().is_some_and(|by| by.starts_with(&format!("{manager}:")))
    }

    /// When each of these had a session with another manager than this one.
    pub(super) async fn moved(&self, orphans: &[usize], from: &str) -> Vec<Instant> {
        let prefix = format!("{from}:");
        let elsewhere =
            |by: &Option<String>| by.as_ref().is_some_and(|by| !by.starts_with(&prefix));
        let each = orphans.iter().map(|at| async {
            let mut served_by = self.all[*at].served_by.subscribe();
            served_by.wait_for(elsewhere).await.map(|_| Instant::now())
        });
        futures_util::future::join_all(each).await.into_iter().flatten().collect()
    }

    /// A way to the manager that this agent uses.
    pub(super) fn channel(&self, at: usize) -> Result<Channel> {
        Ok(self.all[at].pool.current().context("the agent knows no manager")?.1)
    }

    /// Waits until every agent has this revision.
    pub(super) async fn all_have(&self, revision: u64) {
        let mut changed = self.progress.changed.subscribe();
        while self.progress.rows(|rows| rows.revisions.iter().any(|have| *have < revision)) {
            if changed.changed().await.is_err() {
                return;
            }
        }
    }

    /// From now on it is kept which revision came when.
    pub(super) fn record(&self) {
        let count = self.all.len();
        self.progress.rows(|rows| rows.seen = vec![Vec::new(); count]);
    }

    /// What was kept since [`record`](Self::record), by agent; nothing is kept any more.
    pub(super) fn recorded(&self) -> Vec<Vec<Seen>> {
        self.progress.rows(|rows| std::mem::take(&mut rows.seen))
    }
}

impl Progress {
    fn rows<T>(&self, look: impl FnOnce(&mut Rows) -> T) -> T {
        look(&mut self.rows.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn put(&self, at: usize, revision: u64) {
        self.rows(|rows| {
            rows.revisions[at] = revision;
            if let Some(seen) = rows.seen.get_mut(at) {
                seen.push(Seen { revision, at: Instant::now() });
            }
        });
        self.changed.send_replace(());
    }
}

/// Acknowledges each view, as an agent does that has it in its kernel.
async fn follow(
    at: usize,
    mut view: watch::Receiver<Option<Arc<NodeView>>>,
    applied: watch::Sender<Applied>,
    progress: Arc<Progress>,
) {
    while view.changed().await.is_ok() {
        let Some(revision) = view.borrow_and_update().as_ref().map(|view| view.revision.0) else {
            continue;
        };
        applied.send_replace(Applied { revision, ..Applied::default() });
        progress.put(at, revision);
    }
}
