//! What goes wrong in a run. Each seed draws which kinds it has, so that some runs have much of one kind and none of another.

use std::collections::BTreeSet;

use swarmnet_manager_core::CLOCK_SKEW_MS_MAX;

use crate::Ms;
use crate::rng::Rng;
use crate::world::{EPOCH_MS, MACHINES, MANAGERS, World};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// The daemon dies; kernel, sandboxes and disk stay.
    Kill,
    /// The machine starts anew: the kernel is empty.
    Reboot,
    /// Machines in two groups that do not hear each other.
    Partition,
    /// One machine does not hear another.
    OneWay,
    /// Whoever leads loses the other managers.
    IsolateLeader,
    /// Packets are lost, doubled, overtaken.
    Noise,
    /// Packets are late.
    Delay,
    /// Flushes of one manager are slow.
    SlowDisk,
    /// One manager carries out entries late.
    SlowApply,
    /// The clock of a machine jumps.
    Skew,
    /// The daemon dies, and the file of its view is gone.
    LoseView,
}

const ALL: [Kind; 11] = [
    Kind::Kill,
    Kind::Reboot,
    Kind::Partition,
    Kind::OneWay,
    Kind::IsolateLeader,
    Kind::Noise,
    Kind::Delay,
    Kind::SlowDisk,
    Kind::SlowApply,
    Kind::Skew,
    Kind::LoseView,
];

/// The end of a fault.
#[derive(Debug, Clone)]
pub(crate) enum Undo {
    Start { machine: usize },
    Join { cut: Vec<(usize, usize)> },
    Calm,
    Fast { machine: usize },
}

/// The kinds of one run.
pub(crate) fn kinds(rng: &mut Rng) -> Vec<Kind> {
    let many = rng.between(200, 900);
    ALL.into_iter().filter(|_| rng.chance(many)).collect()
}

/// Something goes wrong now, and ends after a while.
pub(crate) fn strike(world: &mut World, kind: Kind) {
    let machine = world.rng.index(MACHINES);
    let manager = world.rng.index(MANAGERS);
    let a_while = world.rng.between(300, 6_000);
    world.note(format_args!("fault {kind:?} for {a_while} ms"));
    let undo = match kind {
        Kind::Kill | Kind::Reboot | Kind::LoseView => {
            world.stop(machine);
            if kind == Kind::Reboot {
                world.lose_kernel(machine);
            }
            if kind == Kind::LoseView {
                world.lose_view(machine);
            }
            Undo::Start { machine }
        }
        Kind::Partition => cut_groups(world),
        Kind::OneWay => {
            let to = world.rng.index(MACHINES);
            cut(world, vec![(machine, to)])
        }
        Kind::IsolateLeader => {
            let leader = world.leader().unwrap_or(manager);
            let others = (0..MANAGERS).filter(|m| *m != leader);
            cut(world, others.flat_map(|m| [(m, leader), (leader, m)]).collect())
        }
        Kind::Noise => {
            let rng = &mut world.rng;
            world.network.loss_per_mille = rng.between(5, 150);
            world.network.twice_per_mille = rng.between(5, 100);
            Undo::Calm
        }
        Kind::Delay => {
            world.network.late_ms = world.rng.between(100, 1_500);
            world.network.late_per_mille = world.rng.between(50, 400);
            Undo::Calm
        }
        Kind::SlowDisk => {
            world.machines[manager].flush_ms = world.rng.between(50, 400);
            Undo::Fast { machine: manager }
        }
        Kind::SlowApply => {
            world.machines[manager].apply_ms = world.rng.between(100, 3_000);
            Undo::Fast { machine: manager }
        }
        Kind::Skew => {
            let ahead_ms =
                EPOCH_MS - CLOCK_SKEW_MS_MAX + world.rng.below(2 * CLOCK_SKEW_MS_MAX + 1);
            world.skews[machine] = i64::try_from(ahead_ms).expect("this century");
            return;
        }
    };
    world.undo_after(a_while, undo);
}

fn cut(world: &mut World, pairs: Vec<(usize, usize)>) -> Undo {
    let pairs: Vec<_> = pairs.into_iter().filter(|(a, b)| a != b).collect();
    world.network.cut.extend(&pairs);
    Undo::Join { cut: pairs }
}

fn cut_groups(world: &mut World) -> Undo {
    let side: BTreeSet<usize> = (0..MACHINES).filter(|_| world.rng.chance(400)).collect();
    let across = |a: &usize, b: &usize| side.contains(a) != side.contains(b);
    let pairs = (0..MACHINES).flat_map(|a| (0..MACHINES).map(move |b| (a, b)));
    cut(world, pairs.filter(|(a, b)| across(a, b)).collect())
}

pub(crate) fn undo(world: &mut World, undo: Undo) {
    match undo {
        Undo::Start { machine } => world.start(machine),
        Undo::Join { cut } => {
            for pair in cut {
                world.network.cut.remove(&pair);
            }
        }
        Undo::Calm => {
            let cut = std::mem::take(&mut world.network.cut);
            world.network.heal();
            world.network.cut = cut;
        }
        Undo::Fast { machine } => world.machines[machine].at_speed(),
    }
}

/// When the next fault comes.
pub(crate) fn pause(rng: &mut Rng) -> Ms {
    rng.between(200, 1_800)
}
