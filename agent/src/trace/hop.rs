//! One hop: what was looked at, what was found, and whether it is as it should be.

use std::fmt;

/// What kind of thing a hop is. In the order in which a packet meets them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum HopKind {
    /// The resolver's answer.
    Name,
    /// Whose address it is.
    Address,
    /// The sandbox's way there.
    Route,
    /// The devices from the sandbox to the bridge.
    Links,
    /// A virtual address, balanced in the sandbox.
    Vip,
    /// A published port, balanced on the node.
    Port,
    /// The node that has the task.
    Node,
    Neighbour,
    Fdb,
    Vtep,
    /// One packet or connection.
    Probe,
}

impl fmt::Display for HopKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Name => "name",
            Self::Address => "address",
            Self::Route => "route",
            Self::Links => "links",
            Self::Vip => "vip",
            Self::Port => "port",
            Self::Node => "node",
            Self::Neighbour => "neighbour",
            Self::Fdb => "fdb",
            Self::Vtep => "vtep",
            Self::Probe => "probe",
        })
    }
}

/// Is it as it should be?
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    Good,
    /// Why not, and what to do.
    Broken {
        why: String,
        remedy: String,
    },
}

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hop {
    pub kind: HopKind,
    /// What was looked at.
    pub subject: String,
    /// What was found.
    pub found: String,
    pub verdict: Verdict,
}

impl Hop {
    pub(super) fn good(
        kind: HopKind,
        subject: impl Into<String>,
        found: impl Into<String>,
    ) -> Self {
        Self { kind, subject: subject.into(), found: found.into(), verdict: Verdict::Good }
    }

    #[must_use]
    pub(super) fn broken(self, why: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { verdict: Verdict::Broken { why: why.into(), remedy: remedy.into() }, ..self }
    }
}

/// `a, b and c`; `nothing` for none.
pub(super) fn listed<T: fmt::Display>(items: impl IntoIterator<Item = T>) -> String {
    let words: Vec<String> = items.into_iter().map(|item| item.to_string()).collect();
    match &words[..] {
        [] => "nothing".to_owned(),
        [one] => one.clone(),
        [rest @ .., last] => format!("{} and {last}", rest.join(", ")),
    }
}
