//! A state folder that an earlier version wrote (`tests/fixtures/node`), under this one's daemon (C14). What each of its files holds is
//! looked at without a lab, in `inside/formats.rs`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use swarmnet_tests::{Lab, eventually, stderr, stdout};

/// An election and a view; a test machine may be busy.
const BACK_MAX: Duration = Duration::from_secs(20);

fn recordings() -> Vec<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/node");
    let mut all: Vec<_> =
        fs::read_dir(dir).expect("fixtures").map(|entry| entry.expect("listed").path()).collect();
    all.sort();
    all
}

#[test]
fn a_manager_goes_on_from_what_an_earlier_version_wrote() {
    let mut lab = Lab::up("earlier", "--managers 1 --agents 0 --clients 1");
    let state = lab.folder().join("earlier/m1/state");
    for recording in recordings() {
        lab.node("stop", "m1");
        fs::remove_dir_all(&state).expect("the lab's own");
        let mut copy = Command::new("cp");
        copy.arg("-r").arg(recording.join("state")).arg(&state);
        assert!(copy.status().expect("cp runs").success());
        // A checkout knows no modes.
        let mut restrict = Command::new("chmod");
        restrict.args(["-R", "go="]).arg(&state);
        assert!(restrict.status().expect("chmod runs").success());
        // Their namespaces would lie in the folder of the lab that was recorded.
        fs::remove_dir_all(state.join("sandboxes")).expect("recorded");

        let place = state.join("node.json");
        let text = fs::read_to_string(&place).expect("recorded");
        fs::write(&place, text.replace("\"version\":1", "\"version\":2")).expect("written");
        let out = lab.try_node("start", "m1");
        assert_eq!(out.status.code(), Some(1), "{}", stdout(&out));
        let sentence = format!("{} was written by a newer version (format 2, ", place.display());
        assert!(stderr(&out).contains(&sentence), "{}", stderr(&out));

        fs::write(&place, text).expect("written");
        lab.node("start", "m1");
        let back =
            eventually(BACK_MAX, || lab.swarmnet("m1", "service inspect web").status.success());
        assert!(back.is_some(), "{}: {}", recording.display(), lab.ok("m1", "info"));
        let networks = lab.ok("m1", "network ls --format {{.Name}}");
        assert!(["blue", "house"].iter().all(|name| networks.contains(name)), "{networks}");
        lab.ok("m1", "run --name w3 --network blue -- true");
    }
    lab.down();
}
