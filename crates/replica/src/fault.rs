//! Planted faults: the absence of one safety rule each, to see that the tests find it.
//!
//! Without the feature `test-faults` nothing can be planted and the checks cost nothing.

/// A safety rule that is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fault {
    /// Something counts as held when it was sent.
    HeldWhenSent,
    /// What was not sent is waited for as if it had been.
    UnsentCounts,
    /// What was sent over a connection that is lost counts by what another one acknowledges.
    OldConnectionCounts,
    /// A capsule that its owner refused is acknowledged like any other.
    RefusalNotTold,
    /// A piece that was fetched is sent although the entry has changed since.
    OldPieceSent,
    /// Entries that the peer should not have any more are left there.
    ExtraKept,
    /// The window has no end.
    NoWindow,
    /// A node with a lower epoch is heard.
    LowerEpochHeard,
    /// A frame that is missing in the stream is not noticed.
    GapNotSeen,
    /// The peer's acknowledgement of what was never sent is believed.
    ForeignAck,
    /// A replaced entry still counts in the sum.
    SumKeepsOld,
    /// A peer that never agrees is synchronised again at once, for ever.
    NoRest,
}

/// All faults.
pub const ALL: [Fault; 12] = [
    Fault::HeldWhenSent,
    Fault::UnsentCounts,
    Fault::OldConnectionCounts,
    Fault::RefusalNotTold,
    Fault::OldPieceSent,
    Fault::ExtraKept,
    Fault::NoWindow,
    Fault::LowerEpochHeard,
    Fault::GapNotSeen,
    Fault::ForeignAck,
    Fault::SumKeepsOld,
    Fault::NoRest,
];

#[cfg(feature = "test-faults")]
mod planted {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::{ALL, Fault};

    /// The planted one's place in [`ALL`], or one past the end.
    static PLANTED: AtomicUsize = AtomicUsize::new(ALL.len());

    /// Plants a fault in all machines of this process, or takes it out again.
    pub fn plant(fault: Option<Fault>) {
        let place = fault.and_then(|fault| ALL.iter().position(|other| *other == fault));
        PLANTED.store(place.unwrap_or(ALL.len()), Ordering::Relaxed);
    }

    /// Whether a fault is planted.
    pub fn is_planted(fault: Fault) -> bool {
        ALL.get(PLANTED.load(Ordering::Relaxed)) == Some(&fault)
    }
}

#[cfg(feature = "test-faults")]
pub use planted::{is_planted, plant};

/// Whether a fault is planted: never in a program that serves.
#[cfg(not(feature = "test-faults"))]
pub(crate) const fn is_planted(_fault: Fault) -> bool {
    false
}
