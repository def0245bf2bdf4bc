//! A daemon that runs is operated (O5): its settings are shown and read again, its log is turned up and down, and what is wrong
//! changes nothing.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;
use swarmnet_tests::{Lab, eventually, stderr, stdout};

/// A signal is not answered: what it brings about is waited for.
const SOON: Duration = Duration::from_secs(5);
/// A verdict of the gossip, on a busy machine.
const GOSSIP_MAX: Duration = Duration::from_secs(20);

fn place(lab: &Lab, name: &str, node: &str) -> PathBuf {
    lab.folder().join(name).join(node)
}

/// `Value` of each setting by its key.
fn setting(lab: &Lab, node: &str, key: &str) -> String {
    let rows = lab.json(node, "config ls");
    let row = rows.iter().find(|row| row["ID"] == key).expect("the key is listed");
    row["Value"].as_str().expect("a text").to_owned()
}

#[test]
fn settings_are_read_again_and_a_wrong_file_changes_nothing() {
    let mut lab = Lab::up("reload", "--managers 1 --agents 0 --clients 0");
    let place = place(&lab, "reload", "m1");
    let file = place.join("swarmnet.toml");
    let write = |text: &str| fs::write(&file, text).expect("root may");
    assert_eq!(lab.ok("m1", "config reload"), "", "there is no file: nothing differs");
    assert_eq!(setting(&lab, "m1", "forward_accept"), "true");

    write("forward_accept = false\nlog_level = \"warn\"\nworker_threads = 3\n");
    assert_eq!(
        lab.ok("m1", "config reload"),
        "log_level: changed\nforward_accept: changed\nworker_threads: needs a restart"
    );
    assert_eq!(setting(&lab, "m1", "forward_accept"), "false");
    assert_eq!(setting(&lab, "m1", "worker_threads"), "2", "it is not in force");
    assert_eq!(lab.ok("m1", "log-level"), "warn");

    write("forward_accept = true\nlog_level = \"inof\"\n");
    let out = lab.swarmnet("m1", "config reload");
    assert_eq!(out.status.code(), Some(1), "{}", stdout(&out));
    let said = stderr(&out);
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(said.contains("swarmnet.toml:2:13: log_level: the value \"inof\""), "{said}");
    assert_eq!(setting(&lab, "m1", "forward_accept"), "false", "nothing was taken");
    let check = format!("daemon --check --config {}", file.display());
    let checked = lab.swarmnet("m1", &check);
    assert_eq!((checked.status.code(), stderr(&checked)), (Some(1), said));

    // The same by the signal that systemd sends.
    write("log_level = \"info,swarmnet_agent=debug\"\n");
    assert_eq!(lab.ok("m1", &check), "The configuration is right.");
    let pid = fs::read_to_string(place.join("run/daemon.pid")).expect("a pid");
    assert!(lab.exec("m1", &["kill", "-HUP", pid.trim()]).status.success());
    let heard = || lab.ok("m1", "log-level") == "info,swarmnet_agent=debug";
    assert!(eventually(SOON, heard).is_some());
    assert_eq!(setting(&lab, "m1", "forward_accept"), "true", "the default again");
    lab.down();
}

#[test]
fn the_log_is_turned_up_and_down_while_the_daemon_runs() {
    let mut lab = Lab::up("loud", "--managers 1 --agents 0 --clients 0");
    let log = place(&lab, "loud", "m1").join("state/daemon.log");
    let said = || fs::read_to_string(&log).expect("it is there").matches("asked by").count();
    let ask = || lab.swarmnet("m1", "sandbox rm nothing");
    assert_eq!(lab.ok("m1", "log-level"), "info");
    ask();
    assert!(eventually(SOON, || said() > 0).is_some(), "changes are said at info");
    assert_eq!(lab.ok("m1", "log-level warn"), "warn");
    let before = said();
    ask();
    assert_eq!(said(), before, "it says less");
    assert_eq!(
        lab.ok("m1", "log-level off,swarmnet_agent::api=info"),
        "off,swarmnet_agent::api=info"
    );
    ask();
    assert!(eventually(SOON, || said() > before).is_some(), "one module alone");
    assert_eq!(lab.ok("m1", "log-level --reset"), "info");
    let out = lab.swarmnet("m1", "log-level inof");
    assert_eq!(out.status.code(), Some(2), "{}", stdout(&out));
    assert!(stderr(&out).contains("\"inof\" is no level"), "{}", stderr(&out));
    assert_eq!(lab.ok("m1", "log-level"), "info");
    lab.down();
}

/// What `agent status` says at `pointer`.
fn status(lab: &Lab, node: &str, pointer: &str) -> Value {
    let text = lab.ok(node, "agent status --format json");
    let all: Value = serde_json::from_str(&text).expect("JSON");
    all[0].pointer(pointer).cloned().unwrap_or_else(|| panic!("{pointer} is in {text}"))
}

/// The row of one node in `node ls`, as another one shows it.
fn row(lab: &Lab, at: &str, name: &str) -> Value {
    let rows = lab.json(at, "node ls");
    rows.into_iter().find(|row| row["Hostname"] == name).expect("the node is listed")
}

#[test]
fn every_node_tells_how_raft_its_stream_and_its_gossip_are() {
    let mut lab = Lab::up("told", "--managers 3 --agents 1 --clients 0");
    lab.ok("m1", "network create -d overlay --attachable told");
    let caught_up =
        |node| status(&lab, node, "/Raft/Lag") == 0 && status(&lab, node, "/Raft/Leader") == "m1";
    for (node, role) in [("m1", "leader"), ("m2", "follower"), ("m3", "follower")] {
        assert!(eventually(SOON, || caught_up(node)).is_some(), "{}", lab.ok(node, "agent status"));
        assert_eq!(status(&lab, node, "/Raft/Role"), role, "{node}");
        assert_eq!(status(&lab, node, "/Raft/Voters"), 3, "{node}");
        let heard = || status(&lab, node, "/Gossip/Alive") == 3;
        assert!(eventually(GOSSIP_MAX, heard).is_some(), "{}", lab.ok(node, "agent status"));
        assert_eq!(lab.ok(node, "info --format {{.Swarm.Leader}}/{{.Swarm.QuorumMargin}}"), "m1/1");
    }
    let term = status(&lab, "m2", "/Raft/Term").to_string();
    assert_eq!(lab.ok("a1", "info --format {{.Swarm.Term}}"), term, "a manager tells it");
    assert!(status(&lab, "a1", "/Raft").is_null(), "no manager runs there");
    let shown = lab.ok("m2", "agent status");
    assert!(shown.contains("follower of m1, term "), "{shown}");
    assert!(shown.contains("3 alive, 0 agent-lost, 0 dead, 0 suspected"), "{shown}");

    let level = |node| {
        let row = row(&lab, "m2", node);
        row["Stream"] == "open" && row["Lag"] == 0
    };
    for node in ["m1", "m2", "m3", "a1"] {
        assert!(eventually(SOON, || level(node)).is_some(), "{:?}", row(&lab, "m2", node));
        let until = row(&lab, "m2", node)["CertificateUntil"].to_string();
        assert!(until.starts_with("\"20"), "{until}");
    }
    lab.node("kill", "a1");
    let lost = || status(&lab, "m1", "/Gossip/AgentLost") == 1;
    assert!(eventually(GOSSIP_MAX, lost).is_some(), "{}", lab.ok("m1", "agent status"));
    assert_eq!(row(&lab, "m1", "a1")["Stream"], "closed");
    lab.down();
}

/// What `curl` gets of a node's metrics, from the node itself; empty when nobody answers there.
fn scrape(lab: &Lab, node: &str, url: &str) -> String {
    stdout(&lab.exec(node, &["curl", "--silent", "--max-time", "5", url]))
}

/// The value of a metric, label and all; `None` when it is not there.
fn metric(text: &str, name: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
    line.parse().ok()
}

#[test]
fn metrics_tell_of_raft_push_gossip_names_and_the_process() {
    const URL: &str = "http://127.0.0.1:9377/metrics";
    let mut lab = Lab::up("measured", "--managers 1 --agents 1 --clients 0");
    lab.ok("m1", "network create -d overlay --attachable told");
    lab.ok("a1", "run -d --name idle --network told -- sleep 600");
    let read = |node, name: &str| metric(&scrape(&lab, node, URL), name);
    let is = |node: &'static str, name: &'static str, wanted: f64| {
        let holds = || read(node, name).is_some_and(|is| (is - wanted).abs() < 0.5);
        assert!(eventually(SOON, holds).is_some(), "{name}: {}", scrape(&lab, node, URL));
    };
    is("m1", "swarmnet_raft_leader", 1.0);
    is("m1", "swarmnet_raft_members{kind=\"voter\"}", 1.0);
    is("m1", "swarmnet_cluster_objects{kind=\"node\"}", 2.0);
    is("m1", "swarmnet_push_sessions", 2.0);
    is("m1", "swarmnet_push_lag_revisions{node=\"a1\"}", 0.0);
    is("m1", "swarmnet_gossip_peers{state=\"alive\"}", 1.0);
    is("a1", "swarmnet_agent_sandboxes", 1.0);
    is("a1", "swarmnet_agent_stream_open", 1.0);
    let of_agent = scrape(&lab, "a1", URL);
    assert!(!of_agent.contains("swarmnet_raft"), "no manager runs there: {of_agent}");
    let memory = metric(&of_agent, "process_resident_memory_bytes").expect("it is measured");
    assert!(memory > 1e6, "{memory}");
    let now = std::time::UNIX_EPOCH.elapsed().expect("it is later").as_secs_f64();
    let ends = metric(&of_agent, "swarmnet_agent_certificate_expiry_timestamp_seconds");
    assert!(ends.is_some_and(|ends| ends > now), "{ends:?}");

    let local = "swarmnet_dns_queries_total{result=\"local\"}";
    let before = read("a1", local).expect("it is counted");
    assert!(lab.swarmnet("a1", "exec idle getent hosts idle").status.success());
    let counted = || read("a1", local).is_some_and(|after| after > before);
    assert!(eventually(SOON, counted).is_some(), "{}", scrape(&lab, "a1", URL));

    let elsewhere = scrape(&lab, "m1", "http://127.0.0.1:9377/");
    assert_eq!(elsewhere, "there is /metrics");
    let file = place(&lab, "measured", "m1").join("swarmnet.toml");
    fs::write(&file, "metrics = \"127.0.0.1:9378\"\n").expect("root may");
    assert_eq!(lab.ok("m1", "config reload"), "metrics: changed");
    let moved = || !scrape(&lab, "m1", "http://127.0.0.1:9378/metrics").is_empty();
    assert!(eventually(SOON, moved).is_some());
    assert_eq!(scrape(&lab, "m1", URL), "", "the old one is closed");
    fs::write(&file, "metrics = \"off\"\n").expect("root may");
    assert_eq!(lab.ok("m1", "config reload"), "metrics: changed");
    assert!(eventually(SOON, || !moved()).is_some(), "nobody listens");
    lab.down();
}

const UNIT: &str = include_str!("../../../deploy/swarmnet.service");

/// `setpriv` with what the unit grants: a bounding set, and no new privileges.
fn as_the_unit() -> Vec<String> {
    let lines = UNIT.lines().filter_map(|line| line.strip_prefix("CapabilityBoundingSet="));
    let granted = lines.flat_map(str::split_whitespace).filter_map(|cap| cap.strip_prefix("CAP_"));
    let set = granted.fold("-all".to_owned(), |set, cap| set + ",+" + &cap.to_lowercase());
    ["setpriv", "--no-new-privs", "--bounding-set", &set].map(str::to_owned).to_vec()
}

#[test]
fn a_daemon_needs_no_more_than_its_unit_grants() {
    assert!(UNIT.lines().any(|line| line == "NoNewPrivileges=yes"));
    let mut lab = Lab::up_under(&as_the_unit(), "bound", "--managers 1 --agents 1 --clients 1");
    let status_of_lab = lab.status();
    let pid = status_of_lab[0]["Daemon"].as_str().expect("m1 is the first");
    let own = fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let has = |key: &str| own.lines().find_map(|line| line.strip_prefix(key)).expect("a field");
    assert_eq!(has("NoNewPrivs:").trim(), "1");
    assert_eq!(has("CapEff:"), has("CapBnd:"));
    assert_ne!(has("CapBnd:").trim(), "000001ffffffffff");

    lab.ok("m1", "network create -d overlay --attachable net");
    lab.ok("a1", "run -d --name w1 --user nobody --network net --service web -- swarmnet whoami --listen :8000");
    lab.ok("m1", "run -d --name t1 --user nobody --network net -p 8080:80 -- sleep 600");
    lab.ok("m1", "service publish web 5000:8000");
    lab.ok("m1", "sandbox create --network net box");
    assert!(lab.exec("m1", &["ip", "netns", "exec", "box", "true"]).status.success());
    let answered = || scrape(&lab, "c1", "http://192.0.2.11:5000").contains("192.0.2.101");
    assert!(eventually(SOON, answered).is_some());
    lab.ok("m1", "trace t1 web:8000");
    lab.node("stop", "m1");
    lab.node("start", "m1");
    lab.ok("m1", "stop t1");
    lab.ok("m1", "rm -f t1 box");
    lab.ok("a1", "rm -f w1");
    for node in ["m1", "a1"] {
        assert_eq!(status(&lab, node, "/Problems"), Value::Array(Vec::new()), "{node}");
    }
    lab.down();
}
