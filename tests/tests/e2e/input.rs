//! Wrong input: one line on standard error that says what is wrong, the right exit status, nothing changed.

use std::io::Read as _;
use std::process::Output;

use swarmnet_tests::{Lab, stderr, stdout};

const FAILURE: i32 = 1;
const USAGE: i32 = 2;
/// The program is there and cannot be run, by a shell's and Docker's convention.
const NOT_EXECUTABLE: i32 = 126;

/// A refusal: its status, one line, and in it the words that tell the user.
#[track_caller]
fn refused(out: &Output, code: i32, said: &str) {
    let error = stderr(out);
    assert_eq!(out.status.code(), Some(code), "{error}{}", stdout(out));
    assert_eq!(error.lines().count(), 1, "one line: {error}");
    assert!(error.to_lowercase().contains(&said.to_lowercase()), "want `{said}` in: {error}");
}

#[test]
fn tokens_that_do_not_join_say_why() {
    let lab = Lab::up("token", "--managers 1 --agents 0 --clients 1");
    let folder = lab.folder().join("outsider");
    let flags = format!("--state-dir {0}/state --run-dir {0}/run", folder.display());
    let join = |token: &str| lab.swarmnet("c1", &format!("agent join {flags} {token}"));
    let token = lab.ok("m1", "manager token worker -q");

    refused(&join("garbage"), FAILURE, "SWMN-1-");
    refused(&join(&token[..token.len() - 4]), FAILURE, "token");
    let cut = stderr(&join(&token[..token.len() - 4]));
    // The last character of the secret, changed: not cut, but wrong.
    let mut typo = token.clone().into_bytes();
    let at = token.rfind('-').expect("a token has parts") - 1;
    typo[at] = if typo[at] == b'0' { b'1' } else { b'0' };
    let typo = join(&String::from_utf8(typo).expect("it was text"));
    refused(&typo, FAILURE, "token");
    assert_ne!(cut, stderr(&typo), "a cut token is told from a wrong one");

    let new = lab.ok("m1", "manager token worker --rotate -q");
    assert_ne!(new, token);
    refused(&join(&token), FAILURE, "token");
    assert_eq!(lab.json("m1", "node ls").len(), 1, "nobody has joined");
}

#[test]
fn a_token_of_another_cluster_is_refused() {
    let token = {
        let other = Lab::up("foreign", "--managers 1 --agents 0 --clients 0");
        other.ok("m1", "manager token worker -q")
    };
    // The same addresses, another authority.
    let lab = Lab::up("native", "--managers 1 --agents 0 --clients 1");
    let folder = lab.folder().join("outsider");
    let flags = format!("--state-dir {0}/state --run-dir {0}/run", folder.display());
    let out = lab.swarmnet("c1", &format!("agent join {flags} {token}"));
    refused(&out, FAILURE, "");
    assert_eq!(lab.json("m1", "node ls").len(), 1, "it has not joined");
}

#[test]
fn wrong_words_are_told_and_change_nothing() {
    let lab = Lab::up("input", "--managers 1 --agents 1 --clients 0");
    lab.ok("m1", "network create -d overlay --attachable --subnet 10.7.0.0/24 overnet");
    lab.ok("a1", "run -d --name w1 --network overnet --service web -- sleep 600");
    let before = lab.ok("m1", "network ls") + &lab.ok("m1", "service ls");
    for (words, code, said) in [
        ("network create -d overlay overnet", FAILURE, "overnet already exists"),
        ("network create -d overlay --subnet 10.7.0.128/25 second", FAILURE, "overlap"),
        ("network create -d overlay --subnet 10.8.0.0/33 second", USAGE, "10.8.0.0/33"),
        ("network rm overnet", FAILURE, "overnet has active endpoints"),
        ("network rm nothing", FAILURE, "network nothing not found"),
        ("network inspect nothing", FAILURE, "network nothing not found"),
        ("service inspect nothing", FAILURE, "nothing"),
        ("service rm nothing", FAILURE, "service nothing not found"),
        ("node inspect nothing", FAILURE, "nothing"),
        ("run --network nothing -- true", FAILURE, "network nothing not found"),
        ("service publish web published=5000", USAGE, "target"),
        ("service publish web published=70000,target=80", USAGE, "70000"),
        ("service publish web published=5000,target=80,protocol=icmp", USAGE, "icmp"),
        ("service publish web published=5000,target=80,mode=mesh", USAGE, "mesh"),
        ("service publish web published=5000,target=80,color=red", USAGE, "color"),
        ("service publish web 5000-5001:80-82", USAGE, "range"),
        ("run --dns-search a..b -- true", USAGE, "\"a..b\" is not a valid domain"),
        ("run --dns-option ndots:1;x -- true", USAGE, "invalid resolver option"),
        ("run --hostname a/b -- true", USAGE, "invalid hostname \"a/b\""),
        ("run --add-host a/b:192.0.2.9 -- true", USAGE, "invalid hostname \"a/b\""),
        ("run -w /no/such -- true", NOT_EXECUTABLE, "cannot work in /no/such"),
        ("netwrok ls", USAGE, "a similar subcommand exists: 'network'"),
        ("network create --drivr overlay second", USAGE, "a similar argument exists: '--driver'"),
        ("network rm", USAGE, "usage: swarmnet network rm <NETWORK>"),
        ("man trace", USAGE, "unexpected argument 'trace'"),
    ] {
        refused(&lab.swarmnet("m1", words), code, said);
    }
    let out = lab.swarmnet("a1", "network create -d overlay second");
    refused(&out, FAILURE, "manager");
    let out = lab.swarmnet("a1", "run -d --name w1 --network overnet -- sleep 600");
    refused(&out, FAILURE, "w1");
    let after = lab.ok("m1", "network ls") + &lab.ok("m1", "service ls");
    assert_eq!(before, after, "nothing changed");
}

/// One prefix, two networks: neither is guessed, both are named.
#[test]
fn an_ambiguous_prefix_is_refused_with_what_it_could_mean() {
    let lab = Lab::up("prefix", "--managers 1 --agents 0 --clients 0");
    let mut ids: Vec<String> = Vec::new();
    // Ids are random: with 17 of them two begin with the same of 16 digits.
    for n in 1..=17 {
        ids.push(lab.ok("m1", &format!("network create -d bridge net{n}")).trim().to_owned());
    }
    let same = |digit: char| ids.iter().filter(move |id| id.starts_with(digit));
    let digit = "0123456789abcdef".chars().find(|d| same(*d).count() > 1).expect("17 in 16");
    // A name goes before a prefix, and there is none such.
    let out = lab.swarmnet("m1", &format!("network rm {digit}"));
    refused(&out, FAILURE, "ambiguous");
    for id in same(digit) {
        assert!(stderr(&out).contains(&id[..12]), "{id} is named: {}", stderr(&out));
    }
    assert_eq!(
        lab.ok("m1", "network ls -q --filter type=custom --filter driver=bridge").lines().count(),
        17
    );
}

/// The certificate of a worker, taken to the manager's port by another client than ours.
#[test]
fn a_certificate_without_the_role_is_refused_for_each_call_of_a_manager() {
    let lab = Lab::up("role", "--managers 1 --agents 1 --clients 0");
    let certs = lab.folder().join("role/a1/state/certs");
    // A refused call is sent without a message: curl takes it amiss when the answer comes before all is sent.
    let call = |method: &str, message: &str| {
        let script = format!(
            "printf '{message}' | curl -sSk --http2 --cert {0}/node.crt --key {0}/node.key \
             -H 'content-type: application/grpc' -H 'te: trailers' --data-binary @- -o /dev/null -D - \
             https://192.0.2.11:2377/swarmnet.v1.{method}",
            certs.display()
        );
        let out = lab.exec("a1", &["sh", "-c", &script]);
        stdout(&out) + &stderr(&out)
    };
    let before = lab.ok("m1", "network ls");
    for method in ["Control/CreateNetwork", "Control/RemoveNode", "Control/GetToken", "Raft/Vote"] {
        let told = call(method, "");
        assert!(told.contains("grpc-status: 7"), "{method}: {told}");
        assert!(told.contains("managers%20only"), "{method}: {told}");
    }
    let told = call("Control/ListNetworks", r"\0\0\0\0\0");
    assert!(told.contains("grpc-status: 0"), "a worker may read: {told}");
    assert_eq!(lab.ok("m1", "network ls"), before, "nothing changed");
}

#[test]
fn a_port_that_is_taken_is_refused() {
    let lab = Lab::up("taken", "--managers 1 --agents 1 --clients 0");
    lab.ok("m1", "network create -d overlay --attachable overnet");
    for service in ["web", "db"] {
        let run =
            format!("run -d --name {service}1 --network overnet --service {service} -- sleep 600");
        lab.ok("a1", &run);
    }
    lab.ok("m1", "service publish web published=5000,target=80");
    refused(&lab.swarmnet("m1", "service publish db published=5000,target=80"), FAILURE, "5000");
    // Something on a node listens there already: nothing is hijacked (S12).
    let listener = lab.session("a1", &["swarmnet", "whoami", "--listen", ":6000"]);
    let taken = || {
        let out = lab.exec("a1", &["swarmnet", "whoami", "--ask", "127.0.0.1:6000"]);
        out.status.success()
    };
    let soon = std::time::Duration::from_secs(5);
    assert!(swarmnet_tests::eventually(soon, taken).is_some(), "the listener is there");
    let out = lab.swarmnet("m1", "service publish web published=6000,target=80");
    assert!(
        stdout(&out).contains("a1") || stderr(&out).contains("a1"),
        "the node is named: {out:?}"
    );
    assert!(taken(), "the listener still answers");
    drop(listener);
}

#[test]
fn no_daemon_is_one_line_that_says_how_to_start_one() {
    let out = std::process::Command::new(swarmnet_tests::program())
        .args(["--socket", "/nonexistent/swarmnet.sock", "network", "ls"])
        .output()
        .expect("the program starts");
    refused(&out, FAILURE, "swarmnet manager init");
}

/// A socket on which a call is taken and never answered, as by a daemon that is killed in the middle of it.
#[test]
fn a_daemon_that_dies_in_the_middle_of_a_call_may_have_done_it_or_not() {
    let folder = tempfile::tempdir().expect("a folder");
    let socket = folder.path().join("swarmnet.sock");
    let listener = std::os::unix::net::UnixListener::bind(&socket).expect("a socket");
    let daemon = std::thread::spawn(move || {
        drop(listener.accept().expect("a first look"));
        let (mut call, _) = listener.accept().expect("a call");
        call.read_exact(&mut [0; 64]).expect("it begins");
    });
    let out = std::process::Command::new(swarmnet_tests::program())
        .arg("--socket")
        .arg(&socket)
        .args(["network", "rm", "overnet"])
        .output()
        .expect("the program starts");
    daemon.join().expect("the socket was asked");
    refused(&out, FAILURE, "may be done or not");
}

#[test]
fn a_state_file_that_is_not_understood_is_named_and_kept() {
    let lab = Lab::up("state", "--managers 1 --agents 1 --clients 0");
    lab.node("stop", "a1");
    let place = lab.folder().join("state/a1");
    let file = place.join("state/node.json");
    let good = std::fs::read_to_string(&file).expect("the node has a state");
    let start = format!("daemon --state-dir {0}/state --run-dir {0}/run", place.to_string_lossy());
    let future = good.replace("\"version\":1", "\"version\":99");
    assert_ne!(future, good);
    for bad in [&future, "{\"form", ""] {
        std::fs::write(&file, bad).expect("root may");
        let out = lab.exec("a1", &["sh", "-c", &format!("exec timeout 10 swarmnet {start} 2>&1")]);
        assert_eq!(out.status.code(), Some(FAILURE), "`{bad}`: {}", stdout(&out));
        assert!(stdout(&out).contains("node.json"), "the file is named: {}", stdout(&out));
        refused(&lab.try_node("start", "a1"), FAILURE, "node.json");
        assert_eq!(std::fs::read_to_string(&file).expect("it is there"), bad, "nothing changed");
    }
    std::fs::write(&file, good).expect("root may");
    lab.node("start", "a1");
    lab.ok("a1", "agent status");
}

#[test]
fn an_unreachable_manager_and_an_exhausted_pool_are_told() {
    let lab = Lab::up("nobody", "--managers 1 --agents 1 --clients 1");
    lab.ok("m1", "network create -d overlay --attachable --subnet 10.9.0.0/30 tiny");
    lab.ok("a1", "run -d --name t1 --network tiny -- sleep 600");
    let out = lab.swarmnet("a1", "run -d --name t2 --network tiny -- sleep 600");
    refused(&out, FAILURE, "no available IPv4 addresses");
    assert_eq!(lab.json("a1", "ps").len(), 1, "nothing of it is left");

    let token = lab.ok("m1", "manager token worker -q");
    lab.node("stop", "m1");
    let folder = lab.folder().join("outsider");
    let join =
        format!("agent join --state-dir {0}/state --run-dir {0}/run {token}", folder.display());
    refused(&lab.swarmnet("c1", &join), FAILURE, "192.0.2.11:2377");
}

#[test]
fn garbage_on_the_ports_of_a_node_harms_nothing() {
    let lab = Lab::up("garbage", "--managers 1 --agents 1 --clients 1");
    let script = "for node in 192.0.2.11 192.0.2.51; do for i in 1 2 3 4; do \
                  head -c 1200 /dev/urandom > /dev/udp/$node/2377; head -c 1200 /dev/urandom > /dev/udp/$node/4789; \
                  head -c 8192 /dev/urandom > /dev/tcp/$node/2377 || true; done; done 2>/dev/null; true";
    assert!(lab.exec("c1", &["bash", "-c", script]).status.success());
    assert!(lab.status().iter().all(|node| node["Health"] == "healthy" || node["Health"] == "up"));
    lab.ok("m1", "network create -d overlay --attachable overnet");
    lab.ok("a1", "run --network overnet -- true");
}
