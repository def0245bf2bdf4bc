//! The table against its rules, its page and its dashboard.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Mutex;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::registry::Registry;
use swarmnet_agent::numbers::AgentNumbers;

use super::process::Process;
use super::table::{Kind, METRICS, Metric, Sample, encode};

const PAGE: &str = include_str!("../../../../docs/metrics.md");
const DASHBOARD: &str = include_str!("../../../../deploy/grafana/swarmnet.json");

/// As Prometheus shows it.
fn shown(metric: &Metric) -> String {
    let total = if metric.kind == Kind::Counter { "_total" } else { "" };
    format!("{}{total}", metric.name)
}

#[test]
fn the_page_has_the_table() {
    let row = |metric: &Metric| {
        let kind = if metric.kind == Kind::Counter { "counter" } else { "gauge" };
        let label = metric.label.map_or_else(String::new, |label| format!("`{label}`"));
        format!("| `{}` | {kind} | {label} | {} |", shown(metric), metric.help)
    };
    let wanted: Vec<_> = METRICS.iter().map(row).collect();
    let found: Vec<_> = PAGE.lines().filter(|line| line.starts_with("| `")).collect();
    assert_eq!(found, wanted, "docs/metrics.md should have:\n{}\n", wanted.join("\n"));
}

#[test]
fn names_are_unique_and_follow_the_rules() {
    let names: BTreeSet<_> = METRICS.iter().map(|metric| metric.name).collect();
    assert_eq!(names.len(), METRICS.len());
    for metric in METRICS {
        let plain = |c: char| c.is_ascii_lowercase() || c == '_';
        assert!(metric.name.chars().all(plain), "{}", metric.name);
        assert!(!metric.name.ends_with("_total"), "{}: it is put behind counters", metric.name);
        assert!(!metric.help.ends_with('.'), "{}: it is put behind", metric.name);
    }
}

/// A sample that does not change.
#[derive(Debug)]
struct Fixed(Mutex<Sample>);

impl Collector for Fixed {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        encode(&self.0.lock().expect("nobody panics"), &mut encoder)
    }
}

#[test]
fn what_does_not_apply_is_left_out() {
    let sample =
        Sample { agent: AgentNumbers::default(), manager: None, process: Process::default() };
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Fixed(Mutex::new(sample))));
    let text = super::encode(&registry);
    assert!(text.contains("# TYPE swarmnet_dns_queries_total counter\n"), "{text}");
    assert!(text.contains("swarmnet_dns_queries_total{result=\"local\"} 0\n"), "{text}");
    assert!(text.contains("swarmnet_agent_stream_open 0\n"), "{text}");
    for absent in ["swarmnet_raft", "swarmnet_push", "swarmnet_gossip", "certificate"] {
        assert!(!text.contains(absent), "{absent}: {text}");
    }
}

#[test]
fn the_dashboard_asks_for_metrics_that_there_are() {
    let dashboard: serde_json::Value = serde_json::from_str(DASHBOARD).expect("JSON");
    let known: BTreeSet<_> = METRICS.iter().map(shown).collect();
    let panels = dashboard["panels"].as_array().expect("panels");
    let targets = panels.iter().flat_map(|panel| panel["targets"].as_array().expect("targets"));
    let questions = targets.map(|target| target["expr"].as_str().expect("a question"));
    let mut asked = BTreeSet::new();
    for question in questions {
        let words = question.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        let metrics = words.filter(|w| w.starts_with("swarmnet_") || w.starts_with("process_"));
        asked.extend(metrics.map(str::to_owned));
    }
    assert!(asked.len() > 15, "{asked:?}");
    let unknown: Vec<_> = asked.difference(&known).collect();
    assert!(unknown.is_empty(), "{unknown:?}");
}
