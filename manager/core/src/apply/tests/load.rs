//! The state at the size of the contract (C13): 1,000 nodes, 1,000 services, 10,000 endpoints.

use super::*;

const NODES: u16 = 1000;
const SANDBOXES: u16 = 5000;

fn id16(n: u16) -> [u8; 16] {
    let mut id = [0; 16];
    id[..2].copy_from_slice(&n.to_be_bytes());
    id
}

fn apply(state: &mut State, n: u64, command: Command) -> Outcome {
    let mut seed = [0; 32];
    for (i, word) in seed.chunks_exact_mut(8).enumerate() {
        word.copy_from_slice(&(n + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15 + i as u64).to_be_bytes());
    }
    let proposal = Proposal { command, now_ms: n, seed, request_id: [0; 16] };
    state.apply(Revision(n), &proposal).unwrap_or_else(|e| panic!("{e}"))
}

/// One network over all nodes, two endpoints for each sandbox, five tasks for each service.
fn loaded() -> (State, u64) {
    let mut state = State::default();
    let mut n = 1;
    let mut init = init();
    init.first.node = NodeId::from_bytes(id16(0));
    apply(&mut state, n, Command::InitCluster(Box::new(init)));
    for i in 1..NODES {
        n += 1;
        let mut node = join(2, Role::Worker);
        node.node = NodeId::from_bytes(id16(i));
        apply(&mut state, n, Command::JoinNode(node));
    }
    n += 1;
    let spec = with_subnet("wide", "172.16.0.0/16");
    apply(&mut state, n, Command::CreateNetwork(CreateNetwork { spec, avoid: vec![] }));
    for i in 0..SANDBOXES {
        n += 1;
        let attach = Attach {
            node: NodeId::from_bytes(id16(i % NODES)),
            sandbox: SandboxId::from_bytes(id16(i)),
            name: name(&format!("w{i}")),
            hostname: format!("w{i}"),
            service: Some(name(&format!("s{}", i % 1000))),
            attachments: vec![on("wide")],
        };
        apply(&mut state, n, Command::Attach(attach));
    }
    (state, n)
}

#[test]
fn a_change_among_ten_thousand_endpoints_is_small() {
    let (mut state, n) = loaded();
    assert_eq!(state.endpoints().count(), 2 * usize::from(SANDBOXES));
    let me = NodeId::from_bytes(id16(1));
    let mut seen = state.node_view(me).expect("initialised");
    let conditions: Vec<_> = state
        .endpoints_of(NodeId::from_bytes(id16(7)))
        .map(|e| (e.id, swarmnet_types::Condition::Ready))
        .take(1)
        .collect();
    let node = NodeId::from_bytes(id16(7));
    apply(&mut state, n + 1, Command::SetConditions { node, conditions });
    let delta = state.delta(me, Revision(n)).expect("known");
    assert!(delta.changes.len() <= 1, "{}", delta.changes.len());
    seen.apply(delta).expect("no gap");
    assert_eq!(seen, state.node_view(me).expect("initialised"));
    let bytes = postcard::to_stdvec(&state).expect("writes");
    assert!(bytes.len() < 4 << 20, "{} bytes", bytes.len());
    let back: State = postcard::from_bytes(&bytes).expect("reads");
    assert_eq!((back.digest(), &back.index), (state.digest(), &state.index));
}

/// What one change costs must not grow with the cluster: each is held against work that does, measured in the same run.
/// With `--nocapture` the figures are shown; best in release.
#[test]
#[allow(clippy::disallowed_methods, reason = "it measures")]
fn a_change_costs_a_fraction_of_the_whole() {
    use std::time::{Duration, Instant};
    let timed = |what: &str, rounds: u32, work: &mut dyn FnMut(u32)| -> Duration {
        let start = Instant::now();
        (0..rounds).for_each(work);
        let each = start.elapsed() / rounds;
        println!("{what}: {each:?} each");
        each
    };
    let (mut state, mut n) = loaded();
    let me = NodeId::from_bytes(id16(7));
    let attach = timed("attach", 1000, &mut |i| {
        n += 1;
        let i = u16::try_from(i).expect("below the rounds");
        let mut attach = task(1, 1, Some("s3"), &["wide"]);
        attach.node = NodeId::from_bytes(id16(i));
        attach.sandbox = SandboxId::from_bytes(id16(10_000 + i));
        attach.name = name(&format!("x{i}"));
        apply(&mut state, n, Command::Attach(attach));
    });
    let delta = timed("delta of one attach for a node", 1000, &mut |i| {
        let i = u16::try_from(i).expect("below the rounds");
        assert!(state.delta(NodeId::from_bytes(id16(i)), Revision(n - 1)).is_some());
    });
    let view = timed("view", 5, &mut |_| {
        assert!(!state.node_view(me).expect("initialised").endpoints.is_empty());
    });
    let written = timed("serialize", 5, &mut |_| {
        assert!(!postcard::to_stdvec(&state).expect("writes").is_empty());
    });
    timed("publish 5,000 ports", 1, &mut |_| {
        let mut state = state.clone();
        let specs = swarmnet_types::publish::parse("10000-14999:80").expect("a range");
        let publish = Publish { service: Some("s3".into()), specs };
        let outcome = apply(&mut state, n + 1, Command::Publish(publish));
        assert!(matches!(outcome, Outcome::Published { .. }));
    });
    assert!(delta * 20 < view, "a delta: {delta:?}, the view: {view:?}");
    assert!(attach * 20 < written, "an attach: {attach:?}, the whole state written: {written:?}");
}
