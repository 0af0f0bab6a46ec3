//! The numbers of a lease, and who votes.

use std::time::Duration;

use crate::fault::{self, Fault};
use crate::{ListVersion, VoterId};

/// The longest lease that a voter grants: a service that nobody may take for longer is a service that is down.
pub const LEASE_MAX: Duration = Duration::from_secs(10);

/// Voters of one service. Seven survive the loss of three; more only cost datagrams.
pub const SEATS_MAX: usize = 7;

/// Durations of one lease, all from its length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeasePlan {
    /// What voters are asked to grant.
    pub lease: Duration,
}

impl LeasePlan {
    /// For how long a holder counts a vote that grants `lease`, from when it sent the question.
    ///
    /// The kernel lets NTP slew each clock by a tenth, so that a holder's clock may be slow while a voter's is fast:
    /// (1 − 0.11) / (1 + 0.11) is 0.80.
    pub fn counted(lease: Duration) -> Duration {
        if fault::is_planted(Fault::NoMargin) { lease * 6 / 5 } else { lease * 4 / 5 }
    }

    /// How often a holder renews.
    pub fn renewal(&self) -> Duration {
        self.lease / 5
    }
}

/// The voters of a service, in the order of their rank.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Seats {
    version: ListVersion,
    voters: Vec<VoterId>,
    /// Seats whose voter has not been heard yet: they count for the majority, and nobody can vote from there.
    empty: usize,
}

impl Seats {
    /// A list; double names and those beyond [`SEATS_MAX`] are left out.
    pub fn new(version: ListVersion, voters: impl IntoIterator<Item = VoterId>) -> Self {
        let mut seats: Vec<VoterId> = Vec::new();
        for voter in voters {
            if seats.len() < SEATS_MAX && !seats.contains(&voter) {
                seats.push(voter);
            }
        }
        Self { version, voters: seats, empty: 0 }
    }

    /// The same list with seats whose voters are not known yet.
    pub fn with_empty(mut self, empty: usize) -> Self {
        self.empty = empty.min(SEATS_MAX - self.voters.len());
        self
    }

    /// The version of the list.
    pub fn version(&self) -> ListVersion {
        self.version
    }

    /// The voters.
    pub fn voters(&self) -> &[VoterId] {
        &self.voters
    }

    /// How many votes make a majority; of an even number too it is more than half.
    pub fn majority(&self) -> usize {
        (self.voters.len() + self.empty) / 2 + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_an_even_number_of_voters_half_is_no_majority() {
        let seats = |count: u64| Seats::new(ListVersion(1), (0..count).map(VoterId));

        assert_eq!([1, 2, 3, 4, 5].map(|count| seats(count).majority()), [1, 2, 2, 3, 3]);
    }

    #[test]
    fn a_voter_that_was_never_heard_counts_for_the_majority() {
        let seats = Seats::new(ListVersion(1), [VoterId(1)]).with_empty(2);

        assert_eq!(seats.majority(), 2);
    }

    #[test]
    fn a_voter_has_one_seat() {
        let seats = Seats::new(ListVersion(1), [VoterId(4), VoterId(4), VoterId(5)]);

        assert_eq!(seats.voters(), [VoterId(4), VoterId(5)]);
    }
}
