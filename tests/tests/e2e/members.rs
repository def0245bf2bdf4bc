//! Managers and nodes come and go (C5, C6): roles change while the cluster serves, nobody's going costs the quorum, and who was removed
//! stays removed.

use std::time::Duration;

use swarmnet_tests::{Lab, Session, eventually, stderr, stdout};

/// An election, a certificate and what the log has to catch up with.
const SOON: Duration = Duration::from_secs(20);

fn refused(lab: &Lab, node: &str, words: &str, sentence: &str) {
    let out = lab.swarmnet(node, words);
    assert!(!out.status.success(), "{node}: {words}: {}", stdout(&out));
    let said = stderr(&out);
    assert!(said.contains(sentence), "{node}: {words}: {said}");
    assert_eq!(said.lines().count(), 1, "{said}");
}

/// Names of those that vote, by the word of `node`.
fn voters(lab: &Lab, node: &str) -> Vec<String> {
    let mut names: Vec<String> = lab
        .json(node, "manager ls")
        .iter()
        .filter(|m| m["Seat"] == "Voter")
        .map(|m| m["Hostname"].as_str().expect("a name").to_owned())
        .collect();
    names.sort();
    names
}

fn leader(lab: &Lab, node: &str) -> String {
    let rows = lab.json(node, "manager ls");
    let row = rows.iter().find(|m| m["ManagerStatus"] == "Leader").expect("one leads");
    row["Hostname"].as_str().expect("a name").to_owned()
}

fn role(lab: &Lab, node: &str) -> String {
    lab.ok(node, "agent status -f {{.Role}}")
}

fn has_log(lab: &Lab, name: &str, node: &str) -> bool {
    lab.folder().join(name).join(node).join("state/raft").exists()
}

#[test]
fn workers_become_managers_and_managers_workers() {
    let mut lab = Lab::up("roles", "--managers 1 --agents 2 --clients 0");
    assert_eq!(voters(&lab, "m1"), ["m1"]);
    refused(&lab, "m1", "node demote m1", "attempting to demote the last manager of the swarm");
    assert_eq!(lab.ok("m1", "node promote a1"), "Node a1 promoted to a manager in the swarm.");
    assert_eq!(lab.ok("m1", "node promote a1"), "Node a1 is already a manager.");
    assert_eq!(lab.ok("a1", "manager promote a2"), "Node a2 promoted to a manager in the swarm.");
    assert_eq!(voters(&lab, "a2"), ["a1", "a2", "m1"]);
    assert_eq!(["a1", "a2"].map(|node| role(&lab, node)), ["manager", "manager"]);
    let listed = lab.ok("a1", "manager ls");
    assert!(listed.contains("1 more manager(s) may be lost before writes stop"), "{listed}");
    let rows = lab.json("a1", "manager ls");
    assert!(rows.iter().all(|row| row["Lag"].as_u64().is_some_and(|lag| lag < 128)), "{rows:?}");

    // They are managers in earnest: without the first one they go on.
    lab.node("kill", "m1");
    let writes = |node: &str, name: &str| {
        lab.swarmnet(node, &format!("network create -d overlay --detach {name}")).status.success()
    };
    assert!(eventually(SOON, || writes("a1", "without-m1")).is_some());
    lab.node("start", "m1");
    let answers = || lab.ok("a1", "node ls --filter name=m1").contains("Reachable");
    assert!(eventually(SOON, answers).is_some(), "{}", lab.ok("a1", "node ls"));

    // The leader itself, asked to go by its own word.
    let first = leader(&lab, "a1");
    let rest: Vec<&str> = ["a1", "a2", "m1"].into_iter().filter(|n| *n != first).collect();
    let said = lab.ok(&first, &format!("manager demote {first}"));
    assert_eq!(said, format!("Manager {first} demoted in the swarm."));
    assert_eq!(voters(&lab, rest[0]), rest);
    assert!(eventually(SOON, || role(&lab, &first) == "worker").is_some());
    assert!(!has_log(&lab, "roles", &first), "its state is gone");
    assert!(writes(rest[1], "without-the-leader"));
    refused(&lab, &first, "manager token worker", "is not a swarm manager");
    lab.node("kill", &first);
    lab.node("start", &first);
    assert_eq!(role(&lab, &first), "worker");
    assert!(
        eventually(SOON, || lab.ok(&first, "network ls").contains("without-the-leader")).is_some()
    );

    // And back again, with a log of its own from the start.
    lab.ok(rest[0], &format!("node update --role manager {first}"));
    assert_eq!(voters(&lab, &first), ["a1", "a2", "m1"]);
    lab.down();
}

#[test]
fn nobody_goes_at_the_cost_of_the_quorum_and_who_went_stays_away() {
    let mut lab = Lab::up("quorum", "--managers 3 --agents 1 --clients 0");
    lab.node("kill", "m3");
    let is_down = || {
        let rows = lab.json("m1", "manager ls");
        rows.iter().any(|m| m["Hostname"] == "m3" && m["Answers"] == false)
            && rows.iter().any(|m| m["ManagerStatus"] == "Leader")
    };
    assert!(eventually(SOON, is_down).is_some(), "{}", lab.ok("m1", "manager ls"));
    let loss = "can't remove member from the raft: this would result in a loss of quorum";
    refused(&lab, "m1", "manager demote m2", loss);
    refused(&lab, "m2", "manager leave", "Removing this node leaves 1 managers out of 2.");
    refused(&lab, "m1", "node rm --force m3", "It must be demoted to worker before removal");
    refused(&lab, "m1", "node rm a1", "is not down and can't be removed");
    lab.ok("m1", "manager demote m3");
    assert_eq!(voters(&lab, "m1"), ["m1", "m2"]);
    lab.ok("m1", "node rm --force m3");

    // It comes back with the certificate of a manager and its old log.
    lab.node("start", "m3");
    let told = || lab.ok("m3", "agent status").contains("was removed from the cluster");
    assert!(eventually(SOON, told).is_some(), "{}", lab.ok("m3", "agent status"));
    assert_eq!(voters(&lab, "m1"), ["m1", "m2"]);
    assert!(!lab.swarmnet("m3", "network create -d overlay never").status.success());
    assert!(!lab.ok("m1", "node ls").contains("m3"));
    lab.ok("m3", "agent leave");
    lab.ok("m3", &format!("manager join {}", lab.ok("m1", "manager token manager -q")));
    assert_eq!(voters(&lab, "m1"), ["m1", "m2", "m3"]);

    // A manager that leaves is out of the group first; a worker is struck off too.
    let first = leader(&lab, "m1");
    let rest: Vec<&str> = ["m1", "m2", "m3"].into_iter().filter(|n| *n != first).collect();
    assert_eq!(lab.ok(&first, "manager leave"), "Node left the swarm.");
    assert_eq!(voters(&lab, rest[0]), rest);
    assert_eq!(lab.ok("a1", "agent leave"), "Node left the swarm.");
    let names = lab.ok(rest[0], "node ls --format {{.Hostname}}");
    assert_eq!(names.lines().collect::<Vec<_>>(), rest);
    lab.ok(rest[0], "manager leave");
    refused(
        &lab,
        rest[1],
        "manager leave",
        "Removing the last manager erases all current state of the swarm.",
    );
    lab.ok(rest[1], "manager leave --force");
    lab.down();
}

/// Writes one change after the other by a node's daemon until its input is closed; says which failed, and at the end how many there were
/// and how many milliseconds the longest took.
fn writer(lab: &Lab, node: &str) -> Session {
    let script = format!(
        "n=0; longest=0; while true; do read -r -t 0.01 word; [ $? -gt 128 ] || break; n=$((n+1)); begun=${{EPOCHREALTIME/./}}; swarmnet node update --label-add load=$n {node} 2>&1 >/dev/null || echo \"write $n failed\"; took=$(((${{EPOCHREALTIME/./}}-begun)/1000)); [ $took -le $longest ] || longest=$took; done; echo $n $longest"
    );
    lab.session(node, &["bash", "-c", &script])
}

/// Nothing failed, writes went on, and none waited for longer than a writer is patient.
fn assert_wrote(said: &str) {
    let numbers: Vec<_> = said.split_whitespace().map(str::parse::<u32>).collect();
    let [Ok(count), Ok(longest_ms)] = numbers[..] else { panic!("{said}") };
    println!("{count} writes, the longest took {longest_ms} ms");
    assert!(count > 1 && longest_ms < 5_000, "{count} writes, the longest took {longest_ms} ms");
}

#[test]
fn one_manager_becomes_three_and_five_and_three_again_and_no_write_fails() {
    let mut lab = Lab::up("grow", "--managers 1 --agents 4 --clients 0");
    let load = writer(&lab, "m1");
    for (node, voters) in [("a1", 2), ("a2", 3), ("a3", 4), ("a4", 5)] {
        lab.ok("m1", &format!("manager promote {node}"));
        assert_eq!(self::voters(&lab, node).len(), voters);
    }
    assert_wrote(&load.close());
    // The leader is among those that go.
    assert_eq!(leader(&lab, "a1"), "m1");
    let load = writer(&lab, "a1");
    lab.ok("a2", "manager demote m1 a4");
    assert_eq!(voters(&lab, "a3"), ["a1", "a2", "a3"]);
    lab.ok("a3", "node rm --force m1");
    assert_wrote(&load.close());
    lab.down();
}
