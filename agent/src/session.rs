//! The agent's half of the push: one stream from a manager, a view kept up to date, acknowledgements of what is in the kernel.
//!
//! Inputs: snapshots and deltas; the stamp that the reconciler has brought about. Outputs: the `watch` of the view, acknowledgements.
//! A delta that does not fit, or a manager that is silent, ends the stream; the next begins at another manager with what the node has.
//! Nothing is removed on account of a missing message: the last view stays until another comes.

mod fold;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use swarmnet_pki::TlsStore;
use swarmnet_proto::Malformed;
use swarmnet_proto::v1;
use swarmnet_proto::v1::dispatcher_client::DispatcherClient;
use swarmnet_proto::v1::{agent_message, manager_message};
use swarmnet_proto::wire::{self, SPOKEN, Spoken};
use swarmnet_runtime::Backoff;
use swarmnet_types::{NodeDescription, NodeView};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, interval, sleep, timeout};
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};

use crate::managers::ManagerPool;
use crate::renew::{self, Trust};

pub use fold::{News, Unfit, fold};

const HEARTBEAT: Duration = Duration::from_secs(1);
/// A manager that misses two of its heartbeats is gone: with the time to connect, another one serves us within three seconds.
const SILENCE_MAX: Duration = Duration::from_millis(2_500);
const CONNECT_MAX: Duration = Duration::from_millis(2_500);
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// Views of ten thousand endpoints are about 3 MB.
const MESSAGE_BYTES_MAX: usize = 64 << 20;
/// Words to a manager that wait to be sent: an acknowledgement and a heartbeat. More are not made while these wait.
const OUT_DEPTH: usize = 4;

/// What is in the kernel, for the managers.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Applied {
    pub revision: u64,
    pub failures: Vec<String>,
    /// Of overlay networks for which the user set none; 0 while there is no fabric.
    pub overlay_mtu_bytes: u32,
    /// Objects put right that others had changed, since the start.
    pub repaired: u64,
}

/// What a session needs.
#[derive(Debug)]
pub struct SessionConfig {
    pub pool: ManagerPool,
    pub description: watch::Receiver<NodeDescription>,
    pub view: watch::Sender<Option<Arc<NodeView>>>,
    pub applied: watch::Receiver<Applied>,
    /// Address of the manager that serves the stream.
    pub served_by: watch::Sender<Option<String>>,
    /// What this node shows and trusts.
    pub tls: TlsStore,
    /// What the managers say to trust.
    pub trust: watch::Sender<Option<Trust>>,
}

/// Why a stream ended.
#[derive(Debug)]
struct Ended {
    status: Status,
    /// The manager that is to be left, when there was one.
    by: Option<SocketAddr>,
    /// Our view and the manager's deltas do not fit: the next stream begins with a whole view.
    gap: bool,
}

/// Keeps a session open until shutdown.
pub async fn run(mut config: SessionConfig, stop: CancellationToken) {
    // cancel-safe: a stream that is dropped is closed; the view is replaced as a whole.
    stop.run_until_cancelled(stay(&mut config)).await;
    config.served_by.send_replace(None);
}

async fn stay(config: &mut SessionConfig) {
    let backoff = Backoff::new(PAUSE_MIN, PAUSE_MAX, 0.5).expect("the constants are in order");
    let mut delays = backoff.delays();
    let mut resync = false;
    loop {
        let begun = Instant::now();
        let ended = one(config, resync).await;
        config.served_by.send_replace(None);
        let reason = swarmnet_pki::explain(&ended.status);
        tracing::debug!(reason, "the session ended");
        config.pool.set_trouble(Some(reason));
        resync = ended.gap;
        if let Some(addr) = ended.by.filter(|_| !ended.gap) {
            config.pool.gave_up(addr);
        }
        if begun.elapsed() > SILENCE_MAX {
            delays.reset();
        }
        sleep(delays.delay()).await;
    }
}

fn hello(config: &SessionConfig, resync: bool) -> v1::Hello {
    let view = config.view.borrow();
    let have = view.as_ref().filter(|_| !resync).map_or(0, |v| v.revision.0);
    v1::Hello {
        have_revision: have,
        description: Some((&*config.description.borrow()).into()),
        tls: Some(renew::shown(&config.tls.identity())),
        wire: Some(SPOKEN.into()),
    }
}

/// One stream, from Hello to its end.
async fn one(config: &mut SessionConfig, resync: bool) -> Ended {
    let Some((addr, channel)) = config.pool.current() else {
        let status = Status::unavailable("no manager is known");
        return Ended { status, by: None, gap: resync };
    };
    let ended = |status| Ended { status, by: Some(addr), gap: false };
    // Depth: see OUT_DEPTH; the sender is this very worker, which then reads no more until there is room.
    let (out, outgoing) = mpsc::channel(OUT_DEPTH);
    // Before the greeting says what is shown: a change in between is said again.
    let swaps = config.tls.swaps();
    // There is room: nothing was sent yet.
    drop(out.try_send(say(agent_message::Message::Hello(hello(config, resync)))));
    let mut client = DispatcherClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX);
    let opened = timeout(CONNECT_MAX, client.session(ReceiverStream::new(outgoing))).await;
    let incoming = match opened {
        Ok(Ok(response)) => response.into_inner(),
        Ok(Err(status)) => return ended(status),
        Err(_elapsed) => return ended(Status::deadline_exceeded("the manager does not answer")),
    };
    config.served_by.send_replace(Some(addr.to_string()));
    config.pool.set_trouble(None);
    tracing::info!(manager = %addr, "the session is open");
    match serve(config, incoming, (out, swaps)).await {
        Ok(()) => ended(Status::unavailable("the manager closed the stream")),
        Err(Broken::Gap(gap)) => {
            let status = Status::data_loss(gap);
            Ended { status, by: Some(addr), gap: true }
        }
        Err(Broken::Stream(status)) => ended(*status),
        Err(Broken::Redirect(to)) => {
            config.pool.prefer(to);
            ended(Status::unavailable(format!("the manager sends us to {to}")))
        }
    }
}

/// What broke a stream that was open.
enum Broken {
    Stream(Box<Status>),
    Gap(String),
    Redirect(SocketAddr),
}

impl From<Status> for Broken {
    fn from(status: Status) -> Self {
        Self::Stream(Box::new(status))
    }
}

impl From<Unfit> for Broken {
    fn from(unfit: Unfit) -> Self {
        if unfit.is_gap() {
            Self::Gap(unfit.to_string())
        } else {
            Status::unavailable(unfit.to_string()).into()
        }
    }
}

impl From<Malformed> for Broken {
    fn from(err: Malformed) -> Self {
        Status::from(err).into()
    }
}

fn say(message: agent_message::Message) -> v1::AgentMessage {
    v1::AgentMessage { message: Some(message) }
}

async fn serve(
    config: &mut SessionConfig,
    mut incoming: Streaming<v1::ManagerMessage>,
    (out, mut swaps): (mpsc::Sender<v1::AgentMessage>, watch::Receiver<()>),
) -> Result<(), Broken> {
    let mut beat = interval(HEARTBEAT);
    let mut heard = Instant::now();
    let mut greeted = false;
    config.applied.mark_changed();
    loop {
        tokio::select! { biased;
            // cancel-safe: a stream's next message stays in it, watches and intervals lose nothing
            said = incoming.next() => match said {
                Some(Ok(message)) => {
                    heard = Instant::now();
                    if !greeted {
                        agree(&message)?;
                        greeted = true;
                    }
                    hear(config, message)?;
                }
                Some(Err(status)) => return Err(status.into()),
                None => return Ok(()),
            },
            changed = config.applied.changed() => {
                changed.map_err(|_| Status::cancelled("the agent stops"))?;
                let applied = config.applied.borrow_and_update().clone();
                if applied.revision > 0 {
                    let ack = v1::Ack {
                        revision: applied.revision,
                        failures: applied.failures,
                        overlay_mtu: applied.overlay_mtu_bytes,
                        repaired: applied.repaired,
                    };
                    send(&out, agent_message::Message::Ack(ack)).await?;
                }
            }
            Ok(()) = swaps.changed() => {
                let shown = renew::shown(&config.tls.identity());
                send(&out, agent_message::Message::Tls(shown)).await?;
            }
            _ = beat.tick() => {
                if heard.elapsed() > SILENCE_MAX {
                    return Err(Status::deadline_exceeded("the manager is silent").into());
                }
                send(&out, agent_message::Message::Heartbeat(v1::Heartbeat {})).await?;
            }
        }
    }
}

async fn send(
    out: &mpsc::Sender<v1::AgentMessage>,
    message: agent_message::Message,
) -> Result<(), Status> {
    let sent = timeout(SILENCE_MAX, out.send(say(message))).await;
    if matches!(sent, Ok(Ok(()))) {
        Ok(())
    } else {
        Err(Status::unavailable("the manager takes no messages"))
    }
}

fn hear(config: &SessionConfig, message: v1::ManagerMessage) -> Result<(), Broken> {
    match message.message {
        Some(manager_message::Message::Snapshot(view)) => {
            follow(config, News::Whole(view.try_into()?))?;
        }
        Some(manager_message::Message::Delta(delta)) => {
            follow(config, News::Delta(delta.try_into()?))?;
        }
        Some(manager_message::Message::Redirect(redirect)) => {
            let to =
                redirect.addr.parse().map_err(|_| Malformed::new("redirect", redirect.addr))?;
            return Err(Broken::Redirect(to));
        }
        Some(manager_message::Message::Trust(trust)) => {
            config.trust.send_replace(Some(trust.try_into()?));
        }
        Some(manager_message::Message::Heartbeat(_) | manager_message::Message::Welcome(_))
        | None => {}
    }
    Ok(())
}

/// Refuses a manager whose first message is of a version that this node does not speak.
fn agree(first: &v1::ManagerMessage) -> Result<(), Status> {
    let spoken = match &first.message {
        Some(manager_message::Message::Welcome(welcome)) => Spoken::only(welcome.wire),
        _ => Spoken::told(None),
    };
    wire::agree("node", "manager", spoken)?;
    Ok(())
}

fn follow(config: &SessionConfig, news: News) -> Result<(), Broken> {
    let mut followed = Ok(());
    config.view.send_if_modified(|view| {
        followed = fold(view, news);
        followed.is_ok()
    });
    followed?;
    if let Some(view) = config.view.borrow().as_ref() {
        config.pool.update(&view.cluster.managers);
    }
    Ok(())
}

#[cfg(test)]
mod tests;
