//! Versions of what daemons say to each other, and how two of them find one that both speak.
//!
//! One number for all of it: an agent's stream, joins, Raft's messages. Each side says the least and the greatest version that it speaks, and
//! the greatest that both do is used. Who says nothing, or 0, is from before there was anything to say, and speaks version 1. A release speaks
//! its own version and the one before, so that a cluster is upgraded node by node.

use std::fmt;

use prost::Message as _;
use tonic::{Code, Status};

use crate::v1;

/// What this build speaks.
pub const SPOKEN: Spoken = Spoken { min: 1, max: 1 };

/// The versions from `min` to `max`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spoken {
    min: u32,
    max: u32,
}

/// Two daemons that cannot talk. Nothing was changed; it helps to upgrade the one that is named.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the {them} speaks {theirs} of the protocol between daemons, this {us} {ours}: upgrade swarmnet on the {}",
    self.older()
)]
pub struct NoCommonVersion {
    us: &'static str,
    them: &'static str,
    ours: Spoken,
    theirs: Spoken,
}

impl Spoken {
    /// What a message tells.
    pub fn told(range: Option<v1::WireRange>) -> Self {
        let v1::WireRange { min, max } = range.unwrap_or_default();
        Self { min: min.max(1), max: max.max(1) }
    }

    /// One version alone; 0 is 1.
    pub fn only(version: u32) -> Self {
        Self { min: version.max(1), max: version.max(1) }
    }

    /// The greatest version of both.
    pub fn common(self, other: Self) -> Option<u32> {
        let max = self.max.min(other.max);
        (max >= self.min.max(other.min)).then_some(max)
    }

    /// What a peer speaks that has refused our version; `None` when it refused something else.
    pub fn of_refusal(status: &Status) -> Option<Self> {
        let is_it = status.code() == Code::FailedPrecondition && !status.details().is_empty();
        let range = is_it.then(|| v1::WireRange::decode(status.details()).ok()).flatten();
        range.map(|range| Self::told(Some(range)))
    }

    /// The version to write to a peer of which nothing is known yet.
    pub const fn newest(self) -> u32 {
        self.max
    }
}

/// The version to speak with a peer; `us` and `them` are nouns for the sentence, as "manager".
///
/// # Errors
/// [`NoCommonVersion`].
pub fn agree(us: &'static str, them: &'static str, theirs: Spoken) -> Result<u32, NoCommonVersion> {
    SPOKEN.common(theirs).ok_or(NoCommonVersion { us, them, ours: SPOKEN, theirs })
}

impl NoCommonVersion {
    fn older(&self) -> &'static str {
        if self.theirs.max < self.ours.min { self.them } else { self.us }
    }
}

/// What we speak goes along, so that the peer knows the next time.
impl From<NoCommonVersion> for Status {
    fn from(err: NoCommonVersion) -> Self {
        let details = v1::WireRange::from(err.ours).encode_to_vec();
        Self::with_details(Code::FailedPrecondition, err.to_string(), details.into())
    }
}

impl From<Spoken> for v1::WireRange {
    fn from(spoken: Spoken) -> Self {
        Self { min: spoken.min, max: spoken.max }
    }
}

impl fmt::Display for Spoken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.min == self.max {
            write!(f, "version {}", self.min)
        } else {
            write!(f, "versions {} to {}", self.min, self.max)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spoken(min: u32, max: u32) -> Spoken {
        Spoken::told(Some(v1::WireRange { min, max }))
    }

    #[test]
    fn the_greatest_version_of_both_is_used() {
        for (ours, theirs, common) in [
            (spoken(1, 1), spoken(1, 1), Some(1)),
            (spoken(1, 2), spoken(2, 3), Some(2)),
            (spoken(2, 3), spoken(1, 2), Some(2)),
            (spoken(1, 9), spoken(3, 4), Some(4)),
            (spoken(1, 1), spoken(2, 3), None),
            (spoken(3, 4), spoken(1, 2), None),
            (spoken(1, 9), spoken(5, 3), None),
        ] {
            assert_eq!(ours.common(theirs), common, "{ours}, {theirs}");
        }
    }

    #[test]
    fn who_says_nothing_speaks_the_first_version() {
        let first = Spoken { min: 1, max: 1 };
        assert_eq!([Spoken::told(None), spoken(0, 0), Spoken::only(0)], [first; 3]);
        assert_eq!(spoken(0, 2), Spoken { min: 1, max: 2 });
    }

    #[test]
    fn a_refusal_says_what_would_be_understood() {
        let (ours, theirs) = (spoken(2, 3), spoken(4, 5));
        let err = NoCommonVersion { us: "manager", them: "other manager", ours, theirs };
        assert_eq!(Spoken::of_refusal(&err.into()), Some(ours));
        assert_eq!(Spoken::of_refusal(&Status::failed_precondition("no quorum")), None);
    }

    #[test]
    fn the_older_one_is_to_be_upgraded() {
        let err = |ours, theirs| NoCommonVersion { us: "manager", them: "node", ours, theirs };
        assert_eq!(
            err(spoken(1, 1), spoken(2, 3)).to_string(),
            "the node speaks versions 2 to 3 of the protocol between daemons, this manager version 1: upgrade swarmnet on the manager"
        );
        assert_eq!(
            err(spoken(3, 4), spoken(2, 2)).to_string(),
            "the node speaks version 2 of the protocol between daemons, this manager versions 3 to 4: upgrade swarmnet on the node"
        );
    }
}
