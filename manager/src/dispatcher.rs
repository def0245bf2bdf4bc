//! The push: each agent's slice of the state, by one stream; and what an agent asks for its own node.
//!
//! A session sends the whole view first, or the delta from what the agent has, then a delta for each applied revision that concerns
//! the node. Deltas are computed from what was *sent* last ([`Push`]), so a slow agent gets fewer and larger ones: one is pending at
//! most. Among many agents each session lets time pass between two of them ([`pace`]). A manager that is behind what the agent has sends nothing and ends the session. What an agent says it has in its kernel goes to [`Acks`].

use std::pin::Pin;
use std::time::Duration;

use swarmnet_manager_core::{Attach, Command, NoPush, NodeTls, Outcome, Push, Pushed};
use swarmnet_pki::Speaker;
use swarmnet_proto::v1::dispatcher_server::Dispatcher;
use swarmnet_proto::v1::{agent_message, manager_message};
use swarmnet_proto::wire::{self, Spoken};
use swarmnet_proto::{Malformed, v1};
use swarmnet_runtime::Supervisor;
use swarmnet_types::{
    AttachmentSpec, Condition, EndpointId, Name, NodeDescription, NodeId, Revision, Role,
};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, interval, sleep, sleep_until, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt as _};
use tonic::{Request, Response, Status, Streaming};

use crate::acks::Acks;
use crate::ca;
use crate::join;
use crate::standing;
use crate::writer::{Writer, refusal};

const HEARTBEAT: Duration = Duration::from_secs(1);
/// An agent that says nothing for this long is not there.
const SILENCE_MAX: Duration = Duration::from_secs(5);
/// The first message must come within this time.
const HELLO_MAX: Duration = Duration::from_secs(5);
/// So many deltas a manager sends in a second, to all its agents: more, and a thousand agents that hear each of a thousand changes
/// alone keep everybody busy for a long time.
const DELTAS_PER_S: u32 = 4_000;
const PACE_MAX: Duration = Duration::from_millis(250);
/// Between two attempts to note what a node shows.
const NOTE_PAUSE: Duration = Duration::from_secs(1);

type Outgoing = mpsc::Sender<Result<v1::ManagerMessage, Status>>;

#[derive(Debug)]
pub(crate) struct DispatcherGrpc {
    writer: Writer,
    acks: Acks,
    supervisor: Supervisor,
}

impl DispatcherGrpc {
    pub(crate) fn new(writer: Writer, acks: Acks, supervisor: Supervisor) -> Self {
        Self { writer, acks, supervisor }
    }
}

fn message(message: manager_message::Message) -> v1::ManagerMessage {
    v1::ManagerMessage { message: Some(message) }
}

fn id<T: for<'a> TryFrom<&'a [u8]>>(field: &'static str, bytes: &[u8]) -> Result<T, Status> {
    T::try_from(bytes).map_err(|_| Malformed::new(field, "want 16 bytes").into())
}

fn no_push(err: &NoPush) -> Status {
    match err {
        NoPush::Removed => Status::permission_denied(err.to_string()),
        NoPush::Unknown | NoPush::Behind { .. } => Status::unavailable(err.to_string()),
        NoPush::State(rejection) => refusal(rejection),
    }
}

// === sessions ===

/// The time between two looks of one session when so many are open. The first change after a quiet time is not held up.
fn pace(streams: u32) -> Duration {
    (Duration::from_secs(1) / DELTAS_PER_S * streams).min(PACE_MAX)
}

/// Waits for a revision that was not looked at, and until then.
///
/// # Cancel safety
/// The revision is not lost.
async fn fresh(
    applied: &mut watch::Receiver<Revision>,
    not_before: Instant,
) -> Result<(), watch::error::RecvError> {
    // A timer that is due already may still take a millisecond.
    if Instant::now() < not_before {
        sleep_until(not_before).await;
    }
    applied.changed().await
}

struct Session {
    node: NodeId,
    writer: Writer,
    acks: Acks,
    out: Outgoing,
    push: Push,
    /// What the agent was told to trust.
    trusted: Option<([u8; 32], [u8; 32])>,
    /// What the agent said that it shows and trusts.
    shown: watch::Sender<Option<NodeTls>>,
}

impl Session {
    async fn run(mut self, mut incoming: Streaming<v1::AgentMessage>, hello: v1::Hello) {
        let _open = self.acks.open(self.node);
        if let Err(status) = self.welcome(hello).await {
            drop(self.out.send(Err(status)).await);
            return;
        }
        let noting = keep_noted(self.writer.clone(), self.node, self.shown.subscribe());
        // cancel-safe: what is not noted when the session ends, the next one's greeting says again. It ends with the sender only.
        let served = tokio::select! {
            served = self.serve(&mut incoming) => served,
            () = noting => return,
        };
        if let Err(status) = served {
            tracing::debug!(node = %self.node, reason = status.message(), "session ended");
            drop(self.out.send(Err(status)).await);
        }
    }

    /// Takes in what the node says of itself, then sends what it lacks.
    async fn welcome(&mut self, hello: v1::Hello) -> Result<(), Status> {
        let node = self.node;
        let wire = wire::agree("manager", "node", Spoken::told(hello.wire))?;
        self.send(manager_message::Message::Welcome(v1::Welcome { wire })).await?;
        self.acks.sent(node, Revision(hello.have_revision));
        if let Some(description) = hello.description {
            let description: NodeDescription = description.try_into()?;
            let known = self.writer.read(|s| {
                s.node(node).is_some_and(|n| {
                    n.name == description.name
                        && n.addr == description.addr
                        && n.data_path == description.data_path
                        && n.version == description.version
                })
            });
            if !known {
                let command = Command::UpdateNodeDescription { node, description };
                self.writer.write(command, &[]).await?;
            }
        }
        if let Some(tls) = hello.tls {
            self.shown.send_replace(Some(ca::node_tls(&tls)?));
        }
        self.update().await
    }

    /// Says which CAs to trust, when that is new.
    async fn tell_trust(&mut self) -> Result<(), Status> {
        let trusted = self.writer.read(|s| s.cluster().map(ca::trusted));
        if trusted == self.trusted {
            return Ok(());
        }
        if let Some(trust) = self.writer.read(|s| s.cluster().map(ca::trust)) {
            self.send(manager_message::Message::Trust(trust)).await?;
        }
        self.trusted = trusted;
        Ok(())
    }

    /// Sends what is new since the last message, if anything of it concerns the node.
    async fn update(&mut self) -> Result<(), Status> {
        self.tell_trust().await?;
        let Self { writer, push, .. } = self;
        match writer.read(|state| push.next(state)).map_err(|err| no_push(&err))? {
            None => Ok(()),
            Some(Pushed::Snapshot(view)) => {
                self.acks.sent(self.node, view.revision);
                self.send(manager_message::Message::Snapshot((&view).into())).await
            }
            Some(Pushed::Delta(delta)) => {
                self.acks.sent(self.node, delta.results_in);
                self.send(manager_message::Message::Delta((&delta).into())).await
            }
        }
    }

    /// Waits while the agent does not read: the next delta is then computed from a later state.
    async fn send(&self, what: manager_message::Message) -> Result<(), Status> {
        let sent = self.out.send(Ok(message(what))).await;
        sent.map_err(|_| Status::cancelled("the agent went away"))
    }

    async fn serve(&mut self, incoming: &mut Streaming<v1::AgentMessage>) -> Result<(), Status> {
        let mut applied = self.writer.raft().state().applied();
        let mut beat = interval(HEARTBEAT);
        let mut heard = Instant::now();
        let mut not_before = heard;
        // What came between the first message and this moment.
        self.update().await?;
        loop {
            tokio::select! { biased;
                // cancel-safe: a stream's next message stays in it
                said = incoming.next() => match said {
                    Some(Ok(said)) => {
                        heard = Instant::now();
                        self.hear(said)?;
                    }
                    Some(Err(status)) => return Err(status),
                    None => return Ok(()),
                },
                // cancel-safe: a watch and an interval lose nothing
                changed = fresh(&mut applied, not_before) => {
                    changed.map_err(|_| Status::unavailable("this manager stops"))?;
                    not_before = Instant::now() + pace(self.acks.streams());
                    self.update().await?;
                }
                _ = beat.tick() => {
                    if heard.elapsed() > SILENCE_MAX {
                        return Err(Status::deadline_exceeded("the agent is silent"));
                    }
                    self.send(manager_message::Message::Heartbeat(v1::Heartbeat {})).await?;
                }
            }
        }
    }

    fn hear(&self, said: v1::AgentMessage) -> Result<(), Status> {
        match said.message {
            Some(agent_message::Message::Tls(tls)) => {
                self.acks.seen(self.node);
                self.shown.send_replace(Some(ca::node_tls(&tls)?));
            }
            Some(agent_message::Message::Ack(ack)) => {
                self.acks.put(self.node, ack);
            }
            Some(agent_message::Message::Heartbeat(_) | agent_message::Message::Hello(_))
            | None => {
                self.acks.seen(self.node);
            }
        }
        Ok(())
    }
}

/// Keeps the state up to what a node says that it shows and trusts, beside its session: while no leader takes the change, the
/// session goes on.
async fn keep_noted(writer: Writer, node: NodeId, mut shown: watch::Receiver<Option<NodeTls>>) {
    loop {
        let tls = shown.borrow_and_update().clone();
        let known = |tls: &NodeTls| writer.read(|s| s.record(node).is_some_and(|r| r.tls == *tls));
        if let Some(tls) = tls.filter(|tls| !known(tls)) {
            let written = writer.write(Command::SetNodeTls { node, tls }, &[]).await;
            if let Err(status) = written {
                tracing::debug!(%node, reason = status.message(), "its certificate is not noted");
                sleep(NOTE_PAUSE).await;
                continue;
            }
        }
        if shown.changed().await.is_err() {
            return;
        }
    }
}

#[tonic::async_trait]
impl Dispatcher for DispatcherGrpc {
    type SessionStream = Pin<Box<dyn Stream<Item = Result<v1::ManagerMessage, Status>> + Send>>;

    async fn session(
        &self,
        request: Request<Streaming<v1::AgentMessage>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let node = Speaker::of(&request)?.node_id();
        let mut incoming = request.into_inner();
        let first = timeout(HELLO_MAX, incoming.next()).await;
        let Ok(Some(Ok(v1::AgentMessage { message: Some(agent_message::Message::Hello(hello)) }))) =
            first
        else {
            return Err(Status::invalid_argument("a session begins with Hello"));
        };
        // Depth 1: the message that is being written. A slow agent holds up only its own session.
        let (out, outgoing) = mpsc::channel(1);
        let session = Session {
            node,
            writer: self.writer.clone(),
            acks: self.acks.clone(),
            out,
            push: Push::resume(node, Revision(hello.have_revision)),
            trusted: None,
            shown: watch::Sender::default(),
        };
        let name = format!("session {}", node.short());
        self.supervisor.spawn_transient(&name, session.run(incoming, hello));
        Ok(Response::new(Box::pin(ReceiverStream::new(outgoing))))
    }

    async fn attach(
        &self,
        request: Request<v1::AttachRequest>,
    ) -> Result<Response<v1::AttachResponse>, Status> {
        let node = Speaker::of(&request)?.node_id();
        let request = request.into_inner();
        let name =
            |text: &str| Name::new(text).map_err(|err| Status::invalid_argument(err.to_string()));
        let attachments: Vec<AttachmentSpec> = request
            .attachments
            .into_iter()
            .map(TryInto::try_into)
            .collect::<Result<_, Malformed>>()?;
        let command = Command::Attach(Attach {
            node,
            sandbox: id("sandbox", &request.sandbox)?,
            name: name(&request.name)?,
            hostname: request.hostname,
            service: match request.service.as_str() {
                "" => None,
                service => Some(name(service)?),
            },
            attachments,
        });
        let (revision, outcome) = self.writer.write(command, &request.request_id).await?;
        let Outcome::Attached { endpoints, service } = outcome else {
            return Err(Status::internal("the state answered an attach with something else"));
        };
        Ok(Response::new(self.writer.read(|s| v1::AttachResponse {
            networks:
                endpoints.iter().filter_map(|e| s.network(e.network)).map(Into::into).collect(),
            service: service.and_then(|id| s.service(id)).map(Into::into),
            endpoints: endpoints.iter().map(Into::into).collect(),
            revision: revision.0,
        })))
    }

    async fn detach(
        &self,
        request: Request<v1::DetachRequest>,
    ) -> Result<Response<v1::DetachResponse>, Status> {
        let node = Speaker::of(&request)?.node_id();
        let request = request.into_inner();
        let endpoints: Vec<EndpointId> =
            request.endpoints.iter().map(|e| id("endpoints", e)).collect::<Result<_, _>>()?;
        let command = Command::Detach { node, endpoints };
        let (revision, _) = self.writer.write(command, &request.request_id).await?;
        Ok(Response::new(v1::DetachResponse { revision: revision.0 }))
    }

    async fn report(
        &self,
        request: Request<v1::ReportRequest>,
    ) -> Result<Response<v1::ReportResponse>, Status> {
        let node = Speaker::of(&request)?.node_id();
        let request = request.into_inner();
        let mut conditions = Vec::new();
        for one in &request.conditions {
            conditions
                .push((id("endpoint", &one.endpoint)?, Condition::try_from(one.condition())?));
        }
        let command = Command::SetConditions { node, conditions };
        let (revision, _) = self.writer.write(command, &request.request_id).await?;
        Ok(Response::new(v1::ReportResponse { revision: revision.0 }))
    }

    async fn renew(
        &self,
        request: Request<v1::RenewRequest>,
    ) -> Result<Response<v1::RenewResponse>, Status> {
        let node = Speaker::of(&request)?.node_id();
        // With the quorum lost certificates are renewed all the same, from what this manager knows: nodes must outlive that.
        if let Err(err) = self.writer.raft().barrier().await {
            tracing::warn!(%err, %node, "renews a certificate without having asked the other managers");
        }
        let (role, index) = self
            .writer
            .read(|s| s.node(node).map(|n| (n.role, n.index)))
            .ok_or_else(|| Status::permission_denied("this node was removed from the cluster"))?;
        // Its certificate would be either a worker's that leads, or a manager's that outlives its seat.
        if role == Role::Worker && standing::is_seated(self.writer.raft(), index) {
            return Err(Status::unavailable("this node is still in the managers' group"));
        }
        let cluster = join::cluster(&self.writer)?;
        let issued = ca::issue(&cluster, &request.into_inner().csr_der, (node, role))?;
        Ok(Response::new(v1::RenewResponse {
            certificate_pem: issued.chain_pem,
            ca_pem: issued.roots_pem,
        }))
    }

    async fn standing(
        &self,
        request: Request<v1::StandingRequest>,
    ) -> Result<Response<v1::StandingResponse>, Status> {
        let node = Speaker::of(&request)?.node_id();
        standing::of(&self.writer, node).await.map(Response::new)
    }

    async fn leave(
        &self,
        request: Request<v1::GoodbyeRequest>,
    ) -> Result<Response<v1::GoodbyeResponse>, Status> {
        let node = Speaker::of(&request)?.node_id();
        let left = standing::leave(&self.writer, node, &request.get_ref().request_id).await;
        left.map(|revision| Response::new(v1::GoodbyeResponse { revision: revision.0 }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_sessions_push_at_once_and_many_share_what_a_manager_sends() {
        assert_eq!(pace(3), Duration::from_micros(750));
        assert_eq!(pace(333), Duration::from_micros(83_250));
        assert_eq!(pace(100_000), PACE_MAX);
    }

    #[tokio::test(start_paused = true)]
    async fn changes_that_come_within_the_pace_are_one_look() {
        let (now, mut applied) = watch::channel(Revision(1));
        let begun = Instant::now();
        now.send_replace(Revision(2));
        fresh(&mut applied, begun).await.expect("open");
        assert_eq!(begun.elapsed(), Duration::ZERO, "the first is not held up");
        now.send_replace(Revision(3));
        now.send_replace(Revision(4));
        fresh(&mut applied, begun + PACE_MAX).await.expect("open");
        assert_eq!(begun.elapsed(), PACE_MAX);
        assert!(!applied.has_changed().expect("open"), "one look for both");
    }
}
