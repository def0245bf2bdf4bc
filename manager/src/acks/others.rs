//! What the other managers know of the agents that they serve, asked again and again while someone waits for it.
//!
//! One channel and one question in flight for each manager: one that is slow or gone holds up nobody.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::pin::Pin;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use swarmnet_proto::v1;
use swarmnet_proto::v1::manager_peer_client::ManagerPeerClient;
use swarmnet_types::{NodeId, Role};
use tokio::time::{sleep, timeout};
use tonic::transport::Channel;

use super::{Ack, Acks, Known};
use crate::writer::Writer;

/// How long another manager may take to say what it knows.
const ASK_MAX: Duration = Duration::from_millis(500);
/// Between its answer and the next question.
const ASK_EVERY: Duration = Duration::from_millis(20);

/// See the module.
pub(crate) struct Others {
    writer: Writer,
    heard: BTreeMap<NodeId, Heard>,
    /// One for each key of `heard`.
    asking: FuturesUnordered<Asking>,
}

type Asking = Pin<Box<dyn Future<Output = (Manager, Heard)> + Send>>;

#[derive(Clone)]
struct Manager {
    node: NodeId,
    addr: SocketAddr,
    channel: Channel,
}

/// What a manager said last.
enum Heard {
    /// Nothing yet, or nothing in time.
    Silence,
    Rows(Vec<v1::NodeAck>),
    /// Its machine said that the daemon does not run.
    NobodyThere,
}

impl Others {
    /// Begins to ask. Nothing is heard before [`next`](Self::next) is called.
    pub(crate) fn new(writer: Writer) -> Self {
        let mut others = Self { writer, heard: BTreeMap::new(), asking: FuturesUnordered::new() };
        others.follow_members();
        others
    }

    /// What all managers together know by now: of each agent the newest word.
    pub(crate) fn known(&self, own: &Acks) -> Known {
        let mut known = Known { rows: own.rows(), stopped: BTreeSet::new() };
        for (manager, heard) in &self.heard {
            match heard {
                Heard::Rows(rows) => known.add(rows),
                Heard::NobodyThere => drop(known.stopped.insert(*manager)),
                Heard::Silence => {}
            }
        }
        known
    }

    /// Each has answered, or had its time.
    pub(crate) async fn once(mut self, own: &Acks) -> Known {
        while let Some((manager, heard)) = self.asking.next().await {
            self.heard.insert(manager.node, heard);
        }
        self.known(own)
    }

    /// Waits until one of them has answered, and goes on asking it. Never returns when there are no others. Cancel-safe: questions
    /// live outside.
    pub(crate) async fn next(&mut self) {
        match self.asking.next().await {
            Some((manager, heard)) => {
                self.follow_members();
                if self.is_member(&manager) {
                    self.heard.insert(manager.node, heard);
                    self.asking.push(ask(manager, ASK_EVERY));
                } else {
                    self.heard.remove(&manager.node);
                }
            }
            None => std::future::pending().await,
        }
    }

    fn managers(&self) -> Vec<(NodeId, SocketAddr)> {
        let me = self.writer.tls().identity().node_id();
        self.writer.read(|s| s.managers().filter(|n| n.id != me).map(|n| (n.id, n.addr)).collect())
    }

    fn is_member(&self, manager: &Manager) -> bool {
        self.managers().contains(&(manager.node, manager.addr))
    }

    /// Asks those that are new.
    fn follow_members(&mut self) {
        for (node, addr) in self.managers() {
            if !self.heard.contains_key(&node) {
                let channel = swarmnet_pki::channel(addr, Role::Manager, self.writer.tls());
                self.heard.insert(node, Heard::Silence);
                self.asking.push(ask(Manager { node, addr, channel }, Duration::ZERO));
            }
        }
    }
}

fn ask(manager: Manager, after: Duration) -> Asking {
    Box::pin(async move {
        sleep(after).await;
        let mut peer = ManagerPeerClient::new(manager.channel.clone());
        let heard = match timeout(ASK_MAX, peer.acks(v1::AcksRequest {})).await {
            Ok(Ok(answer)) => Heard::Rows(answer.into_inner().acks),
            Ok(Err(status)) if swarmnet_pki::is_nobody_there(&status) => Heard::NobodyThere,
            Ok(Err(_)) | Err(_) => Heard::Silence,
        };
        (manager, heard)
    })
}

impl Known {
    fn add(&mut self, messages: &[v1::NodeAck]) {
        for message in messages {
            let Ok(node) = NodeId::try_from(&message.node[..]) else { continue };
            let row = self.rows.entry(node).or_default();
            let sessions = row.sessions + message.sessions;
            if message.seen_ms > row.seen_ms {
                *row = Ack::from(message);
            }
            row.sessions = sessions;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_word_counts_and_streams_add_up() {
        let node = NodeId::from_bytes([1; 16]);
        let said = |revision, seen_ms, sessions| v1::NodeAck {
            node: node.as_bytes().to_vec().into(),
            revision,
            seen_ms,
            sessions,
            ..v1::NodeAck::default()
        };
        let mut known = Known::default();
        known.add(&[said(5, 100, 0)]);
        known.add(&[said(7, 200, 1)]);
        known.add(&[said(6, 150, 0)]);
        let row = &known.rows[&node];
        assert_eq!((row.revision.0, row.seen_ms, row.sessions), (7, 200, 1));
    }
}
