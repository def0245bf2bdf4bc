//! The simulation: three managers and five agents on five machines, with everything that can go wrong between them, from one seed.
//!
//! For real: the replicated state, its views and deltas, what a session sends next (`Push`), how a node takes it (`fold`), which
//! endpoints a node gives back (`orphans`), the gossip engine with foca, the merge into a wish, the reconciler and the planners over
//! the model kernel. Played, after the code they stand for: Raft (`raft.rs` says why), the writer of a manager, the frames of a
//! session, calls and their retries, the life of a sandbox; time, messages, disks and faults.
//!
//! One seed is one run, to the last message. A failure names its seed and the command that repeats it:
//! - `SWARMNET_SIM_SEED`: the first seed (1);
//! - `SWARMNET_SIM_SEEDS`: how many (CI's number);
//! - `SWARMNET_SIM_TRACE=1`: every line of the run.
#![forbid(unsafe_code)]

mod agent;
mod bugs;
mod client;
mod context;
mod faults;
mod invariants;
mod manager;
mod network;
mod operator;
mod packet;
mod plane;
mod raft;
mod trace;
mod truth;
mod world;

pub(crate) use swarmnet_tests::rng;

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use bugs::Bug;
use truth::{Counts, Violation};
use world::World;

/// Milliseconds of a run.
pub(crate) type Ms = u64;

/// Runs in CI; `just sim` makes more.
const SEEDS: u64 = 1_000;
/// Runs within which each bug must be found.
const SEEDS_FOR_A_BUG: u64 = 60;

struct Run {
    seed: u64,
    digest: u64,
    counts: Counts,
    violation: Option<Violation>,
    tail: String,
}

fn run(seed: u64, bug: Option<Bug>) -> Run {
    let loud = std::env::var_os("SWARMNET_SIM_TRACE").is_some();
    let mut world = World::new(seed, bug, loud);
    world.run();
    Run {
        seed,
        digest: world.trace.digest(),
        counts: world.truth.counts,
        violation: world.truth.violation,
        tail: world.trace.tail(),
    }
}

fn number(name: &str, default: u64) -> u64 {
    let Ok(text) = std::env::var(name) else { return default };
    text.parse().unwrap_or_else(|_| panic!("{name}={text}: want a number"))
}

/// All seeds from `first` on, on all processors; stops at the first run that fails.
fn run_all(first: u64, count: u64, bug: Option<Bug>) -> (Counts, Option<Run>) {
    let next = AtomicU64::new(first);
    let result = Mutex::new((Counts::default(), None));
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + count {
                        return;
                    }
                    let run = run(seed, bug);
                    let mut result = result.lock().expect("no run panics while it holds this");
                    result.0.add(&run.counts);
                    let earlier = result.1.as_ref().is_none_or(|r: &Run| run.seed < r.seed);
                    if run.violation.is_some() && earlier {
                        result.1 = Some(run);
                        next.store(first + count, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    result.into_inner().expect("no run panics while it holds this")
}

#[test]
fn every_invariant_holds() {
    let first = number("SWARMNET_SIM_SEED", 1);
    let count = number("SWARMNET_SIM_SEEDS", SEEDS);
    let (counts, failed) = run_all(first, count, None);
    println!("{count} seeds from {first}: {counts:?}");
    if let Some(Run { seed, violation: Some(violation), tail, .. }) = failed {
        panic!(
            "{tail}seed {seed}: {}: {}\nrepeat: SWARMNET_SIM_SEED={seed} SWARMNET_SIM_SEEDS=1 cargo test -p swarmnet-tests --test sim every_invariant",
            violation.invariant, violation.what
        );
    }
}

#[test]
fn a_seed_is_a_run() {
    for seed in [1, 2, 3] {
        let (once, again) = (run(seed, None), run(seed, None));
        assert_eq!(once.digest, again.digest, "seed {seed}");
        assert_eq!(once.counts, again.counts, "seed {seed}");
    }
    assert_ne!(run(1, None).digest, run(2, None).digest);
}

/// Each bug is found, and as a breach of what it does break.
#[test]
fn known_bugs_are_found() {
    for bug in Bug::ALL {
        let (_, found) = run_all(bug.first_seed(), SEEDS_FOR_A_BUG, Some(bug));
        let Some(Run { seed, violation: Some(violation), .. }) = found else {
            panic!("{bug:?} was not found within {SEEDS_FOR_A_BUG} seeds");
        };
        println!("{bug:?}: seed {seed}: {}: {}", violation.invariant, violation.what);
        assert!(bug.breaks().contains(&violation.invariant), "{bug:?}: {violation:?}");
    }
}
