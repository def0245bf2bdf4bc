//! What the Raft group needs next, so that it becomes what the state wants. Pure.

use std::collections::BTreeMap;

/// One member of the group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seat {
    /// It counts for majorities.
    pub(crate) voter: bool,
    /// The state has it as a manager.
    pub(crate) wanted: bool,
    /// It answers the leader.
    pub(crate) alive: bool,
    /// It has all of the log but what is under way.
    pub(crate) caught_up: bool,
}

/// The members by Raft id.
pub(crate) type Seats = BTreeMap<u64, Seat>;

/// One change of the members.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    MakeVoter(u64),
    Remove(u64),
}

/// What the leader `me` is to do now. `None`: all is as wanted, or what is not must wait for a member to answer or to catch up.
///
/// Who comes is taken in before who goes is let go, and the leader goes last: its going costs an election.
pub(crate) fn next(me: u64, seats: &Seats) -> Option<Step> {
    let learners = || seats.iter().filter(|(_, seat)| !seat.voter);
    let ready = learners().find(|(_, seat)| seat.wanted && seat.alive && seat.caught_up);
    if let Some((id, _)) = ready {
        return Some(Step::MakeVoter(*id));
    }
    if let Some((id, _)) = learners().find(|(_, seat)| !seat.wanted) {
        return Some(Step::Remove(*id));
    }
    let leaving = || seats.iter().filter(|(_, seat)| seat.voter && !seat.wanted);
    let (mine, others): (Vec<u64>, Vec<u64>) =
        leaving().map(|(id, _)| *id).partition(|id| *id == me);
    let first = others.into_iter().chain(mine).find(|id| keeps_quorum(seats, *id));
    first.map(Step::Remove)
}

/// Nothing is left to do.
pub(crate) fn is_settled(seats: &Seats) -> bool {
    seats.values().all(|seat| seat.voter && seat.wanted)
}

/// Do those that vote when `gone` is out have a majority among them that answers?
fn keeps_quorum(seats: &Seats, gone: u64) -> bool {
    let rest = seats.iter().filter(|(id, seat)| seat.voter && **id != gone).map(|(_, seat)| seat);
    let (alive, voters) =
        rest.fold((0, 0), |(alive, voters), seat| (alive + usize::from(seat.alive), voters + 1));
    alive > voters / 2
}

#[cfg(test)]
mod tests {
    use super::*;

    const VOTER: Seat = Seat { voter: true, wanted: true, alive: true, caught_up: true };
    const LEARNER: Seat = Seat { voter: false, ..VOTER };

    fn seats(rows: &[(u64, Seat)]) -> Seats {
        rows.iter().copied().collect()
    }

    #[test]
    fn a_learner_votes_when_it_has_caught_up_and_answers() {
        let with = |seat| seats(&[(1, VOTER), (2, seat)]);
        assert_eq!(next(1, &with(LEARNER)), Some(Step::MakeVoter(2)));
        assert_eq!(next(1, &with(Seat { caught_up: false, ..LEARNER })), None);
        assert_eq!(next(1, &with(Seat { alive: false, ..LEARNER })), None);
        assert_eq!(next(1, &with(Seat { wanted: false, ..LEARNER })), Some(Step::Remove(2)));
        assert!(!is_settled(&with(LEARNER)) && is_settled(&with(VOTER)));
    }

    #[test]
    fn who_comes_is_taken_in_first_and_the_leader_goes_last() {
        let leaving = Seat { wanted: false, ..VOTER };
        let mut group = seats(&[(1, leaving), (2, leaving), (3, VOTER), (4, VOTER), (5, LEARNER)]);
        let mut steps = Vec::new();
        while let Some(step) = next(1, &group) {
            steps.push(step);
            match step {
                Step::MakeVoter(id) => drop(group.insert(id, VOTER)),
                Step::Remove(id) => drop(group.remove(&id)),
            }
        }
        assert_eq!(steps, [Step::MakeVoter(5), Step::Remove(2), Step::Remove(1)]);
        assert!(is_settled(&group));
    }

    #[test]
    fn nobody_goes_whose_going_costs_the_quorum() {
        let (dead, leaving) = (Seat { alive: false, ..VOTER }, Seat { wanted: false, ..VOTER });
        assert_eq!(next(1, &seats(&[(1, VOTER), (2, leaving), (3, dead)])), None);
        let dead_leaves = Seat { wanted: false, ..dead };
        let group = seats(&[(1, VOTER), (2, leaving), (3, dead_leaves)]);
        assert_eq!(next(1, &group), Some(Step::Remove(3)), "the dead one first, then the other");
        assert_eq!(next(1, &seats(&[(1, leaving)])), None, "nobody would be left");
        assert_eq!(next(1, &seats(&[(1, VOTER), (2, leaving)])), Some(Step::Remove(2)));
    }
}
