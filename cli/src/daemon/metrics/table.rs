//! Every metric: the one place that knows them. `docs/metrics.md` shows this table.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use swarmnet_agent::local::GossipStatus;
use swarmnet_agent::numbers::AgentNumbers;
use swarmnet_gossip::StatsSnapshot;
use swarmnet_manager::Observed;

use super::process::Process;
use crate::daemon::membership::Node;

/// What one scrape is made from.
#[derive(Debug)]
pub(super) struct Sample {
    pub(super) agent: AgentNumbers,
    /// `None`: no manager runs here.
    pub(super) manager: Option<Observed>,
    pub(super) process: Process,
}

/// One metric. Names end in their unit; a counter's gets `_total` behind it.
pub(super) struct Metric {
    pub(super) name: &'static str,
    pub(super) help: &'static str,
    pub(super) kind: Kind,
    /// What its points are told apart by; `None`: it has one at most.
    pub(super) label: Option<&'static str>,
    /// Nothing: it does not apply here, and is left out.
    read: fn(&Sample) -> Vec<Point>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Only ever grows, but for a restart.
    Counter,
    Gauge,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Value {
    Whole(u64),
    Real(f64),
}

/// A value and its label's.
type Point = (String, Value);

macro_rules! metrics {
    ($($kind:ident $name:literal $([$label:literal])?, $help:literal, $read:expr;)*) => {
        pub(super) const METRICS: &[Metric] = &[$(Metric {
            name: $name,
            help: $help,
            kind: Kind::$kind,
            label: metrics!(@label $($label)?),
            read: $read,
        }),*];
    };
    (@label) => { None };
    (@label $label:literal) => { Some($label) };
}

metrics! {
    Gauge "swarmnet_build_info" ["version"], "1, with the version of the daemon",
        |_| by([(env!("CARGO_PKG_VERSION"), true)]);

    Gauge "swarmnet_agent_stream_open", "A manager serves this node",
        |s| one(s.agent.stream_open);
    Gauge "swarmnet_agent_view_revision", "Revision of the view that this node was sent",
        |s| one(s.agent.view.revision);
    Gauge "swarmnet_agent_applied_revision", "Revision that this node has in its kernel",
        |s| one(s.agent.applied_revision);
    Gauge "swarmnet_agent_view_objects" ["kind"], "Objects of the cluster that this node knows",
        |s| by([
            ("node", s.agent.view.nodes),
            ("network", s.agent.view.networks),
            ("service", s.agent.view.services),
            ("endpoint", s.agent.view.endpoints),
        ]);
    Gauge "swarmnet_agent_sandboxes", "Sandboxes on this node",
        |s| one(s.agent.sandboxes);
    Gauge "swarmnet_agent_problems", "Lines of problems in `agent status`",
        |s| one(s.agent.problems);
    Counter "swarmnet_agent_repaired", "Kernel objects put right that other programs had changed",
        |s| one(s.agent.repaired);
    Counter "swarmnet_agent_reconcile_rounds", "Rounds in which the kernel was brought to what should be",
        |s| one(s.agent.rounds);
    Gauge "swarmnet_agent_reconcile_last_seconds", "Duration of the last round",
        |s| one(s.agent.last_round);
    Gauge "swarmnet_agent_certificate_expiry_timestamp_seconds", "End of this node's certificate, Unix time",
        |s| s.agent.certificate_ends.map_or_else(Vec::new, |at| one(unix(at)));

    Gauge "swarmnet_gossip_peers" ["state"], "Other nodes by the gossip's verdict",
        |s| gossip(s, |g, _| by([
            ("alive", g.alive),
            ("agent-lost", g.agent_lost),
            ("dead", g.dead),
        ]));
    Gauge "swarmnet_gossip_suspects", "Other nodes that are not heard just now",
        |s| gossip(s, |g, _| one(g.suspected));
    Gauge "swarmnet_gossip_cut_off", "More than half of the others are silent: nobody is declared dead",
        |s| gossip(s, |g, _| one(g.cut_off));
    Counter "swarmnet_gossip_datagrams" ["direction"], "Datagrams of the gossip",
        |s| gossip(s, |_, n| by([
            ("sent", n.sent),
            ("unsent", n.send_failed),
            ("received", n.received),
        ]));
    Counter "swarmnet_gossip_refused" ["reason"], "Datagrams that were not believed",
        |s| gossip(s, |_, n| by([
            ("garbage", n.refused.garbage),
            ("unknown-key", n.refused.unknown_key),
            ("forged", n.refused.forged),
            ("replayed", n.refused.replayed),
            ("unknown-node", n.refused.unknown_node),
            ("malformed", n.refused.malformed),
        ]));
    Counter "swarmnet_gossip_echoes" ["result"], "Echoes that silent machines were asked for",
        |s| gossip(s, |_, n| by([
            ("sent", n.echoes_sent),
            ("lost", n.echoes_lost),
        ]));
    Counter "swarmnet_gossip_stalls", "Times that this daemon did not run for so long that it distrusted what it saw",
        |s| gossip(s, |_, n| one(n.stalls));

    Counter "swarmnet_dns_queries" ["result"], "Queries of sandboxes by what they ended as",
        |s| by([
            ("local", s.agent.dns.local),
            ("nodata", s.agent.dns.nodata),
            ("nxdomain", s.agent.dns.nxdomain),
            ("forwarded", s.agent.dns.forwarded),
            ("servfail", s.agent.dns.servfail),
            ("refused", s.agent.dns.refused),
            ("malformed", s.agent.dns.malformed),
            ("overloaded", s.agent.dns.overloaded),
            ("dropped", s.agent.dns.dropped),
            ("unsent", s.agent.dns.unsent),
        ]);
    Counter "swarmnet_dns_cached" ["age"], "Of the forwarded queries: answered from the cache",
        |s| by([("fresh", s.agent.dns.cache_hits), ("stale", s.agent.dns.stale)]);
    Counter "swarmnet_dns_truncated", "Answers by UDP that were cut",
        |s| one(s.agent.dns.truncated);

    Gauge "swarmnet_raft_leader", "This manager leads",
        |s| of(s, |m| one(m.raft.leader == Some(m.raft.me)));
    Gauge "swarmnet_raft_has_leader", "This manager knows who leads",
        |s| of(s, |m| one(m.raft.leader.is_some()));
    Gauge "swarmnet_raft_term", "Raft's term: grows with every election",
        |s| of(s, |m| one(m.raft.term));
    Gauge "swarmnet_raft_log_index", "Last entry of this manager's log",
        |s| of(s, |m| one(m.raft.last_log));
    Gauge "swarmnet_raft_applied_index", "Last entry in this manager's state",
        |s| of(s, |m| one(m.raft.applied.0));
    Gauge "swarmnet_raft_snapshot_index", "Last entry in this manager's newest snapshot",
        |s| of(s, |m| one(m.raft.snapshot.unwrap_or_default()));
    Gauge "swarmnet_raft_members" ["kind"], "Managers in the Raft group",
        |s| of(s, |m| {
            let voters = m.raft.voters();
            by([("voter", voters), ("learner", m.raft.members.len() - voters)])
        });
    Gauge "swarmnet_raft_quorum_silence_seconds", "On the leader: since a majority last answered",
        |s| of(s, |m| m.raft.quorum_ack_ms.map_or_else(Vec::new, |ms| one(Duration::from_millis(ms))));

    Gauge "swarmnet_cluster_objects" ["kind"], "Objects in this manager's state",
        |s| of(s, |m| by([
            ("node", m.objects.nodes),
            ("network", m.objects.networks),
            ("service", m.objects.services),
            ("endpoint", m.objects.endpoints),
        ]));
    Gauge "swarmnet_cluster_certificate_expiry_timestamp_seconds" ["node"],
        "End of each node's certificate, as it said, Unix time",
        |s| of(s, |m| m.certificates.iter().map(|(node, at)| (node.clone(), unix(*at).into())).collect());
    Gauge "swarmnet_cluster_ca_expiry_timestamp_seconds", "End of the CA's certificate, Unix time",
        |s| of(s, |m| m.ca_ends.map_or_else(Vec::new, |at| one(unix(at))));

    Gauge "swarmnet_push_sessions", "Agents' streams that this manager serves",
        |s| of(s, |m| one(m.streams));
    Gauge "swarmnet_push_lag_revisions" ["node"],
        "Of each agent served here: revisions between what it was sent and what it has acknowledged",
        |s| of(s, |m| m.agents.iter().map(|a| (a.node.clone(), a.lag.into())).collect());
    Gauge "swarmnet_push_lag_seconds" ["node"],
        "Of each agent served here: how long an acknowledgement has been waited for",
        |s| of(s, |m| m.agents.iter().map(|a| (a.node.clone(), a.waiting.into())).collect());

    Counter "process_cpu_seconds", "Processor time, user and system",
        |s| one(s.process.cpu);
    Gauge "process_resident_memory_bytes", "Memory in use",
        |s| one(s.process.resident_bytes);
    Gauge "process_virtual_memory_bytes", "Address space in use",
        |s| one(s.process.virtual_bytes);
    Gauge "process_threads", "Threads",
        |s| one(s.process.threads);
    Gauge "process_open_fds", "Open files",
        |s| one(s.process.open_fds);
    Gauge "process_max_fds", "Files that may be open",
        |s| one(s.process.max_fds);
}

fn one(value: impl Into<Value>) -> Vec<Point> {
    vec![(String::new(), value.into())]
}

fn by<const N: usize>(points: [(&str, impl Into<Value>); N]) -> Vec<Point> {
    points.into_iter().map(|(label, value)| (label.to_owned(), value.into())).collect()
}

/// Of the manager, when one runs here.
fn of(sample: &Sample, read: impl Fn(&Observed) -> Vec<Point>) -> Vec<Point> {
    sample.manager.as_ref().map(read).unwrap_or_default()
}

/// Of the gossip, when it runs.
fn gossip(
    sample: &Sample,
    read: impl Fn(&GossipStatus, &StatsSnapshot) -> Vec<Point>,
) -> Vec<Point> {
    sample.agent.gossip.as_ref().map(|(status, numbers)| read(status, numbers)).unwrap_or_default()
}

fn unix(at: SystemTime) -> Duration {
    at.duration_since(UNIX_EPOCH).unwrap_or_default()
}

// === impl Metric ===

impl fmt::Debug for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

impl Metric {
    fn encode(&self, sample: &Sample, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let points = (self.read)(sample);
        if points.is_empty() {
            return Ok(());
        }
        let kind = match self.kind {
            Kind::Counter => MetricType::Counter,
            Kind::Gauge => MetricType::Gauge,
        };
        let mut metric = encoder.encode_descriptor(self.name, self.help, None, kind)?;
        for (label, value) in points {
            match self.label {
                None => value.encode(self.kind, &mut metric)?,
                Some(key) => {
                    value.encode(self.kind, &mut metric.encode_family(&[(key, label)])?)?;
                }
            }
        }
        Ok(())
    }
}

// === impl Value ===

impl Value {
    fn encode(self, kind: Kind, encoder: &mut MetricEncoder<'_>) -> fmt::Result {
        match (kind, self) {
            (Kind::Gauge, Self::Whole(n)) => encoder.encode_gauge(&n),
            (Kind::Gauge, Self::Real(x)) => encoder.encode_gauge(&x),
            (Kind::Counter, Self::Whole(n)) => {
                encoder.encode_counter::<NoLabelSet, _, u64>(&n, None)
            }
            (Kind::Counter, Self::Real(x)) => {
                encoder.encode_counter::<NoLabelSet, _, u64>(&x, None)
            }
        }
    }
}

impl From<u64> for Value {
    fn from(n: u64) -> Self {
        Self::Whole(n)
    }
}

impl From<usize> for Value {
    fn from(n: usize) -> Self {
        Self::Whole(u64::try_from(n).unwrap_or(u64::MAX))
    }
}

impl From<u32> for Value {
    fn from(n: u32) -> Self {
        Self::Whole(n.into())
    }
}

impl From<bool> for Value {
    fn from(holds: bool) -> Self {
        Self::Whole(holds.into())
    }
}

/// Seconds.
impl From<Duration> for Value {
    fn from(length: Duration) -> Self {
        Self::Real(length.as_secs_f64())
    }
}

// === the registry's end ===

/// Takes a sample at each scrape.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) node: Arc<Node>,
}

impl Collector for Table {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let sample = Sample {
            agent: self.node.agent.numbers(),
            manager: self.node.observed(),
            process: Process::now(),
        };
        encode(&sample, &mut encoder)
    }
}

pub(super) fn encode(sample: &Sample, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
    METRICS.iter().try_for_each(|metric| metric.encode(sample, encoder))
}
