//! Planted faults: the absence of one safety rule each, to see that the tests find it.
//!
//! Without the feature `test-faults` nothing can be planted and the checks cost nothing.

/// A safety rule that is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fault {
    /// A holder counts a vote for longer than a voter grants it.
    NoMargin,
    /// A voter votes at once after a start.
    NoRestartWait,
    /// A voter answers before its disk has the change.
    AnswerBeforeDisk,
    /// A voter grants an epoch that another holder had.
    EpochRepeated,
    /// An answer counts from when it arrives, not from when its question was sent.
    CountedFromArrival,
    /// An answer counts although its question is not open any more.
    AnswerWithoutQuestion,
    /// A voter grants what it has set itself, not what the question says.
    OwnLeaseLength,
    /// A release frees the grant of any holder.
    ReleaseOfAnything,
    /// A released epoch can be granted again.
    ReleaseClosesNothing,
    /// A contender that gives up goes on counting its votes.
    VotesNotForgotten,
    /// Another start of the same node counts as the same holder.
    OneIncarnation,
    /// A question with an old list of voters is answered.
    OldListServed,
    /// A change of the list of voters is settled before a majority has it on disk.
    ChangeUnsettled,
    /// The release leaves before the gate is closed.
    ReleaseBeforeGate,
    /// A hand-over is answered before the gate is closed.
    HandoverBeforeGate,
    /// The vote of a hand-over counts from when its answer arrived.
    HandoverFromArrival,
    /// A write of a row whose answer never came counts.
    RowUnknownCounted,
    /// A row is written whatever is there.
    RowUncompared,
    /// A renewal leaves the number of a row's writes as it was.
    RowWritesUncounted,
    /// A row is watched from when it was asked for, not from when it was shown.
    RowWatchedFromAsking,
    /// A row is watched for the own lease, however long its holder's is.
    RowOwnLease,
    /// A row is written wherever it stands, also on a server that has not shown it.
    RowHistoryUnchecked,
    /// A watch outlasts an error of the connection.
    RowErrorIgnored,
    /// A released row is taken at once from a server that was not there before.
    RowStrangerTrusted,
}

/// All faults.
pub const ALL: [Fault; 24] = [
    Fault::NoMargin,
    Fault::NoRestartWait,
    Fault::AnswerBeforeDisk,
    Fault::EpochRepeated,
    Fault::CountedFromArrival,
    Fault::AnswerWithoutQuestion,
    Fault::OwnLeaseLength,
    Fault::ReleaseOfAnything,
    Fault::ReleaseClosesNothing,
    Fault::VotesNotForgotten,
    Fault::OneIncarnation,
    Fault::OldListServed,
    Fault::ChangeUnsettled,
    Fault::ReleaseBeforeGate,
    Fault::HandoverBeforeGate,
    Fault::HandoverFromArrival,
    Fault::RowUnknownCounted,
    Fault::RowUncompared,
    Fault::RowWritesUncounted,
    Fault::RowWatchedFromAsking,
    Fault::RowOwnLease,
    Fault::RowHistoryUnchecked,
    Fault::RowErrorIgnored,
    Fault::RowStrangerTrusted,
];

impl Fault {
    /// Whether it leaves out a rule of the witness that is a row on a server: a world without one can not find it.
    pub fn is_of_row(self) -> bool {
        use Fault::*;
        matches!(
            self,
            RowUnknownCounted
                | RowUncompared
                | RowWritesUncounted
                | RowWatchedFromAsking
                | RowOwnLease
                | RowHistoryUnchecked
                | RowErrorIgnored
                | RowStrangerTrusted
        )
    }
}

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
