//! What a daemon that starts again still knows, with no manager to ask, and one that stood still is not blamed for (C10).

use std::fs;
use std::time::{Duration, Instant};

use swarmnet_tests::{Lab, Session, eventually, stderr};

use crate::{addresses, web};

/// C10 promises 5 s; a test machine may be busy.
const EVICT_MAX: Duration = Duration::from_secs(10);
/// Longer than a node that was never heard has until it is judged (3 s and three echoes).
const WATCH: Duration = Duration::from_secs(8);

/// Asks for the addresses of `tasks.web`, a line for each question, from inside a sandbox and without the daemon's help.
fn asker(lab: &Lab, node: &str) -> Session {
    let all = lab.json(node, "ps");
    let pid = all[0]["PID"].as_str().expect("a process has a number");
    let script = "while read -r _; do dig +short +tries=1 +time=1 @127.0.0.11 tasks.web A | sort | tr '\\n' ' '; echo; done";
    lab.session(node, &["nsenter", "-t", pid, "-n", "bash", "-c", script])
}

fn ask(asker: &mut Session) -> String {
    asker.say("?");
    asker.line()
}

#[test]
fn a_dead_node_stays_dead_over_a_restart_of_the_daemon() {
    let mut lab = web("restart", "--managers 1 --agents 2", &["a1", "a2"]);
    let [alive, _] = addresses(&lab, "a1", "w1");
    let [dead, _] = addresses(&lab, "a2", "w2");
    let mut names = asker(&lab, "a1");
    let both = || {
        let answer = ask(&mut names);
        answer.contains(&alive) && answer.contains(&dead)
    };
    assert!(eventually(EVICT_MAX, both).is_some(), "both tasks have a name");
    lab.node("crash", "a2");
    assert!(eventually(EVICT_MAX, || ask(&mut names) == alive).is_some(), "the dead one goes");
    lab.node("stop", "m1");
    lab.node("kill", "a1");
    lab.node("start", "a1");

    // From the first answer on.
    let answers = || ask(&mut names).contains(&alive);
    assert!(eventually(EVICT_MAX, answers).is_some(), "names are answered without a manager");
    let begun = Instant::now();
    let mut count = 0;
    while begun.elapsed() < WATCH {
        assert_eq!(ask(&mut names), alive, "{count} answers after the restart");
        count += 1;
    }
    println!("{count} answers, none with the dead task");

    // It comes back: its new task is seen, and the death is forgotten.
    lab.node("start", "m1");
    lab.node("start", "a2");
    lab.ok("a2", "run -d --name w3 --network overnet --service web -- swarmnet whoami");
    let [back, _] = addresses(&lab, "a2", "w3");
    assert!(eventually(EVICT_MAX, || ask(&mut names).contains(&back)).is_some(), "it is back");
    drop(names);
    lab.down();
}

#[test]
fn a_damaged_memory_of_deaths_is_named_and_nothing_is_changed() {
    let lab = Lab::up("damaged", "--managers 1 --agents 1");
    lab.node("crash", "a1");
    let path = lab.folder().join("damaged/m1/state/verdicts.json");
    assert!(eventually(EVICT_MAX, || path.exists()).is_some(), "a death is kept");
    lab.node("kill", "m1");
    let half = fs::read(&path).expect("it is there").split_off(20);
    fs::write(&path, &half).expect("damaged");
    let out = lab.try_node("start", "m1");
    let said = stderr(&out);
    assert!(!out.status.success() && said.contains("verdicts.json"), "{said}");
    assert_eq!(fs::read(&path).expect("still there"), half);
}

#[test]
fn a_daemon_that_stands_still_for_3_s_is_not_taken_for_dead() {
    let lab = web("stall", "--managers 1 --agents 3", &["a1", "a2"]);
    let mut all =
        [("a1", "w1"), ("a2", "w2")].map(|(node, task)| addresses(&lab, node, task)[0].clone());
    all.sort();
    let both = all.join(" ");
    let [mut seen, mut own] = ["a1", "a2"].map(|node| asker(&lab, node));
    for names in [&mut seen, &mut own] {
        assert!(eventually(EVICT_MAX, || ask(names) == both).is_some(), "both have a name");
    }
    let pid = lab.folder().join("stall/a2/run/daemon.pid");
    let signal = |name: &str| {
        let script = format!("kill -{name} $(cat {})", pid.display());
        assert!(lab.exec("a2", &["sh", "-c", &script]).status.success(), "{script}");
    };
    signal("STOP");
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(3) {
        assert_eq!(
            ask(&mut seen),
            both,
            "its kernel answers: {:?} into the stall",
            begun.elapsed()
        );
    }
    signal("CONT");
    // Nor does it take the others for dead because it did not hear them.
    let begun = Instant::now();
    while begun.elapsed() < EVICT_MAX / 2 {
        assert_eq!(ask(&mut seen), both, "{:?} after the stall", begun.elapsed());
        assert_eq!(ask(&mut own), both, "by the stalled one, {:?} after it", begun.elapsed());
    }
    assert!(lab.ok("a1", "agent status").contains("alive"));
}
