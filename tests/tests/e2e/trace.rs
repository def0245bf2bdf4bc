//! What `trace` says of ways that are good, and of ways that are broken by hand, at the hop where it was done (O1).

use std::time::Duration;

use serde_json::Value;
use swarmnet_tests::{Lab, eventually, stderr};

use crate::{addresses, web};

/// C10 promises 5 s; a test machine may be busy.
const DEAD_MAX: Duration = Duration::from_secs(10);

/// Two tasks, on a1 and a2, and a sandbox on a3 that is none.
fn with_box(name: &str) -> Lab {
    let lab = web(name, "--managers 1 --agents 3", &["a1", "a2"]);
    lab.ok("m1", "service publish web published=5000,target=80");
    lab.ok("a3", "run -d --name box --network overnet -- swarmnet whoami");
    lab
}

/// A trace from `box`: its exit status, what it found, and the line it ended with.
fn trace(lab: &Lab, words: &str) -> (Option<i32>, Value, String) {
    let out = lab.swarmnet("a3", &format!("trace box {words} --timeout 1 --format json"));
    let mut all: Value = serde_json::from_slice(&out.stdout)
        .unwrap_or_else(|err| panic!("trace {words}: {err}: {}", stderr(&out)));
    (out.status.code(), all[0].take(), stderr(&out))
}

fn kinds(trace: &Value) -> Vec<&str> {
    let hops = trace["Hops"].as_array().expect("a list");
    hops.iter().map(|hop| hop["Kind"].as_str().expect("a word")).collect()
}

#[track_caller]
fn is_good(lab: &Lab, words: &str, hops: &[&str]) -> Value {
    let (status, found, line) = trace(lab, words);
    assert_eq!(status, Some(0), "trace {words}: {line}{found:#}");
    assert_eq!(found["Broken"], Value::Null);
    assert_eq!(kinds(&found), hops, "trace {words}");
    found
}

#[track_caller]
fn breaks(lab: &Lab, words: &str, hop: &str, why: &str) {
    let (status, found, line) = trace(lab, words);
    assert_eq!(status, Some(1), "trace {words}: {line}{found:#}");
    assert_eq!(found["Broken"]["Kind"], hop, "trace {words}: {line}{found:#}");
    assert!(line.starts_with(&format!("swarmnet: broken at {hop} ")), "{line}");
    assert!(line.contains(why), "trace {words}: {line}");
}

#[test]
fn a_way_is_followed_to_the_task_that_took_the_probe() {
    let lab = with_box("trgood");
    let entries = ["node", "neighbour", "fdb", "vtep", "probe"];
    let vip = [&["name", "address", "route", "links", "vip"][..], &entries].concat();
    for words in ["web:80", "-4 web:80", "-6 web:80", "web", "-6 web", "web:80 --protocol udp"] {
        let found = is_good(&lab, words, &vip);
        let chosen = found["Chosen"].as_str().expect("text");
        let known = chosen.contains("(w1 on a1)") || chosen.contains("(w2 on a2)");
        assert!(known, "trace {words} was taken by {chosen}");
    }
    let [v4, v6] = addresses(&lab, "a1", "w1");
    for words in [format!("{v4}:80"), format!("[{v6}]:80"), v6] {
        is_good(&lab, &words, &[&["address", "route", "links"][..], &entries].concat());
    }
    let port = [&["address", "route", "links", "port", "node", "route"][..], &entries[1..]];
    let found = is_good(&lab, "192.0.2.53:5000", &port.concat());
    assert!(found["Chosen"].as_str().is_some_and(|who| who.contains("(w")), "{found:#}");
    is_good(&lab, "192.0.2.51:5000", &["address", "route", "links", "node", "probe"]);
    is_good(&lab, "box:80", &["name", "address", "probe"]);
    // The table shows the same.
    let table = lab.ok("a3", "trace box web:80");
    assert!(table.starts_with("HOP ") && table.contains("taken by 10."), "{table}");
}

#[test]
fn what_is_broken_inside_sandboxes_is_told_at_its_hop() {
    let lab = with_box("trbox");
    breaks(&lab, "web:81", "probe", "refuses 81/tcp: nothing listens there: on a");
    breaks(&lab, "nowhere", "name", "nothing on overnet is called `nowhere`");
    let [v4, _] = addresses(&lab, "a1", "w1");
    let unused = format!("{}.200", v4.rsplit_once('.').expect("an address").0);
    breaks(&lab, &unused, "address", "nobody on overnet has this address");
    // A filter of the workload's own: the packets arrive, and are lost there.
    let drop = "nft 'add table inet t; add chain inet t i { type filter hook input priority 0 ; }; add rule inet t i tcp dport 80 drop'";
    assert!(lab.exec("a1", &["swarmnet", "exec", "w1", "sh", "-ec", drop]).status.success());
    breaks(&lab, "w1:80", "probe", "w1 on a1 answers an echo but not 80/tcp");
    // A route that somebody took away: the reconciler has no say in what the kernel makes of addresses.
    let subnet = format!("{}.0/24", v4.rsplit_once('.').expect("an address").0);
    lab.ok("a3", &format!("exec box ip route del {subnet}"));
    breaks(&lab, "w2:80", "route", "it leaves box by swarmnet-node, wanted is eth0");
}

#[test]
fn a_cut_and_a_death_are_told_from_each_other_without_any_manager() {
    let lab = with_box("trcut");
    let [dead, _] = addresses(&lab, "a2", "w2");
    lab.node("stop", "m1");
    // The others still hear a1, so that it is alive: only a3 cannot reach it.
    lab.link("cut", "a3", Some("a1"));
    breaks(&lab, "w1:80", "vtep", "the underlay between a3 and a1 does not pass packets");
    lab.link("heal", "a3", Some("a1"));
    let way = ["name", "address", "route", "links", "node", "neighbour", "fdb", "vtep", "probe"];
    is_good(&lab, "w1:80", &way);
    lab.node("crash", "a2");
    let told = || trace(&lab, "w2:80").2.contains("w2 is hidden: its node a2 is dead");
    assert!(eventually(DEAD_MAX, told).is_some(), "{:#}", trace(&lab, "w2:80").1);
    breaks(&lab, "w2:80", "name", "its node a2 is dead");
    breaks(&lab, &format!("{dead}:80"), "node", "a2 is dead: nothing leads to its tasks");
    let (_, found, _) = trace(&lab, "web:80");
    assert!(found.to_string().contains("left out: w2 (a2 is dead)"), "{found:#}");
}

#[test]
fn what_cannot_be_traced_here_says_where_or_why() {
    let lab = with_box("trbad");
    for (node, words, status, line) in [
        ("a3", "trace w2 web", 1, "sandbox w2 is on node a2: run the command there"),
        // Of a sandbox without a published service only a manager knows.
        ("a1", "trace box web", 1, "sandbox box is on node a3: run the command there"),
        ("a3", "trace nobody web", 1, "No such sandbox: nobody"),
        ("a3", "trace box web:0", 2, "invalid port `0` in `web:0`: want 1 to 65535"),
        ("a3", "trace box web:80 --protocol sctp", 2, "invalid protocol `sctp`"),
        ("a3", "trace box web --protocol udp", 2, "--protocol needs a port"),
        ("a3", "trace box -6 10.0.0.2", 2, "`10.0.0.2` is no address of IPv6"),
        ("a3", "trace box web --timeout 0", 2, "invalid timeout `0`"),
        ("a3", "trace box web -f {{.Nope", 2, "template"),
    ] {
        let out = lab.swarmnet(node, words);
        assert_eq!(out.status.code(), Some(status), "{words}: {}", stderr(&out));
        assert!(stderr(&out).contains(line), "{words}: {}", stderr(&out));
        assert_eq!(stderr(&out).lines().count(), 1, "{words}: {}", stderr(&out));
    }
}
