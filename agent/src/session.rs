//! The agent's half of the push: one stream from a manager, a view kept up to date, acknowledgements of what is in the kernel.
//!
//! Inputs: snapshots and deltas; the stamp that the reconciler has brought about. Outputs: the `watch` of the view, acknowledgements.
//! A delta that does not fit, or a manager that is silent, ends the stream; the next begins at another manager with what the node has.
//! Nothing is removed on account of a missing message: the last view stays until another comes.

use std::sync::Arc;
use std::time::Duration;

use swarmnet_proto::v1;
use swarmnet_proto::v1::dispatcher_client::DispatcherClient;
use swarmnet_proto::v1::{agent_message, manager_message};
use swarmnet_runtime::{Backoff, Supervisor};
use swarmnet_types::{NodeDescription, NodeView, ViewDelta};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, interval, sleep, timeout};
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use crate::local::LocalStore;
use crate::managers::ManagerPool;

const HEARTBEAT: Duration = Duration::from_secs(1);
/// A manager that says nothing for three of its heartbeats is gone.
const SILENCE_MAX: Duration = Duration::from_secs(3);
const CONNECT_MAX: Duration = Duration::from_secs(3);
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
}

/// What a session needs.
#[derive(Debug)]
pub struct SessionConfig {
    pub pool: ManagerPool,
    pub description: watch::Receiver<NodeDescription>,
    pub store: Arc<LocalStore>,
    pub view: watch::Sender<Option<Arc<NodeView>>>,
    pub applied: watch::Receiver<Applied>,
    /// Address of the manager that serves the stream.
    pub served_by: watch::Sender<Option<String>>,
}

/// Keeps a session open until shutdown.
pub async fn run(mut config: SessionConfig, supervisor: Supervisor) {
    let stop = supervisor.token().clone();
    let backoff = Backoff::new(PAUSE_MIN, PAUSE_MAX, 0.5).expect("the constants are in order");
    let mut delays = backoff.delays();
    loop {
        let begun = Instant::now();
        let ended = tokio::select! { biased;
            () = stop.cancelled() => return,
            ended = one(&mut config) => ended,
        };
        config.served_by.send_replace(None);
        tracing::debug!(reason = swarmnet_pki::explain(&ended), "the session ended");
        config.pool.rotate();
        if begun.elapsed() > SILENCE_MAX {
            delays = backoff.delays();
        }
        let pause = delays.next().unwrap_or(PAUSE_MAX);
        tokio::select! { biased;
            () = stop.cancelled() => return,
            () = sleep(pause) => {}
        }
    }
}

fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .map(|text| text.trim().to_owned())
        .unwrap_or_default()
}

/// One stream, from Hello to its end.
async fn one(config: &mut SessionConfig) -> Status {
    let Some((addr, channel)) = config.pool.current() else {
        return Status::unavailable("no manager is known");
    };
    // Depth: see OUT_DEPTH; the sender is this very worker, which then reads no more until there is room.
    let (out, outgoing) = mpsc::channel(OUT_DEPTH);
    let have = config.view.borrow().as_ref().map_or(0, |v| v.revision.0);
    let sandboxes = config.store.current();
    let hello = v1::Hello {
        have_revision: have,
        description: Some((&*config.description.borrow()).into()),
        boot_id: boot_id(),
        sandboxes: sandboxes.sandboxes.keys().map(|id| id.as_bytes().to_vec().into()).collect(),
    };
    drop(out.try_send(say(agent_message::Message::Hello(hello))));
    let mut client = DispatcherClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX);
    let opened = timeout(CONNECT_MAX, client.session(ReceiverStream::new(outgoing))).await;
    let incoming = match opened {
        Ok(Ok(response)) => response.into_inner(),
        Ok(Err(status)) => return status,
        Err(_elapsed) => return Status::deadline_exceeded("the manager does not answer"),
    };
    config.served_by.send_replace(Some(addr.to_string()));
    match serve(config, incoming, out).await {
        Ok(()) => Status::unavailable("the manager closed the stream"),
        Err(status) => status,
    }
}

fn say(message: agent_message::Message) -> v1::AgentMessage {
    v1::AgentMessage { message: Some(message) }
}

async fn serve(
    config: &mut SessionConfig,
    mut incoming: Streaming<v1::ManagerMessage>,
    out: mpsc::Sender<v1::AgentMessage>,
) -> Result<(), Status> {
    let mut beat = interval(HEARTBEAT);
    let mut heard = Instant::now();
    config.applied.mark_changed();
    loop {
        tokio::select! { biased;
            // cancel-safe: a stream's next message stays in it, watches and intervals lose nothing
            said = incoming.next() => match said {
                Some(Ok(message)) => {
                    heard = Instant::now();
                    hear(config, message)?;
                }
                Some(Err(status)) => return Err(status),
                None => return Ok(()),
            },
            changed = config.applied.changed() => {
                changed.map_err(|_| Status::cancelled("the agent stops"))?;
                let Applied { revision, failures } = config.applied.borrow_and_update().clone();
                if revision > 0 {
                    let ack = v1::Ack { revision, failures };
                    send(&out, agent_message::Message::Ack(ack)).await?;
                }
            }
            _ = beat.tick() => {
                if heard.elapsed() > SILENCE_MAX {
                    return Err(Status::deadline_exceeded("the manager is silent"));
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
    match sent {
        Ok(Ok(())) => Ok(()),
        _ => Err(Status::unavailable("the manager takes no messages")),
    }
}

fn hear(config: &SessionConfig, message: v1::ManagerMessage) -> Result<(), Status> {
    match message.message {
        Some(manager_message::Message::Snapshot(view)) => {
            let view = NodeView::try_from(view)?;
            config.pool.update(&view.cluster.managers);
            config.view.send_replace(Some(Arc::new(view)));
        }
        Some(manager_message::Message::Delta(delta)) => {
            let delta = ViewDelta::try_from(delta)?;
            let have = config.view.borrow().as_deref().cloned();
            let mut view = have.ok_or_else(gap)?;
            if view.apply(delta).is_err() {
                // The next stream begins with a whole view: what the kernel has stays until then.
                view.revision = swarmnet_types::Revision::default();
                config.view.send_replace(Some(Arc::new(view)));
                return Err(gap());
            }
            config.pool.update(&view.cluster.managers);
            config.view.send_replace(Some(Arc::new(view)));
        }
        Some(manager_message::Message::Redirect(_)) => {
            return Err(Status::unavailable("the manager sends us to another one"));
        }
        Some(manager_message::Message::Heartbeat(_)) | None => {}
    }
    Ok(())
}

fn gap() -> Status {
    Status::data_loss("a delta does not start where our view stands")
}
