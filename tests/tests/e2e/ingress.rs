//! Published ports: every node answers, by TCP and UDP, IPv4 and IPv6, and the task sees the client's own address (S2 to S6).

use std::collections::BTreeSet;

use swarmnet_tests::{Lab, stdout};

use crate::{UNDERLAY_V6, addresses, field, host, web};

/// Last part of the nodes' addresses.
const NODES: [(&str, &str); 4] = [("m1", "11"), ("a1", "51"), ("a2", "52"), ("a3", "53")];
/// Requests that reach each of two tasks but once in 2^23.
const MANY: usize = 24;

fn publish(lab: &Lab) {
    lab.ok("m1", "service publish web published=5000,target=80");
    lab.ok("m1", "service publish web published=5000,target=80,protocol=udp");
}

fn curl(lab: &Lab, node: &str, target: &str) -> Option<String> {
    let out = lab.exec(node, &["curl", "-sS", "--max-time", "3", &format!("http://{target}/")]);
    out.status.success().then(|| stdout(&out))
}

fn ask_udp(lab: &Lab, node: &str, target: &str) -> Option<String> {
    let out = lab.swarmnet(node, &format!("whoami --udp --ask {target}"));
    out.status.success().then(|| stdout(&out))
}

#[test]
fn every_node_answers_and_the_task_sees_the_client() {
    let lab = web("ingress", "--managers 1 --agents 3", &["a1", "a2"]);
    publish(&lab);
    let mut tasks = BTreeSet::new();
    for (node, last) in NODES {
        for (prefix, target) in [
            ("192.0.2.", format!("192.0.2.{last}:5000")),
            (UNDERLAY_V6, format!("[{UNDERLAY_V6}{last}]:5000")),
        ] {
            for (protocol, ask) in [
                ("tcp", curl as fn(&Lab, &str, &str) -> _),
                ("udp", ask_udp as fn(&Lab, &str, &str) -> _),
            ] {
                let answer: Option<String> = ask(&lab, "c1", &target);
                let answer = answer.unwrap_or_else(|| panic!("{node} answers {protocol} {target}"));
                let peer = field(&answer, "peer");
                assert_eq!(host(&peer), format!("{prefix}101"), "{protocol} {target}: {answer}");
                tasks.insert(field(&answer, "sandbox"));
            }
        }
    }
    for _ in 0..MANY {
        tasks.extend(curl(&lab, "c1", "192.0.2.53:5000").map(|answer| field(&answer, "sandbox")));
    }
    assert_eq!(tasks, ["w1", "w2"].map(str::to_owned).into(), "both tasks answer");
}

#[test]
fn a_node_reaches_the_port_by_its_own_addresses() {
    let lab = web("self", "--managers 1 --agents 3", &["a1", "a2"]);
    publish(&lab);
    // With and without a task of its own.
    for (node, last) in [("a1", "51"), ("a3", "53")] {
        for own in [
            "127.0.0.1".into(),
            "[::1]".into(),
            format!("192.0.2.{last}"),
            format!("[{UNDERLAY_V6}{last}]"),
        ] {
            // Often enough to meet the local and the remote task.
            for _ in 0..4 {
                let target = format!("{own}:5000");
                assert!(curl(&lab, node, &target).is_some(), "{node} reaches tcp {target}");
                assert!(ask_udp(&lab, node, &target).is_some(), "{node} reaches udp {target}");
            }
        }
    }
}

#[test]
fn a_port_in_host_mode_answers_where_a_task_is() {
    let lab = web("host", "--managers 1 --agents 2", &["a1"]);
    lab.ok("m1", "service publish web published=5001,target=80,mode=host");
    for target in ["192.0.2.51:5001".to_owned(), format!("[{UNDERLAY_V6}51]:5001")] {
        let answer = curl(&lab, "c1", &target).expect("the node with the task answers");
        assert!(host(&field(&answer, "peer")).ends_with("101"), "{answer}");
    }
    assert_eq!(curl(&lab, "c1", "192.0.2.52:5001"), None, "a node without a task does not answer");
    lab.ok("m1", "service unpublish web 5001");
    assert_eq!(curl(&lab, "c1", "192.0.2.51:5001"), None, "nor anyone when it is unpublished");
}

#[test]
fn a_service_is_balanced_inside_the_callers_sandbox() {
    let lab = web("east", "--managers 1 --agents 2", &["a1", "a2"]);
    lab.ok("m1", "run -d --name caller --network overnet -- sleep 600");
    let [v4, v6] = addresses(&lab, "m1", "caller");
    let mut tasks = BTreeSet::new();
    for _ in 0..MANY {
        let answer = lab.ok("m1", "exec caller swarmnet whoami --ask web:80");
        let peer = field(&answer, "peer");
        assert!([&v4[..], &v6[..]].contains(&host(&peer)), "the task sees the caller: {answer}");
        tasks.insert(field(&answer, "sandbox"));
    }
    assert_eq!(tasks, ["w1", "w2"].map(str::to_owned).into());
    // A task that calls its own service may meet itself.
    for _ in 0..6 {
        lab.ok("a1", "exec w1 swarmnet whoami --ask web:80");
    }
}

#[test]
fn a_forward_policy_of_drop_does_not_stop_published_ports() {
    let lab = web("drop", "--managers 1 --agents 2", &["a1"]);
    // As Docker and ufw leave a host.
    let rules = "add table ip filter; add chain ip filter FORWARD { type filter hook forward priority 0; policy drop; }; \
                 add table ip6 filter; add chain ip6 filter FORWARD { type filter hook forward priority 0; policy drop; }";
    for node in ["a1", "a2"] {
        assert!(lab.exec(node, &["nft", rules]).status.success(), "{node} takes the rules");
    }
    publish(&lab);
    for last in ["51", "52"] {
        for target in [format!("192.0.2.{last}:5000"), format!("[{UNDERLAY_V6}{last}]:5000")] {
            assert!(curl(&lab, "c1", &target).is_some(), "{target} answers");
        }
    }
}
