//! After `lab down` the machine is as it was before `lab up`, also when nodes and daemons died meanwhile (L4).

use std::time::Duration;

use swarmnet_tests::{Machine, eventually};

use crate::web;

#[test]
fn a_lab_leaves_nothing_behind() {
    let before = Machine::snapshot();
    let mut lab = web("gone", "--managers 1 --agents 3", &["a1", "a2"]);
    assert_eq!(before, Machine::snapshot(), "a lab that runs changes nothing outside either");
    lab.ok("m1", "service publish web published=5000,target=80");
    lab.ok("a3", "sandbox create box");
    let namespaces = Machine::namespaces_of(&lab);
    let folder = lab.folder().to_string_lossy().into_owned();
    assert!(Machine::processes(&namespaces, &folder).len() > 6, "its processes are seen");
    lab.node("kill", "a1");
    lab.node("crash", "a2");
    lab.down();
    assert_eq!(before, Machine::snapshot());
    // A killed process is gone a moment after the kill.
    let left = || Machine::processes(&namespaces, &folder);
    assert!(eventually(Duration::from_secs(2), || left().is_empty()).is_some(), "{:?}", left());
    // The folder of all labs goes with the last one.
    let files: Vec<_> = std::fs::read_dir(lab.folder()).into_iter().flatten().collect();
    assert!(files.is_empty(), "{files:?}");
}
