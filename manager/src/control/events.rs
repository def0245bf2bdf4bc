//! Events, as they happen. They are read from this manager's own state; while none come, it proves from time to time that it is up to
//! date, so that nobody waits at a manager that is cut off.

use std::time::Duration;

use swarmnet_manager_core::{Event, State};
use swarmnet_proto::v1;
use swarmnet_types::Revision;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tokio_stream::Stream;
use tonic::Status;

use super::ControlGrpc;
use crate::raft::QUORUM_LOST;

/// Between two proofs.
const PROVE_EVERY: Duration = Duration::from_secs(3);

impl ControlGrpc {
    /// # Errors
    /// This manager is not up to date: another one may be.
    pub(super) async fn follow_events(
        self,
        request: v1::EventsRequest,
    ) -> Result<impl Stream<Item = Result<v1::EventsResponse, Status>> + Send, Status> {
        self.prove().await?;
        let applied = self.writer.raft().state().applied();
        let following = Following { control: self, applied, request, told: None };
        Ok(futures_util::stream::unfold(Some(following), |following| async move {
            let mut following = following?;
            let step = following.step().await;
            let next = step.is_ok().then_some(following);
            Some((step, next))
        }))
    }

    async fn prove(&self) -> Result<(), Status> {
        let proof = self.writer.raft().barrier().await;
        proof.map(drop).map_err(|_| Status::unavailable(QUORUM_LOST))
    }
}

/// Someone who follows.
struct Following {
    control: ControlGrpc,
    applied: watch::Receiver<Revision>,
    request: v1::EventsRequest,
    /// `None`: nothing was said yet.
    told: Option<Revision>,
}

impl Following {
    /// The next message.
    async fn step(&mut self) -> Result<v1::EventsResponse, Status> {
        let mut prove_at = Instant::now() + PROVE_EVERY;
        loop {
            self.applied.mark_unchanged();
            if let Some(news) = self.look() {
                return Ok(news);
            }
            // cancel-safe: a watch and a deadline lose nothing.
            tokio::select! {
                changed = self.applied.changed() => {
                    changed.map_err(|_| Status::unavailable("this manager stops"))?;
                }
                () = sleep_until(prove_at) => {
                    self.control.prove().await?;
                    prove_at = Instant::now() + PROVE_EVERY;
                }
            }
        }
    }

    /// What is to be said now, if anything is.
    fn look(&mut self) -> Option<v1::EventsResponse> {
        let Self { control, request, told, .. } = self;
        let news = control.writer.read(|state| match *told {
            None => Some(first(state, request)),
            Some(after) => after_revision(state, after).filter(|news| !news.events.is_empty()),
        })?;
        *told = Some(Revision(news.revision));
        Some(news)
    }
}

fn first(state: &State, request: &v1::EventsRequest) -> v1::EventsResponse {
    let nothing = |revision: Revision| v1::EventsResponse {
        revision: revision.0,
        forgotten: 0,
        events: Vec::new(),
    };
    match (request.after, request.since_ms) {
        (0, 0) => nothing(state.revision()),
        (0, since_ms) => {
            let mut all = whole(state);
            // What is forgotten was not asked for when what is known goes back further.
            if all.events.first().is_some_and(|oldest| oldest.time_ms < since_ms) {
                all.forgotten = 0;
            }
            all.events.retain(|event| event.time_ms >= since_ms);
            all
        }
        // Another manager was ahead of this one: what it told is not told again.
        (after, _) => {
            let after = Revision(after);
            after_revision(state, after).unwrap_or_else(|| nothing(after))
        }
    }
}

/// `None`: this manager has nothing later.
fn after_revision(state: &State, after: Revision) -> Option<v1::EventsResponse> {
    if state.revision() <= after {
        return None;
    }
    let Some(events) = state.events_after(after) else { return Some(whole(state)) };
    let events = events.map(message).collect();
    Some(v1::EventsResponse { revision: state.revision().0, forgotten: 0, events })
}

/// All that is known.
fn whole(state: &State) -> v1::EventsResponse {
    let floor = state.events_floor();
    let events = state.events_after(floor).into_iter().flatten().map(message).collect();
    v1::EventsResponse { revision: state.revision().0, forgotten: floor.0, events }
}

fn message(event: &Event) -> v1::Event {
    v1::Event {
        revision: event.revision.0,
        time_ms: event.time_ms,
        r#type: event.subject.to_string(),
        action: event.action.to_string(),
        id: event.id.clone(),
        attributes: event.attributes.clone().into_iter().collect(),
    }
}
