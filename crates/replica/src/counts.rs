//! What happened, for the operator.

/// What a sender has seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SenderCounts {
    /// Capsules and removals that left as they happened.
    pub sent: u64,
    /// Capsules and removals that left to make the standby equal.
    pub repaired: u64,
    /// Bytes of all frames.
    pub bytes: u64,
    /// Waits that ended with the peer holding what was waited for.
    pub held: u64,
    /// Waits that did not.
    pub degraded: u64,
    /// How often the peer agreed that it has the same.
    pub agreed: u64,
    /// How often it did not.
    pub differed: u64,
    /// How often it was too slow for the window.
    pub stale: u64,
    /// Connections that were lost or given up.
    pub lost: u64,
    /// Capsules that the peer's owners could not take.
    pub refused: u64,
    /// Capsules that are too long to be sent.
    pub too_long: u64,
    /// Pieces that had changed while they were fetched, and were left out.
    pub outdated: u64,
    /// Frames that were not understood, or came at the wrong time.
    pub skipped: u64,
}

/// What a receiver has seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReceiverCounts {
    /// Capsules that were handed to their owners.
    pub applied: u64,
    /// Entries that were removed.
    pub removed: u64,
    /// Capsules that their owners could not take.
    pub refused: u64,
    /// Capsules of a kind or format that this node does not know.
    pub unknown: u64,
    /// Frames of a kind that this node does not know.
    pub skipped: u64,
    /// Greetings that were turned away.
    pub turned_away: u64,
    /// Connections that broke the rules of the stream.
    pub broken: u64,
    /// How often this node had the same as the active one.
    pub agreed: u64,
    /// How often it had not.
    pub differed: u64,
}
