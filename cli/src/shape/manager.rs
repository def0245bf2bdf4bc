//! The managers as a group, in JSON.

use serde_json::{Value, json};
use swarmnet_proto::{Malformed, v1};

use super::node::Status;

/// The Raft group as its leader has it.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) term: u64,
    pub(crate) last_log: u64,
    /// How many more may be lost before writes stop.
    pub(crate) margin: u32,
    pub(crate) members: Vec<Member>,
}

/// A manager, or a node that is about to be one or to be one no more.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) status: Status,
    pub(crate) seat: v1::GroupSeat,
    matched: Option<u64>,
    answers: bool,
}

impl TryFrom<v1::ManagerGroup> for Group {
    type Error = Malformed;

    fn try_from(m: v1::ManagerGroup) -> Result<Self, Malformed> {
        let member = |m: v1::GroupMember| {
            let (seat, matched, answers) = (m.seat(), m.matched, m.answers);
            let status = m.status.ok_or_else(|| Malformed::new("status", "missing"))?;
            Ok(Member { status: status.try_into()?, seat, matched, answers })
        };
        let members = m.members.into_iter().map(member).collect::<Result<Vec<_>, Malformed>>()?;
        Ok(Self { term: m.term, last_log: m.last_log, margin: m.margin, members })
    }
}

impl Group {
    /// The rows of `manager ls`.
    pub(crate) fn rows(&self) -> Vec<Value> {
        self.members.iter().map(|member| self.row(member)).collect()
    }

    fn row(&self, member: &Member) -> Value {
        let mut row = member.status.row();
        row["Seat"] = match member.seat {
            v1::GroupSeat::Voter => "Voter",
            v1::GroupSeat::Learner => "Learner",
            v1::GroupSeat::None | v1::GroupSeat::Unspecified => "None",
        }
        .into();
        row["Answers"] = member.answers.into();
        row["Term"] = self.term.into();
        row["Index"] = json!(member.matched);
        row["Lag"] = json!(member.matched.map(|index| self.last_log.saturating_sub(index)));
        row
    }
}
