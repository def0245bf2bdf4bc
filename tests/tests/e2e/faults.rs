//! What dies and what lives on: leaders, daemons, nodes, all managers (C4, C10, W1).

use std::time::{Duration, Instant};

use swarmnet_tests::{Lab, eventually, stderr, stdout};

use crate::{field, web};

/// C4 promises 2 s on a machine with time to spare; a test machine may be busy.
const WRITE_MAX: Duration = Duration::from_secs(5);
/// C10 promises 5 s; likewise.
const EVICT_MAX: Duration = Duration::from_secs(10);
/// Requests without the dead task that count as its absence: two tasks are missed by chance once in 2^20.
const QUIET: usize = 20;

fn ask(lab: &Lab, target: &str) -> Option<String> {
    let out = lab.exec("c1", &["curl", "-sS", "--max-time", "1", &format!("http://{target}/")]);
    out.status.success().then(|| field(&stdout(&out), "sandbox"))
}

/// The name of the node that leads.
fn leader(lab: &Lab) -> String {
    let all = lab.json("m1", "node ls");
    let found = all.iter().find(|node| node["ManagerStatus"] == "Leader");
    let found = found.unwrap_or_else(|| panic!("one node leads: {all:?}"));
    found["Hostname"].as_str().expect("a node has a name").to_owned()
}

#[test]
fn writes_go_on_after_the_leaders_death() {
    let lab = web("leader", "--managers 3 --agents 1", &["a1"]);
    lab.ok("m2", "service publish web published=5000,target=80");
    let dead = leader(&lab);
    let other = ["m1", "m2", "m3"].into_iter().find(|m| *m != dead).expect("there are three");
    lab.node("kill", &dead);
    let begun = Instant::now();
    lab.ok(other, "service publish -d web published=5001,target=80");
    let took = begun.elapsed();
    println!("a write after the leader's death took {:.2} s", took.as_secs_f32());
    assert!(took < WRITE_MAX, "{took:?}");
    // What was acknowledged before is there, and the dead one learns of the rest.
    lab.node("start", &dead);
    let knows_both = || {
        let services = stdout(&lab.swarmnet(&dead, "service ls"));
        services.contains("5000") && services.contains("5001")
    };
    assert!(eventually(EVICT_MAX, knows_both).is_some(), "{}", lab.ok(&dead, "service ls"));
}

#[test]
fn a_killed_daemon_takes_no_process_and_no_connection_with_it() {
    let lab = web("killed", "--managers 1 --agents 2", &["a1"]);
    lab.ok("m1", "service publish web published=5000,target=80");
    let pid = || lab.json("a1", "ps")[0]["PID"].clone();
    let before = pid();
    // Through a2: entry node and task's node lose their daemons one after the other.
    let script = "exec 3<>/dev/tcp/192.0.2.52/5000; while read -r word; do echo \"$word\" >&3; read -r -t 5 answer <&3; echo \"$answer\"; done";
    let mut client = lab.session("c1", &["bash", "-c", script]);
    let mut exchange = || {
        client.say("who");
        client.line()
    };
    let first = exchange();
    assert!(first.contains("peer=192.0.2.101:"), "the connection stands: {first}");
    for node in ["a1", "a2"] {
        lab.node("kill", node);
        assert_eq!(exchange(), first, "while the daemon of {node} is dead");
        lab.node("start", node);
        assert_eq!(exchange(), first, "when the daemon of {node} is back");
    }
    assert_eq!(pid(), before, "the process is the same");
    assert_eq!(ask(&lab, "192.0.2.52:5000").as_deref(), Some("w1"), "new connections come through");
}

#[test]
fn a_crashed_node_leaves_balancing() {
    let lab = web("crash", "--managers 3 --agents 3", &["a1", "a2"]);
    lab.ok("m1", "service publish web published=5000,target=80");
    evicts(&lab, "a2", "w2", "w1");
}

#[test]
fn a_crashed_node_leaves_balancing_without_any_manager() {
    let lab = web("nomgr", "--managers 1 --agents 4", &["a1", "a2"]);
    lab.ok("m1", "service publish web published=5000,target=80");
    lab.node("stop", "m1");
    assert!(ask(&lab, "192.0.2.53:5000").is_some(), "the port answers without a manager");
    evicts(&lab, "a2", "w2", "w1");
}

/// Crashes `node`; its task must go out of balancing on every entry node, the other one must stay.
fn evicts(lab: &Lab, node: &str, task: &str, other: &str) {
    lab.node("crash", node);
    let begun = Instant::now();
    let mut quiet = 0;
    let mut at = 0;
    while quiet < QUIET {
        let target = ["192.0.2.51:5000", "192.0.2.53:5000"][at % 2];
        at += 1;
        match ask(lab, target) {
            Some(who) => {
                assert_ne!(who, task, "a dead task answers");
                assert_eq!(who, other);
                quiet += 1;
            }
            None => quiet = 0,
        }
        assert!(begun.elapsed() < EVICT_MAX + EVICT_MAX, "{task} is still in balancing");
    }
    let took = begun.elapsed();
    println!("{task} was out of balancing within {:.2} s", took.as_secs_f32());
    assert!(took < EVICT_MAX, "{took:?}");
}

#[test]
fn without_a_majority_writes_fail_and_traffic_goes_on() {
    let lab = web("quorum", "--managers 3 --agents 1", &["a1"]);
    lab.ok("m1", "service publish web published=5000,target=80");
    lab.node("kill", "m2");
    lab.node("kill", "m3");
    let out = lab.swarmnet("m1", "network create -d overlay late");
    assert_eq!(out.status.code(), Some(1), "{}", stdout(&out));
    assert_eq!(stderr(&out).lines().count(), 1, "{}", stderr(&out));
    assert_eq!(ask(&lab, "192.0.2.51:5000").as_deref(), Some("w1"));
    lab.node("start", "m2");
    lab.node("start", "m3");
    let writes = || lab.swarmnet("m1", "network create -d overlay later").status.success();
    assert!(eventually(EVICT_MAX, writes).is_some(), "writes go on when two are back");
}
