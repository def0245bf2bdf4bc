//! Who makes room, by a clock of the test's.

use super::*;

const GRACE: Duration = Duration::from_millis(500);
const A: SandboxId = SandboxId::from_bytes([1; 16]);
const B: SandboxId = SandboxId::from_bytes([2; 16]);

fn at(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

struct World {
    table: Table,
    tokens: BTreeMap<u64, CancellationToken>,
}

impl World {
    fn new(per_sandbox: usize, total: usize) -> Self {
        let limits = Limits { per_sandbox, total, grace: GRACE };
        Self { table: Table::new(limits), tokens: BTreeMap::new() }
    }

    fn admit(&mut self, sandbox: SandboxId, ms: u64) -> Option<u64> {
        let closed = CancellationToken::new();
        let id = self.table.admit(sandbox, at(ms), &closed)?;
        self.tokens.insert(id, closed);
        Some(id)
    }

    fn set(&mut self, sandbox: SandboxId, id: u64, ms: u64, change: fn(&mut Entry)) {
        let own = self.table.sandboxes.get_mut(&sandbox).expect("a sandbox with clients");
        let entry = own.get_mut(&id).expect("a connection");
        change(entry);
        entry.since = at(ms);
    }

    fn told_to_close(&self) -> Vec<u64> {
        let told = self.tokens.iter().filter(|(_, closed)| closed.is_cancelled());
        told.map(|(id, _)| *id).collect()
    }
}

#[test]
fn the_answered_go_first_then_the_silent_and_never_one_in_work() {
    let mut world = World::new(4, 100);
    let [silent, in_work, answered, earlier] =
        [0; 4].map(|ms| world.admit(A, ms).expect("room for four"));
    world.set(A, in_work, 10, |entry| entry.in_work = 1);
    world.set(A, answered, 700, |entry| entry.answered = true);
    world.set(A, earlier, 600, |entry| entry.answered = true);
    for (want, ms) in [(earlier, 800), (answered, 801), (silent, 802)] {
        assert_eq!(world.admit(A, ms), None);
        assert_eq!(world.admit(A, ms), None, "one at a time");
        assert_eq!(world.told_to_close(), [want]);
        world.table.remove(A, want);
        world.tokens.remove(&want);
        let newcomer = world.admit(A, ms).expect("room was made");
        world.set(A, newcomer, ms, |entry| entry.in_work = 1);
    }
    assert_eq!(world.admit(A, 60_000), None);
    assert_eq!(world.told_to_close(), [] as [u64; 0], "all are in work");
    world.set(A, in_work, 60_000, |entry| entry.writing = true);
    assert_eq!(world.admit(A, 60_499), None);
    assert_eq!(world.told_to_close(), [] as [u64; 0], "the client may still take its answer");
    assert_eq!(world.admit(A, 60_500), None);
    assert_eq!(world.told_to_close(), [in_work], "it does not take its answer");
}

#[test]
fn who_has_only_just_come_is_left_its_grace() {
    let mut world = World::new(2, 100);
    let first = world.admit(A, 0).expect("room");
    world.admit(A, 100).expect("room");
    assert_eq!(world.admit(A, 499), None);
    assert_eq!(world.told_to_close(), [] as [u64; 0]);
    assert_eq!(world.admit(A, 500), None);
    assert_eq!(world.told_to_close(), [first]);
}

#[test]
fn at_the_limit_over_all_the_fuller_sandbox_gives_way() {
    let mut world = World::new(10, 4);
    let ids = [0, 1, 2].map(|ms| world.admit(A, ms).expect("room"));
    let other = world.admit(B, 3).expect("room");
    assert_eq!(world.admit(A, 1000), None);
    assert_eq!(world.told_to_close(), [ids[0]], "of its own, not of the emptier one");
    world.table.remove(A, ids[0]);
    assert!(world.admit(B, 1001).is_some());
    assert_eq!(world.admit(B, 2000), None);
    assert_eq!(world.told_to_close(), [ids[0], other], "equals do not take from each other");
    assert_eq!(world.table.total, 4);
}
