//! The CA is replaced while nodes come, go and are away.

use swarmnet_types::Role;

use super::*;
use crate::state::{RotationProgress, TokenEnd};

fn rotate(to: u8) -> Command {
    rotate_from(CA, to)
}

fn rotate_from(from: u8, to: u8) -> Command {
    Command::RotateCa(Box::new(RotateCa {
        to: authority(to),
        from: [from; 32],
        cross_pem: format!("{to} by {from}"),
        worker_token: Secret::new([to, 1]),
        manager_token: Secret::new([to, 2]),
    }))
}

/// A node says that it trusts these, and shows a certificate of the last.
fn says(node: u8, roots: &[u8]) -> Command {
    let issuer = roots.last().map(|ca| [*ca; 32]);
    let roots = roots.iter().map(|ca| [*ca; 32]).collect();
    Command::SetNodeTls { node: node_id(node), tls: NodeTls { issuer, roots, until_ms: 9 } }
}

fn roots(world: &World) -> Vec<u8> {
    world.state.cluster().expect("present").roots().map(|ca| ca.fingerprint[0]).collect()
}

fn missing(world: &World) -> Vec<u8> {
    let progress = world.state.rotation_progress().expect("under way");
    progress.missing.iter().map(|node| node.as_bytes()[0]).collect()
}

#[test]
fn a_rotation_ends_with_the_last_node_and_drops_the_old_ca() {
    let mut world = World::with_nodes(3);
    world.ok(rotate(2));
    assert_eq!(roots(&world), [CA, 2]);
    assert_eq!(world.state.cluster().map(|c| c.issuer().fingerprint), Some([2; 32]));
    assert_eq!(missing(&world), [1, 2, 3]);
    world.ok(says(1, &[CA, 2]));
    world.ok(says(2, &[CA, 2]));
    // It trusts the new CA and still shows a certificate of the old one.
    world.ok(says(3, &[2, CA]));
    let progress =
        RotationProgress { trusting: 3, renewed: 2, nodes: 3, missing: vec![node_id(3)] };
    assert_eq!(world.state.rotation_progress(), Some(progress));
    world.ok(says(3, &[CA, 2]));
    assert_eq!((roots(&world), world.state.rotation_progress()), (vec![2], None));
}

#[test]
fn a_node_that_is_away_holds_the_rotation_open_until_it_is_removed() {
    let mut world = World::with_nodes(3);
    world.ok(rotate(2));
    world.ok(says(1, &[CA, 2]));
    world.ok(says(2, &[CA, 2]));
    assert_eq!(missing(&world), [3]);
    let remove = RemoveNode { node: "n3".into(), force: false, alive: false };
    world.ok(Command::RemoveNode(remove));
    assert_eq!(roots(&world), [2]);
}

#[test]
fn a_second_rotation_takes_the_place_of_the_first() {
    let mut world = World::with_nodes(2);
    world.ok(rotate(2));
    world.ok(says(1, &[CA, 2]));
    world.ok(rotate(3));
    assert_eq!((roots(&world), missing(&world)), (vec![CA, 3], vec![1, 2]));
    world.ok(says(1, &[CA, 3]));
    world.ok(says(2, &[CA, 3]));
    assert_eq!(roots(&world), [3]);
    // The next one starts from there.
    assert!(world.refused(rotate(4)).contains("changed in this very moment"));
    world.ok(rotate_from(3, 4));
    assert_eq!(roots(&world), [3, 4]);
}

#[test]
fn a_rotation_to_the_present_ca_gives_the_one_under_way_up() {
    let mut world = World::with_nodes(2);
    assert_eq!(world.refused(rotate(CA)), "Cannot update to a cert with an identical key");
    world.ok(rotate(2));
    world.ok(says(1, &[CA, 2]));
    world.ok(rotate(CA));
    assert_eq!((roots(&world), world.state.rotation_progress()), (vec![CA], None));
}

#[test]
fn earlier_tokens_are_void_from_the_start_of_a_rotation() {
    let mut world = World::new();
    let create = CreateToken {
        role: Role::Worker,
        secret: Secret::new(*b"further"),
        ttl_ms: None,
        uses: None,
        ephemeral_ms: None,
    };
    world.ok(Command::CreateToken(create));
    world.now_ms = 70;
    world.ok(rotate(2));
    let tokens = &world.state.cluster().expect("present").tokens;
    assert_eq!(tokens.of(Role::Worker).expose(), [2, 1]);
    assert_eq!(tokens.of(Role::Manager).expose(), [2, 2]);
    let further = world.state.further_tokens().next().expect("remembered");
    assert_eq!(further.end(70), Some((TokenEnd::Revoked, 70)));
}

#[test]
fn a_join_is_signed_by_a_ca_that_counts() {
    let mut world = World::new();
    world.ok(rotate(2));
    // Signed before the rotation, in the log after it: it will renew.
    world.ok(Command::JoinNode(join(2, Role::Worker)));
    assert_eq!(missing(&world), [1, 2]);
    let mut new = join(3, Role::Worker);
    new.tls = NodeTls::by(&authority(2), 0);
    new.tls.roots.insert([CA; 32]);
    world.ok(Command::JoinNode(new));
    world.ok(says(1, &[CA, 2]));
    world.ok(says(2, &[CA, 2]));
    assert_eq!(roots(&world), [2]);
    let err = world.refused(Command::JoinNode(join(4, Role::Worker)));
    assert!(err.contains("CA of this cluster was changed"), "{err}");
}

#[test]
fn what_a_node_says_of_itself_is_bounded_and_told_to_nobody() {
    let mut world = World::with_nodes(2);
    let before = world.state.revision();
    world.ok(says(2, &[CA]));
    assert!(world.state.concerned(before).is_empty(), "a renewal concerns no other node");
    let many: Vec<u8> = (0..9).collect();
    assert!(world.refused(says(2, &many)).contains("at most 8"));
    assert!(world.refused(says(7, &[CA])).contains("not found"));
}

#[test]
fn a_removed_node_is_refused_for_as_long_as_its_certificate_lasts() {
    let mut world = World::with_nodes(2);
    let roots = std::collections::BTreeSet::from([[CA; 32]]);
    let tls = NodeTls { issuer: Some([CA; 32]), roots, until_ms: 1_000_000 };
    world.ok(Command::SetNodeTls { node: node_id(2), tls });
    world.ok(Command::UpdateCluster(ClusterChange { cert_expiry_ms: Some(10) }));
    world.ok(Command::RemoveNode(RemoveNode { node: "n2".into(), force: true, alive: true }));
    let (_, revoked) = world.state.revoked().next().expect("one");
    assert_eq!(revoked.until_ms, 1_000_000 + 7 * 24 * 3600 * 1000);
}
