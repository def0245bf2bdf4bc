//! Names as the resolver library and as a DNS client see them, from a sandbox on a node without a task (D1, D2, D3).

use swarmnet_tests::{Lab, stdout};

use crate::{addresses, web};

/// `dig` in a sandbox on `overnet`.
fn dig(lab: &Lab, words: &str) -> String {
    lab.ok("a2", &format!("run --network overnet -- dig +tries=1 +time=3 {words}"))
}

#[test]
fn names_of_tasks_and_services_resolve() {
    let lab = web("names", "--managers 1 --agents 2", &["a1", "m1"]);
    let [v4, v6] = addresses(&lab, "a1", "w1");
    let [other_v4, other_v6] = addresses(&lab, "m1", "w2");

    let found = lab.ok("a2", "run --network overnet -- getent hosts web tasks.web w1");
    for name in ["web", "tasks.web", "w1"] {
        assert!(found.lines().any(|line| line.ends_with(name)), "{name} resolves: {found}");
    }
    let sorted = |text: String| {
        let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    assert_eq!(dig(&lab, "+short w1 A"), v4);
    assert_eq!(dig(&lab, "+short w1 AAAA"), v6);
    assert_eq!(dig(&lab, "+short w1.overnet A"), v4);
    let mut both = [v4.clone(), other_v4];
    both.sort();
    assert_eq!(sorted(dig(&lab, "+short tasks.web A")), both);
    let mut both = [v6.clone(), other_v6];
    both.sort();
    assert_eq!(sorted(dig(&lab, "+short tasks.web AAAA")), both);
    // One address stands for the service, and it is no task's.
    let vip = dig(&lab, "+short web A");
    assert_eq!(vip.lines().count(), 1, "{vip}");
    assert!(!both.contains(&vip) && vip != v4, "{vip}");
    assert_eq!(dig(&lab, "+tcp +short web A"), vip, "the same by TCP");
    for from in ["0.0.0.0#53", "127.0.0.1#53"] {
        for by in ["+notcp", "+tcp"] {
            let asked = dig(&lab, &format!("-b {from} {by} +short web A"));
            assert_eq!(asked, vip, "{by} from {from}");
        }
    }
    lab.ok("a2", &format!("run --network overnet -- ping -c 1 -W 2 {vip}"));

    assert_eq!(dig(&lab, &format!("+short -x {v4}")), "w1.overnet.");
    assert_eq!(dig(&lab, &format!("+short -x {v6}")), "w1.overnet.");
}

#[test]
fn a_known_name_without_that_family_is_an_empty_answer() {
    let lab = Lab::up("nodata", "--managers 1 --agents 1");
    lab.ok("m1", "network create -d overlay --attachable overnet");
    lab.ok("a1", "run -d --name w1 --network overnet --service web -- swarmnet whoami");
    for name in ["w1", "web", "tasks.web"] {
        let answer =
            lab.ok("m1", &format!("run --network overnet -- dig +tries=1 +time=3 {name} AAAA"));
        assert!(answer.contains("status: NOERROR"), "{answer}");
        assert!(answer.contains("ANSWER: 0"), "{answer}");
    }
    // Names of another network are not seen.
    lab.ok("m1", "network create -d overlay --attachable other");
    let out = lab.swarmnet("a1", "run --network other -- getent hosts w1");
    assert!(!out.status.success(), "{}", stdout(&out));
}
