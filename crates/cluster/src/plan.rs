//! The numbers of a lease.

use std::time::Duration;

use crate::fault::{self, Fault};

/// The longest lease that a voter grants: a service that nobody may take for longer is a service that is down.
pub const LEASE_MAX: Duration = Duration::from_secs(10);

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
