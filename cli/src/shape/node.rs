//! Nodes in Docker's JSON.

use serde_json::{Map, Value, json};
use swarmnet_proto::{Malformed, v1};
use swarmnet_types::{Node, Role};

use super::duration;
use super::stamp::{known, rfc3339};

/// A node and how it fares.
#[derive(Debug)]
pub(crate) struct Status {
    pub(crate) node: Node,
    state: v1::NodeState,
    leader: bool,
    reachable_manager: bool,
    acked: u64,
    last_seen_ms: u64,
    myself: bool,
    cert_until_ms: u64,
    ephemeral_ms: u64,
    lag: u64,
    connected: bool,
}

impl TryFrom<v1::NodeStatus> for Status {
    type Error = Malformed;

    fn try_from(m: v1::NodeStatus) -> Result<Self, Malformed> {
        Ok(Self {
            state: m.state(),
            leader: m.leader,
            reachable_manager: m.reachable_manager,
            acked: m.acked,
            last_seen_ms: m.last_seen_ms,
            myself: m.myself,
            cert_until_ms: m.cert_until_ms,
            ephemeral_ms: m.ephemeral_ms,
            lag: m.lag,
            connected: m.connected,
            node: m.node.ok_or_else(|| Malformed::new("node", "missing"))?.try_into()?,
        })
    }
}

impl Status {
    pub(crate) const fn leader(&self) -> bool {
        self.leader
    }

    pub(crate) const fn ready(&self) -> bool {
        matches!(self.state, v1::NodeState::Ready)
    }

    fn state(&self) -> &'static str {
        match self.state {
            v1::NodeState::Ready => "Ready",
            v1::NodeState::AgentLost => "Agent-Lost",
            v1::NodeState::Down => "Down",
            v1::NodeState::Unknown | v1::NodeState::Unspecified => "Unknown",
        }
    }

    fn manager_status(&self) -> &'static str {
        match (self.node.role, self.leader, self.reachable_manager) {
            (Role::Worker, ..) => "",
            (Role::Manager, true, _) => "Leader",
            (Role::Manager, false, true) => "Reachable",
            (Role::Manager, false, false) => "Unreachable",
        }
    }

    const fn stream(&self) -> &'static str {
        if self.connected { "open" } else { "closed" }
    }

    /// One row of `node ls`.
    pub(crate) fn row(&self) -> Value {
        let n = &self.node;
        json!({
            "ID": n.id.to_string(),
            "Self": self.myself,
            "Hostname": n.name,
            "Status": self.state(),
            "Availability": capitalized(&n.availability.to_string()),
            "ManagerStatus": self.manager_status(),
            "Address": n.addr.ip().to_string(),
            "EngineVersion": n.version,
            "Revision": self.acked,
            "Stream": self.stream(),
            "Lag": self.lag,
            "CertificateUntil": known(self.cert_until_ms),
            "LastSeen": known(self.last_seen_ms),
        })
    }

    /// `node inspect`.
    pub(crate) fn inspect(&self) -> Value {
        let n = &self.node;
        let mut out = Map::new();
        out.insert("ID".into(), n.id.to_string().into());
        out.insert("Version".into(), json!({"Index": n.changed.0}));
        out.insert("CreatedAt".into(), rfc3339(n.joined_ms).into());
        out.insert(
            "Spec".into(),
            json!({
                "Labels": n.labels,
                "Role": n.role.to_string(),
                "Availability": n.availability.to_string(),
            }),
        );
        out.insert(
            "Description".into(),
            json!({"Hostname": n.name, "Engine": {"EngineVersion": n.version}}),
        );
        out.insert(
            "Status".into(),
            json!({"State": self.state().to_lowercase(), "Addr": n.addr.ip().to_string()}),
        );
        if n.role == Role::Manager {
            let reachability = if self.reachable_manager { "reachable" } else { "unreachable" };
            out.insert(
                "ManagerStatus".into(),
                json!({"Leader": self.leader, "Reachability": reachability, "Addr": n.addr.to_string()}),
            );
        }
        out.insert("Index".into(), n.index.get().into());
        out.insert("DataPathAddr".into(), n.data_path.to_string().into());
        let fabric: Vec<_> = n.fabric.iter().map(|a| a.to_string()).collect();
        out.insert("FabricAddrs".into(), fabric.into());
        out.insert("AppliedRevision".into(), self.acked.into());
        out.insert("Stream".into(), self.stream().into());
        out.insert("Lag".into(), self.lag.into());
        out.insert("CertificateUntil".into(), known(self.cert_until_ms).into());
        if self.ephemeral_ms > 0 {
            out.insert("Ephemeral".into(), duration::words(self.ephemeral_ms / 1_000).into());
        }
        out.insert("LastSeen".into(), known(self.last_seen_ms).into());
        out.into()
    }
}

fn capitalized(word: &str) -> String {
    let mut chars = word.chars();
    chars.next().map(|c| c.to_uppercase().chain(chars).collect()).unwrap_or_default()
}
