//! What reads bytes from outside, one function each: whatever the bytes, it comes back, and what it has understood it says again.
//!
//! Two drivers run these over `corpus/`: libFuzzer (`fuzz_targets/`, needs a nightly compiler), and a test on the stable one with
//! seeded mutations (`tests/tests/fuzz.rs`), which is what CI runs. A panic, or a process that grows without end, is a defect.

use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::path::Path;
use std::sync::{Arc, OnceLock};

use prost::Message as _;
use swarmnet_agent::local::files;
use swarmnet_agent::session::{News, fold};
use swarmnet_agent::shim::{SHIM, ShimSpec};
use swarmnet_agent::{verdicts, view_file};
use swarmnet_dns::resolv_conf::ResolvConf;
use swarmnet_dns::{Forward, Handle, NameServer, SandboxNames, WireName, ZoneBuilder, client};
use swarmnet_gossip::{EchoKind, Engine, Local, Member, Members};
use swarmnet_manager::raft::backup;
use swarmnet_manager_core::{Proposal, State};
use swarmnet_pki::{JoinToken, UnlockKey};
use swarmnet_proto::v1::{self, manager_message};
use swarmnet_types::{DualStack, NodeId, NodeView, Revision, SandboxId, publish};
use tempfile::TempDir;

/// Reads bytes of anybody's.
pub type Target = fn(&[u8]);

/// All targets; the name is that of the folder in `corpus/` and of the libFuzzer target.
pub const TARGETS: [(&str, Target); 9] = [
    ("token", token),
    ("publish", publish),
    ("gossip", gossip),
    ("dns", dns),
    ("resolv", resolv),
    ("push", push),
    ("proposal", proposal),
    ("backup", saved),
    ("file", file),
];

fn text(data: &[u8]) -> String {
    String::from_utf8_lossy(data).into_owned()
}

/// Join tokens and unlock keys, as an operator pastes them.
pub fn token(data: &[u8]) {
    let text = text(data);
    if let Ok(token) = text.parse::<JoinToken>() {
        let again = token.to_string().parse::<JoinToken>();
        assert_eq!(again.expect("our own").to_string(), token.to_string());
    }
    drop(text.parse::<UnlockKey>());
}

/// `-p` and `--publish`.
pub fn publish(data: &[u8]) {
    for spec in publish::parse(&text(data)).unwrap_or_default() {
        let again = publish::parse(&spec.to_string());
        assert_eq!(again.as_deref(), Ok(&[spec.clone()][..]), "{spec}");
    }
}

/// What a node that holds the cluster's key may send, and what anybody may answer to an echo.
pub fn gossip(data: &[u8]) {
    let node = |n: u8| NodeId::from_bytes([n; 16]);
    let addr = |n: u8| Ipv4Addr::new(192, 0, 2, n);
    let me = Local { node: node(1), gossip: (addr(1), 2377).into(), vtep: addr(1).into() };
    let mut engine = Engine::new(me, None, 1, 1_000);
    let members: Members = (1..=4)
        .map(|n| {
            let (gossip, vtep) = ((addr(n), 2377).into(), addr(n).into());
            (node(n), Member { gossip, vtep, dead_since_ms: None })
        })
        .collect();
    engine.set_members(Arc::new(members), 1_000);
    for now_ms in [1_000, 1_001, 5_000, 60_000] {
        engine.receive(node(2), data, now_ms).ok();
        engine.advance(now_ms);
        while engine.next_send().is_some() {}
        while engine.next_echo().is_some() {}
    }
    let _ = (EchoKind::V4.parse_reply(data), EchoKind::V6.parse_reply(data));
}

/// What the name server's answers to one question fit in.
const ANSWER_BYTES_MAX: usize = 4096;

/// A name server with one sandbox, and a client of it.
struct Names {
    _server: Handle,
    client: UdpSocket,
}

fn names() -> &'static Names {
    static NAMES: OnceLock<Names> = OnceLock::new();
    NAMES.get_or_init(|| {
        let mut zone = ZoneBuilder::new("blue", &[]).expect("a name");
        let addrs = DualStack { v4: Some(Ipv4Addr::new(10, 0, 0, 2)), v6: None };
        zone.primary("web", addrs).expect("a name");
        let names = SandboxNames::new(vec![Arc::new(zone.build())], Forward::Never);
        let server = NameServer::start(&swarmnet_dns::Config::default()).expect("threads");
        let udp = UdpSocket::bind("127.0.0.1:0").expect("a port");
        let tcp = TcpListener::bind("127.0.0.1:0").expect("a port");
        let client = UdpSocket::bind("127.0.0.1:0").expect("a port");
        client.connect(udp.local_addr().expect("bound")).expect("the loopback");
        client.set_nonblocking(true).expect("a socket");
        let sandbox = SandboxId::from_bytes([1; 16]);
        server.serve(sandbox, udp, tcp, Arc::new(names)).expect("served");
        Names { _server: server, client }
    })
}

/// A query of a sandbox, and the answer of an upstream server.
pub fn dns(data: &[u8]) {
    let client = &names().client;
    // A datagram that does not fit or finds no room is lost, as on a wire.
    drop(client.send(data));
    let mut answer = [0; ANSWER_BYTES_MAX];
    while let Ok(len) = client.recv(&mut answer) {
        drop(client::reply(0, &answer[..len]));
    }
    drop(client::reply(0, data));
}

/// That the name server still answers what it knows.
#[allow(dead_code, reason = "libFuzzer sees a dead thread by its panic")]
pub fn dns_answers() -> bool {
    let client = &names().client;
    let web = WireName::from_text("web").expect("a name");
    client.set_nonblocking(false).expect("a socket");
    client.set_read_timeout(Some(std::time::Duration::from_secs(5))).expect("a socket");
    client.send(&client::query(7, &web, false)).expect("the loopback");
    let mut answer = [0; ANSWER_BYTES_MAX];
    // Those to what was sent before come first.
    while let Ok(len) = client.recv(&mut answer) {
        if client::reply(7, &answer[..len]).is_some() {
            return true;
        }
    }
    false
}

/// The node's own resolver settings.
pub fn resolv(data: &[u8]) {
    let text = text(data);
    let conf = ResolvConf::parse(&text);
    ResolvConf::parse(&conf.for_sandbox(None, None));
    drop(WireName::from_text(&text));
}

/// What a manager sends to an agent.
pub fn push(data: &[u8]) {
    let Ok(message) = v1::ManagerMessage::decode(data) else { return };
    let news = match message.message {
        Some(manager_message::Message::Snapshot(view)) => view.try_into().ok().map(News::Whole),
        Some(manager_message::Message::Delta(delta)) => delta.try_into().ok().map(News::Delta),
        _ => None,
    };
    let Some(news) = news else { return };
    let state = recorded();
    let me = state.nodes().next().expect("recorded").id;
    let mut view: Option<Arc<NodeView>> = state.node_view(me).ok().map(Arc::new);
    drop(fold(&mut view, news));
}

/// The state of a cluster that was recorded.
fn recorded() -> &'static State {
    static STATE: OnceLock<State> = OnceLock::new();
    STATE.get_or_init(|| {
        let nodes = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/node");
        let file = std::fs::read(nodes.join("0.1.0/backup")).expect("recorded");
        backup::read(&file, None).expect("a backup").state
    })
}

/// An entry of the log, as another manager may send it: applied, or refused, and every node's view can be made.
pub fn proposal(data: &[u8]) {
    let Ok(proposal) = postcard::from_bytes::<Proposal>(data) else { return };
    let mut state = recorded().clone();
    drop(state.apply(Revision(state.revision().0 + 1), &proposal));
    let nodes: Vec<_> = state.nodes().map(|node| node.id).collect();
    for node in nodes {
        drop(state.node_view(node));
    }
    state.digest();
}

/// A backup, and what is in one.
pub fn saved(data: &[u8]) {
    drop((backup::is_locked(data), backup::read(data, None)));
    let around = backup::write(data, None).expect("no key, no chance");
    drop(backup::read(&around, None));
}

/// A file of the state folder.
pub fn file(data: &[u8]) {
    static DIR: OnceLock<TempDir> = OnceLock::new();
    let path = DIR.get_or_init(|| TempDir::new().expect("a folder")).path().join("file");
    std::fs::write(&path, data).expect("there is room");
    drop((view_file::read(&path), verdicts::read(&path)));
    drop(files::read::<ShimSpec>(&path, SHIM));
}
