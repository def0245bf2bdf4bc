//! Join tokens with an end.

use swarmnet_types::{Role, TokenId};

use super::*;
use crate::state::TokenEnd;

fn create(change: impl FnOnce(&mut CreateToken)) -> Command {
    let mut create = CreateToken {
        role: Role::Worker,
        secret: Secret::new(*b"further"),
        ttl_ms: None,
        uses: None,
        ephemeral_ms: None,
    };
    change(&mut create);
    Command::CreateToken(create)
}

fn created(world: &mut World, change: impl FnOnce(&mut CreateToken)) -> TokenId {
    match world.ok(create(change)) {
        Outcome::TokenCreated { token } => token,
        other => panic!("{other:?}"),
    }
}

fn join_by(n: u8, token: TokenId) -> Command {
    Command::JoinNode(JoinNode { token: Some(token), ..join(n, Role::Worker) })
}

#[test]
fn a_token_ends_by_time_use_or_word_and_says_which() {
    let mut world = World::new();
    world.now_ms = 1_000;
    let timed = created(&mut world, |t| t.ttl_ms = Some(500));
    let counted = created(&mut world, |t| t.uses = Some(2));
    let revoked = created(&mut world, |_| {});
    world.ok(join_by(2, timed));
    world.ok(join_by(3, counted));
    world.ok(join_by(4, counted));
    world.ok(join_by(5, revoked));
    let text = revoked.to_string();
    world.ok(Command::RemoveToken { token: text[..8].into() });
    world.now_ms = 1_500;
    for (token, words) in
        [(timed, "has expired"), (counted, "is used up"), (revoked, "was revoked")]
    {
        let err = world.refused(join_by(9, token));
        assert!(err.starts_with(&format!("this join token {words}: ")), "{err}");
    }
    // Nodes that joined stay.
    assert_eq!(world.state.nodes().count(), 5);
    assert_eq!(world.state.further_token(counted).map(|t| (t.uses, t.used_ms)), Some((2, 1_000)));
    // A refused join has used nothing.
    let again = created(&mut world, |t| t.uses = Some(1));
    world.refused(join_by(2, again));
    assert_eq!(world.state.further_token(again).map(|t| t.uses), Some(0));
}

#[test]
fn a_token_is_for_its_role() {
    let mut world = World::new();
    let token = created(&mut world, |t| t.role = Role::Manager);
    assert!(world.refused(join_by(2, token)).starts_with("A valid join token is necessary"));
    let unknown = TokenId::from_bytes([9; 16]);
    assert!(world.refused(join_by(2, unknown)).starts_with("A valid join token is necessary"));
}

#[test]
fn void_tokens_are_remembered_for_a_week_and_no_more_than_a_thousand() {
    let mut world = World::new();
    let token = created(&mut world, |t| t.ttl_ms = Some(1));
    world.now_ms = 7 * 24 * 3600 * 1000;
    let other = created(&mut world, |_| {});
    assert_eq!(
        world.state.further_token(token).and_then(|t| t.end(2)),
        Some((TokenEnd::Expired, 1))
    );
    world.now_ms += 2;
    // The second word about a token that is void forgets it.
    for _ in 0..2 {
        world.ok(Command::RemoveToken { token: other.to_string() });
    }
    assert_eq!(world.state.further_tokens().count(), 0);
    let gone = Command::RemoveToken { token: token.to_string() };
    assert_eq!(world.refused(gone), format!("token {token} not found"));
    let base = world.state.clone();
    for _ in 0..1_000 {
        let (at, proposal) = (world.state.revision(), world.proposal(create(|_| {})));
        world.state.apply(Revision(at.0 + 1), &proposal).expect("room");
        world.log.push((at, proposal));
    }
    assert!(world.refused(create(|_| {})).starts_with("there are 1000 join tokens"));
    assert_eq!(base.further_tokens().count(), 0);
}

#[test]
fn senseless_tokens_are_refused() {
    let mut world = World::new();
    assert!(world.refused(create(|t| t.uses = Some(0))).starts_with("a token for nothing"));
    assert!(world.refused(create(|t| t.ttl_ms = Some(0))).starts_with("a token for nothing"));
    let err = world.refused(create(|t| {
        t.role = Role::Manager;
        t.ephemeral_ms = Some(60_000);
    }));
    assert!(err.starts_with("a manager cannot be ephemeral"), "{err}");
}

#[test]
fn nodes_of_an_ephemeral_token_are_marked() {
    let mut world = World::with_nodes(2);
    let token = created(&mut world, |t| t.ephemeral_ms = Some(60_000));
    world.ok(join_by(3, token));
    let ephemeral = |n| world.state.record(node_id(n)).and_then(|r| r.ephemeral_ms);
    assert_eq!([1, 2, 3].map(ephemeral), [None, None, Some(60_000)]);
}
