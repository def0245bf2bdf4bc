//! The files of a node (C14): those that earlier versions wrote are read, and those that a later one may write are refused by number.
//!
//! A recording (`tests/fixtures/node`) is a manager's state folder (`state`), `raft` and `certs` of the same manager when it was locked
//! (`locked`, `unlock-key`), a backup and a join token. Zeros at the ends of log segments are left out.

use std::fmt::Display;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use swarmnet_agent::local::outbox::Outbox;
use swarmnet_agent::local::{LocalStore, files};
use swarmnet_agent::paths::Paths;
use swarmnet_agent::shim::status::Status;
use swarmnet_agent::shim::{SHIM, ShimSpec};
use swarmnet_agent::{verdicts, view_file};
use swarmnet_manager::raft::{Keyring, RaftConfig, Remains, backup};
use swarmnet_pki::{JoinToken, NodeIdentity, UnlockKey};
use swarmnet_tests::{Lab, eventually};
use swarmnet_types::{EndpointId, Role};
use tempfile::TempDir;

use crate::recorded;

const SUBJECT: &str = "node";
/// An endpoint that the recorded node has yet to give back.
const LETTER: EndpointId = EndpointId::from_bytes([7; 16]);

/// What all readers together have found in a state folder.
struct Found {
    identity: NodeIdentity,
    cluster: Remains,
    local: LocalStore,
    outbox: Outbox,
    dead: usize,
    view_networks: usize,
    running: usize,
}

fn said(err: impl Display) -> String {
    err.to_string()
}

/// Reads each file by the function that the daemon reads it with.
async fn read(state: &Path, unlock: Option<&UnlockKey>) -> Result<Found, String> {
    let paths = Paths::new(state, state.join("run"));
    let keyring = Keyring::open(&paths.raft(), unlock).map_err(said)?;
    let config = RaftConfig::new(paths.raft(), 1);
    let cluster = Remains::read(&config, &keyring).await.map_err(said)?;
    let identity = NodeIdentity::load(&paths.certs(), Some(&keyring.node_key())).map_err(said)?;
    let local = LocalStore::open(&paths).map_err(said)?;
    let mut running = 0;
    for id in local.current().sandboxes.keys() {
        let sandbox = paths.sandbox(*id);
        files::read::<ShimSpec>(&sandbox.shim(), SHIM).map_err(said)?.ok_or("no shim.json")?;
        running += usize::from(Status::read(&sandbox).map_err(said)?.is_some());
    }
    let view = view_file::read(&paths.view()).map_err(said)?;
    Ok(Found {
        identity: identity.ok_or("no identity")?,
        cluster,
        local,
        outbox: Outbox::open(&paths).map_err(said)?,
        dead: verdicts::read(&paths.verdicts()).map_err(said)?.len(),
        view_networks: view.map_or(0, |view| view.networks.len()),
        running,
    })
}

/// A copy that may be changed.
fn copy(recording: &Path) -> TempDir {
    let dir = TempDir::new().expect("a folder");
    copy_into(recording, dir.path());
    dir
}

fn copy_into(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).expect("a folder") {
        let entry = entry.expect("listed");
        let to = to.join(entry.file_name());
        if entry.file_type().expect("known").is_dir() {
            fs::create_dir_all(&to).expect("made");
            copy_into(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), &to).expect("copied");
            restrict(&to);
        }
    }
}

/// Keys have the mode they are written with, whatever a checkout gave them.
fn restrict(file: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(file, fs::Permissions::from_mode(0o600)).expect("ours");
}

fn text(path: &Path) -> String {
    fs::read_to_string(path).expect("recorded").trim().to_owned()
}

#[tokio::test]
async fn files_of_earlier_versions_are_read() {
    for recording in recorded::all(SUBJECT) {
        let copy = copy(&recording);
        let state = copy.path().join("state");
        let found = read(&state, None).await.unwrap_or_else(|err| panic!("{recording:?}: {err}"));
        assert_eq!(found.identity.role(), Role::Manager);
        let cluster = &found.cluster.state;
        assert_eq!(cluster.cluster().expect("founded").id, found.identity.cluster());
        let blue = cluster.find_network("blue").expect("a network");
        assert_eq!(blue.subnets[0].subnet.to_string(), "10.77.0.0/24");
        let web = cluster.find_service("web").expect("a service");
        assert_eq!(cluster.tasks_of(web.id).count(), 2, "w1, on blue and on the fabric");
        assert_eq!(cluster.find_node("m1").expect("a node").labels["rack"], "7");
        assert_eq!(cluster.further_tokens().count(), 1);
        let local = found.local.current();
        let names: Vec<_> = local.networks.values().map(|n| n.spec.name.as_str()).collect();
        assert!(names.contains(&"house"), "{names:?}");
        assert_eq!((local.sandboxes.len(), found.running), (2, 2));
        assert!(found.outbox.is_releasing(&LETTER));
        assert_eq!((found.dead, found.view_networks), (1, 2), "a1 is dead; blue and ingress");

        let backup = fs::read(recording.join("backup")).expect("recorded");
        let saved = backup::read(&backup, None).expect("a backup");
        assert!(saved.state.find_service("web").is_ok());
        let token: JoinToken = text(&recording.join("token")).parse().expect("a token");
        assert!(found.identity.trusts(token.ca_fingerprint));
    }
}

#[tokio::test]
async fn files_of_a_locked_manager_are_read_with_its_key() {
    for recording in recorded::all(SUBJECT) {
        let copy = copy(&recording);
        let locked = copy.path().join("locked");
        let key: UnlockKey = text(&recording.join("unlock-key")).parse().expect("a key");
        let raft = locked.join("raft");
        assert!(Keyring::open(&raft, None).is_err(), "locked");
        let keyring = Keyring::open(&raft, Some(&key)).expect("unlocked");
        let config = RaftConfig::new(raft, 1);
        let remains = Remains::read(&config, &keyring).await.expect("read");
        assert!(remains.state.find_service("web").is_ok());
        let identity = NodeIdentity::load(&locked.join("certs"), Some(&keyring.node_key()));
        assert!(identity.expect("opened").is_some());
    }
}

/// The first file below `dir` whose path ends so.
fn find(dir: &Path, end: &str) -> PathBuf {
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder") {
            let path = entry.expect("listed").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.ends_with(end) || path.to_string_lossy().ends_with(end) {
                return path;
            }
        }
    }
    panic!("no {end} in {}", dir.display());
}

/// Makes a file one of format 2.
fn renumber(path: &Path) {
    let mut bytes = fs::read(path).expect("recorded");
    let at =
        |text: &[u8]| bytes.windows(text.len()).position(|w| w == text).map(|at| at + text.len());
    let number = at(b"# swarmnet file format ").or_else(|| at(b"\"version\":"));
    if let Some(at) = number {
        bytes[at] = b'2';
    } else {
        // Magic, then two bytes, little endian: 6 bytes of magic in a view, 8 elsewhere.
        let at = if bytes.starts_with(b"SWVIEW") { 6 } else { 8 };
        assert_eq!(bytes[at..at + 2], [1, 0], "{}", path.display());
        bytes[at] = 2;
    }
    fs::write(path, bytes).expect("written");
}

#[tokio::test]
async fn files_of_a_later_version_are_refused_by_number_and_left_alone() {
    let recording = recorded::all(SUBJECT).pop().expect("at least one");
    for end in [
        "certs/node.key",
        "certs/node.crt",
        "certs/ca.crt",
        "raft/keys",
        "01.wal",
        ".snapshot",
        "/view",
        "verdicts.json",
        "outbox.json",
        ".json",
        "sandbox.json",
        "shim.json",
        "status.json",
    ] {
        let copy = copy(&recording);
        let state = copy.path().join("state");
        let dir = if end == ".json" { state.join("networks") } else { state.clone() };
        let path = find(&dir, end);
        renumber(&path);
        let before = fs::read(&path).expect("there");
        let Err(err) = read(&state, None).await else {
            panic!("{}: read, though it is of a later version", path.display());
        };
        assert!(err.contains(&*path.to_string_lossy()), "{end}: {err}");
        assert!(err.contains("format version 2") || err.contains("format 2"), "{end}: {err}");
        assert_eq!(fs::read(&path).expect("there"), before, "{end}");
    }
}

/// Cuts off the room that a log segment has left.
fn trim(segment: &Path) {
    let mut bytes = fs::read(segment).expect("a segment");
    let used = bytes.iter().rposition(|b| *b != 0).map_or(0, |at| at + 1);
    bytes.truncate(used);
    fs::write(segment, bytes).expect("written");
}

#[tokio::test]
#[ignore = "records the files of this version; as root"]
async fn record_a_node() {
    let dir = recorded::begin(SUBJECT, env!("CARGO_PKG_VERSION"));
    let lab = Lab::up("record", "--managers 1 --agents 1 --clients 0");
    let node = lab.folder().join("record/m1/state");
    // Nothing of the recording machine is in what a sandbox keeps of its caller.
    let run = |words: &str| {
        let script = format!(
            "s=$(command -v swarmnet); exec env -i PATH=/usr/bin:/bin SWARMNET_SOCKET=$SWARMNET_SOCKET $s run -d {words}"
        );
        assert!(lab.exec("m1", &["sh", "-c", &script]).status.success(), "{words}");
    };
    // Certificates that outlive the recording.
    lab.ok("m1", "manager ca --rotate --cert-expiry 87600h");
    lab.ok("m1", "network create -d overlay --subnet 10.77.0.0/24 --attachable blue");
    lab.ok("m1", "network create --subnet 172.30.9.0/24 house");
    lab.ok("m1", "node update --label-add rack=7 m1");
    run("--name w1 --network blue --service web -- sleep 100000");
    run("--name w2 --network house -p 8088:80 -- sleep 100000");
    lab.ok("m1", "service publish web 5000:80");
    lab.ok("m1", "manager update --autolock=true");
    fs::write(dir.join("unlock-key"), lab.ok("m1", "manager unlock-key -q")).expect("written");
    for part in ["raft", "certs"] {
        let to = dir.join("locked").join(part);
        fs::create_dir_all(&to).expect("made");
        copy_into(&node.join(part), &to);
    }
    lab.ok("m1", "manager update --autolock=false");
    lab.ok("m1", "manager token --uses 3 worker");
    lab.ok("m1", &format!("manager backup {}", dir.join("backup").display()));
    fs::write(dir.join("token"), lab.ok("m1", "manager token -q worker")).expect("written");
    lab.node("crash", "a1");
    let dead = eventually(Duration::from_secs(20), || node.join("verdicts.json").exists());
    assert!(dead.is_some(), "the death of a1 is written down");
    lab.node("stop", "m1");
    let state = dir.join("state");
    fs::create_dir_all(&state).expect("made");
    copy_into(&node, &state);
    fs::remove_file(state.join("daemon.log")).expect("it has one");
    for raft in [state.join("raft"), dir.join("locked/raft")] {
        for entry in fs::read_dir(raft.join("log")).expect("a folder") {
            let path = entry.expect("listed").path();
            if path.extension().is_some_and(|end| end == "wal") {
                trim(&path);
            }
        }
    }
    Outbox::open(&Paths::new(&state, &state)).expect("none yet").release(&[LETTER]).await;
}
