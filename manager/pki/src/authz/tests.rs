//! The whole truth table of the rules, and the start-up check.

use std::time::SystemTime;

use swarmnet_types::ClusterId;
use tonic::Code;

use super::*;
use crate::peer::{SERIAL_LEN, Serial};

fn peer(role: Role, id: u8) -> Peer {
    Peer {
        cluster: ClusterId::from_bytes([9; 16]),
        node_id: node(id),
        role,
        serial: Serial([1; SERIAL_LEN]),
        not_before: SystemTime::UNIX_EPOCH,
        not_after: SystemTime::UNIX_EPOCH,
    }
}

fn node(id: u8) -> NodeId {
    NodeId::from_bytes([id; 16])
}

fn table() -> AuthTable {
    AuthTable::new(&[
        ("/t.T/Join", Who::Anyone),
        ("/t.T/Read", Who::AnyNode),
        ("/t.T/Admin", Who::Manager),
        ("/t.T/Session", Who::SelfNode),
    ])
    .expect("no duplicates")
}

#[test]
fn rules_hold_for_every_kind_of_caller() {
    let (worker, manager) = (peer(Role::Worker, 1), peer(Role::Manager, 2));
    let denied = Err(Code::PermissionDenied);
    let unauthenticated = Err(Code::Unauthenticated);
    let rows = [
        ("/t.T/Join", Ok(None), Ok(Some(1)), Ok(Some(2))),
        ("/t.T/Read", unauthenticated, Ok(Some(1)), Ok(Some(2))),
        ("/t.T/Admin", unauthenticated, denied, Ok(Some(2))),
        ("/t.T/Session", unauthenticated, Ok(Some(1)), Ok(Some(2))),
        ("/t.T/None", Err(Code::Unimplemented), Err(Code::Unimplemented), Err(Code::Unimplemented)),
    ];
    for (path, nobody, by_worker, by_manager) in rows {
        for (caller, want) in
            [(None, nobody), (Some(&worker), by_worker), (Some(&manager), by_manager)]
        {
            let got = table().admit(path, caller, None).map_err(|status| status.code());
            assert_eq!(got, want.map(|id| id.map(|id| Speaker(node(id)))), "{path} {caller:?}");
        }
    }
}

#[test]
fn only_managers_speak_for_others() {
    let (worker, manager) = (peer(Role::Worker, 1), peer(Role::Manager, 2));
    let admit = |caller: &Peer, claimed: &str| {
        table()
            .admit("/t.T/Session", Some(caller), Some(claimed.as_bytes()))
            .map_err(|status| (status.code(), status.message().to_owned()))
    };
    assert_eq!(admit(&worker, &node(1).to_string()), Ok(Some(Speaker(node(1)))));
    assert_eq!(admit(&manager, &node(1).to_string()), Ok(Some(Speaker(node(1)))));
    let text = format!("node {} may not speak for node {}", node(1), node(3));
    assert_eq!(admit(&worker, &node(3).to_string()), Err((Code::PermissionDenied, text)));
    for garbage in ["", "x", &"é".repeat(16)] {
        assert_eq!(admit(&manager, garbage).map_err(|e| e.0), Err(Code::InvalidArgument));
    }
}

#[test]
fn a_message_must_be_about_its_speaker() {
    assert!(Speaker(node(1)).check(node(1)).is_ok());
    assert!(Speaker(node(1)).check(node(2)).is_err());
    assert!(Speaker::of(&tonic::Request::new(())).is_err());
}

#[test]
fn table_must_fit_the_services_exactly() {
    let all = ["/t.T/Join", "/t.T/Read", "/t.T/Admin", "/t.T/Session"];
    assert_eq!(table().check(all), Ok(()));
    assert_eq!(
        table().check(all.into_iter().chain(["/t.T/New"])),
        Err(AuthzError::Uncovered { paths: vec!["/t.T/New".to_owned()] })
    );
    assert_eq!(
        table().check(all.into_iter().skip(1)),
        Err(AuthzError::Unknown { paths: vec!["/t.T/Join".to_owned()] })
    );
    let twice = AuthTable::new(&[("/a", Who::Manager), ("/a", Who::Anyone)]);
    assert_eq!(twice.err(), Some(AuthzError::Duplicate { path: "/a".to_owned() }));
}

#[test]
fn methods_are_read_from_descriptors() {
    // FileDescriptorSet { file { name: "t.proto" package: "t" service { name: "T" method { name: "Join" } } } }
    let set = [
        &[0x0a, 27][..],
        &[0x0a, 7],
        b"t.proto",
        &[0x12, 1],
        b"t",
        &[0x32, 11, 0x0a, 1],
        b"T",
        &[0x12, 6, 0x0a, 4],
        b"Join",
    ]
    .concat();
    let set = &mut set.clone();
    set[1] = (set.len() - 2) as u8;
    assert_eq!(method_paths(set, &["t.T"]), Ok(vec!["/t.T/Join".to_owned()]));
    assert_eq!(
        method_paths(set, &["t.U"]),
        Err(AuthzError::Unknown { paths: vec!["t.U".to_owned()] })
    );
    assert_eq!(method_paths(b"\xff\xff", &["t.T"]), Err(AuthzError::Descriptors));
}
