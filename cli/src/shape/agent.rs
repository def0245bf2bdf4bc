//! A node as its own daemon has it: `agent status`, and what of it `info` shows too.

use serde_json::{Value, json};
use swarmnet_proto::v1;

use super::stamp::rfc3339;
use crate::cmd::hex;

/// `null` outside a cluster.
pub(crate) fn certificate(own: Option<&v1::Certificate>) -> Value {
    own.map_or(Value::Null, |c| {
        json!({
            "NotBefore": rfc3339(c.not_before_ms),
            "NotAfter": rfc3339(c.not_after_ms),
            "Serial": c.serial,
            "Issuer": c.issuer,
        })
    })
}

/// Of the manager on this node; `null` when none runs.
pub(crate) fn raft(state: Option<&v1::RaftState>) -> Value {
    state.map_or(Value::Null, |r| {
        json!({
            "Role": r.role,
            "Term": r.term,
            "Leader": r.leader,
            "Index": r.last_index,
            "Applied": r.applied_index,
            "Lag": lag(r),
            "Snapshot": r.snapshot_index,
            "Voters": r.voters,
            "Learners": r.learners,
        })
    })
}

/// Entries of its log that a manager has not applied.
const fn lag(raft: &v1::RaftState) -> u64 {
    raft.last_index.saturating_sub(raft.applied_index)
}

/// `null` when the gossip does not run.
pub(crate) fn gossip(state: Option<&v1::GossipState>) -> Value {
    state.map_or(Value::Null, |g| {
        json!({
            "Alive": g.alive,
            "AgentLost": g.agent_lost,
            "Dead": g.dead,
            "Suspected": g.suspected,
            "CutOff": g.cut_off,
        })
    })
}

/// The stream of changes from a manager.
pub(crate) fn stream(status: &v1::StatusResponse) -> Value {
    json!({
        "State": if status.manager.is_empty() { "closed" } else { "open" },
        "Manager": status.manager,
        "Revision": status.view_revision,
        "Applied": status.applied_revision,
        "Lag": status.view_revision.saturating_sub(status.applied_revision),
    })
}

fn role(status: &v1::StatusResponse) -> &'static str {
    match status.role() {
        v1::Role::Manager => "manager",
        v1::Role::Worker => "worker",
        v1::Role::Unspecified => "none",
    }
}

/// The JSON of `agent status`.
pub(crate) fn status(s: &v1::StatusResponse, raft_state: Option<&v1::RaftState>) -> Value {
    let peer = |p: &v1::PeerLiveness| json!({"ID": hex(&p.node), "Name": p.name, "State": p.state});
    json!({
        "Name": s.name,
        "Version": s.version,
        "Node": hex(&s.node),
        "Cluster": hex(&s.cluster),
        "Role": role(s),
        "Locked": s.locked,
        "Manager": s.manager,
        "ViewRevision": s.view_revision,
        "AppliedRevision": s.applied_revision,
        "Stream": stream(s),
        "Raft": raft(raft_state),
        "Gossip": gossip(s.gossip.as_ref()),
        "Repaired": s.repaired,
        "Sandboxes": s.sandboxes,
        "Pid": s.pid,
        "Certificate": certificate(s.certificate.as_ref()),
        "Problems": s.problems,
        "Peers": s.peers.iter().map(peer).collect::<Vec<_>>(),
    })
}

/// The same for people, without what does not apply: a name and a text for each line.
pub(crate) fn lines(
    s: &v1::StatusResponse,
    raft: Option<&v1::RaftState>,
) -> Vec<(&'static str, String)> {
    let mut lines = vec![("Name", s.name.clone()), ("Role", role(s).to_owned())];
    if s.locked {
        lines.push(("Locked", "yes: unlock with `swarmnet manager unlock`".to_owned()));
    }
    if !s.node.is_empty() {
        lines.push(("Node", hex(&s.node)));
    }
    if let Some(r) = raft {
        lines.push(("Raft", raft_line(r)));
    }
    let manager = if s.manager.is_empty() { "none" } else { &s.manager };
    lines.push(("Manager", manager.to_owned()));
    lines.push(("View / applied", format!("{} / {}", s.view_revision, s.applied_revision)));
    if let Some(g) = &s.gossip {
        lines.push(("Gossip", gossip_line(g)));
    }
    lines.push(("Repaired", s.repaired.to_string()));
    if let Some(certificate) = &s.certificate {
        lines.push(("Certificate", format!("until {}", rfc3339(certificate.not_after_ms))));
    }
    lines.extend(s.peers.iter().map(|p| ("Peer", format!("{} {}", p.name, p.state))));
    lines.extend(s.problems.iter().map(|problem| ("Problem", problem.clone())));
    lines
}

/// `follower of m1, term 3, index 120, lag 0, snapshot 100, 3 voters`.
pub(crate) fn raft_line(r: &v1::RaftState) -> String {
    let of = match (r.role.as_str(), r.leader.as_str()) {
        ("leader", _) => String::new(),
        (_, "") => ", no leader".to_owned(),
        (_, leader) => format!(" of {leader}"),
    };
    let voters = if r.voters == 1 { "1 voter".to_owned() } else { format!("{} voters", r.voters) };
    format!(
        "{}{of}, term {}, index {}, lag {}, snapshot {}, {voters}",
        r.role,
        r.term,
        r.last_index,
        lag(r),
        r.snapshot_index
    )
}

/// `3 alive, 1 agent-lost, 0 dead, 1 suspected`.
pub(crate) fn gossip_line(g: &v1::GossipState) -> String {
    let cut_off = if g.cut_off { ", this node is cut off" } else { "" };
    format!(
        "{} alive, {} agent-lost, {} dead, {} suspected{cut_off}",
        g.alive, g.agent_lost, g.dead, g.suspected
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn follower() -> v1::RaftState {
        v1::RaftState {
            role: "follower".to_owned(),
            term: 3,
            leader: "m1".to_owned(),
            last_index: 120,
            applied_index: 118,
            snapshot_index: 100,
            voters: 3,
            learners: 0,
        }
    }

    #[test]
    fn a_manager_is_one_line() {
        let mut raft = follower();
        let wanted = "follower of m1, term 3, index 120, lag 2, snapshot 100, 3 voters";
        assert_eq!(raft_line(&raft), wanted);
        raft.leader.clear();
        assert!(raft_line(&raft).starts_with("follower, no leader, term 3"));
        let alone = v1::RaftState { role: "leader".to_owned(), voters: 1, ..follower() };
        assert!(raft_line(&alone).starts_with("leader, term 3"));
        assert!(raft_line(&alone).ends_with("1 voter"));
    }

    #[test]
    fn what_does_not_apply_is_not_shown_and_null_in_json() {
        let bare = v1::StatusResponse { name: "n".to_owned(), ..v1::StatusResponse::default() };
        let names: Vec<_> = lines(&bare, None).into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["Name", "Role", "Manager", "View / applied", "Repaired"]);
        let json = status(&bare, None);
        for key in ["Raft", "Gossip", "Certificate"] {
            assert!(json[key].is_null(), "{key}: {json}");
        }
        assert_eq!(json["Stream"]["State"], "closed");
    }
}
