//! The fuzz targets (`fuzz/src/targets.rs`) on a stable compiler: the corpus, then spoiled copies of it, from a seed.
//!
//! - `SWARMNET_FUZZ_RUNS`: copies for each target (CI's number);
//! - `SWARMNET_FUZZ_SEED`: where they begin (1).
//!
//! libFuzzer finds more, because it sees which branches it reaches, but needs a nightly compiler. What either finds becomes a file in
//! `fuzz/corpus`, and so a test.
#![forbid(unsafe_code)]

#[path = "../../fuzz/src/targets.rs"]
#[allow(unreachable_pub, reason = "the fuzzer's crate is a library")]
mod targets;

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use swarmnet_gossip::{Engine, Local, Member, Members};
use swarmnet_manager_core::{
    Attach, Command as Change, CreateNetwork, CreateToken, JoinNode, NodeChange, NodeTls, Proposal,
    Publish, Secret,
};
use swarmnet_proto::v1::{self, manager_message};
use swarmnet_tests::rng::Rng;
use swarmnet_tests::{mutate, program};
use swarmnet_types::network::{Driver, Scope};
use swarmnet_types::{
    AttachmentSpec, Availability, Name, NetworkSpec, NodeDescription, NodeId, Role, SandboxId,
    ServiceSpec, StringMap, publish,
};
use tempfile::TempDir;

const RUNS: u64 = 3_000;
/// Each starts a process.
const CONFIG_RUNS: u64 = 100;

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().expect("a number"))
}

fn corpus(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(target);
    let mut all: Vec<_> = fs::read_dir(&dir)
        .unwrap_or_else(|err| panic!("{}: {err}", dir.display()))
        .map(|entry| entry.expect("listed").path())
        .map(|path| (path.clone(), fs::read(&path).expect("a file")))
        .collect();
    all.sort();
    assert!(!all.is_empty(), "{} has a corpus", dir.display());
    all
}

/// A spoiled copy: of one file, or of two that were joined.
fn spoiled(rng: &mut Rng, corpus: &[(PathBuf, Vec<u8>)]) -> Vec<u8> {
    let mut bytes = rng.pick(corpus).expect("it has some").1.clone();
    if rng.chance(100) {
        let other = &rng.pick(corpus).expect("it has some").1;
        bytes.truncate(rng.index(bytes.len()));
        bytes.extend_from_slice(&other[rng.index(other.len())..]);
    }
    mutate::mutate(rng, &mut bytes);
    bytes
}

/// Runs one input; when the target fails, where the input is kept.
fn run(name: &str, target: targets::Target, bytes: &[u8]) {
    if catch_unwind(AssertUnwindSafe(|| target(bytes))).is_err() {
        let file = std::env::temp_dir().join(format!("swarmnet-fuzz-{name}"));
        fs::write(&file, bytes).expect("written");
        panic!("{name}: the input is in {}: keep it in fuzz/corpus/{name}", file.display());
    }
}

#[test]
fn nothing_from_outside_stops_a_daemon() {
    let (seed, runs) = (number("SWARMNET_FUZZ_SEED", 1), number("SWARMNET_FUZZ_RUNS", RUNS));
    for (name, target) in targets::TARGETS {
        let corpus = corpus(name);
        for (_, bytes) in &corpus {
            run(name, target, bytes);
        }
        let mut rng = Rng::new(seed);
        for _ in 0..runs {
            run(name, target, &spoiled(&mut rng, &corpus));
        }
    }
    assert!(targets::dns_answers(), "the name server answers what it knows");
}

#[test]
fn a_configuration_is_taken_or_refused() {
    let dir = TempDir::new().expect("a folder");
    let file = dir.path().join("swarmnet.toml");
    let corpus = corpus("config");
    let mut rng = Rng::new(number("SWARMNET_FUZZ_SEED", 1));
    let spoiled = (0..CONFIG_RUNS).map(|_| spoiled(&mut rng, &corpus));
    let all: Vec<_> = corpus.iter().map(|(_, bytes)| bytes.clone()).chain(spoiled).collect();
    for bytes in all {
        fs::write(&file, &bytes).expect("written");
        let mut check = Command::new(program());
        let out = check.args(["daemon", "--check", "--config"]).arg(&file).output();
        let out = out.expect("it starts");
        let (code, said) = (out.status.code(), swarmnet_tests::stderr(&out));
        assert!(matches!(code, Some(0..=2)), "{code:?}: {said}\n{}", bytes.escape_ascii());
        assert!(code == Some(0) || said.contains("swarmnet.toml"), "{said}");
    }
}

/// What no one can write by hand.
#[test]
#[ignore = "writes the binary files of the corpus anew"]
fn record_corpus() {
    let write = |target: &str, name: &str, bytes: &[u8]| {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(target);
        fs::create_dir_all(&dir).expect("made");
        fs::write(dir.join(name), bytes).expect("written");
    };
    let node = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/node/0.1.0");
    let recorded = |path: &str| fs::read(node.join(path)).expect("recorded");
    let saved = recorded("backup");
    write("backup", "recorded", &saved);
    let state = swarmnet_manager::raft::backup::read(&saved, None).expect("a backup").state;
    write("file", "view", &recorded("state/view"));
    write("file", "verdicts", &recorded("state/verdicts.json"));
    let me = state.nodes().next().expect("recorded").id;
    let view = state.node_view(me).expect("a view");
    let push =
        |message| prost::Message::encode_to_vec(&v1::ManagerMessage { message: Some(message) });
    write("push", "snapshot", &push(manager_message::Message::Snapshot((&view).into())));
    for (name, command) in changes(me) {
        let proposal =
            Proposal { command, now_ms: 1_800_000_000_000, seed: [3; 32], request_id: [0; 16] };
        let bytes = postcard::to_stdvec(&proposal).expect("plain data");
        write("proposal", name, &bytes);
        let mut after = state.clone();
        let revision = swarmnet_types::Revision(state.revision().0 + 1);
        if after.apply(revision, &proposal).is_ok()
            && let Ok(next) = after.node_view(me)
        {
            let delta = manager_message::Message::Delta((&view.delta_to(&next)).into());
            write("push", name, &push(delta));
        }
    }
    for (name, query) in [("a", false), ("aaaa", true)] {
        let web = swarmnet_dns::WireName::from_text("web").expect("a name");
        write("dns", name, &swarmnet_dns::client::query(1, &web, query));
    }
    for (at, datagram) in datagrams().iter().enumerate() {
        write("gossip", &format!("datagram-{at}"), datagram);
    }
}

/// One command of each kind that takes much in.
fn changes(me: NodeId) -> Vec<(&'static str, Change)> {
    let name = |text| Name::new(text).expect("a name");
    let network = NetworkSpec {
        name: name("green"),
        driver: Driver::Overlay,
        scope: Scope::Cluster,
        subnets: Vec::new(),
        ipv4: true,
        ipv6: true,
        internal: false,
        attachable: true,
        ingress: false,
        options: StringMap::new(),
        labels: StringMap::new(),
    };
    let publish = |text| publish::parse(text).expect("two ports");
    let service = ServiceSpec {
        networks: vec!["blue".to_owned()],
        publish: publish("8080-8082:80-82/udp"),
        ..ServiceSpec::named(name("shop"))
    };
    let attachment = AttachmentSpec { network: "blue".to_owned(), ..AttachmentSpec::default() };
    let attach = Attach {
        node: me,
        sandbox: SandboxId::from_bytes([9; 16]),
        name: name("w9"),
        hostname: "w9".to_owned(),
        service: Some(name("web")),
        attachments: vec![attachment],
    };
    let token = CreateToken {
        role: Role::Worker,
        secret: Secret::new([5; 16]),
        ttl_ms: Some(1),
        uses: Some(1),
        ephemeral_ms: Some(10_000),
    };
    let join = JoinNode {
        node: NodeId::from_bytes([6; 16]),
        role: Role::Worker,
        availability: Availability::Active,
        description: NodeDescription {
            name: "a9".to_owned(),
            addr: ([192, 0, 2, 59], 2377).into(),
            data_path: [192, 0, 2, 59].into(),
            version: "0.1.0".to_owned(),
        },
        tls: NodeTls::default(),
        token: None,
    };
    let node = NodeChange {
        node: "m1".to_owned(),
        labels_add: [("zone".to_owned(), "1".to_owned())].into(),
        ..NodeChange::default()
    };
    vec![
        ("network", Change::CreateNetwork(CreateNetwork { spec: network, avoid: Vec::new() })),
        ("service", Change::CreateService(service)),
        ("publish", Change::Publish(Publish { service: None, specs: publish("7000:70") })),
        ("attach", Change::Attach(attach)),
        ("token", Change::CreateToken(token)),
        ("join", Change::JoinNode(join)),
        ("node", Change::UpdateNode(node)),
        ("service-rm", Change::RemoveService { service: "web".to_owned() }),
        ("autolock", Change::SetAutolock { on: true, fresh: Secret::new([1; 32]) }),
    ]
}

/// What another node has to say in its first minute.
fn datagrams() -> Vec<Vec<u8>> {
    let node = |n: u8| NodeId::from_bytes([n; 16]);
    let member = |n: u8| Member {
        gossip: ([192, 0, 2, n], 2377).into(),
        vtep: [192, 0, 2, n].into(),
        dead_since_ms: None,
    };
    let me = Local { node: node(2), gossip: member(2).gossip, vtep: member(2).vtep };
    let mut engine = Engine::new(me, None, 2, 1_000);
    let members: Members = (1..=4).map(|n| (node(n), member(n))).collect();
    engine.set_members(Arc::new(members), 1_000);
    let mut all = Vec::new();
    for now_ms in (1_000..60_000).step_by(100) {
        engine.advance(now_ms);
        while let Some((_, datagram)) = engine.next_send() {
            all.push(datagram.to_vec());
        }
    }
    all.sort();
    all.dedup();
    all.truncate(8);
    all
}
