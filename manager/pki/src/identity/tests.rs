//! Files of an identity: round trip, and every way in which they can be wrong.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use tempfile::TempDir;

use super::*;
use crate::ca::{BACKDATE, Ca, Issue};

const DAY: Duration = Duration::from_hours(24);

struct Fixture {
    dir: TempDir,
    ca: Ca,
    now: SystemTime,
}

impl Fixture {
    fn new() -> Self {
        let now = crate::peer::system_time(1_800_000_000);
        let ca = Ca::create(ClusterId::from_bytes([7; 16]), now).expect("a CA");
        Self { dir: TempDir::new().expect("a folder"), ca, now }
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    fn chain_pem(&self, key: &NodeKey) -> String {
        let issue =
            Issue { node_id: NodeId::from_bytes([1; 16]), role: Role::Worker, lifetime: DAY * 90 };
        self.ca.sign_csr(&key.csr().expect("a request"), &issue, self.now).expect("signed")
    }

    fn identity(&self, key: NodeKey) -> Result<NodeIdentity, PkiError> {
        let chain_pem = self.chain_pem(&key);
        NodeIdentity::new(key, &chain_pem, self.ca.cert_pem())
    }

    fn stored(&self) -> NodeIdentity {
        let key = NodeKey::ensure(self.path()).expect("a key");
        let identity = self.identity(key).expect("an identity");
        identity.store(self.path()).expect("stored");
        identity
    }

    /// Loading fails with a line that begins with the file's path and contains `words`; the files are as before.
    fn refuses(&self, file: &str, words: &str) {
        let snapshot =
            || [KEY_FILE, CERT_FILE, CA_FILE].map(|f| fs::read(self.path().join(f)).ok());
        let before = snapshot();
        let text = NodeIdentity::load(self.path(), None).expect_err("refused").to_string();
        let path = self.path().join(file).display().to_string();
        assert!(text.starts_with(&path) && text.contains(words), "{text}");
        assert_eq!(snapshot(), before);
    }
}

#[test]
fn identity_survives_a_restart() {
    let fixture = Fixture::new();
    assert!(NodeIdentity::load(fixture.path(), None).expect("no error").is_none(), "not joined");
    let stored = fixture.stored();
    let loaded = NodeIdentity::load(fixture.path(), None).expect("no error").expect("joined");
    assert_eq!(loaded.peer(), stored.peer());
    assert!(loaded.trusts(fixture.ca.fingerprint()));
    let mode = |file| fs::metadata(fixture.path().join(file)).expect("a file").permissions().mode();
    assert_eq!(mode(KEY_FILE) & 0o777, 0o600);
    let names = fs::read_dir(fixture.path()).expect("a folder").count();
    assert_eq!(names, 3, "no temporary files");
}

#[test]
fn a_key_is_made_once() {
    let fixture = Fixture::new();
    let first = NodeKey::ensure(fixture.path()).expect("made");
    let second = NodeKey::ensure(fixture.path()).expect("read");
    assert_eq!(first.0.serialize_der(), second.0.serialize_der());
}

#[test]
fn wrong_files_are_refused_by_name() {
    let fixture = Fixture::new();
    let stored = fixture.stored();
    let path = |file: &str| fixture.path().join(file);
    let restore = || {
        drop(fs::remove_file(path(KEY_FILE)));
        stored.store(fixture.path()).expect("stored");
    };

    fs::write(path(CERT_FILE), "").expect("written");
    fixture.refuses(CERT_FILE, "no certificate found");
    fs::write(path(CERT_FILE), &stored.chain_pem()[..200]).expect("written");
    fixture.refuses(CERT_FILE, "damaged PEM");
    fs::write(path(CERT_FILE), fixture.ca.cert_pem()).expect("written");
    fixture.refuses(CERT_FILE, "not a swarmnet certificate");
    let other = fixture.identity(NodeKey::generate().expect("a key")).expect("an identity");
    fs::write(path(CERT_FILE), other.chain_pem()).expect("written");
    fixture.refuses(CERT_FILE, "made for another key");
    fs::write(path(CERT_FILE), "# swarmnet file format 2\nnew things").expect("written");
    fixture.refuses(CERT_FILE, "newer than this swarmnet reads (1): upgrade");
    restore();

    fs::write(path(CA_FILE), "junk").expect("written");
    fixture.refuses(CA_FILE, "no CA certificate found");
    fs::write(path(CA_FILE), Fixture::new().ca.cert_pem()).expect("written");
    fixture.refuses(CERT_FILE, "not signed by the CA beside it");
    fs::remove_file(path(CA_FILE)).expect("removed");
    fixture.refuses(CA_FILE, "not found");
    restore();

    fs::write(path(KEY_FILE), "junk").expect("written");
    fixture.refuses(KEY_FILE, "no private key found");
    fs::set_permissions(path(KEY_FILE), fs::Permissions::from_mode(0o640)).expect("changed");
    fixture.refuses(KEY_FILE, "mode 0640 lets others read");
    fs::remove_file(path(KEY_FILE)).expect("removed");
    fixture.refuses(KEY_FILE, "not found");
    restore();
    assert!(NodeIdentity::load(fixture.path(), None).is_ok_and(|found| found.is_some()));
}

#[test]
fn a_crash_while_writing_leaves_no_trap() {
    let fixture = Fixture::new();
    let stored = fixture.stored();
    fs::write(fixture.path().join("node.crt.tmp"), "half").expect("written");
    stored.store(fixture.path()).expect("stored over the rest of a crash");
    assert!(!fixture.path().join("node.crt.tmp").exists());
}

#[test]
fn the_clock_judges_but_does_not_refuse() {
    let fixture = Fixture::new();
    let identity = fixture.stored();
    let starts = fixture.now - BACKDATE;
    let ended = fixture.now + DAY * 90;
    assert_eq!(identity.validity(SystemTime::UNIX_EPOCH), Validity::NotYet { starts });
    assert_eq!(identity.validity(fixture.now), Validity::Valid);
    assert_eq!(identity.validity(ended + DAY), Validity::Expired { ended });
    assert_eq!(identity.renew_at(0), fixture.now + DAY * 45);
    assert_eq!(identity.renew_at(255), fixture.now + DAY * 72);
}

#[test]
fn a_sealed_key_opens_with_its_seal_only_and_lies_open_nowhere() {
    let fixture = Fixture::new();
    let stored = fixture.stored();
    let (seal, other) = (SecretKey::from_bytes([1; 32]), SecretKey::from_bytes([2; 32]));
    let plain = fs::read_to_string(fixture.path().join(KEY_FILE)).expect("a key");
    stored.key().protect(fixture.path(), Some(&seal)).expect("sealed");
    let secret = plain.lines().nth(2).expect("a line of base64");
    for name in [KEY_FILE, CERT_FILE, CA_FILE] {
        let text = fs::read_to_string(fixture.path().join(name)).expect("a file");
        assert!(!text.contains(secret), "{name}");
    }
    fixture.refuses(KEY_FILE, "the node key is encrypted");
    let err = NodeIdentity::load(fixture.path(), Some(&other)).expect_err("another seal");
    assert!(err.to_string().ends_with("the node key does not open with this key"), "{err}");
    let loaded = NodeIdentity::load(fixture.path(), Some(&seal)).expect("opens").expect("joined");
    assert_eq!(loaded.peer(), stored.peer());
    let peer = NodeIdentity::stored_peer(fixture.path()).expect("readable").expect("joined");
    assert_eq!(peer, *stored.peer(), "known without any key");
    // A renewal keeps the form of the key.
    loaded.store(fixture.path()).expect("stored");
    fixture.refuses(KEY_FILE, "the node key is encrypted");
    loaded.key().protect(fixture.path(), None).expect("plain again");
    assert!(NodeIdentity::load(fixture.path(), None).expect("readable").is_some());
}
