//! Events (O4): what happens to the cluster is told once, in order, at every node, whoever leads.

use std::time::Duration;

use serde_json::Value;
use swarmnet_tests::{Lab, eventually, stderr};

/// An election, on a busy machine.
const ELECTED_MAX: Duration = Duration::from_secs(20);
/// Until a manager that was away has read the log.
const CAUGHT_UP_MAX: Duration = Duration::from_secs(20);
const SHORT: &str = "{{.Type}} {{.Action}} {{.Actor.Attributes.name}}";

/// What is known at a node, from the beginning until now.
fn history(lab: &Lab, node: &str, filters: &str) -> Vec<Value> {
    let text = lab.ok(node, &format!("events --since 1 --until 1s --format json{filters}"));
    text.lines().map(|line| serde_json::from_str(line).expect("JSON, an object a line")).collect()
}

fn actions(events: &[Value]) -> Vec<String> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let name = |event: &Value| text(&event["Actor"]["Attributes"]["name"]);
    events
        .iter()
        .map(|e| format!("{} {} {}", text(&e["Type"]), text(&e["Action"]), name(e)))
        .collect()
}

#[test]
fn events_go_on_when_the_leader_dies_and_every_manager_tells_the_same() {
    let mut lab = Lab::up("events", "--managers 3 --agents 1 --clients 0");
    let argv = ["swarmnet", "events", "--since", "1", "-f", "type=network", "--format", SHORT];
    let mut reader = lab.session("a1", &argv);
    assert_eq!(reader.line(), "network create ingress");
    lab.ok("m1", "network create -d overlay --attachable first");
    lab.ok("m1", "network create -d overlay --attachable second");
    assert_eq!(reader.line(), "network create first");
    assert_eq!(reader.line(), "network create second");

    lab.node("kill", "m1");
    let created = || lab.swarmnet("m2", "network create -d overlay third").status.success();
    assert!(eventually(ELECTED_MAX, created).is_some(), "another one leads");
    lab.ok("m3", "network rm second");
    assert_eq!(reader.line(), "network create third");
    assert_eq!(reader.line(), "network remove second");

    lab.node("start", "m1");
    let whole = history(&lab, "m2", "");
    let wanted = ["network create first", "network create third", "network remove second"];
    let all = actions(&whole);
    for one in wanted {
        assert_eq!(all.iter().filter(|a| *a == one).count(), 1, "{one}: {all:?}");
    }
    assert_eq!(all.first().map(String::as_str), Some("cluster create "), "{all:?}");
    let same = || history(&lab, "m1", "").starts_with(&whole);
    assert!(eventually(CAUGHT_UP_MAX, same).is_some(), "{:?}", actions(&history(&lab, "m1", "")));
    lab.down();
}

#[test]
fn events_of_tasks_tokens_and_nodes_are_found_by_filters() {
    let mut lab = Lab::up("filters", "--managers 1 --agents 1 --clients 0");
    lab.ok("m1", "network create -d overlay --attachable --label tier=web net");
    lab.ok("a1", "run -d --name t1 --network net --service web -- sleep 600");
    lab.ok("a1", "rm -f t1");
    lab.ok("m1", "node update --availability pause a1");
    let before = lab.ok("m1", "manager token worker -q");
    let after = lab.ok("m1", "manager token worker --rotate -q");
    let gone = || {
        actions(&history(&lab, "m1", " -f endpoint=t1")).contains(&"endpoint remove t1".to_owned())
    };
    assert!(eventually(CAUGHT_UP_MAX, gone).is_some(), "{:?}", actions(&history(&lab, "m1", "")));
    let tasks = history(&lab, "a1", " -f endpoint=t1 -f event=create");
    let task = tasks.iter().find(|e| e["Actor"]["Attributes"]["network"] == "net");
    let attributes = &task.expect("it was created")["Actor"]["Attributes"];
    assert_eq!((&attributes["node"], &attributes["service"]), (&Value::from("a1"), &"web".into()));
    assert_eq!(actions(&history(&lab, "m1", " -f label=tier=web")), ["network create net"]);
    let paused = history(&lab, "m1", " -f node=a1 -f type=node -f event=update");
    let paused = paused.last().expect("it was changed");
    assert_eq!(paused["Actor"]["Attributes"]["availability.new"], "pause", "{paused}");
    let rotated = history(&lab, "m1", " -f type=token");
    assert_eq!(actions(&rotated), ["token rotate "]);
    let text = lab.ok("m1", "events --since 1 --until 1s");
    assert!(!text.contains(&before) && !text.contains(&after), "no secrets: {text}");

    for (words, status) in [("--since soon", 2), ("-f colour=red", 2), ("--format {{.Type", 2)] {
        let out = lab.swarmnet("m1", &format!("events {words}"));
        assert_eq!(out.status.code(), Some(status), "{words}: {}", stderr(&out));
        assert_eq!(stderr(&out).lines().count(), 1, "{}", stderr(&out));
    }
    lab.down();
}
