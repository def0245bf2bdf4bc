//! What dies and what lives on: leaders, daemons, nodes, all managers (C4, C10, W1).

use std::time::{Duration, Instant};

use swarmnet_tests::{Lab, eventually, stderr, stdout};

use crate::{field, web};

/// C4: from the kill of the leader to the answer, which comes when every live node has the change. Idle: 1.1 s.
const WRITE_MAX: Duration = Duration::from_secs(2);
/// C10: from the crash to the first of `QUIET` requests without the dead task. Idle: about 3 s.
const EVICT_MAX: Duration = Duration::from_secs(5);
/// For what comes back; it has no promise.
const RETURN_MAX: Duration = Duration::from_secs(10);
/// Requests without the dead task that count as its absence: two tasks are missed by chance once in 2^20.
const QUIET: usize = 20;

/// A request to a dead task is not answered at all, so it must not wait long.
fn ask(lab: &Lab, target: &str) -> Option<String> {
    let out = lab.exec("c1", &["curl", "-sS", "--max-time", "0.5", &format!("http://{target}/")]);
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
    let begun = Instant::now();
    lab.node("kill", &dead);
    lab.ok(other, "service publish web published=5001,target=80");
    let took = begun.elapsed();
    println!("a write after the leader's death took {:.2} s", took.as_secs_f32());
    assert!(took < WRITE_MAX, "{took:?}");
    assert_eq!(ask(&lab, "192.0.2.51:5001").as_deref(), Some("w1"), "it is in the kernel");
    // What was acknowledged before is there, and the dead one learns of the rest.
    lab.node("start", &dead);
    let knows_both = || {
        let services = stdout(&lab.swarmnet(&dead, "service ls"));
        services.contains("5000") && services.contains("5001")
    };
    assert!(eventually(RETURN_MAX, knows_both).is_some(), "{}", lab.ok(&dead, "service ls"));
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
    evicts(&lab, || lab.node("crash", "a2"), "w2", "w1");
}

/// C10: the others take a node that is cut off for dead; itself, which sees more than half of its peers vanish at once, keeps
/// everything; both see each other again when the cut is healed.
#[test]
fn a_cut_off_node_leaves_balancing_keeps_what_it_knows_and_comes_back() {
    let lab = web("cut", "--managers 1 --agents 3", &["a1", "a2"]);
    lab.ok("m1", "service publish web published=5000,target=80");
    // `getent` writes a line for each address and kind of socket.
    let known = || {
        let told = lab.ok("a2", "exec w2 getent ahostsv4 tasks.web");
        told.lines().filter(|line| line.contains("STREAM")).count()
    };
    assert_eq!(known(), 2);
    evicts(&lab, || lab.link("cut", "a2", None), "w2", "w1");
    assert_eq!(known(), 2, "who is cut off keeps everything");
    lab.link("heal", "a2", None);
    let back = || ask(&lab, "192.0.2.53:5000").as_deref() == Some("w2");
    assert!(eventually(RETURN_MAX, back).is_some(), "it is back: {:?}", lab.json("m1", "node ls"));
    let settled = || lab.json("m1", "node ls").iter().all(|node| node["Status"] == "Ready");
    assert!(eventually(RETURN_MAX, settled).is_some(), "{:?}", lab.json("m1", "node ls"));
    // Other nodes may be heard again before this one, and then it counts as dead for a moment.
    assert!(eventually(RETURN_MAX, || known() == 2).is_some(), "{} known", known());
}

#[test]
fn a_crashed_node_leaves_balancing_without_any_manager() {
    let lab = web("nomgr", "--managers 1 --agents 4", &["a1", "a2"]);
    lab.ok("m1", "service publish web published=5000,target=80");
    lab.node("stop", "m1");
    assert!(ask(&lab, "192.0.2.53:5000").is_some(), "the port answers without a manager");
    evicts(&lab, || lab.node("crash", "a2"), "w2", "w1");
}

/// Does away with a node; its task must go out of balancing on every other entry node, the other task must stay.
fn evicts(lab: &Lab, done_away: impl Fn(), task: &str, other: &str) {
    let begun = Instant::now();
    done_away();
    let mut quiet = 0;
    let mut at = 0;
    let mut took = begun.elapsed();
    while quiet < QUIET {
        let target = ["192.0.2.51:5000", "192.0.2.53:5000"][at % 2];
        at += 1;
        if let Some(who) = ask(lab, target) {
            assert_ne!(who, task, "a dead task answers");
            assert_eq!(who, other);
            quiet += 1;
        } else {
            quiet = 0;
            took = begun.elapsed();
        }
        assert!(begun.elapsed() < EVICT_MAX + RETURN_MAX, "{task} is still in balancing");
    }
    println!("{task} was out of balancing within {:.2} s", took.as_secs_f32());
    assert!(took < EVICT_MAX, "{took:?}");
}

#[test]
fn an_endpoint_of_a_dead_node_is_cleared_by_force_and_no_other() {
    let lab = web("stale", "--managers 1 --agents 2", &["a1", "a2"]);
    lab.node("crash", "a2");
    let clear = |name: &str| lab.swarmnet("m1", &format!("network disconnect -f overnet {name}"));
    let cleared = || clear("w2").status.success();
    assert!(eventually(RETURN_MAX, cleared).is_some(), "{}", stderr(&clear("w2")));
    let left = lab.ok("m1", "network inspect overnet");
    assert!(left.contains("w1") && !left.contains("w2"), "{left}");
    let refused = |name: &str, want: &str| {
        let out = clear(name);
        assert_eq!(out.status.code(), Some(1), "{}", stdout(&out));
        assert!(stderr(&out).contains(want), "{}", stderr(&out));
    };
    refused("w2", "container w2 is not connected to the network overnet");
    refused("w1", "w1 runs on node a1, which is not down: disconnect it there");
    // Of a sandbox that is here it is this node's word that counts, on a worker too.
    lab.ok("a1", "network create -d bridge other");
    let out = lab.swarmnet("a1", "network disconnect -f other w1");
    assert!(stderr(&out).contains("w1 is not connected to the network other"), "{}", stderr(&out));
    let out = lab.swarmnet("m1", "network disconnect overnet w1");
    assert!(!out.status.success(), "without force only what is here");
    assert_eq!(ask_vip(&lab), "w1", "it is as it was");
}

/// Who answers for `web` in a sandbox on node m1.
fn ask_vip(lab: &Lab) -> String {
    field(&lab.ok("m1", "run --network overnet -- curl -sS --max-time 2 http://web/"), "sandbox")
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
    assert!(eventually(RETURN_MAX, writes).is_some(), "writes go on when two are back");
}
