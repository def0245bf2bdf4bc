//! Certificates, the CA and join tokens (C3, C7): what is replaced while everything runs, and what is told to who is too late.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use swarmnet_pki::{Ca, Fingerprint, Issue, NodeIdentity};
use swarmnet_tests::{Lab, Session, eventually, stderr, stdout};
use swarmnet_types::ClusterId;

use crate::web;

/// Idle: 1.5 s; workers spread their renewals over a second.
const ROTATION_MAX: Duration = Duration::from_secs(20);
/// 10 s as the token says, the verdict on a crashed node, and the leader's next look.
const GONE_MAX: Duration = Duration::from_secs(40);
const DAY: Duration = Duration::from_hours(24);
const MANAGERS: [&str; 3] = ["m1", "m2", "m3"];
const TARGET: &str = "manager ca -f {{.Rotation.To.Fingerprint}}";

fn rotates(lab: &Lab, node: &str) -> bool {
    lab.ok(node, "manager ca -f {{.RootRotationInProgress}}") == "true"
}

fn fingerprint(lab: &Lab, node: &str) -> String {
    lab.ok(node, "manager ca -f {{.Fingerprint}}")
}

/// How often the daemon of a node has opened a session with a manager.
fn sessions(lab: &Lab, node: &str) -> usize {
    let log = daemon_log(lab, node);
    log.lines().filter(|line| line.contains("the session is open")).count()
}

fn daemon_log(lab: &Lab, node: &str) -> String {
    let folder = lab.folder().read_dir().expect("the lab's folder").flatten();
    let found = folder.map(|lab| lab.path().join(node).join("state/daemon.log"));
    let path = found.into_iter().find(|path| path.exists()).expect("a daemon writes a log");
    fs::read_to_string(path).expect("text")
}

fn certs(lab: &Lab, name: &str, node: &str) -> PathBuf {
    lab.folder().join(name).join(node).join("state/certs")
}

/// CAs that a node trusts, on its disk.
fn trusted(lab: &Lab, name: &str, node: &str) -> Vec<String> {
    let identity =
        NodeIdentity::load(&certs(lab, name, node), None).expect("sound").expect("joined");
    identity.root_fingerprints().map(|ca| ca.to_string()).collect()
}

/// A connection from outside to a task, that speaks line by line.
fn talk(lab: &Lab, target: &str) -> Session {
    let script = format!(
        "exec 3<>/dev/tcp/{target}; while read -r word; do echo \"$word\" >&3; read -r -t 5 answer <&3; echo \"$answer\"; done"
    );
    lab.session("c1", &["bash", "-c", &script])
}

fn exchange(session: &mut Session) -> String {
    session.say("who");
    session.line()
}

#[test]
fn a_rotation_of_the_ca_ends_by_itself_and_nothing_notices() {
    let lab = web("rotate", "--managers 3 --agents 2", &["a1"]);
    lab.ok("m1", "service publish web published=5000,target=80");
    let mut client = talk(&lab, "192.0.2.52/5000");
    let first = exchange(&mut client);
    assert!(first.contains("peer=192.0.2.101:"), "the connection stands: {first}");
    let nodes = ["m1", "m2", "m3", "a1", "a2"];
    let opened = nodes.map(|node| sessions(&lab, node));
    let (old, old_token) = (fingerprint(&lab, "m1"), lab.ok("m1", "manager token worker -q"));
    let serial = |node: &str| lab.ok(node, "agent status -f {{.Certificate.Serial}}");
    let before = nodes.map(serial);

    let said = lab.swarmnet("m2", "manager ca --rotate");
    assert!(said.status.success(), "{}", stderr(&said));
    assert!(stdout(&said).contains("BEGIN CERTIFICATE"));
    let new = fingerprint(&lab, "m1");
    assert_ne!(new, old);
    for (node, before) in nodes.iter().zip(&before) {
        assert_eq!(lab.ok(node, "agent status -f {{.Certificate.Issuer}}"), new, "{node}");
        assert_ne!(serial(node), *before, "{node}");
    }
    // The last node's report ends the rotation; that the old CA is dropped, nodes hear a moment later.
    let dropped = || nodes.iter().all(|node| trusted(&lab, "rotate", node) == [new.clone()]);
    assert!(eventually(ROTATION_MAX, dropped).is_some(), "the old CA is dropped everywhere");
    assert_eq!(exchange(&mut client), first, "the connection goes on");
    assert_eq!(nodes.map(|node| sessions(&lab, node)), opened, "so do the sessions");

    // New connections use what is new: a change reaches everyone, from each manager.
    for manager in ["m1", "m2", "m3"] {
        lab.ok(manager, &format!("network create -d overlay by-{manager}"));
    }
    // An earlier token names a CA that is no more; the present one lets a node join.
    lab.ok("a2", "agent leave");
    let out = lab.swarmnet("a2", &format!("agent join {old_token}"));
    assert!(stderr(&out).contains("remote CA does not match fingerprint"), "{}", stderr(&out));
    lab.ok("a2", &format!("agent join {}", lab.ok("m3", "manager token worker -q")));
}

#[test]
fn a_node_that_is_away_holds_a_rotation_open_over_the_leaders_death() {
    let lab = Lab::up("away", "--managers 3 --agents 2");
    lab.node("stop", "a2");
    lab.ok("m1", "manager ca --rotate --detach");
    let missing = |node: &str| lab.ok(node, "manager ca -f {{.Rotation.Missing}}");
    let only_a2 = || missing("m2").contains("a2") && !missing("m2").contains("a1");
    assert!(eventually(ROTATION_MAX, only_a2).is_some(), "{}", missing("m2"));
    let leader = lab.json("m2", "node ls").into_iter().find(|n| n["ManagerStatus"] == "Leader");
    let leader = leader.expect("one leads")["Hostname"].as_str().expect("a name").to_owned();
    let other = MANAGERS.into_iter().find(|m| *m != leader).expect("there are three");
    lab.node("kill", &leader);
    // It goes on where it was, and a second rotation takes its place.
    assert!(eventually(ROTATION_MAX, || rotates(&lab, other)).is_some());
    let target = |node: &str| lab.ok(node, TARGET);
    let first = target(other);
    lab.ok(other, "manager ca --rotate --detach");
    let second = target(other);
    assert_ne!(first, second);
    let text = lab.ok(other, "manager ca");
    assert!(text.contains("waiting for") && text.contains("a2"), "{text}");

    // All managers at once: where the rotation is, their logs know.
    for manager in MANAGERS.iter().filter(|m| **m != leader) {
        lab.node("kill", manager);
    }
    for manager in MANAGERS {
        lab.node("start", manager);
    }
    let kept = || stdout(&lab.swarmnet(other, TARGET)).trim() == second;
    assert!(eventually(ROTATION_MAX, kept).is_some(), "the rotation goes on");
    lab.node("start", "a2");
    let done = || !rotates(&lab, other);
    assert!(eventually(ROTATION_MAX, done).is_some(), "{}", lab.ok(other, "manager ca"));
    assert_eq!(fingerprint(&lab, &leader), second);
}

#[test]
fn tokens_end_by_time_use_or_word_and_ephemeral_nodes_go() {
    let lab = Lab::up("tokens", "--managers 1 --agents 1");
    lab.ok("a1", "agent leave");
    let join = |token: &str| lab.swarmnet("a1", &format!("agent join {token}"));
    let refused = |token: &str, words: &str| {
        let out = join(token);
        assert!(!out.status.success() && stderr(&out).contains(words), "{}", stderr(&out));
    };
    let once = lab.ok("m1", "manager token worker --uses 1 -q");
    assert!(join(&once).status.success(), "it is good for one node");
    lab.ok("a1", "agent leave");
    refused(&once, "this join token is used up");
    let brief = lab.ok("m1", "manager token worker --ttl 1s -q");
    let expired = || lab.ok("m1", "manager token ls").contains("expired");
    assert!(eventually(ROTATION_MAX, expired).is_some());
    refused(&brief, "this join token has expired");
    let withdrawn = lab.ok("m1", "manager token worker --ttl 1h -q");
    let valid = lab.json("m1", "manager token ls").into_iter().find(|t| t["Status"] == "valid");
    let id = valid.expect("one is")["ID"].as_str().expect("an id").to_owned();
    lab.ok("m1", &format!("manager token rm {id}"));
    refused(&withdrawn, "this join token was revoked");
    assert!(!lab.ok("m1", "manager token ls").contains(&withdrawn), "no secret in a list");

    let ephemeral = lab.ok("m1", "manager token worker --ephemeral=10s -q");
    assert!(join(&ephemeral).status.success());
    let id = lab.ok("a1", "agent status -f {{.Node}}");
    let known = || lab.ok("m1", "node ls -q").contains(&id);
    assert!(known());
    lab.node("crash", "a1");
    assert!(eventually(GONE_MAX, || !known()).is_some(), "{}", lab.ok("m1", "node ls"));
}

/// Nodes that took part in a rotation do not trust the CA of an earlier backup any more.
#[test]
fn after_the_restore_of_a_backup_from_before_a_rotation_nodes_say_what_to_do() {
    let lab = Lab::up("before", "--managers 1 --agents 1");
    let file = lab.folder().join("cluster.backup");
    let file = file.to_str().expect("UTF-8");
    lab.ok("m1", &format!("manager backup {file}"));
    let (old, old_token) = (fingerprint(&lab, "m1"), lab.ok("m1", "manager token worker -q"));
    lab.ok("m1", "manager ca --rotate");
    assert_ne!(fingerprint(&lab, "m1"), old);
    lab.ok("m1", "manager leave --force");
    lab.ok("m1", &format!("manager restore {file}"));
    assert_eq!(fingerprint(&lab, "m1"), old);
    let words = "was restored from a backup of before a rotation of the CA";
    let told = || lab.ok("a1", "agent status").contains(words);
    assert!(eventually(ROTATION_MAX, told).is_some(), "{}", lab.ok("a1", "agent status"));
    lab.ok("a1", "agent leave");
    lab.ok("a1", &format!("agent join {old_token}"));
    assert!(!lab.ok("a1", "agent status").contains("no manager serves this node"));
}

/// A rotation to a CA of which the test has the key, so that it can make the certificate that a node would have after a long sleep.
#[test]
fn a_node_whose_certificate_expired_while_it_was_off_says_so_and_how_to_rejoin() {
    let lab = Lab::up("asleep", "--managers 1 --agents 1");
    let cluster = lab.ok("m1", "info -f {{.Swarm.Cluster.ID}}");
    let cluster: ClusterId = cluster.parse().expect("an id");
    let own = Ca::create(cluster, SystemTime::now() - DAY * 30).expect("a CA");
    let (cert, key) = (lab.folder().join("own.crt"), lab.folder().join("own.key"));
    fs::write(&cert, own.cert_pem()).expect("written");
    fs::write(&key, own.key_pem()).expect("written");
    let files = format!("--ca-cert {} --ca-key {}", cert.display(), key.display());
    lab.ok("m1", &format!("manager ca --rotate {files}"));
    assert_eq!(fingerprint(&lab, "m1"), own.fingerprint().to_string());
    let again = lab.swarmnet("m1", &format!("manager ca --rotate {files}"));
    assert!(stderr(&again).contains("Cannot update to a cert with an identical key"));

    lab.node("stop", "a1");
    let dir = certs(&lab, "asleep", "a1");
    let present = NodeIdentity::load(&dir, None).expect("sound").expect("joined");
    assert!(present.trusts(Fingerprint(own.fingerprint().0)));
    let issue = Issue { node_id: present.node_id(), role: present.role(), lifetime: DAY };
    let csr = present.key().csr().expect("a request");
    let chain = own.sign_csr(&csr, &issue, SystemTime::now() - DAY * 20).expect("signed");
    let late = NodeIdentity::new(present.key().clone(), &chain, own.cert_pem()).expect("sound");
    late.store(&dir).expect("stored");
    lab.node("start", "a1");

    let words = "Swarm certificates have expired. To replace them, leave the swarm and join again";
    assert!(lab.ok("a1", "agent status").contains(words));
    assert!(daemon_log(&lab, "a1").contains(words));
    let out = lab.swarmnet("a1", "info");
    assert!(stdout(&out).contains("error") && stdout(&out).contains(words), "{}", stdout(&out));
    lab.ok("a1", "agent leave");
    lab.ok("a1", &format!("agent join {}", lab.ok("m1", "manager token worker -q")));
    assert!(!lab.ok("a1", "agent status").contains("expired"));
}
