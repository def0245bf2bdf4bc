//! Bugs that this code had, or that code of this kind has: each can be brought back for one run, to show that the harness finds it.
//!
//! They are changes of the simulation around the product's code; the product has no switch.

/// A bug to bring back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bug {
    /// A manager sends its view to whoever asks, also to a node that has a newer one from another manager; and the node takes it.
    /// Was in the dispatcher.
    ServesBeforeCatchUp,
    /// A node carries out a delta that does not begin where its view stands.
    AppliesForeignDelta,
    /// A client draws a new request id for each try.
    RetriesAsNew,
    /// A manager releases what the sandboxes named in a Hello do not cover, however old the Hello is. Was in the dispatcher.
    ReleasesWhatHelloLacks,
    /// A manager tells of votes and entries before they are on disk.
    AcksBeforeFlush,
}

impl Bug {
    pub(crate) const ALL: [Self; 5] = [
        Self::ServesBeforeCatchUp,
        Self::AppliesForeignDelta,
        Self::RetriesAsNew,
        Self::ReleasesWhatHelloLacks,
        Self::AcksBeforeFlush,
    ];
}

impl Bug {
    /// Where the search begins: where it ended when the simulation was last changed, so that it is short.
    pub(crate) fn first_seed(self) -> u64 {
        match self {
            Self::ServesBeforeCatchUp => 16,
            Self::AppliesForeignDelta => 26,
            Self::RetriesAsNew => 1,
            Self::ReleasesWhatHelloLacks => 53,
            Self::AcksBeforeFlush => 179,
        }
    }

    /// The invariants that may fail first.
    pub(crate) fn breaks(self) -> &'static [&'static str] {
        match self {
            Self::ServesBeforeCatchUp => &["forward"],
            Self::AppliesForeignDelta => &["forward", "told"],
            Self::RetriesAsNew => &["acknowledged"],
            // Or what was lost before any Hello stays: the node's own release is off then.
            Self::ReleasesWhatHelloLacks => &["held", "converged"],
            // Or a follower that is held for having what it lost, and is never sent it again.
            Self::AcksBeforeFlush => &["agreement", "acknowledged", "converged"],
        }
    }
}
