//! What brings a cluster back: managers that start locked (C8), a lost quorum, and a backup on a machine that was never in it (C9).
//! Meanwhile the data plane goes on, and agents come back without a flap.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::Duration;

use swarmnet_tests::{Lab, eventually, stderr, stdout};

use crate::{addresses, web};

/// An election, a connection, a view; a test machine may be busy.
const BACK_MAX: Duration = Duration::from_secs(20);
const LOCKED: &str = "Swarm is encrypted and needs to be unlocked before it can be used. Please use \"swarmnet manager unlock\" to unlock it.";

fn state(lab: &Lab, name: &str, node: &str) -> PathBuf {
    lab.folder().join(name).join(node).join("state")
}

/// `swarmnet WORDS` on a node, with `input`.
fn with_input(lab: &Lab, node: &str, words: &str, input: &str) -> Output {
    let script = format!("printf '%s\\n' '{input}' | swarmnet {words}");
    lab.exec(node, &["sh", "-c", &script])
}

fn refused(out: &Output, text: &str) {
    assert_eq!(out.status.code(), Some(1), "{}", stdout(out));
    assert_eq!(stderr(out).trim(), format!("swarmnet: {text}"));
}

/// Does any file below show one of these texts?
fn shows(dir: &Path, secrets: &[&str]) -> Option<PathBuf> {
    fs::read_dir(dir).expect("a folder").find_map(|entry| {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            return shows(&path, secrets);
        }
        let bytes = fs::read(&path).expect("a file");
        let shown = secrets.iter().any(|s| bytes.windows(s.len()).any(|w| w == s.as_bytes()));
        shown.then_some(path)
    })
}

/// Asks a task again and again from inside a sandbox; a line for each question.
struct Traffic(swarmnet_tests::Session);

impl Traffic {
    fn start(lab: &Lab, node: &str, to: &str) -> Self {
        let all = lab.json(node, "ps");
        let pid = all[0]["PID"].as_str().expect("a process has a number").to_owned();
        let script = format!(
            "while read -r _; do curl -s -o /dev/null -m 2 -w '%{{http_code}}\\n' http://{to}/; done"
        );
        Self(lab.session(node, &["nsenter", "-t", &pid, "-n", "bash", "-c", &script]))
    }

    fn answers(&mut self) -> bool {
        self.0.say("?");
        self.0.line() == "200"
    }
}

#[test]
fn a_locked_manager_waits_for_its_key_and_its_sandboxes_do_not() {
    let mut lab = web("locked", "--managers 3 --agents 1", &["a1", "m2"]);
    let [task, _] = addresses(&lab, "a1", "w1");
    let mut traffic = Traffic::start(&lab, "m2", &task);
    assert!(traffic.answers());
    refused(&lab.swarmnet("m1", "manager unlock-key"), "no unlock key is set");
    refused(
        &lab.swarmnet("m1", "manager unlock-key --rotate"),
        "cannot rotate because autolock is not turned on",
    );
    refused(&lab.swarmnet("m1", "manager unlock"), "swarm is not locked");
    let said = lab.ok("m1", "manager update --autolock=true");
    let key = lab.ok("m3", "manager unlock-key -q").trim().to_owned();
    assert!(said.starts_with("Swarm updated.") && said.contains(&key), "{said}");
    let keys_are_locked = |node: &str| {
        let ring = fs::read(state(&lab, "locked", node).join("raft/keys")).expect("keys");
        let own = fs::read(state(&lab, "locked", node).join("certs/node.key")).expect("a key");
        ring[10] == 1 && !String::from_utf8_lossy(&own).contains("BEGIN PRIVATE KEY")
    };
    for node in ["m1", "m2", "m3"] {
        assert!(eventually(BACK_MAX, || keys_are_locked(node)).is_some(), "{node}");
    }
    let secrets = [key.as_str(), "BEGIN PRIVATE KEY", "overnet"];
    for part in ["raft", "certs"] {
        assert_eq!(shows(&state(&lab, "locked", "m2").join(part), &secrets), None);
    }

    lab.node("kill", "m2");
    lab.node("start", "m2");
    refused(&lab.swarmnet("m2", "node ls"), LOCKED);
    refused(&lab.swarmnet("m2", "service ls"), LOCKED);
    assert!(lab.ok("m2", "network ls").contains("overnet"), "by the last view");
    assert!(traffic.answers(), "forwarding goes on");
    let seen = || lab.ok("m1", "node ls --filter name=m2").contains("Ready");
    assert!(eventually(BACK_MAX, seen).is_some(), "it takes part in the gossip");
    let wrong = "SWMKEY-1-AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    for typed in [wrong, "SWMKEY-1-short", "", wrong, wrong] {
        let out = with_input(&lab, "m2", "manager unlock", typed);
        refused(&out, "swarm could not be unlocked: invalid key provided");
    }
    refused(
        &lab.swarmnet("m2", "manager leave"),
        "Swarm is encrypted and locked. Please unlock it first or use `--force` to ignore this message.",
    );

    // A rotation that this manager does not hear of: it needs the old key once, and the new one from then on.
    lab.ok("m1", "manager unlock-key --rotate");
    let new = lab.ok("m1", "manager unlock-key -q").trim().to_owned();
    assert_ne!(new, key);
    assert!(!with_input(&lab, "m2", "manager unlock", &new).status.success());
    assert!(with_input(&lab, "m2", "manager unlock", &key).status.success());
    let listed = || lab.swarmnet("m2", "node ls").status.success();
    assert!(eventually(BACK_MAX, listed).is_some(), "it is a manager again");
    let followed = || {
        lab.node("kill", "m2");
        lab.node("start", "m2");
        with_input(&lab, "m2", "manager unlock", &new).status.success() || {
            with_input(&lab, "m2", "manager unlock", &key);
            false
        }
    };
    assert!(eventually(BACK_MAX, followed).is_some(), "the new key opens it");
    lab.ok("m2", "manager update --autolock=false");
    let opened = || !keys_are_locked("m2");
    assert!(eventually(BACK_MAX, opened).is_some());
    lab.node("kill", "m2");
    lab.node("start", "m2");
    assert!(eventually(BACK_MAX, listed).is_some(), "no key is needed any more");
    assert!(traffic.answers());
    drop(traffic);
    lab.down();
}

#[test]
fn after_a_lost_quorum_one_manager_goes_on_and_nothing_flaps() {
    let mut lab = web("forced", "--managers 3 --agents 2", &["a1", "a2"]);
    lab.ok("m1", "service publish web 5000:80");
    let [task, _] = addresses(&lab, "a2", "w2");
    let mut traffic = Traffic::start(&lab, "a1", &task);
    let repaired = |lab: &Lab| lab.ok("a1", "agent status --format {{.Repaired}}");
    let (before, networks) = (repaired(&lab), lab.ok("m3", "network ls -q"));
    let services = lab.ok("m3", "service ls -q");
    lab.node("kill", "m1");
    lab.node("kill", "m2");
    let out = lab.swarmnet("m3", "network create -d overlay --attachable lost");
    assert!(!out.status.success(), "there is no quorum");
    let said = lab.ok("m3", "manager init --force-new-cluster");
    assert!(said.contains("is now its only manager") && said.contains("m1, m2"), "{said}");
    assert_eq!(lab.ok("m3", "network ls -q"), networks);
    assert_eq!(lab.ok("m3", "service ls -q"), services);
    let back = || lab.ok("a1", "agent status --format {{.Manager}}").contains("192.0.2.13");
    assert!(eventually(BACK_MAX, back).is_some(), "agents come back by themselves");
    lab.ok("m3", "network create --detach -d overlay --attachable after");
    let seen = || lab.ok("a1", "network ls").contains("after");
    assert!(eventually(BACK_MAX, seen).is_some());

    // The old managers return, a majority of a group that is no more.
    lab.node("start", "m1");
    lab.node("start", "m2");
    for _ in 0..20 {
        assert!(traffic.answers(), "the data plane goes on");
        lab.ok("m3", "network ls -q");
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(repaired(&lab), before, "nothing was taken down and put up again");
    drop(traffic);
    lab.down();
}

#[test]
fn a_cluster_made_anew_at_a_new_address_is_found_by_its_agents() {
    let mut lab = web("moved", "--managers 3 --agents 2", &["a1", "a2"]);
    let [task, _] = addresses(&lab, "a2", "w2");
    let mut traffic = Traffic::start(&lab, "a1", &task);
    lab.node("kill", "m1");
    lab.node("kill", "m2");
    let moved = "ip -4 addr flush dev eth0 && ip addr add 192.0.2.33/24 dev eth0";
    assert!(lab.exec("m3", &["sh", "-c", moved]).status.success());
    let force = "manager init --force-new-cluster --advertise-addr 192.0.2.33";
    // The daemon sees its new address in a moment.
    let forced = || lab.swarmnet("m3", force).status.success();
    assert!(eventually(BACK_MAX, forced).is_some());
    lab.ok("m3", "network create --detach -d overlay --attachable after");
    for node in ["a1", "a2"] {
        let seen = || lab.ok(node, "network ls").contains("after");
        assert!(eventually(BACK_MAX, seen).is_some(), "{node} finds the manager");
    }
    let listed = lab.ok("m3", "node ls --filter name=m3");
    assert!(listed.contains("192.0.2.33") && listed.contains("Leader"), "{listed}");
    assert!(traffic.answers(), "the data plane goes on");
    drop(traffic);
    lab.down();
}

#[test]
fn a_backup_is_restored_on_a_machine_that_was_never_in_the_cluster() {
    let mut lab = web("restored", "--managers 1 --agents 2 --clients 1", &["a1", "a2"]);
    let [task, _] = addresses(&lab, "a2", "w2");
    let mut traffic = Traffic::start(&lab, "a1", &task);
    let file = lab.folder().join("cluster.backup");
    let file = file.to_str().expect("UTF-8");
    lab.ok("m1", &format!("manager backup {file}"));
    let mode = fs::metadata(file).expect("a file");
    assert_eq!(std::os::unix::fs::PermissionsExt::mode(&mode.permissions()) & 0o777, 0o600);
    let networks = lab.ok("m1", "network ls --filter scope=cluster -q");
    refused(
        &lab.swarmnet("m1", &format!("manager restore {file}")),
        "This node is already part of a swarm. Use \"swarmnet agent leave\" to leave this swarm and join another one.",
    );
    lab.node("crash", "m1");

    // A client of the lab has a network and no daemon yet: a fresh machine, with an address that nobody knows.
    let folders = lab.folder().join("fresh");
    let folders = folders.to_str().expect("UTF-8");
    let socket = format!("{folders}/run/swarmnet.sock");
    let place = format!("--state-dir {folders}/state --run-dir {folders}/run");
    let fresh = |words: &str| {
        let out = lab.swarmnet("c1", &format!("--socket {socket} {words}"));
        assert!(out.status.success(), "{words}: {}", stderr(&out));
        stdout(&out)
    };
    let mut damaged = fs::read(file).expect("a file");
    damaged[100] ^= 1;
    let bad = format!("{file}.bad");
    fs::write(&bad, damaged).expect("written");
    refused(
        &lab.swarmnet("c1", &format!("--socket {socket} manager restore {bad} {place}")),
        &format!("{bad}: the backup does not match its checksum"),
    );
    let said = fresh(&format!("manager restore {file} {place} --name new"));
    assert!(said.contains("is now its only manager") && said.contains("m1"), "{said}");
    assert_eq!(fresh("network ls --filter scope=cluster -q"), networks);
    let back =
        |node: &str| lab.ok(node, "agent status --format {{.Manager}}").contains("192.0.2.101");
    for node in ["a1", "a2"] {
        assert!(eventually(BACK_MAX, || back(node)).is_some(), "{node} finds the new manager");
    }
    assert!(traffic.answers(), "the data plane goes on");
    fresh("network create --detach -d overlay --attachable after");
    let seen = || lab.ok("a1", "network ls").contains("after");
    assert!(eventually(BACK_MAX, seen).is_some());
    let pid = fs::read_to_string(format!("{folders}/run/daemon.pid")).expect("a pid");
    lab.exec("c1", &["kill", pid.trim()]);
    drop(traffic);
    lab.down();
}
