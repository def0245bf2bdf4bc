//! A node is drained (C6): its tasks are let go of everywhere before they are told to stop, so that no client notices.

use std::time::Duration;

use swarmnet_tests::{Session, eventually, stderr};

use crate::web;

/// Every agent has acknowledged, what was open had its time, and the programs have ended.
const DRAINED: Duration = Duration::from_secs(30);

#[test]
fn a_drained_node_lets_go_of_its_tasks_and_no_request_fails() {
    let mut lab = web("drain", "--managers 1 --agents 2", &["a1", "a2"]);
    lab.ok("m1", "service publish web published=5000,target=80");
    // By a manager, by the node that is drained, by the one that stays; over both families' own ways in.
    let script = "n=0; while true; do read -r -t 0.01 word; [ $? -gt 128 ] || break; for at in 192.0.2.11 192.0.2.51 192.0.2.52; do n=$((n+1)); curl -sS -m 5 -o /dev/null http://$at:5000/ 2>&1 || echo \"request $n to $at failed\"; done; done; echo $n requests";
    let load: Session = lab.session("c1", &["bash", "-c", script]);
    let names = || lab.ok("a2", "exec w2 -- getent ahostsv4 tasks.web");
    let tasks = |text: &str| text.lines().filter(|line| line.contains("STREAM")).count();
    assert_eq!(tasks(&names()), 2);

    lab.ok("m1", "node update --availability drain a1");
    assert_eq!(tasks(&names()), 1, "the command returns when every agent has let go");
    let ended = || lab.ok("a1", "ps -a").contains("Exited");
    assert!(eventually(DRAINED, ended).is_some(), "{}", lab.ok("a1", "ps -a"));
    let said = load.close();
    let count = said.trim().strip_suffix(" requests").and_then(|n| n.parse::<u32>().ok());
    assert!(count.is_some_and(|n| n > 50), "{said}");

    let out = lab.swarmnet("a1", "run -d --network overnet --service web -- swarmnet whoami");
    assert!(!out.status.success() && stderr(&out).contains("is drained"), "{}", stderr(&out));
    lab.ok("m1", "node update --availability active a1");
    lab.ok("a1", "run -d --name w3 --network overnet --service web -- swarmnet whoami");
    assert!(eventually(DRAINED, || tasks(&names()) == 2).is_some(), "{}", names());
    lab.down();
}
