//! The Raft group follows the roles that the state has: who is to be a manager and has caught up votes, who is to be one no more is
//! let go. One step at a time, by the leader; every step is in the log, so a new leader goes on where the last one was.
//!
//! Inputs: the applied state, which members answer and what they have of the log. Output: changes of the members. Who is to be
//! taken in asks for that itself ([`Manager::enter_group`](crate::Manager::enter_group)): only then its Raft runs, with a log that
//! nobody will throw away.

mod step;

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use self::step::{Seat, Seats, Step, is_settled, next};
use crate::raft::{Leadership, Member, RaftError, RaftNode};
use crate::writer::Writer;

/// Between two looks: a state that changes often must not be looked at more often.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// A learner that lacks fewer entries has caught up: under load there are always some on their way.
const LAG_MAX: u64 = 128;

/// See the module.
#[derive(Debug)]
pub(crate) struct GroupKeeper {
    writer: Writer,
}

/// The members of the group. What they have of the log and whether they answer, only the leader knows.
pub(crate) fn seats(writer: &Writer) -> Seats {
    let raft = writer.raft().status();
    writer.read(|state| {
        let wanted: BTreeSet<u64> = state.managers().map(|n| n.index.get().into()).collect();
        let seat = |(id, member): (&u64, &Member)| {
            let seat = Seat {
                voter: member.voter,
                wanted: wanted.contains(id),
                alive: member.answers,
                caught_up: *id == raft.me || member.matched.unwrap_or(0) + LAG_MAX > raft.last_log,
            };
            (*id, seat)
        };
        raft.members.iter().map(seat).collect()
    })
}

impl GroupKeeper {
    pub(crate) fn new(writer: Writer) -> Self {
        Self { writer }
    }

    pub(crate) async fn run(self, stop: CancellationToken) {
        // cancel-safe: a step is in the log or is not.
        stop.run_until_cancelled(self.keep()).await;
    }

    fn raft(&self) -> &RaftNode {
        self.writer.raft()
    }

    async fn keep(self) {
        let mut leadership = self.raft().leadership();
        let leads = |now: &Leadership| now.is_me;
        while leadership.wait_for(leads).await.is_ok() {
            // The state of a new leader may still be behind its log.
            match self.raft().barrier().await {
                Ok(_) => self.lead(&mut leadership.clone()).await,
                Err(err) => tracing::debug!(%err, "does not lead yet"),
            }
            sleep(LOOK_EVERY).await;
        }
    }

    /// Until this manager leads no longer.
    async fn lead(&self, leadership: &mut watch::Receiver<Leadership>) {
        let mut applied = self.raft().state().applied();
        while self.raft().is_leader() {
            applied.mark_unchanged();
            let seats = seats(&self.writer);
            if let Some(step) = next(self.raft().status().me, &seats) {
                match self.take(step).await {
                    Ok(()) => tracing::info!(?step, "the managers' group was changed"),
                    Err(err) => {
                        tracing::warn!(%err, ?step, "the managers' group is not changed yet");
                    }
                }
            } else if is_settled(&seats) {
                // cancel-safe: watches lose nothing. An input that is gone says nothing more.
                tokio::select! {
                    Ok(()) = applied.changed() => {}
                    Ok(()) = leadership.changed() => {}
                    else => return,
                }
            }
            sleep(LOOK_EVERY).await;
        }
    }

    async fn take(&self, step: Step) -> Result<(), RaftError> {
        match step {
            Step::MakeVoter(id) => self.raft().make_voter(id).await,
            Step::Remove(id) => self.raft().remove_member(id).await,
        }
    }
}
