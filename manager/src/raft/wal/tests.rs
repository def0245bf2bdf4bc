//! The log against a model, against cuts at every byte, and against damage.

use std::path::PathBuf;
use std::sync::mpsc::channel;

use proptest::prelude::*;
use tempfile::TempDir;

use super::super::keyring::{Keyring, Lock};
use super::error::Damage;
use super::format::{self, Parsed, Place, Tag};
use super::recover::segment_path;
use super::seal::{Sealer, SegmentKey};
use super::*;

/// Small, so that a few entries fill a segment.
const SEGMENT: u64 = 4096;

fn try_open(dir: &Path) -> Result<(Wal, Recovered), WalError> {
    Wal::open(dir, SEGMENT, &at_rest(dir))
}

fn open(dir: &Path) -> (Wal, Recovered) {
    try_open(dir).unwrap()
}

/// The keys lie beside the log, as in a manager's folder.
fn at_rest(dir: &Path) -> AtRest {
    AtRest::new(Keyring::open(&dir.with_extension("keys"), None).unwrap())
}

/// What writes the first segment's records.
fn sealer(dir: &Path) -> Sealer {
    Sealer::new(SegmentKey::new(&at_rest(dir).keyring.current().1, 1)).unwrap()
}

fn write(wal: &Wal, op: Op) {
    let (done, wait) = channel();
    wal.submit(op, Box::new(move |result| done.send(result).unwrap()));
    wait.recv().unwrap().unwrap();
}

fn append(wal: &Wal, index: u64, bytes: &[u8]) {
    write(wal, Op::Append(vec![(index, bytes.to_vec())]));
}

fn indexes(recovered: &Recovered) -> Vec<u64> {
    recovered.entries.iter().map(|(index, _)| *index).collect()
}

fn segments(dir: &Path) -> Vec<PathBuf> {
    let names = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let mut names: Vec<_> =
        names.filter(|path| path.extension().is_some_and(|e| e == "wal")).collect();
    names.sort();
    names
}

/// Every file of the folder with its bytes, to show that nothing was changed.
fn contents(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let paths = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let mut all: Vec<_> = paths.map(|path| (path.clone(), fs::read(path).unwrap())).collect();
    all.sort();
    all
}

/// Where the records of a segment begin, and where the last one ends.
fn offsets(bytes: &[u8], segment: u64) -> (Vec<usize>, usize) {
    let (mut found, mut at) = (Vec::new(), format::SEGMENT_HEADER_LEN);
    while let Parsed::Record { next, .. } = format::parse_record(bytes, segment, at) {
        found.push(at);
        at = next;
    }
    (found, at)
}

#[test]
fn what_was_written_is_there_after_reopening() {
    let dir = TempDir::new().unwrap();
    let (wal, fresh) = open(dir.path());
    assert_eq!(fresh, Recovered::default());
    write(&wal, Op::Vote(b"vote".to_vec()));
    for index in 1..=5 {
        append(&wal, index, format!("entry {index}").as_bytes());
    }
    write(&wal, Op::Truncate { since: 5 });
    write(&wal, Op::Purge { upto: 2, id: b"two".to_vec() });
    write(&wal, Op::Committed(b"committed".to_vec()));
    drop(wal);
    let (_wal, again) = open(dir.path());
    assert_eq!(indexes(&again), [3, 4]);
    assert_eq!(again.entries[0].1, b"entry 3");
    assert_eq!(again.marks.vote.as_deref(), Some(&b"vote"[..]));
    assert_eq!(again.marks.committed.as_deref(), Some(&b"committed"[..]));
    assert_eq!(again.marks.purged, Some((2, b"two".to_vec())));
}

#[test]
fn full_segments_are_sealed_and_purged_ones_removed() {
    let dir = TempDir::new().unwrap();
    let (wal, _) = open(dir.path());
    write(&wal, Op::Vote(b"vote".to_vec()));
    for index in 1..=20 {
        append(&wal, index, &[7; 1000]);
    }
    assert!(segments(dir.path()).len() > 4);
    write(&wal, Op::Purge { upto: 18, id: Vec::new() });
    drop(wal);
    assert!(segments(dir.path()).len() <= 2, "{:?}", segments(dir.path()));
    let (wal, again) = open(dir.path());
    assert_eq!(indexes(&again), [19, 20]);
    assert_eq!(again.marks.vote.as_deref(), Some(&b"vote"[..]), "carried over by the checkpoint");
    append(&wal, 21, b"goes on");
}

#[test]
fn an_entry_larger_than_a_segment_gets_one_of_its_own() {
    let dir = TempDir::new().unwrap();
    let (wal, _) = open(dir.path());
    let large = vec![3; 50_000];
    append(&wal, 1, b"small");
    append(&wal, 2, &large);
    append(&wal, 3, b"small");
    drop(wal);
    let (_wal, again) = open(dir.path());
    assert_eq!(again.entries[1].1, large);
    assert_eq!(indexes(&again), [1, 2, 3]);
}

#[test]
fn a_folder_has_one_owner() {
    let dir = TempDir::new().unwrap();
    let (wal, _) = open(dir.path());
    assert!(matches!(try_open(dir.path()), Err(WalError::Locked { .. })));
    wal.close();
    open(dir.path());
    let (done, wait) = channel();
    wal.submit(Op::Truncate { since: 1 }, Box::new(move |result| done.send(result).unwrap()));
    assert!(matches!(wait.recv().unwrap(), Err(WalError::Closed)));
}

/// A crash leaves any prefix of the last write; the rest of the segment is zero.
#[test]
fn a_tail_torn_at_any_byte_is_cut() {
    let dir = TempDir::new().unwrap();
    let (wal, _) = open(dir.path());
    append(&wal, 1, b"kept");
    // Zeros inside and at the end must not look like a cut.
    append(&wal, 2, &[&[9; 700][..], &[0; 600]].concat());
    drop(wal);
    let path = &segments(dir.path())[0];
    let whole = fs::read(path).unwrap();
    let (starts, end) = offsets(&whole, 1);
    for cut in *starts.last().unwrap()..end {
        let mut torn = whole.clone();
        torn[cut..].fill(0);
        fs::write(path, &torn).unwrap();
        let (wal, again) = open(dir.path());
        assert_eq!(indexes(&again), [1], "cut at {cut}");
        append(&wal, 2, b"anew");
        drop(wal);
        let (_wal, again) = open(dir.path());
        assert_eq!(again.entries[1].1, b"anew", "cut at {cut}");
    }
}

/// The sectors of one write may reach the disk in any order.
#[test]
fn a_tail_with_a_lost_sector_is_cut_and_leaves_no_stale_record() {
    let dir = TempDir::new().unwrap();
    let (wal, _) = open(dir.path());
    append(&wal, 1, b"kept");
    write(&wal, Op::Append((2..=4).map(|index| (index, vec![8; 600])).collect()));
    drop(wal);
    let path = &segments(dir.path())[0];
    let whole = fs::read(path).unwrap();
    let (starts, end) = offsets(&whole, 1);
    for sector in starts[2] / 512..=(end - 1) / 512 {
        let mut torn = whole.clone();
        torn[(sector * 512).max(starts[2])..((sector + 1) * 512).min(end)].fill(0);
        fs::write(path, &torn).unwrap();
        let (wal, again) = open(dir.path());
        let kept = indexes(&again);
        assert!(kept.len() < 4 && kept == (1..=kept.len() as u64).collect::<Vec<_>>());
        append(&wal, kept.len() as u64 + 1, &[5; 600]);
        drop(wal);
        let (_wal, again) = open(dir.path());
        assert_eq!(indexes(&again).len(), kept.len() + 1, "sector {sector}");
    }
}

/// Flips each byte of what later records prove to be on disk; the last record is what a crash could have torn.
#[test]
fn any_flipped_byte_before_the_last_record_is_named_and_changes_nothing() {
    let dir = TempDir::new().unwrap();
    let (wal, _) = open(dir.path());
    for index in 1..=3 {
        append(&wal, index, b"some bytes");
    }
    drop(wal);
    let path = &segments(dir.path())[0];
    let whole = fs::read(path).unwrap();
    let (starts, _) = offsets(&whole, 1);
    for at in 0..*starts.last().unwrap() {
        for flip in [0x01, 0x80, whole[at]] {
            let mut damaged = whole.clone();
            damaged[at] ^= flip;
            if damaged == whole {
                continue;
            }
            fs::write(path, &damaged).unwrap();
            let before = contents(dir.path());
            let err = try_open(dir.path()).unwrap_err();
            let named = match &err {
                WalError::Corrupt { file, offset, .. } => file == path && *offset as usize <= at,
                WalError::UnknownVersion { file, .. } => file == path && (8..10).contains(&at),
                _ => false,
            };
            assert!(named, "byte {at} flipped by {flip:#x}: {err}");
            assert_eq!(contents(dir.path()), before, "byte {at}");
        }
    }
}

#[test]
fn rot_in_the_last_record_is_told_from_a_torn_write() {
    let dir = TempDir::new().unwrap();
    let (wal, _) = open(dir.path());
    append(&wal, 1, &[9; 2000]);
    drop(wal);
    let path = &segments(dir.path())[0];
    let mut damaged = fs::read(path).unwrap();
    let (starts, _) = offsets(&damaged, 1);
    damaged[starts[1] + 1000] ^= 0x10;
    fs::write(path, &damaged).unwrap();
    let err = try_open(dir.path()).unwrap_err();
    assert!(matches!(err, WalError::Corrupt { damage: Damage::Checksum, .. }), "{err}");
}

#[test]
fn an_older_segment_must_be_whole_and_there() {
    let dir = TempDir::new().unwrap();
    let (wal, _) = open(dir.path());
    for index in 1..=12 {
        append(&wal, index, &[7; 1000]);
    }
    drop(wal);
    let all = segments(dir.path());
    let whole = fs::read(&all[1]).unwrap();
    let (starts, end) = offsets(&whole, 2);
    let mut cut = whole.clone();
    cut[*starts.last().unwrap()..end].fill(0);
    fs::write(&all[1], &cut).unwrap();
    let err = try_open(dir.path()).unwrap_err();
    assert!(
        matches!(&err, WalError::Corrupt { file, damage: Damage::NoSeal, .. } if *file == all[1])
    );
    fs::write(&all[1], &whole).unwrap();
    // The first, one between others, the last, and all.
    let last = all.len() - 1;
    for missing in [vec![0], vec![1], vec![last], vec![last - 1, last], (0..=last).collect()] {
        let whole: Vec<_> = missing.iter().map(|at| fs::read(&all[*at]).unwrap()).collect();
        for at in &missing {
            fs::remove_file(&all[*at]).unwrap();
        }
        let before = contents(dir.path());
        let err = try_open(dir.path()).unwrap_err();
        let named = matches!(&err, WalError::Missing { file } if missing.iter().any(|at| *file == all[*at]));
        assert!(named, "{missing:?}: {err}");
        assert_eq!(contents(dir.path()), before);
        for (at, bytes) in missing.iter().zip(whole) {
            fs::write(&all[*at], bytes).unwrap();
        }
    }
    open(dir.path());
    let newest = dir.path().join("newest");
    for damaged in [&b""[..], &[0; 12], &[1; 13]] {
        fs::write(&newest, damaged).unwrap();
        let err = try_open(dir.path()).unwrap_err();
        assert!(matches!(&err, WalError::Corrupt { file, .. } if *file == newest), "{err}");
    }
}

#[test]
fn a_newer_version_is_refused_by_name() {
    let dir = TempDir::new().unwrap();
    open(dir.path());
    let path = &segments(dir.path())[0];
    let mut newer = fs::read(path).unwrap();
    newer[8] = 2;
    fs::write(path, &newer).unwrap();
    let err = try_open(dir.path()).unwrap_err();
    let text = format!("{} has format version 2, this build knows up to 1", path.display());
    assert_eq!(err.to_string(), text);
    assert_eq!(fs::read(path).unwrap(), newer);
}

#[test]
fn a_crash_between_segments_loses_nothing() {
    let dir = TempDir::new().unwrap();
    let (wal, _) = open(dir.path());
    for index in 1..=3 {
        append(&wal, index, &[7; 1000]);
    }
    drop(wal);
    // The first segment was sealed and the second never came to be; a spare was half made.
    let path = segment_path(dir.path(), 1);
    let mut bytes = fs::read(&path).unwrap();
    let (_, end) = offsets(&bytes, 1);
    let place = Place { segment: 1, offset: end, durable: end as u32 };
    let mut seal = Vec::new();
    format::encode_record(&mut seal, place, Tag::Seal, &[], &sealer(dir.path()));
    bytes[end..end + seal.len()].copy_from_slice(&seal);
    fs::write(&path, bytes).unwrap();
    fs::write(dir.path().join("spare.tmp"), b"half").unwrap();
    let (wal, again) = open(dir.path());
    assert_eq!(indexes(&again), [1, 2, 3]);
    append(&wal, 4, b"next");
    drop(wal);
    assert_eq!(segments(dir.path()).len(), 2);
    assert_eq!(indexes(&open(dir.path()).1), [1, 2, 3, 4]);
}

#[test]
fn nothing_of_an_entry_is_readable_on_the_disk() {
    let dir = TempDir::new().unwrap();
    let (wal, _) = open(dir.path());
    let secret = b"a secret that no disk may show";
    write(&wal, Op::Vote(secret.to_vec()));
    append(&wal, 1, secret);
    append(&wal, 2, &[7; 5000]);
    drop(wal);
    for (path, bytes) in contents(dir.path()) {
        let shown = bytes.windows(8).any(|w| secret.windows(8).any(|s| s == w));
        assert!(!shown, "{}", path.display());
    }
}

#[test]
fn an_entry_that_was_moved_or_exchanged_is_refused() {
    let dir = TempDir::new().unwrap();
    let (wal, _) = open(dir.path());
    append(&wal, 1, b"number one");
    append(&wal, 2, b"number two");
    drop(wal);
    let path = &segments(dir.path())[0];
    let whole = fs::read(path).unwrap();
    let (starts, _) = offsets(&whole, 1);
    let Parsed::Record { payload, .. } = format::parse_record(&whole, 1, starts[1]) else {
        panic!("a record")
    };
    // With sound checksums: by someone who knows the format, but not the key.
    let mut forged = Vec::new();
    let other = Sealer::new(SegmentKey::new(&swarmnet_pki::SecretKey::from_bytes([1; 32]), 1));
    let place = Place { segment: 1, offset: starts[2], durable: starts[2] as u32 };
    let text = vec![0; payload.len() - super::seal::OVERHEAD];
    format::encode_record(&mut forged, place, Tag::Append, &[&text], &other.unwrap());
    let mut damaged = whole.clone();
    damaged[starts[2]..starts[2] + forged.len()].copy_from_slice(&forged);
    fs::write(path, &damaged).unwrap();
    let err = try_open(dir.path()).unwrap_err();
    let named = matches!(&err, WalError::Corrupt { file, offset, damage: Damage::Seal }
        if file == path && *offset as usize == starts[2]);
    assert!(named, "{err}");
    assert_eq!(fs::read(path).unwrap(), damaged);
}

#[test]
fn no_nonce_comes_twice_when_a_cut_record_is_written_anew() {
    let dir = TempDir::new().unwrap();
    let (wal, _) = open(dir.path());
    append(&wal, 1, b"first life");
    drop(wal);
    let path = &segments(dir.path())[0];
    let whole = fs::read(path).unwrap();
    let (starts, end) = offsets(&whole, 1);
    let mut torn = whole.clone();
    torn[end - 8..].fill(0);
    fs::write(path, &torn).unwrap();
    let (wal, _) = open(dir.path());
    append(&wal, 1, b"first life");
    drop(wal);
    let again = fs::read(path).unwrap();
    assert_ne!(whole[starts[1]..end], again[starts[1]..end], "same text, same place, another seal");
}

#[test]
fn after_a_change_of_the_key_old_segments_are_read_and_new_ones_sealed_anew() {
    let dir = TempDir::new().unwrap();
    let at_rest = at_rest(dir.path());
    let (wal, _) = Wal::open(dir.path(), SEGMENT, &at_rest).unwrap();
    append(&wal, 1, b"old");
    at_rest.keyring.set_lock(Lock { version: 1, key: None }).unwrap();
    append(&wal, 2, b"old too");
    write(&wal, Op::Roll);
    append(&wal, 3, b"new");
    drop(wal);
    let keys: Vec<_> = segments(dir.path())
        .iter()
        .zip(1..)
        .map(|(path, n)| format::check_segment_header(&fs::read(path).unwrap(), n).unwrap())
        .collect();
    assert_eq!(keys, [1, 2]);
    // A crash before the log was rolled: the next opening does it.
    at_rest.keyring.set_lock(Lock { version: 2, key: None }).unwrap();
    let (wal, again) = open(dir.path());
    assert_eq!(indexes(&again), [1, 2, 3]);
    assert_eq!(wal.keys(), &[1, 2].into());
    assert_eq!(segments(dir.path()).len(), 3);
    write(&wal, Op::Purge { upto: 3, id: Vec::new() });
    drop(wal);
    let (wal, _) = open(dir.path());
    assert_eq!(wal.keys(), &[3].into());
    drop(wal);
    // The keys of another machine.
    let other = TempDir::new().unwrap();
    let other = AtRest::new(Keyring::open(other.path(), None).unwrap());
    let err = Wal::open(dir.path(), SEGMENT, &other).unwrap_err();
    assert!(matches!(err, WalError::NoKey { key: 3, .. }), "{err}");
}

/// What the log should say after each op.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Model {
    vote: Option<Vec<u8>>,
    purged: Option<u64>,
    entries: Vec<(u64, Vec<u8>)>,
}

#[derive(Debug, Clone)]
enum Step {
    Vote(u8),
    Append {
        count: u8,
        len: u16,
    },
    /// Keep this share (of 255) of the entries.
    Truncate(u8),
    Purge(u8),
    Committed(u8),
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        1 => any::<u8>().prop_map(Step::Vote),
        6 => (1..6_u8, 0..1500_u16).prop_map(|(count, len)| Step::Append { count, len }),
        1 => any::<u8>().prop_map(Step::Truncate),
        1 => any::<u8>().prop_map(Step::Purge),
        1 => any::<u8>().prop_map(Step::Committed),
        1 => Just(Step::Reopen),
    ]
}

impl Model {
    fn next(&self) -> u64 {
        self.entries.last().map_or(self.purged.unwrap_or(0), |(index, _)| *index) + 1
    }

    /// The op of a step, applied to the model.
    fn apply(&mut self, step: &Step) -> Option<Op> {
        let share = |part: u8| self.entries.len() * usize::from(part) / 255;
        Some(match *step {
            Step::Vote(vote) => {
                self.vote = Some(vec![vote]);
                Op::Vote(vec![vote])
            }
            Step::Append { count, len } => {
                let first = self.next();
                let new = (first..first + u64::from(count))
                    .map(|index| (index, vec![index as u8; usize::from(len)]));
                let new: Vec<_> = new.collect();
                self.entries.extend(new.clone());
                Op::Append(new)
            }
            Step::Truncate(part) => {
                let keep = share(part);
                let since = self.entries.get(keep).map_or(self.next(), |(index, _)| *index);
                self.entries.truncate(keep);
                Op::Truncate { since }
            }
            Step::Purge(part) => {
                let count = share(part).checked_sub(1)?;
                let upto = self.entries[count].0;
                self.entries.drain(..=count);
                self.purged = Some(upto);
                Op::Purge { upto, id: upto.to_le_bytes().to_vec() }
            }
            Step::Committed(committed) => Op::Committed(vec![committed]),
            Step::Reopen => return None,
        })
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn reopening_gives_what_the_model_says(steps in prop::collection::vec(step(), 1..60)) {
        let dir = TempDir::new().unwrap();
        let mut model = Model::default();
        let (mut wal, _) = open(dir.path());
        for step in steps.iter().chain([&Step::Reopen]) {
            if let Some(op) = model.apply(step) {
                write(&wal, op);
            }
            if matches!(step, Step::Reopen) {
                drop(wal);
                let recovered;
                (wal, recovered) = open(dir.path());
                let found = Model {
                    vote: recovered.marks.vote.clone(),
                    purged: recovered.marks.purged.as_ref().map(|(upto, _)| *upto),
                    entries: recovered.entries.clone().into(),
                };
                prop_assert_eq!(&found, &model);
            }
        }
    }

    /// Whatever stands in a segment, opening answers; it never panics.
    #[test]
    fn garbage_is_refused_or_cut(garbage in prop::collection::vec(any::<u8>(), 0..600), at in 0..4096_usize) {
        let dir = TempDir::new().unwrap();
        let (wal, _) = open(dir.path());
        append(&wal, 1, b"first");
        append(&wal, 2, b"second");
        drop(wal);
        let path = &segments(dir.path())[0];
        let mut bytes = fs::read(path).unwrap();
        let end = (at + garbage.len()).min(bytes.len());
        bytes[at..end].copy_from_slice(&garbage[..end - at]);
        fs::write(path, bytes).unwrap();
        if let Ok((_wal, recovered)) = try_open(dir.path()) {
            prop_assert!(recovered.entries.len() <= 2);
        }
    }
}
